package intake

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/server/topology"
	"github.com/castellan-security/castellan/internal/store"
)

// maxSeeded bounds what is read of the store at the start: more workloads than
// run under the agents of one server.
const maxSeeded = 50_000

// peers says who is at the other end of a connection.
type peers struct {
	index *topology.Index

	mu     sync.Mutex
	seeded bool
}

func newPeers() *peers { return &peers{index: topology.New()} }

// seed takes over, once, what was known when the server stopped: the first
// report of one agent speaks of peers whose agents have not reported yet. A
// failure is of that report alone; the next one tries again.
func (p *peers) seed(ctx context.Context, st Store, now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seeded {
		return nil
	}
	agents, err := st.Agents(ctx)
	if err != nil {
		return fmt.Errorf("read the agents' addresses: %w", err)
	}
	for _, a := range agents {
		p.index.PutHost(a.ID, a.Host.Addresses)
	}
	q := store.WorkloadQuery{States: []asset.State{asset.Running, asset.Paused}, Limit: store.MaxPage}
	for read := 0; read < maxSeeded; {
		page, err := st.Workloads(ctx, q)
		if err != nil {
			return fmt.Errorf("read the workloads' addresses: %w", err)
		}
		p.index.Put(page, now)
		if len(page) < store.MaxPage {
			break
		}
		read += len(page)
		q.After = page[len(page)-1].ID
	}
	p.seeded = true
	return nil
}

// hear learns from an event who has an end of a connection. All of a report are
// heard before the first is named: which end is told first is chance.
func (p *peers) hear(e *event.Event) { p.index.Connects(e) }

// name fills in who the peer of a connection is, and learns from it who listens.
func (p *peers) name(e *event.Event) {
	c := e.Connection
	if c == nil || e.Kind == event.KindUnix {
		return
	}
	p.index.Listens(e)
	q := topology.Question{
		AgentID: e.AgentID, WorkloadID: e.WorkloadID, Protocol: c.Protocol, Local: c.Local, Remote: c.Remote, NetNS: c.NetNS,
		Incoming: e.Kind == event.KindAccept || c.Incoming, At: e.Time,
		Begins: c.Error == "" && (e.Kind == event.KindConnect || e.Kind == event.KindAccept),
	}
	switch {
	case e.Times() > 1:
		q.Until = e.Last
	case e.Kind == event.KindClose && c.Duration > 0: // who it was then it was to the end
		q.At, q.Begins = e.Time.Add(-c.Duration), true
	}
	c.Peer = p.index.Resolve(q)
}
