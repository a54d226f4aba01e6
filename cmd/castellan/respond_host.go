package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/adapter/ecs"
	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	doing "github.com/castellan-security/castellan/internal/respond"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/server/respond"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const (
	// engineWait is how long the engine has to say which containers there are.
	engineWait = 15 * time.Second
	// hereWithin is how long a deed on the host may wait for another one.
	hereWithin = time.Minute
)

// respondHere does a deed on this host by this program.
func (g *globals) respondHere(ctx context.Context, o *respondOptions, name string) (r respond.Response, err error) {
	if g.dataDir == "" {
		return r, usagef("no data folder: say --data-dir or set CASTELLAN_DATA_DIR")
	}
	log, err := g.logger()
	if err != nil {
		return r, err
	}
	id, err := agent.Identity(g.dataDir)
	if err != nil {
		return r, err
	}
	engine, err := docker.New(docker.Options{Host: o.agent.dockerHost}, log.With("door", "docker"))
	if err != nil {
		return r, err
	}
	as, err := g.signsAs(id)
	if err != nil {
		return r, err
	}
	doer, err := g.newResponder(o.agent, id, as, engine, log.With("hall", "respond"))
	if err != nil {
		return r, err
	}
	all, err := containersHere(ctx, engine)
	if err != nil {
		return r, err
	}
	ecs.New(ecs.Options{}, log.With("door", "ecs")).Identify(ctx, all)
	w, err := namedHere(all, name)
	if err != nil {
		return r, err
	}
	now := time.Now().UTC()
	q := &o.deed
	d := response.Deed{
		ID: rand.Text(), Kind: q.Kind, Workload: w.ID, Freeze: q.Freeze, Packets: q.Packets, Values: q.Values, Files: q.Files,
		DryRun: q.DryRun, Reason: q.Reason, By: "host:" + userName(), Asked: now, Until: now.Add(hereWithin),
	}
	if d.Process, err = processHere(ctx, kernel.New(kernel.Options{Proc: o.agent.proc, Sys: o.agent.sys}), w.ID, q.Process); err != nil {
		return r, err
	}
	if err := d.Check(); err != nil {
		return r, usageError{err}
	}
	return respond.Response{Deed: d, AgentID: id, Group: w.Group, Name: w.Name, Answer: doer.Do(ctx, d, w)}, nil
}

// listHere shows what is in quarantine on this host.
func (g *globals) listHere(f form) error {
	if g.dataDir == "" {
		return usagef("no data folder: say --data-dir or set CASTELLAN_DATA_DIR")
	}
	held, err := doing.HeldIn(filepath.Join(g.dataDir, respondFolder, quarantineFile))
	if err != nil {
		return err
	}
	return g.print(f, map[string]any{"quarantined": held}, func() error {
		if len(held) == 0 {
			fmt.Fprintln(g.err, "nothing is in quarantine on this host")
			return nil
		}
		ids := slices.SortedFunc(maps.Keys(held), func(a, b string) int { return held[a].At.Compare(held[b].At) })
		var rows [][]cell
		for _, id := range ids {
			h, what := held[id], "cut"
			switch {
			case h.Found: // and not cut
				what = "frozen"
			case h.Freeze:
				what = "cut, frozen"
			}
			rows = append(rows, []cell{
				text(h.At.Local().Format(time.DateTime)), text(what), text(asset.ShortID(id)), text(string(h.Group)), text(orDefault(h.By, "unknown")),
				text(untrusted.Clip(h.Reason, reasonShown)),
			})
		}
		return g.table([]string{"SINCE", "STATE", "ID", "GROUP", "BY", "REASON"}, rows)
	})
}

// containersHere asks the engine which containers there are.
func containersHere(ctx context.Context, engine *docker.Engine) (all []asset.Workload, err error) {
	asking, stop := context.WithTimeout(ctx, engineWait)
	defer stop()
	away := ""
	err = engine.Watch(asking, func(inv asset.Inventory) {
		if inv.Complete {
			all = inv.Workloads
			stop()
		}
		away = inv.Engine.Error
	})
	if all == nil && !errors.Is(err, context.Canceled) {
		return nil, fault.New(fault.Unavailable, "ask the engine for its containers: %s", away).With("name it: --docker-host")
	}
	for i := range all {
		all[i].Group = asset.GroupOf(all[i])
	}
	return all, ctx.Err()
}

// namedHere finds the container that a person means.
func namedHere(all []asset.Workload, name string) (asset.Workload, error) {
	var found []asset.Workload
	for _, w := range all {
		if name != "" && (w.Name == name || string(w.Group) == name || w.ECS.Container == name || strings.HasPrefix(w.ID, name)) {
			found = append(found, w)
		}
	}
	switch len(found) {
	case 0:
		return asset.Workload{}, fault.New(fault.NotFound, "no container of this host is called %q", name).With("docker ps --all lists them")
	case 1:
		return found[0], nil
	}
	return asset.Workload{}, fault.New(fault.Invalid, "%d containers of this host are called %q", len(found), name).With("name one by its id")
}

// processHere reads a process key, or finds the process that has a pid now.
func processHere(ctx context.Context, host *kernel.Host, container, text string) (k event.Key, err error) {
	if text == "" {
		return k, nil
	}
	if strings.Contains(text, "-") {
		if err := k.UnmarshalText([]byte(text)); err != nil {
			return k, usageError{err}
		}
		return k, nil
	}
	all, err := host.Processes(ctx)
	if err != nil {
		return k, err
	}
	for _, p := range all {
		if p.WorkloadID == container && fmt.Sprint(p.Process.Key.PID) == text {
			return p.Process.Key, nil
		}
	}
	return k, fault.New(fault.NotFound, "no process %q of that container runs", text)
}
