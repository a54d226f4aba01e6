// Package hunt holds what happens on an agent's host against the rules of detection,
// and keeps the threats that it finds until the server has them.
//
// Events are handed over without waiting: what there is no room for is missed, and
// counted. One goroutine has the rules' engine. Users' rules are fetched from the
// server; those that came last, and threats that were not told, are kept on disk, so
// that a host is looked after while its server is away.
//
// It is not for what rules mean (see detect), nor for what becomes of threats.
package hunt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/castellan-security/castellan/internal/agent/rounds"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/threat"
)

const (
	// maxHeld bounds the events that wait for the engine, at some kilobyte each: most
	// of a second of a host on which ten thousand happen a second, of which the engine
	// takes twenty times as many.
	maxHeld = 8_192
	// maxBatches bounds the pieces that they come in.
	maxBatches = 4_096
	// dueEvery is how often repeats are told that are due, and statsEvery how many of
	// these pass until how rules fare is noted.
	dueEvery   = time.Second
	statsEvery = 5
)

// Options are what a hunter is told.
type Options struct {
	// Dir is for it alone, and made with mode 0700. Empty: nothing is kept on disk.
	Dir     string
	AgentID string
	Server  link.Detections // nil: the server keeps no rules
	Clock   func() time.Time
	Log     *slog.Logger
}

// Hunter holds events against rules. Make it with Open; the agent calls Begin, then
// Observe from any goroutine, and Finish.
type Hunter struct {
	o       Options
	threats *queue
	rules   *keeper

	in     chan []event.Event
	held   atomic.Int64 // events in it
	missed atomic.Uint64
	sets   chan *set     // rules that are to be used from now on
	bell   rounds.Bell   // rung when the engine told of containers
	over   chan struct{} // closed when the engine's goroutine has ended
	begun  bool

	// Of the engine's goroutine, from Begin on.
	now    *set
	start  Start
	groups groups
	former map[string]threat.RuleStats // of the engines before, by rule
}

// Start is what an agent tells when it begins.
type Start struct {
	Boot    string
	Running []event.Running // what runs already
	// Group tells the group of a container; false while it is not known.
	Group func(workloadID string) (string, bool)
	// Wake is called when threats wait.
	Wake func()
}

// Open returns a hunter with the rules and the threats of before. Rules that can't be
// read any more are told, and are no error: those that come with the program are used.
func Open(o Options) (*Hunter, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Dir != "" {
		if err := os.MkdirAll(o.Dir, 0o700); err != nil {
			return nil, fault.New(fault.Denied, "make the folder of detection: %w", err).With("let the agent write its data folder")
		}
	}
	h := &Hunter{
		o: o, in: make(chan []event.Event, maxBatches), sets: make(chan *set, 1), bell: rounds.NewBell(), over: make(chan struct{}),
		former: map[string]threat.RuleStats{},
	}
	var err error
	if h.rules, h.now, err = openKeeper(o, h.sets); err != nil {
		return nil, err
	}
	h.recall()
	h.threats = openQueue(o.Dir, o.Log)
	return h, nil
}

// Begin starts to look at events. It is called once, before all else.
func (h *Hunter) Begin(s Start) {
	h.start, h.begun = s, true
	h.groups.init(h.o.Clock())
	h.rules.begin(s.Boot)
	h.now.engine.Know(h.o.AgentID, s.Running)
	go h.hunt()
}

// Observe hands events over, which are the hunter's from then on. It never waits.
func (h *Hunter) Observe(events []event.Event) {
	n := int64(len(events))
	if h.held.Add(n) <= maxHeld || n > maxHeld && h.held.Load() == n {
		select {
		case h.in <- events:
			return
		default:
		}
	}
	h.held.Add(-n)
	if h.missed.Add(uint64(n)) == uint64(n) {
		h.o.Log.Warn("more happens than can be held against rules of detection; some is missed")
	}
}

// Placed says that the container engine told of containers.
func (h *Hunter) Placed() { h.bell.Ring() }

// Finish looks at what was handed over, tells all repeats, and ends. Nothing may be
// handed over afterwards; threats may still be taken, until Close.
func (h *Hunter) Finish() {
	if !h.begun {
		return
	}
	close(h.in)
	<-h.over
}

// Close lets the disk go. It returns how many threats wait on it for the next start,
// and how many are lost.
func (h *Hunter) Close() (kept, lost int, err error) { return h.threats.close() }

