package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/adapter/ecs"
	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/link"
)

// agentOptions are the flags of an agent.
type agentOptions struct {
	dockerHost string
	off        []string
	proc, sys  string
}

func (o *agentOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.dockerHost, "docker-host", "", "container engine, as in DOCKER_HOST (default: DOCKER_HOST, or unix:///var/run/docker.sock)")
	f.StringSliceVar(&o.off, "sensor-off", nil, "sensors to switch off, by name: "+strings.Join(bpf.Names(), ", "))
	f.StringVar(&o.proc, "proc", "/proc", "where the host's /proc is mounted, for an agent in a container")
	f.StringVar(&o.sys, "sys", "/sys", "where the host's /sys is mounted, for an agent in a container")
}

func newAgent(g *globals) *cobra.Command {
	var o agentOptions
	var r remote
	c := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent alone, reporting to a server",
		Long: `Run the agent alone: it watches this host's containers and reports to a server
on another host. It dials out and listens on nothing.

  castellan tokens create this-host --scope agents:report      (on the server)
  castellan agent --server https://SERVER:8600 --token-file F --ca-fingerprint sha256:…

The server prints the fingerprint of its certificate authority at its start.
` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := g.logger()
			if err != nil {
				return err
			}
			return g.watch(c.Context(), o, r, log)
		},
	}
	o.flags(c)
	r.flags(c, "address of the server, https://host:port", "file that holds an API token of scope agents:report")
	return c
}

func (g *globals) watch(ctx context.Context, o agentOptions, r remote, log *slog.Logger) error {
	if r.server == "" {
		return usagef("no server: say --server https://host:8600 (or use castellan up to run both here)")
	}
	if g.dataDir == "" {
		return usagef("no data folder: say --data-dir or set CASTELLAN_DATA_DIR")
	}
	token, err := readToken(r.tokenFile)
	if err != nil {
		return err
	}
	client, err := link.NewClient(link.ClientOptions{Server: r.server, Token: token, CAFingerprint: r.fingerprint})
	if err != nil {
		return err
	}
	id, err := agent.Identity(g.dataDir)
	if err != nil {
		return err
	}
	parts, err := openParts(ctx, o, log)
	if err != nil {
		return err
	}
	parts.Server = client
	calmCollector()
	err = agent.New(agent.Config{ID: id, Version: version()}, parts, log.With("hall", "agent")).Run(ctx)
	return errors.Join(err, parts.Sensors.Close())
}

// calmCollector lets the garbage of bursts pile up higher than usual before it
// is collected, within what an agent may take: its live heap is small, and
// collecting it at every few megabytes would double what a burst costs.
func calmCollector() {
	const percent, limit = 200, 32 << 20
	debug.SetGCPercent(percent)
	debug.SetMemoryLimit(limit)
}

// readToken takes an API token from a file, or from the environment when no
// file is named. It is never a flag's value: other users see those.
func readToken(file string) (string, error) {
	if file == "" {
		if token := os.Getenv("CASTELLAN_TOKEN"); token != "" {
			return token, nil
		}
		return "", usagef("no token: say --token-file FILE or set CASTELLAN_TOKEN")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// openParts opens the doors of an agent. What this host can't give is a
// sensor that failed or an engine that is away, and no error.
func openParts(ctx context.Context, o agentOptions, log *slog.Logger) (agent.Parts, error) {
	engine, err := docker.New(docker.Options{Host: o.dockerHost}, log.With("door", "docker"))
	if err != nil {
		return agent.Parts{}, err
	}
	sensors, err := bpf.Open(ctx, bpf.Options{Off: o.off}, log.With("door", "bpf"))
	if err != nil {
		return agent.Parts{}, err
	}
	return agent.Parts{
		Engine:     engine,
		Sensors:    sensors,
		Host:       kernel.New(kernel.Options{Proc: o.proc, Sys: o.sys}),
		Identifier: ecs.New(ecs.Options{}, log.With("door", "ecs")),
	}, nil
}
