package link_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
)

// What an agent notes in its data folder.
const (
	acceptedNotes = "accepted" // "START BOOT FIRST LAST": events that the spool holds
	agentLosses   = "agent-losses"
)

// The rate of sensing: 2,000 events a second.
const (
	batchSize  = 20
	batchEvery = 10 * time.Millisecond
)

// machine is a host with a container in which much happens, and nothing at all
// of the kernel in it.
type machine struct {
	dir    string
	start  int // which start of the agent this is; 0 senses nothing
	server link.Server
	placed chan struct{} // closed when the agent knows the container
}

// made returns the event with this number of a start of the agent: all of it
// follows from the two.
func made(start int, n uint64) event.Event {
	key := event.Key{PID: uint32(n%30_000) + 2, Start: n * 1e6}
	e := event.Event{
		Kind: event.KindExec, WorkloadID: strings.Repeat("c", 64),
		Process: event.Process{Key: key, Parent: event.Key{PID: 1, Start: 1}, Name: "program", Executable: "/usr/bin/program"},
	}
	if n%3 == 0 { // of low value: it goes another way on disk
		e.Kind, e.Exit = event.KindExit, &event.Exit{Code: start, Lifetime: time.Duration(n)}
		return e
	}
	e.Exec = &event.Exec{Args: []string{"program", strconv.Itoa(start), strconv.FormatUint(n, 10), strings.Repeat("x", int(n%200))}}
	return e
}

// same says whether e is what made returned for its number.
func same(e *event.Event, start int) bool {
	want := made(start, e.Seq)
	switch {
	case e.Kind != want.Kind || e.WorkloadID != want.WorkloadID || e.Process.Key != want.Process.Key:
		return false
	case want.Exit != nil:
		return e.Exit != nil && *e.Exit == *want.Exit
	}
	return e.Exec != nil && strings.Join(e.Exec.Args, " ") == strings.Join(want.Exec.Args, " ")
}

// Run is agent.Sensors. What was handed over is noted afterwards: a note means
// that it must not be lost.
func (m *machine) Run(ctx context.Context, emit func([]event.Event)) error {
	if m.start == 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	// What happens in a container that the agent doesn't know waits for it, and is
	// numbered after it was handed over.
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-m.placed:
	}
	tick := time.NewTicker(batchEvery)
	defer tick.Stop()
	for n := uint64(1); ; n += batchSize {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		batch := make([]event.Event, batchSize)
		for i := range batch {
			batch[i] = made(m.start, n+uint64(i))
			batch[i].Time = time.Now().UTC()
		}
		emit(batch)
		first, last := batch[0], batch[batchSize-1]
		if first.Seq != n || last.Seq != n+batchSize-1 {
			return fmt.Errorf("events %d to %d were numbered %d to %d", n, n+batchSize-1, first.Seq, last.Seq)
		}
		if err := note(filepath.Join(m.dir, acceptedNotes), "%d %s %d %d", m.start, first.Boot, first.Seq, last.Seq); err != nil {
			return err
		}
	}
}

// Report is link.Server on the agent's side: losses that it tells are noted.
func (m *machine) Report(ctx context.Context, r link.Report) (link.Receipt, error) {
	if r.Agent.Lost() > 0 || r.Agent.Spool.Error != "" {
		if err := note(filepath.Join(m.dir, agentLosses), "%v %s", r.Agent.Losses, r.Agent.Spool.Error); err != nil {
			return link.Receipt{}, err
		}
	}
	return m.server.Report(ctx, r)
}

// Directives is link.Server.
func (m *machine) Directives(ctx context.Context, who link.Caller, take func(link.Directive)) error {
	return m.server.Directives(ctx, who, take)
}

// Inventory is link.Server.
func (m *machine) Inventory(ctx context.Context, s link.Scanned) error {
	return m.server.Inventory(ctx, s)
}

// Verdict is link.Server.
func (m *machine) Verdict(ctx context.Context, v link.Verified) error {
	return m.server.Verdict(ctx, v)
}

// Status is agent.Sensors.
func (m *machine) Status() []asset.Sensor {
	return []asset.Sensor{{Name: "process", State: asset.SensorRunning}}
}

// Close is agent.Sensors.
func (m *machine) Close() error { return nil }

// Watch is agent.Engine.
func (m *machine) Watch(ctx context.Context, see func(asset.Inventory)) error {
	see(asset.Inventory{
		Engine: asset.Engine{Name: "docker", Connected: true}, Complete: true,
		Workloads: []asset.Workload{{ID: strings.Repeat("c", 64), Name: "busy", State: asset.Running}},
	})
	close(m.placed)
	<-ctx.Done()
	return ctx.Err()
}

// Describe is agent.Host.
func (m *machine) Describe(context.Context) (asset.Host, []asset.Rung) { return asset.Host{}, nil }

// Processes is agent.Host.
func (m *machine) Processes(context.Context) ([]event.Running, error) { return nil, nil }

// Usage is agent.Host.
func (m *machine) Usage() asset.Usage { return asset.Usage{} }

// watch is an agent that has joined, until ctx ends.
func watch(ctx context.Context, log *slog.Logger) error {
	start, err := strconv.Atoi(os.Getenv(startEnv))
	if err != nil {
		return err
	}
	dir := os.Getenv(dirEnv)
	own, err := agent.OpenCredentials(dir)
	if err != nil {
		return err
	}
	client, err := link.NewClient(link.ClientOptions{
		Server: own.Server(), Authority: own.Authority(), Certificate: own.Certificate,
	})
	if err != nil {
		return err
	}
	defer client.Close()
	m := &machine{dir: dir, start: start, server: client, placed: make(chan struct{})}
	a := agent.New(agent.Config{ID: own.AgentID(), Version: "test", DataDir: dir},
		agent.Parts{Engine: m, Sensors: m, Host: m, Server: m}, log)
	if err := a.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
