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

	"github.com/castellan-security/castellan/internal/agent/hunt"
	"github.com/castellan-security/castellan/internal/agent/spool"
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
	// reconcileEvery is how often the process table is compared with what runs, so
	// that an exit lost by the kernel does not leave a process running for ever.
	reconcileEvery = time.Minute
)

// Config is what an agent must be told.
type Config struct {
	ID        string // see Identity
	Version   string // of this build
	Heartbeat time.Duration
	Flush     time.Duration
	// DataDir holds the spool of what the server has not acknowledged; it
	// exists. Empty: events are held in memory only.
	DataDir   string
	SpoolSize int64         // bytes on disk; 0 is spool.DefaultSize
	SpoolAge  time.Duration // how long events wait for the server; 0 is spool.DefaultAge
	QueueSize int           // bytes of events held while the disk can't be used; 0 is spool.DefaultMemory
}

// Parts are the doors that an agent sequences. Identifier may be nil: outside
// ECS nobody answers. All others are needed.
type Parts struct {
	Engine     Engine
	Sensors    Sensors
	Host       Host
	Identifier Identifier
	Lister     Lister    // nil: Host lists what runs
	Inspector  Inspector // nil: processes that nobody told of stay without a path
	Addresser  Addresser // nil: the engine alone tells addresses, and the host's are those of its start
	Sampler    Sampler   // nil: what workloads use is not measured
	Server     link.Server
	Tuner      Tuner         // nil: settings of the server change nothing here
	Scanner    Scanner       // nil: images are not scanned here
	Verifier   Verifier      // nil: images are not verified here
	UseReader  UseReader     // nil: files in use are not told
	Programs   ProgramReader // nil: what programs' files hold is not told
	Decider    Decider       // nil: deployments are not decided here by the fleet's policy
	Admits     bool          // the engine of this host can ask about deployments
	Holder     Holder        // nil: nothing is held to profiles here
	Herald     Herald        // nil: the holder hears of containers when the engine was asked about them
	Responder  Responder     // nil: nothing is done about threats here
	Hunter     *hunt.Hunter  // nil: what happens is not held against rules of detection
	Tellers    []Teller      // of what the kernel did about what lies outside profiles
	Supervisor Supervisor    // nil: nobody waits for word of the agent
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
	wishes    *directives
	samples   samples
	scans     *scans
	verifies  *verifies
	responds  *responds
	uses      *uses
	digests   *digests
	placing   *placing
	addresses hostAddresses
	made      chan asset.Workload // see holdMade
	passages  []passage           // of the sensors and the tellers
}

// New returns an agent that has not started anything yet.
func New(cfg Config, parts Parts, log *slog.Logger) *Agent {
	if cfg.Heartbeat <= 0 {
		cfg.Heartbeat = DefaultHeartbeat
	}
	if cfg.Flush <= 0 {
		cfg.Flush = DefaultFlush
	}
	known := newWorkloads(cfg.ID)
	known.addresser = parts.Addresser
	a := &Agent{
		cfg:       cfg,
		parts:     parts,
		log:       log,
		procs:     newProcesses(parts.Inspector),
		workloads: known,
		queue: newQueue(spool.New(spool.Options{
			Dir: cfg.DataDir, Size: cfg.SpoolSize, Age: cfg.SpoolAge, Memory: cfg.QueueSize,
		}, log)),
	}
	a.scans = newScans(cfg.ID, parts, log)
	a.uses = newUses(parts.UseReader, log)
	a.verifies = newVerifies(cfg.ID, parts, log)
	a.placing = newPlacing(a.workloads, a.push)
	a.digests = newDigests(parts.Programs, a.procs.beside, a.placing.pass)
	a.wishes = newDirectives(parts, a.queue.wake, a.scans.wish, log)
	a.wishes.verify = a.verifies.wish
	a.responds = newResponds(cfg.ID, parts, a.workloads.get, log)
	a.wishes.respond = a.responds.wish
	if parts.Decider != nil {
		a.wishes.admission = parts.Decider.Wish
	}
	a.made = make(chan asset.Workload, maxMade)
	a.passages = make([]passage, 1+len(parts.Tellers))
	if parts.Herald != nil {
		parts.Herald.Announce(a.announced)
	}
	if parts.Holder != nil {
		a.wishes.behaviour = parts.Holder.Wish
	}
	if parts.Hunter != nil {
		a.wishes.detect = parts.Hunter.Wish
	}
	return a
}