// Run keeps users' rules up to date until ctx ends.
func (h *Hunter) Run(ctx context.Context) { h.rules.run(ctx) }

// Wish says that the server told of other rules.
func (h *Hunter) Wish(link.DetectWish) { h.rules.wake.Ring() }

// hunt is the engine's goroutine.
func (h *Hunter) hunt() {
	defer close(h.over)
	tick := time.NewTicker(dueEvery)
	defer tick.Stop()
	for n := 0; ; {
		select {
		case batch, more := <-h.in:
			if !more {
				h.tell(h.now.engine.Rest())
				h.note()
				h.remember()
				return
			}
			h.observe(batch)
			h.held.Add(-int64(len(batch)))
		case s := <-h.sets:
			h.use(s)
		case <-tick.C:
			h.tell(h.now.engine.Due(h.o.Clock()))
			if n++; n%statsEvery == 0 {
				h.note()
			}
			if n%rememberEvery == 0 {
				h.remember()
			}
		}
	}
}

func (h *Hunter) observe(batch []event.Event) {
	for i := range batch {
		e := &batch[i]
		e.AgentID = h.o.AgentID
		if e.WorkloadID != "" {
			e.Group = h.group(e.WorkloadID)
		}
		if found := h.now.engine.Observe(e); len(found) > 0 {
			h.tell(found)
		}
	}
}

// tell has threats wait for the server.
func (h *Hunter) tell(found []threat.Threat) {
	for i := range found {
		t := &found[i]
		if t.Group == "" && t.WorkloadID != "" {
			t.Group, _ = h.start.Group(t.WorkloadID)
		}
		t.Bound()
		h.threats.push(t)
	}
	if len(found) > 0 {
		h.start.Wake()
	}
}

// use takes other rules. What is known of processes goes over.
func (h *Hunter) use(s *set) {
	for _, st := range h.now.engine.Stats() {
		h.former[st.Rule] = sum(h.former[st.Rule], st)
	}
	if err := s.engine.Inherit(h.now.engine); err != nil {
		h.o.Log.Error("rules of detection learn anew what is usual", "error", err)
	}
	h.now = s
	h.note()
	h.o.Log.Info("other rules of detection are in force", "documents", len(s.used), "unusable", len(s.unusable))
}

// note makes how rules fare known to who tells the server.
func (h *Hunter) note() {
	stats := h.now.engine.Stats()
	out := make(map[string]threat.RuleStats, len(stats)+len(h.former))
	for rule, st := range h.former {
		out[rule] = st
	}
	for _, st := range stats {
		out[st.Rule] = sum(out[st.Rule], st)
	}
	h.rules.note(out, len(stats))
}

func sum(a threat.RuleStats, b detect.Stats) threat.RuleStats {
	a.Rule = b.Rule
	a.Looked, a.Hits, a.Silenced, a.Errors, a.Spent = a.Looked+b.Looked, a.Hits+b.Hits, a.Silenced+b.Silenced, a.Errors+b.Errors, a.Spent+b.Spent
	if b.Error != "" {
		a.Error = b.Error
	}
	if b.Last.After(a.Last) {
		a.Last = b.Last
	}
	return a
}

// Threats returns the oldest threats that wait, as many as a report may have, the
// series that they are of, and whether others wait behind. None are returned for a
// while after the server took none.
func (h *Hunter) Threats() (threats []link.NumberedThreat, series string, more bool) {
	return h.threats.peek(h.o.Clock())
}

// Taken says up to which number the server took those that Threats returned; 0 is
// none.
func (h *Hunter) Taken(number uint64) { h.threats.taken(number, h.o.Clock()) }

// Refused says that the server will never take threats up to a number. They are lost.
func (h *Hunter) Refused(number uint64) { h.threats.refused(number) }

// Status is how well it does.
func (h *Hunter) Status() asset.Detection {
	d := h.rules.status()
	d.Missed = h.missed.Load()
	h.threats.status(&d)
	return d
}

// path is a file's in the folder; empty without one.
func path(dir, name string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, name)
}

// errNoFolder is why nothing is on disk.
var errNoFolder = errors.New("no data folder")

// tooLarge is of a file that is read back.
func tooLarge(name string, most int64) error {
	return fmt.Errorf("%s is larger than %d bytes", name, most)
}
