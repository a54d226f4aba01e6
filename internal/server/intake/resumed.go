package intake

import (
	"context"
	"fmt"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

// An agent that starts tells the connections that are open already, with
// Resumed: it cannot know which of them its former start has told. The server
// can, and stores each once.
//
// What is open is remembered here, as a hash of who and with whom: a connection
// needs 8 bytes so, and two of them with one hash in the same agent are one in
// 2^64 for each pair. After a restart of this server nothing is remembered, so
// the store is asked for what it has of the same ends: one indexed read for
// each connection that is resumed and not remembered, which is seldom (an
// agent's start) and bounded (asksAtOnce). Nothing is written for it, and
// beyond the bounds a connection comes twice rather than not at all.
const (
	// maxOpen bounds the connections remembered of all agents, some 20 MiB, and
	// maxOpenOf those of one.
	maxOpen   = 500_000
	maxOpenOf = 50_000
	// asksAtOnce bounds the questions to the store for one report, and asksAnHour
	// those for one agent: who always says Resumed must not keep the store busy.
	asksAtOnce = 256
	asksAnHour = 2_000
	// askedFor is how many connections with the same peer are looked through.
	askedFor = 100
)

// ends is what makes two connections the same one. Ports of a workload's own
// side are not used again while a connection stands.
type ends struct {
	workload, protocol string
	local, remote      netip.AddrPort
}

// open remembers which connections stand.
type open struct {
	seed maphash.Seed

	mu     sync.Mutex
	total  int
	agents map[string]*openOf
}

type openOf struct {
	ends  map[uint64]struct{}
	asked int
	since time.Time // the hour in which asked counts
}

func newOpen() *open { return &open{seed: maphash.MakeSeed(), agents: map[string]*openOf{}} }

func (o *open) of(agentID string) *openOf {
	a := o.agents[agentID]
	if a == nil {
		a = &openOf{ends: map[uint64]struct{}{}}
		o.agents[agentID] = a
	}
	return a
}

func (o *open) hash(e *event.Event) uint64 {
	c := e.Connection
	return maphash.Comparable(o.seed, ends{e.WorkloadID, c.Protocol, c.Local, c.Remote})
}

// stands reports whether e opens a connection that will be closed.
func stands(e *event.Event) bool {
	c := e.Connection
	return c != nil && (e.Kind == event.KindConnect || e.Kind == event.KindAccept) && c.Error == "" && c.Protocol == "tcp" &&
		c.Local.IsValid() && c.Remote.IsValid()
}

// take remembers what stored events say about open connections.
func (o *open) take(agentID string, events []event.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	a := o.of(agentID)
	for i := range events {
		e := &events[i]
		switch {
		case stands(e):
			o.put(a, o.hash(e))
		case e.Kind == event.KindClose && e.Connection != nil:
			h := o.hash(e)
			if _, there := a.ends[h]; there {
				delete(a.ends, h)
				o.total--
			}
		}
	}
}

func (o *open) put(a *openOf, h uint64) {
	if _, there := a.ends[h]; there {
		return
	}
	if len(a.ends) >= maxOpenOf || o.total >= maxOpen {
		for other := range a.ends { // any: which one ends first nobody knows
			delete(a.ends, other)
			o.total--
			break
		}
	}
	if o.total < maxOpen {
		a.ends[h] = struct{}{}
		o.total++
	}
}

func (o *open) has(agentID string, e *event.Event) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, there := o.of(agentID).ends[o.hash(e)]
	return there
}

// mayAsk counts a question to the store against the agent's hour.
func (o *open) mayAsk(agentID string, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	a := o.of(agentID)
	if now.Sub(a.since) >= time.Hour || a.since.After(now) {
		a.since, a.asked = now, 0
	}
	a.asked++
	return a.asked <= asksAnHour
}

func (o *open) forget(agentID string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if a := o.agents[agentID]; a != nil {
		o.total -= len(a.ends)
		delete(o.agents, agentID)
	}
}

// told reports whether a resumed connection was stored when it was opened, and
// not closed since. asks counts down the questions that this report may still
// put to the store.
func (in *Intake) told(ctx context.Context, agentID string, e *event.Event, asks *int, now time.Time) (bool, error) {
	if !stands(e) || !e.Connection.Resumed {
		return false, nil
	}
	if in.open.has(agentID, e) {
		return true, nil
	}
	if *asks == 0 || !in.open.mayAsk(agentID, now) {
		return false, nil
	}
	*asks--
	q := store.EventQuery{
		AgentID: agentID, WorkloadID: e.WorkloadID, HostOnly: e.WorkloadID == "",
		Peer: e.Connection.Remote.String(), Limit: askedFor,
		Kinds: []event.Kind{event.KindConnect, event.KindAccept, event.KindClose},
	}
	page, err := in.st.Events(ctx, q)
	if err != nil {
		return false, fmt.Errorf("look for an open connection: %w", err)
	}
	for i := range page.Events { // newest first: the first of these ends says how it stands
		if was := &page.Events[i]; was.Connection != nil && was.Connection.Local == e.Connection.Local && was.Connection.Protocol == e.Connection.Protocol {
			return was.Kind != event.KindClose && was.Connection.Error == "", nil
		}
	}
	return false, nil
}