// Run watches and reports until ctx ends; then it hands over what it still
// holds, for a few seconds at most, leaves the rest on disk for its next start,
// and returns nil. It returns an error only if the sensors stop by themselves:
// an engine or a server that is away is waited for.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.introduce(ctx); err != nil {
		a.leave()
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	var sensorErr error
	wg.Go(func() {
		if err := a.parts.Sensors.Run(watching, a.by(0)); err != nil && watching.Err() == nil {
			sensorErr = fmt.Errorf("run sensors: %w", err)
			stop()
		}
	})
	for i, t := range a.parts.Tellers {
		wg.Go(func() {
			if err := t.Run(watching, a.by(1+i)); err != nil && watching.Err() == nil {
				a.log.Error("what the kernel refuses is not told any more", "error", err)
			}
		})
	}
	wg.Go(func() {
		if err := a.parts.Engine.Watch(watching, func(inv asset.Inventory) { a.inventory(watching, inv) }); err != nil && watching.Err() == nil {
			a.log.Error("engine watch ended", "error", err)
		}
	})
	wg.Go(func() { a.reconcile(watching) })
	wg.Go(func() { a.placing.run(watching) })
	a.start(watching, &wg)
	a.tell(Supervisor.Ready)
	wg.Go(func() {
		a.wishes.run(watching, link.Caller{AgentID: a.self.ID, Boot: a.self.Boot, Version: a.self.Version})
	})

	s := newSender(a)
	s.run(watching)
	a.tell(Supervisor.Stopping)
	stop()
	wg.Wait()
	a.digests.flush()
	a.placing.flush()
	if a.parts.Hunter != nil {
		a.parts.Hunter.Finish()
	}

	// A fresh context: ctx has ended, and what was sensed until now is still
	// worth handing over.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	s.drain(last)
	a.leave()
	return sensorErr
}

// start starts what the parts that may be missing are for, until ctx ends.
func (a *Agent) start(ctx context.Context, wg *sync.WaitGroup) {
	if a.parts.Addresser != nil {
		wg.Go(func() { a.followAddresses(ctx) })
	}
	if a.parts.Sampler != nil {
		wg.Go(func() { a.sample(ctx) })
	}
	if a.parts.Scanner != nil {
		wg.Go(func() { a.scans.run(ctx) })
	}
	if a.parts.Verifier != nil {
		wg.Go(func() { a.verifies.run(ctx) })
	}
	if a.parts.Decider != nil {
		wg.Go(func() { a.parts.Decider.Run(ctx) })
	}
	if a.parts.Responder != nil {
		wg.Go(func() { a.parts.Responder.Run(ctx) })
		wg.Go(func() { a.responds.run(ctx) })
	}
	if a.parts.Programs != nil {
		wg.Go(func() { a.digests.run(ctx) })
	}
	if a.parts.Holder != nil {
		wg.Go(func() { a.parts.Holder.Run(ctx) })
		wg.Go(func() { a.holdMade(ctx) })
	}
	if a.parts.Hunter != nil {
		wg.Go(func() { a.parts.Hunter.Run(ctx) })
	}
	if a.parts.UseReader != nil {
		wg.Go(func() { a.uses.run(ctx, a.procs.inContainers) })
	}
	if a.parts.Supervisor != nil {
		wg.Go(func() { a.answer(ctx) })
	}
}

