package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
)

// Times of an agent. They are fields of Config only so that tests can shorten
// them; the defaults are what is documented.
const (
	// DefaultHeartbeat is how often an agent reports when nothing happens: a
	// server calls an agent silent after three of them.
	DefaultHeartbeat = 5 * time.Second
	// DefaultFlush is how long events wait for company. It is most of the time
	// from an action to the console, so it is far below the second that people
	// are promised.
	DefaultFlush = 100 * time.Millisecond
	// farewell is how long a stopping agent tries to hand over what it holds.
	farewell = 3 * time.Second
	// reconcileEvery is how often the process table is compared with /proc, so
	// that an exit lost by the kernel does not leave a process running for ever.
	reconcileEvery = time.Minute
)

// Config is what an agent must be told.
type Config struct {
	ID        string // see Identity
	Version   string // of this build
	Heartbeat time.Duration
	Flush     time.Duration
	QueueSize int // bytes of events held while the server is away; 0 is DefaultQueueSize
}

// Parts are the doors that an agent sequences. Identifier may be nil: outside
// ECS nobody answers. All others are needed.
type Parts struct {
	Engine     Engine
	Sensors    Sensors
	Host       Host
	Identifier Identifier
	Server     link.Server
}

// Agent watches one host. Make it with New and call Run once.
type Agent struct {
	cfg   Config
	parts Parts
	log   *slog.Logger

	self      asset.Agent // what does not change while it runs
	procs     *processes
	workloads *workloads
	queue     *queue
}

// New returns an agent that has not started anything yet.
func New(cfg Config, parts Parts, log *slog.Logger) *Agent {
	if cfg.Heartbeat <= 0 {
		cfg.Heartbeat = DefaultHeartbeat
	}
	if cfg.Flush <= 0 {
		cfg.Flush = DefaultFlush
	}
	if cfg.QueueSize <= 0 {
		cfg.QueueSize = DefaultQueueSize
	}
	return &Agent{
		cfg:       cfg,
		parts:     parts,
		log:       log,
		procs:     newProcesses(),
		workloads: newWorkloads(cfg.ID),
		queue:     newQueue(cfg.QueueSize),
	}
}

// Run watches and reports until ctx ends; then it hands over what it still
// holds, for a few seconds at most, and returns nil. It returns an error only
// if the sensors stop by themselves: an engine or a server that is away is
// waited for.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.introduce(ctx); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	var sensorErr error
	wg.Go(func() {
		if err := a.parts.Sensors.Run(watching, a.sensed); err != nil && watching.Err() == nil {
			sensorErr = fmt.Errorf("run sensors: %w", err)
			stop()
		}
	})
	wg.Go(func() {
		if err := a.parts.Engine.Watch(watching, func(inv asset.Inventory) { a.inventory(watching, inv) }); err != nil && watching.Err() == nil {
			a.log.Error("engine watch ended", "error", err)
		}
	})
	wg.Go(func() { a.reconcile(watching) })

	s := newSender(a)
	s.run(watching)
	stop()
	wg.Wait()

	// A fresh context: ctx has ended, and what was sensed until now is still
	// worth handing over.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	s.drain(last)
	return sensorErr
}

// introduce finds out what does not change while the agent runs, and fills the
// process table with what runs already.
func (a *Agent) introduce(ctx context.Context) error {
	hostname, err := os.Hostname()
	if err != nil {
		a.log.Warn("host has no name", "error", err)
	}
	host, rungs := a.parts.Host.Describe(ctx)
	if a.parts.Identifier != nil {
		host.Instance, host.Cluster = a.parts.Identifier.Instance(ctx)
	}
	a.self = asset.Agent{
		ID:       a.cfg.ID,
		Boot:     rand.Text(),
		Hostname: hostname,
		Version:  a.cfg.Version,
		Started:  time.Now().UTC(),
		Host:     host,
		Rungs:    rungs,
	}
	running, err := a.parts.Host.Processes(ctx)
	if err != nil {
		// Not fatal: what starts from now on is seen by the sensors.
		a.log.Warn("running processes not listed", "error", err)
	}
	a.procs.merge(running)
	for _, m := range host.Missing {
		a.log.Warn("this host cannot give everything", "missing", m)
	}
	return ctx.Err()
}

// sensed takes what the sensors saw. It runs on the sensors' goroutine and
// never waits for the server.
func (a *Agent) sensed(events []event.Event) {
	for i := range events {
		a.procs.observe(&events[i])
		if id := events[i].WorkloadID; id != "" {
			a.workloads.sensed(id, events[i].Time)
		}
	}
	a.queue.push(foldForks(events))
}

// foldForks leaves out the forks whose process executes a file within the same
// batch: the exec names the process, its start and its parents, so the fork
// would say nothing new, and nearly every fork is of that kind. It works in
// place.
func foldForks(events []event.Event) []event.Event {
	executes := make(map[event.Key]bool, len(events)/2)
	for i := range events {
		if events[i].Kind == event.KindExec {
			executes[events[i].Process.Key] = true
		}
	}
	kept := events[:0]
	for i := range events {
		if events[i].Kind == event.KindFork && executes[events[i].Process.Key] {
			continue
		}
		kept = append(kept, events[i])
	}
	clear(events[len(kept):])
	return kept
}

// inventory takes what the engine says.
func (a *Agent) inventory(ctx context.Context, inv asset.Inventory) {
	if a.parts.Identifier != nil && len(inv.Workloads) > 0 {
		a.parts.Identifier.Identify(ctx, inv.Workloads)
	}
	if changed := a.workloads.put(inv); changed {
		if inv.Engine.Connected {
			a.log.Info("container engine connected", "engine", inv.Engine.Name, "version", inv.Engine.Version, "api", inv.Engine.APIVersion)
		} else {
			a.log.Warn("container engine away", "error", inv.Engine.Error)
		}
	}
	a.queue.wake()
}

// reconcile drops from the process table what the kernel no longer runs.
func (a *Agent) reconcile(ctx context.Context) {
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked := time.Now()
		running, err := a.parts.Host.Processes(ctx)
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				a.log.Warn("running processes not listed", "error", err)
			}
			continue
		}
		if gone := a.procs.reconcile(running, asked); gone > 0 {
			a.log.Warn("processes ended unseen", "count", gone)
		}
	}
}

// describe returns the agent as it is now.
func (a *Agent) describe() asset.Agent {
	d := a.self
	d.Engine = a.workloads.currentEngine()
	d.Sensors = a.parts.Sensors.Status()
	d.Usage = a.parts.Host.Usage()
	queued, dropped := a.queue.counts()
	d.Events = queued
	var kernel uint64
	for _, s := range d.Sensors {
		kernel += s.Lost
	}
	d.Losses = []asset.Loss{
		{Where: "kernel buffer", Count: kernel},
		{Where: "agent queue", Count: dropped},
	}
	return d
}
