package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/agent/hold"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/whole"
)

// What lies below the agent's data folder.
const (
	rulesFolder = "rules"
	limitsFile  = "limits.json"
)

// holdOptions are the flags of an agent that holds containers to profiles.
type holdOptions struct {
	hold bool
	pins string
}

func (o *holdOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&o.hold, "hold", true, "hold containers to the profiles of their groups, as the server's operators decide")
	f.StringVar(&o.pins, "pins", bpf.DefaultPins, "`folder` of what enforces, on the host's BPF file system")
}

// holder holds this host's containers. A nil one does nothing.
type holder struct {
	keeper *hold.Keeper
	guards []*bpf.Guard
}

// openHolder takes up what is in force on this host. What this kernel can't hold is
// logged, and told to the server with each group.
func (g *globals) openHolder(o agentOptions, id string, server any, parts *agent.Parts, log *slog.Logger) (*holder, error) {
	keeps, ok := server.(link.Behaviour)
	if !o.hold.hold || !ok {
		return nil, nil
	}
	log = log.With("hall", "hold")
	if g.dataDir == "" {
		log.Warn("containers are not held to profiles: without a data folder nobody knows after a restart what is held", "remedy", "say --data-dir")
		return nil, nil
	}
	if err := whole.Write(filepath.Join(g.dataDir, pinsFile), []byte(o.hold.pins+"\n")); err != nil {
		log.Error("where programs are pinned is not written down", "error", err, "remedy", "to release this host say --pins "+o.hold.pins)
	}
	h := &holder{}
	options := hold.Options{Dir: filepath.Join(g.dataDir, rulesFolder), AgentID: id, Server: keeps, Log: log}
	// In the order in which a container that starts is tied: it runs something first.
	for _, door := range []struct {
		what string
		open func(string, *slog.Logger) (*bpf.Guard, error)
	}{
		{"what they run", bpf.OpenExecGuard}, {"which files they change", bpf.OpenFileGuard},
		{"which privileged calls they make", bpf.OpenPrivilegeGuard}, {"whom they speak with", bpf.OpenNetGuard},
	} {
		guard, err := door.open(filepath.Join(o.hold.pins, id), log.With("door", "bpf"))
		if err != nil {
			log.Error("containers are not held to "+door.what+" here", "error", err, "remedy", fault.Remedy(err))
			continue
		}
		if sensors, ok := parts.Sensors.(*bpf.Sensors); ok && len(h.guards) == 0 {
			guard.Share(sensors)
		}
		h.guards = append(h.guards, guard)
		options.Kernels = append(options.Kernels, guard)
		parts.Tellers = append(parts.Tellers, guard)
	}
	limiter, err := kernel.New(kernel.Options{Proc: o.proc, Sys: o.sys}).Limiter(filepath.Join(g.dataDir, limitsFile))
	if err != nil {
		log.Error("containers are not held to limits here", "error", err, "remedy", fault.Remedy(err))
	} else {
		options.Kernels = append(options.Kernels, limiter)
	}
	if sensors, ok := parts.Sensors.(*bpf.Sensors); ok && os.Geteuid() == 0 {
		options.Learner, options.Learners = sensors, bpf.MaxLearners
	}
	if h.keeper, err = hold.Open(options); err != nil {
		return nil, errors.Join(err, h.close())
	}
	parts.Holder = h.keeper
	return h, nil
}

// close lets go of the doors; what is in force stays so.
func (h *holder) close() error {
	if h == nil {
		return nil
	}
	var errs []error
	for _, g := range h.guards {
		errs = append(errs, g.Close())
	}
	return errors.Join(errs...)
}
