package docker

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

var errTooMany = errors.New("more containers changed at once than are kept track of")

// session is one connection to an engine, from the first answer to the last.
type session struct {
	host  host
	log   *slog.Logger
	see   func(asset.Inventory)
	made  func(asset.Workload) // see Engine.Announce; may be nil
	look  Onlooker             // see Engine.Share; may be nil
	since time.Time            // events from here on are wanted; moved on by run

	began     time.Time
	connected bool // the engine has been seen whole

	conn    *conn
	changes *changes
	images  *images
	known   map[string]entry     // until destroyed
	looked  map[string]time.Time // containers inspected within the last settle
}

// entry is a container as it was last told to see.
type entry struct {
	asset.Workload
	// spoofs is true when it has a label that covers the exit code in its
	// events, see message.fill; hearsay, when the exit code is from an event.
	spoofs, hearsay bool
}

// run connects, takes stock and follows the engine until it is lost or ctx
// ends. It returns why, never nil, and leaves no goroutine behind.
func (s *session) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := dial(ctx, s.host)
	if err != nil {
		return err
	}
	defer c.close()
	s.conn, s.changes, s.images = c, newChanges(), newImages(c)
	s.looked = map[string]time.Time{}

	// Events first: what happens while containers are listed waits in changes.
	stream, err := c.events(ctx, s.since)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	var reader sync.WaitGroup
	reader.Go(func() { ended <- follow(stream, s.hear, s.changes.miss) })

	err = s.takeStock(ctx)
	if err == nil {
		s.connected, s.began = true, time.Now()
		err = s.follow(ctx, ended)
	}
	cancel()
	_ = stream.Close() // ends the reader; what it still holds is given up
	reader.Wait()
	s.since = s.changes.after(s.since)
	if s.connected {
		s.flush()
	}
	return err
}

// hear takes an event from the stream's reader. That a container was made is told
// at once: what is to be in force when it starts has until then, and looking into it
// takes longer on a busy host.
func (s *session) hear(m message) {
	if s.made != nil && m.action == events.ActionCreate && m.told {
		s.made(asset.Workload{ID: m.id, Name: m.name, ECS: m.ecs, State: asset.Created, Created: m.at})
	}
	s.changes.add(m)
}

// follow applies changes until the stream of events ends, the engine stops
// answering, or ctx ends.
func (s *session) follow(ctx context.Context, ended <-chan error) error {
	beat := time.NewTicker(pulse)
	defer beat.Stop()
	for {
		if missed := s.changes.takeMissed(); missed != nil {
			s.log.Warn("engine events missed, listing all containers", "error", missed)
			if err := s.takeStock(ctx); err != nil {
				return err
			}
		}
		batch, next := s.changes.take(time.Now(), s.looked, s.running)
		if len(batch) > 0 {
			s.apply(ctx, batch)
			continue
		}
		var due <-chan time.Time // for ever, unless something is due
		if next > 0 {
			due = time.After(next)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			return err
		case <-beat.C:
			if err := s.conn.ping(ctx); err != nil {
				return err
			}
		case <-s.changes.news:
		case <-due:
		}
	}
}

// takeStock lists and inspects everything and tells it as a whole.
func (s *session) takeStock(ctx context.Context) error {
	asked := time.Now()
	all, err := s.conn.list(ctx)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(c summary) bool { return !asset.IsContainerID(c.ID) })
	complete := len(all) <= maxContainers
	if !complete {
		s.log.Warn("too many containers, the ended ones are left out first", "containers", len(all), "limit", maxContainers)
		slices.SortStableFunc(all, func(a, b summary) int { return cmp.Compare(a.rank(), b.rank()) })
		all = all[:maxContainers]
	}
	ids := make([]string, len(all))
	for i, c := range all {
		ids[i] = c.ID
	}
	s.known = make(map[string]entry, len(all))
	ws := make([]asset.Workload, len(all))
	var failed error
	for i, r := range s.inspect(ctx, ids) {
		switch {
		case r.err == nil:
			ws[i] = r.workload
		case fault.Is(r.err, fault.NotFound):
			ws[i] = all[i].workload()
			ws[i].State, ws[i].PID = asset.Exited, 0
		default:
			s.log.Warn("container not inspected", "container", asset.ShortID(ids[i]), "error", r.err)
			ws[i], failed = all[i].workload(), r.err
		}
		s.known[ids[i]] = entry{Workload: ws[i], spoofs: spoofs(all[i].Labels)}
	}
	if failed != nil {
		// One container that cannot be read is told as far as it is known; an
		// engine that went away has told nothing.
		if err := s.conn.ping(ctx); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.see(asset.Inventory{Engine: s.conn.engine, Workloads: ws, Complete: complete, Asked: asked})
	return nil
}