// leave closes the spool and says what is not with the server.
func (a *Agent) leave() {
	if a.parts.Hunter != nil {
		kept, lost, err := a.parts.Hunter.Close()
		if err != nil {
			a.log.Error("file of threats not closed", "error", err)
		}
		if kept > 0 {
			a.log.Info("threats wait on disk for the next start", "count", kept)
		}
		if lost > 0 {
			a.log.Error("threats lost at stop", "count", lost)
		}
	}
	kept, lost, err := a.queue.Close()
	if err != nil {
		a.log.Error("spool not closed", "error", err)
	}
	if kept > 0 {
		a.log.Info("events wait on disk for the next start", "count", kept)
	}
	if lost > 0 {
		a.log.Error("events lost at stop", "count", lost)
	}
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
	a.addresses.put(host.Addresses)
	a.queue.Open(a.self.Boot)
	running, err := a.running(ctx)
	if err != nil {
		// Not fatal: what starts from now on is seen by the sensors.
		a.log.Warn("running processes not listed", "error", err)
	}
	a.procs.merge(running)
	if a.parts.Hunter != nil {
		a.parts.Hunter.Begin(hunt.Start{Boot: a.self.Boot, Running: running, Group: a.workloads.group, Wake: a.queue.wake})
	}
	for _, m := range host.Missing {
		a.log.Warn("this host cannot give everything", "missing", m)
	}
	return ctx.Err()
}

// sensed takes what the sensors saw, or a teller tells. It runs on their goroutines
// and never waits for the server.
func (a *Agent) sensed(events []event.Event) {
	for i := range events {
		a.procs.observe(&events[i])
		if id := events[i].WorkloadID; id != "" {
			a.workloads.sensed(id, events[i].Time)
			if events[i].Reaction == event.ReactionNone {
				a.uses.started(&events[i])
			}
		}
	}
	a.digests.pass(events)
}

// push hands events to the spool.
func (a *Agent) push(events []event.Event) {
	a.queue.Push(events)
	a.queue.wake()
	if a.parts.Hunter != nil {
		a.parts.Hunter.Observe(events) // numbered by now, so that threats can name them
	}
}

// inventory takes what the engine says.
func (a *Agent) inventory(ctx context.Context, inv asset.Inventory) {
	if a.parts.Identifier != nil && len(inv.Workloads) > 0 {
		a.parts.Identifier.Identify(ctx, inv.Workloads)
	}
	if a.parts.Holder != nil && inv.Engine.Connected {
		a.parts.Holder.Seen(inv)
	}
	if changed := a.workloads.put(inv); changed {
		if inv.Engine.Connected {
			a.log.Info("container engine connected", "engine", inv.Engine.Name, "version", inv.Engine.Version, "api", inv.Engine.APIVersion)
		} else {
			a.log.Warn("container engine away", "error", inv.Engine.Error)
		}
	}
	a.placing.look(time.Now())
	if a.parts.Hunter != nil {
		a.parts.Hunter.Placed()
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
		running, err := a.running(ctx)
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

// running lists what runs. Where the sensors can't, /proc tells start times in
// ticks: see event.Key.Same.
func (a *Agent) running(ctx context.Context) ([]event.Running, error) {
	if a.parts.Lister == nil {
		return a.parts.Host.Processes(ctx)
	}
	running, err := a.parts.Lister.Running(ctx)
	if err == nil {
		return running, nil
	}
	a.log.Debug("sensors don't list what runs", "error", err)
	return a.parts.Host.Processes(ctx)
}

// describe returns the agent as it is now.
func (a *Agent) describe() asset.Agent {
	d := a.self
	d.Host.Addresses = a.addresses.get()
	d.Engine = a.workloads.currentEngine()
	d.Sensors = a.parts.Sensors.Status()
	if d.Engine.Connected {
		d.Abilities = append(a.scans.abilities(), a.verifies.abilities()...)
	}
	d.Abilities = append(d.Abilities, a.responds.abilities()...)
	if a.parts.Admits {
		d.Abilities = append(d.Abilities, link.AbilityAdmit)
	}
	if a.parts.Holder != nil {
		d.Abilities = append(d.Abilities, link.AbilityHold)
	}
	if a.parts.Hunter != nil {
		h := a.parts.Hunter.Status()
		d.Detection = &h
	}
	if a.parts.Responder != nil {
		d.Quarantine = a.parts.Responder.Standing()
	}
	d.Usage = a.parts.Host.Usage()
	d.Settings = a.wishes.settings()
	d.Events, d.Spool = a.queue.Offered(), a.queue.Status()
	var kernel uint64
	for _, s := range d.Sensors {
		kernel += s.Lost
	}
	d.Losses = append([]asset.Loss{{Where: "kernel buffer", Count: kernel}}, a.queue.Losses()...)
	return d
}
