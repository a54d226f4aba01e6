package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/respond"
)

// still is a host on which nothing happens, so that deeds can be done to it: the
// container web has the process 4711.
type still struct{}

var processWeb = event.Key{PID: 4711, Start: 98347112345678}

func (still) Kill(_ context.Context, _ string, key event.Key, _ bool) (string, error) {
	if key != processWeb {
		return "", fault.New(fault.NotFound, "process %d has ended", key.PID)
	}
	return "xmrig", nil
}
func (still) KillAll(context.Context, string, bool) (int, error) { return 3, nil }
func (still) SendsRaw(context.Context, string) (bool, error)     { return true, nil }
func (still) Freeze(context.Context, string, bool) (int, error)  { return 3, nil }
func (still) Thaw(context.Context, string) error                 { return nil }
func (still) Frozen(string) (bool, error)                        { return false, nil }
func (still) Cuts() ([]string, error)                            { return nil, nil }
func (still) Unified(string) (string, error)                     { return "/cgroup", nil }
func (still) Cut(_, _ string, _ bool) error                      { return nil }
func (still) Restore(string) error                               { return nil }
func (still) AllFrozen(context.Context) ([]string, error)        { return nil, nil }
func (still) Paused(context.Context, string) (bool, error)       { return false, nil }
func (still) Stop(context.Context, string, bool) error           { return nil }

// obey runs, until the script ends, an agent with the credentials in a folder that
// does deeds to containers that are not there: obey DIR.
func obey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: obey DIR")
	}
	c, err := agent.OpenCredentials(ts.MkAbs(args[0]))
	ts.Check(err)
	client, err := link.NewClient(link.ClientOptions{Server: c.Server(), Authority: c.Authority(), Certificate: c.Certificate})
	ts.Check(err)
	own := strings.Repeat("ee", 32)
	r, err := respond.New(respond.Options{Processes: still{}, Freezer: still{}, Cgroups: still{}, Network: still{}, Engine: still{}, Own: own, Log: slog.New(slog.DiscardHandler)})
	ts.Check(err)
	at := time.Now()
	workload := func(id, name string) asset.Workload {
		return asset.Workload{ID: id, Name: name, State: asset.Running, Created: at, Updated: at, Group: asset.Group("docker/" + name)}
	}
	all := map[string]asset.Workload{}
	report := link.Report{Agent: asset.Agent{ID: c.AgentID(), Boot: "BOOTBOOT", Hostname: "far"}, Complete: true}
	for _, w := range []asset.Workload{workload(strings.Repeat("a1", 32), "web"), workload(own, "castellan-agent")} {
		all[w.ID] = w
		report.Workloads = append(report.Workloads, w)
	}
	report.Agent.Abilities = []string{link.AbilityRespond}
	_, err = client.Report(context.Background(), report)
	ts.Check(err)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	ready := make(chan struct{})
	heard := sync.OnceFunc(func() { close(ready) })
	wg.Go(func() {
		_ = client.Directives(ctx, link.Caller{}, func(d link.Directive) { // ends with the script
			heard()
			if d.Respond != nil {
				if err := client.Responded(ctx, link.Responded{Answer: r.Do(ctx, *d.Respond, all[d.Respond.Workload])}); err != nil && ctx.Err() == nil {
					fmt.Println("answer not taken:", err)
				}
			}
		})
	})
	ts.Defer(func() {
		stop()
		wg.Wait()
		client.Close()
	})
	select {
	case <-ready:
	case <-time.After(time.Minute):
		ts.Fatalf("the server tells the agent nothing")
	}
}