// running says that a container runs, as far as that is known.
func (s *session) running(id string) bool {
	e, known := s.known[id]
	return known && e.State.Runs()
}

// apply looks into containers that changed and tells what became of them.
func (s *session) apply(ctx context.Context, batch map[string]*change) {
	var ids, removed []string
	var ws []asset.Workload
	for _, id := range slices.Sorted(maps.Keys(batch)) {
		if c := batch[id]; !c.destroyed {
			ids = append(ids, id)
		} else { // there is nothing to look into
			removed = append(removed, id)
			if w, ok := s.guess(id, c, true); ok {
				ws = append(ws, w)
			}
		}
	}
	for i, r := range s.inspect(ctx, ids) {
		id, c := ids[i], batch[ids[i]]
		if r.err == nil {
			s.remember(id, entry{Workload: r.workload, spoofs: r.spoofs}, c)
			ws = append(ws, r.workload)
			continue
		}
		gone := fault.Is(r.err, fault.NotFound)
		if !gone && ctx.Err() == nil {
			s.log.Warn("container not inspected", "container", asset.ShortID(id), "error", r.err)
			s.changes.again(id, c)
		}
		if gone {
			removed = append(removed, id)
		}
		if w, ok := s.guess(id, c, gone); ok {
			ws = append(ws, w)
		}
	}
	if len(ws)+len(removed) > 0 {
		s.see(asset.Inventory{Engine: s.conn.engine, Workloads: ws, Removed: removed})
	}
}

// flush tells what events said that nobody can be asked about any more.
func (s *session) flush() {
	batch, _ := s.changes.take(time.Now(), map[string]time.Time{}, func(string) bool { return true })
	var ws []asset.Workload
	for id, c := range batch {
		if w, ok := s.guess(id, c, false); ok {
			ws = append(ws, w)
		}
	}
	if len(ws) > 0 {
		s.see(asset.Inventory{Engine: s.conn.engine, Workloads: ws})
	}
}

// guess returns a container that could not be inspected, as it was last known
// or else as its events describe it. ok is false when nothing is known of it.
func (s *session) guess(id string, c *change, gone bool) (w asset.Workload, ok bool) {
	e, ok := s.known[id]
	if !ok && !c.told {
		return asset.Workload{}, false
	}
	if !ok {
		e.Workload = asset.Workload{ID: id, Partial: true}
	}
	c.applyTo(&e.Workload)
	e.spoofs = e.spoofs || c.spoofs
	e.hearsay = e.hearsay || !c.finished.IsZero()
	if e.spoofs && e.hearsay {
		e.ExitCode = nil
	}
	if gone {
		e.State, e.PID = asset.Exited, 0
	}
	s.remember(id, e, c)
	return e.Workload, true
}

// remember keeps a container until it is destroyed.
func (s *session) remember(id string, e entry, c *change) {
	_, known := s.known[id]
	switch {
	case c.destroyed && e.State == asset.Exited:
		delete(s.known, id)
	case known || len(s.known) < maxContainers:
		s.known[id] = e
	}
}

// result is what one inspection gave.
type result struct {
	workload asset.Workload
	spoofs   bool // see entry
	err      error
}

// inspect looks into containers, atOnce at a time, and returns what it found in
// the order of ids.
func (s *session) inspect(ctx context.Context, ids []string) []result {
	results := make([]result, len(ids))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(atOnce, len(ids)) {
		workers.Go(func() {
			for i := range next {
				in, err := s.conn.inspect(ctx, ids[i], s.look)
				if err != nil {
					results[i].err = err
					continue
				}
				w := in.workload()
				s.images.describe(ctx, &in, &w.Image)
				results[i].workload, results[i].spoofs = w, spoofs(in.Config.Labels)
			}
		})
	}
	for i := range ids {
		next <- i
	}
	close(next)
	workers.Wait()
	now := time.Now()
	for _, id := range ids {
		s.looked[id] = now
	}
	return results
}
