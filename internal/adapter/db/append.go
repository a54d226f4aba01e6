package db

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// maxGroup is how many events share one commit. More would not make the
	// sync noticeably cheaper and would keep other writers waiting.
	maxGroup = 16_000
	// maxEventBytes bounds the texts of one event. Sensors send at most a few
	// KiB; this is what a broken or hostile agent may make one row.
	maxEventBytes = 256 << 10
)

// appending is one call of AppendEvents on its way, or another write of which
// many agents make one each. Its owner puts it into the queue; whoever has the
// turn takes it out, stores it, and closes done.
type appending struct {
	events []event.Event
	ids    []int64
	other  func(context.Context, *writer) error // nil for events
	done   chan struct{}
	err    error
}

// AppendEvents implements store.Events. Calls that come while another commits
// are committed together. When ctx ends before the batch's turn, nothing of it
// is stored.
func (d *DB) AppendEvents(ctx context.Context, events []event.Event) error {
	for i := range events {
		if err := validate(&events[i]); err != nil {
			return err
		}
	}
	if len(events) == 0 {
		return nil
	}
	a := &appending{events: events, ids: make([]int64, len(events)), done: make(chan struct{})}
	if err := d.await(ctx, a); err != nil {
		return err
	}
	for i := range events {
		events[i].ID = a.ids[i]
	}
	return nil
}

// writeAlong is write for what each of many agents says again and again: it
// shares its commit with whatever waits. It must not fail for what it writes,
// because all that share the commit fail with it.
func (d *DB) writeAlong(ctx context.Context, fn func(context.Context, *writer) error) error {
	return d.await(ctx, &appending{other: fn, done: make(chan struct{})})
}

// await puts a into the queue and returns when it is stored or can no longer
// be. It stores whatever waits when the turn falls to it, its own or not.
func (d *DB) await(ctx context.Context, a *appending) error {
	d.queueMu.Lock()
	d.queue = append(d.queue, a)
	d.queueMu.Unlock()
	for {
		select {
		case <-a.done:
			return a.err
		default:
		}
		select {
		case <-a.done:
			return a.err
		case _, ok := <-d.turn:
			if !ok {
				return d.giveUp(a, errClosed())
			}
			d.commitQueue(context.WithoutCancel(ctx))
			d.release()
		case <-ctx.Done():
			return d.giveUp(a, fmt.Errorf("wait for the store: %w", ctx.Err()))
		}
	}
}

// giveUp takes a out of the queue; when another has it in hand already, the
// result is worth waiting for.
func (d *DB) giveUp(a *appending, why error) error {
	d.queueMu.Lock()
	i := slices.Index(d.queue, a)
	if i >= 0 {
		d.queue = slices.Delete(d.queue, i, i+1)
	}
	d.queueMu.Unlock()
	if i >= 0 {
		return why
	}
	<-a.done
	return a.err
}

// commitQueue stores the batches that wait, up to maxGroup events, in one
// transaction. The caller has the turn.
func (d *DB) commitQueue(ctx context.Context) {
	group := d.takeGroup()
	if len(group) == 0 {
		return
	}
	err := d.w.transact(ctx, func(ctx context.Context, w *writer) error { return w.ingest(ctx, group) })
	d.finish(group, d.fault("store what agents report", err))
}

func (d *DB) takeGroup() []*appending {
	d.queueMu.Lock()
	defer d.queueMu.Unlock()
	n, events := 0, 0
	for n < len(d.queue) && (n == 0 || events+len(d.queue[n].events) <= maxGroup) {
		events += len(d.queue[n].events)
		n++
	}
	group := slices.Clone(d.queue[:n])
	d.queue = slices.Delete(d.queue, 0, n)
	return group
}

func (d *DB) failQueue(err error) {
	d.queueMu.Lock()
	group := d.queue
	d.queue = nil
	d.queueMu.Unlock()
	d.finish(group, err)
}

func (d *DB) finish(group []*appending, err error) {
	for _, a := range group {
		a.err = err
		close(a.done)
	}
}

// validate refuses what no agent of ours sends.
func validate(e *event.Event) error {
	if e.AgentID == "" || e.Kind == "" {
		return fault.New(fault.Invalid, "event %d of boot %q has no agent or no kind", e.Seq, e.Boot)
	}
	if e.Seq >= math.MaxInt64 {
		return fault.New(fault.Invalid, "sequence number %d of agent %q is too large", e.Seq, e.AgentID)
	}
	if n := textBytes(e); n > maxEventBytes {
		return fault.New(fault.Invalid, "event %d of agent %q has %d bytes of text, at most %d fit", e.Seq, e.AgentID, n, maxEventBytes)
	}
	return nil
}

func textBytes(e *event.Event) int {
	n := len(e.AgentID) + len(e.Boot) + len(e.Kind) + len(e.WorkloadID) + len(e.Group) + len(e.Reaction) +
		len(e.Process.Name) + len(e.Process.Executable)
	if x := e.Exec; x != nil {
		n += len(x.Requested) + len(x.Digest) + len(x.Cwd) + len(x.Origin) + sumBytes(x.Args)
		for _, a := range x.Ancestors {
			n += len(a.Name) + len(a.Executable) + 1
		}
	}
	return n + objectBytes(e)
}

func objectBytes(e *event.Event) int {
	n := 0
	if f := e.File; f != nil {
		n += len(f.Path) + len(f.To) + len(f.Origin) + len(f.FileSystem) + len(f.Type) + sumBytes(f.Flags) + len(f.Sensitive) + len(f.Error)
	}
	if c := e.Connection; c != nil {
		n += len(c.Protocol) + len(c.Error) + len(c.Name) + len(c.Local.Addr().Zone()) + len(c.Remote.Addr().Zone()) +
			len(c.Peer.Kind) + len(c.Peer.WorkloadID) + len(c.Peer.Group) + len(c.Peer.AgentID) +
			len(c.Path) + len(c.Asked) + len(c.ListenerName) + len(c.ListenerWorkloadID) + len(c.Stream)
	}
	if d := e.DNS; d != nil {
		n += len(d.Protocol) + len(d.Name) + len(d.Type) + len(d.Code) + sumBytes(d.Answers) +
			len(d.Server.Addr().Zone()) + len(d.Client.Addr().Zone())
	}
	if p := e.Privilege; p != nil {
		n += len(p.Call) + len(p.Source) + len(p.Target) + len(p.Type) + sumBytes(p.Flags) + len(p.WorkloadID) + len(p.Error)
	}
	if m := e.Memory; m != nil {
		n += len(m.Call) + len(m.Path) + len(m.Origin) + sumBytes(m.Protection) + len(m.Error)
	}
	if r := e.Resource; r != nil {
		n += len(r.What)
	}
	if c := e.Calls; c != nil {
		n += sumBytes(c.Names)
	}
	return n
}

// sumBytes counts one byte more for each, because empty ones are stored too.
func sumBytes(texts []string) int {
	n := len(texts)
	for _, t := range texts {
		n += len(t)
	}
	return n
}
