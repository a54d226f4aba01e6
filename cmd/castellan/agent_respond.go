package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/adapter/kernel/camera"
	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/respond"
)

// What lies below the agent's data folder about responses.
const (
	respondFolder  = "respond"
	quarantineFile = "quarantine.json"
	snapshotFolder = "snapshots"
)

// openResponder gives the agent what does deeds about threats. It signs snapshots as
// somebody; nil: it does not.
func (g *globals) openResponder(o agentOptions, id string, as camera.Identity, parts *agent.Parts, log *slog.Logger) error {
	engine, ok := parts.Engine.(*docker.Engine)
	if !o.respond || !ok {
		return nil
	}
	r, err := g.newResponder(o, id, as, engine, log.With("hall", "respond"))
	if err != nil {
		return err
	}
	parts.Responder = r
	return nil
}

func (g *globals) newResponder(o agentOptions, id string, as camera.Identity, engine *docker.Engine, log *slog.Logger) (*respond.Responder, error) {
	host := kernel.New(kernel.Options{Proc: o.proc, Sys: o.sys})
	options := respond.Options{
		Processes: host, Freezer: host, Cgroups: host, Network: bpf.NewQuarantine(filepath.Join(o.hold.pins, id)), Engine: engine,
		Own: host.OwnContainer(), Log: log,
	}
	if g.dataDir != "" {
		dir := filepath.Join(g.dataDir, respondFolder)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the folder of responses: %w", err)
		}
		options.File = filepath.Join(dir, quarantineFile)
		snaps, err := camera.New(camera.Options{Host: host, Dir: filepath.Join(dir, snapshotFolder), Proc: o.proc, Agent: id, As: as, Log: log})
		if err != nil {
			return nil, err
		}
		options.Camera = snaps
	}
	return respond.New(options)
}

// signsAs returns what snapshots of this host are signed with where no agent runs: what
// its agent proves itself with to its server; nil where it has joined none.
func (g *globals) signsAs(id string) (camera.Identity, error) {
	joined, err := agent.OpenCredentials(g.dataDir)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if joined.AgentID() != id { // somebody else's certificate proves nothing
		return nil, nil
	}
	return joined, nil
}
