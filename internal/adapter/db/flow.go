package db

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// maxFlowLines bounds the lines of one workload in one hour: a port scan
	// makes tens of thousands of peers. Beyond it lines are folded into one a
	// direction and protocol, without peer, so that everything is counted.
	maxFlowLines = 2_000
	// maxFolded bounds those, because a protocol is an agent's word too; beyond
	// it they share otherProtocol.
	maxFolded     = 64
	maxProtocol   = 32
	otherProtocol = "other"
	// maxFlowText bounds name, peer and error of a line: longer ones are left
	// out, the events have them.
	maxFlowText = 1_024
	// maxFlowSum is where counts and bytes of a line stop, so that whatever
	// agents report no sum of two overflows.
	maxFlowSum = 1 << 60
	// maxKnownFlows and maxFlowHours bound what the writer remembers.
	maxKnownFlows = 50_000
	maxFlowHours  = 20_000
)

// flowKey is what tells a line from others. Its workload, agent and kind are
// terms; hour is in seconds since 1970.
type flowKey struct {
	workload, hour, agent, kind int64
	protocol                    string
	address                     netip.Addr
	port                        uint16
}

type flowHour struct{ workload, hour int64 }

// flowState is what the writer knows of lines in the file; it saves looking.
type flowState struct {
	known map[flowKey]struct{}
	lines map[flowHour]int
}

func (s *flowState) reset() {
	s.known, s.lines = map[flowKey]struct{}{}, map[flowHour]int{}
}

// trim bounds it; only between transactions, because what one has added is not
// in the file yet.
func (s *flowState) trim() {
	if len(s.known) > maxKnownFlows || len(s.lines) > maxFlowHours {
		s.reset()
	}
}

// flowLine is what one transaction adds to a line.
type flowLine struct {
	group               int64 // 0 until it is known
	name                string
	peer                event.Peer
	count, failed       uint64
	failure             string
	sent, received      uint64
	first, last, stored int64
}

// flow adds a network event to its line. The end of a connection adds its
// bytes in the hour in which it ended.
func (in *ingest) flow(ctx context.Context, e *event.Event, t eventTerms) error {
	c := e.Connection
	if c == nil {
		return nil
	}
	key := flowKey{workload: t.workload, agent: t.agent, kind: t.kind, protocol: c.Protocol}
	key.hour = e.Time.Unix() - floorMod(e.Time.Unix(), hourSpan)
	if len(key.protocol) > maxProtocol {
		key.protocol = otherProtocol
	}
	incoming := e.Kind == event.KindAccept || e.Kind == event.KindListen
	switch e.Kind {
	case event.KindConnect, event.KindAccept, event.KindListen, event.KindRaw:
	case event.KindClose:
		if c.BytesSent == 0 && c.BytesReceived == 0 {
			return nil
		}
		kind := event.KindConnect
		if incoming = c.Incoming; incoming {
			kind = event.KindAccept
		}
		var err error
		if key.kind, err = in.w.term(ctx, dimKind, string(kind)); err != nil {
			return err
		}
	default:
		return nil
	}
	key.address, key.port = store.PlainAddress(c.Remote.Addr()), c.Remote.Port()
	if incoming {
		key.port = c.Local.Port()
	}
	group := t.group
	if e.Group == "" {
		group = 0
	}
	return in.addFlow(ctx, key, e, group)
}

func (in *ingest) addFlow(ctx context.Context, key flowKey, e *event.Event, group int64) error {
	times := e.Times()
	if e.Kind == event.KindClose {
		times = 0
	} else if e.Connection.Resumed {
		// Found open when the agent started: counted when it began, if an agent
		// was there to see.
		for _, hour := range [...]int64{key.hour, key.hour - hourSpan} {
			before := key
			before.hour = hour
			there, err := in.hasFlow(ctx, before)
			if err != nil {
				return err
			}
			if there {
				times = 0
			}
		}
	}
	line, err := in.flowLine(ctx, key)
	if err != nil {
		return err
	}
	line.add(e, times, group)
	return nil
}

// flowLine returns the line of this transaction, or that into which it is to
// be folded.
func (in *ingest) flowLine(ctx context.Context, key flowKey) (*flowLine, error) {
	if line, ok := in.flows[key]; ok {
		return line, nil
	}
	there, err := in.hasFlow(ctx, key)
	if err != nil {
		return nil, err
	}
	if !there {
		n, err := in.flowLines(ctx, flowHour{key.workload, key.hour})
		if err != nil {
			return nil, err
		}
		if folded := key.folded(n); folded != key {
			return in.flowLine(ctx, folded)
		}
		in.w.state.flows.lines[flowHour{key.workload, key.hour}]++
	}
	line := &flowLine{}
	in.flows[key] = line
	in.w.state.flows.known[key] = struct{}{}
	return line, nil
}

// folded returns the key under which a line that is new is counted when its
// hour has n lines.
func (k flowKey) folded(n int) flowKey {
	if n >= maxFlowLines {
		k.address, k.port = netip.Addr{}, 0
	}
	if n >= maxFlowLines+maxFolded {
		k.protocol = otherProtocol
	}
	return k
}

// hasFlow reports whether a line is there, be it of this transaction.
func (in *ingest) hasFlow(ctx context.Context, key flowKey) (bool, error) {
	known := in.w.state.flows.known
	if _, ok := known[key]; ok {
		return true, nil
	}
	var id int64
	err := in.w.row(ctx, `SELECT id FROM flows WHERE workload = ? AND hour = ? AND agent = ? AND kind = ?
		AND protocol = ? AND address = ? AND port = ?`, []any{key.workload, key.hour, key.agent, key.kind,
		key.protocol, addressBytes(key.address), int64(key.port)}, &id)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err == nil {
		known[key] = struct{}{}
	}
	return err == nil, err
}

// flowLines returns how many lines a workload has in an hour.
func (in *ingest) flowLines(ctx context.Context, of flowHour) (int, error) {
	lines := in.w.state.flows.lines
	if n, ok := lines[of]; ok {
		return n, nil
	}
	var n int
	err := in.w.row(ctx, "SELECT count(id) FROM flows WHERE workload = ? AND hour = ?", []any{of.workload, of.hour}, &n)
	if err == nil {
		lines[of] = n
	}
	return n, err
}

func (l *flowLine) add(e *event.Event, times uint64, group int64) {
	c := e.Connection
	first, last := nanos(e.Time), max(nanos(e.Time), nanos(e.Last))
	newer := last >= l.last
	if l.first == 0 || first < l.first {
		l.first = first
	}
	l.last, l.stored = max(l.last, last), max(l.stored, millis(e.Received))
	if group != 0 && (newer || l.group == 0) {
		l.group = group
	}
	if n := len(c.Name); n > 0 && n <= maxFlowText && (newer || l.name == "") {
		l.name = c.Name
	}
	if p := c.Peer; p != (event.Peer{}) && (newer || l.peer == event.Peer{}) &&
		len(p.Kind)+len(p.WorkloadID)+len(p.Group)+len(p.AgentID) <= maxFlowText {
		l.peer = p
	}
	l.count = addFlowSum(l.count, times)
	if e.Kind == event.KindClose {
		l.sent, l.received = addFlowSum(l.sent, c.BytesSent), addFlowSum(l.received, c.BytesReceived)
		return
	}
	if c.Error != "" {
		l.failed = addFlowSum(l.failed, times)
		if len(c.Error) <= maxFlowText && (newer || l.failure == "") {
			l.failure = c.Error
		}
	}
}

func addFlowSum(a, b uint64) uint64 { return min(min(a, maxFlowSum)+min(b, maxFlowSum), maxFlowSum) }

const (
	flowWidth = 18
	// In an upsert every name without "excluded" is the row as it was.
	sqlFlowInto = `INSERT INTO flows (hour, workload, agent, grp, kind, protocol, address, port, name, peer,
		count, failed, error, sent, arrived, first, last, received) VALUES `
	sqlFlowConflict = ` ON CONFLICT (workload, hour, agent, kind, protocol, address, port) DO UPDATE SET
		grp = CASE WHEN excluded.grp <> 0 AND (excluded.last >= last OR grp = 0) THEN excluded.grp ELSE grp END,
		name = CASE WHEN excluded.name <> '' AND (excluded.last >= last OR name = '') THEN excluded.name ELSE name END,
		peer = CASE WHEN excluded.peer <> '' AND (excluded.last >= last OR peer = '') THEN excluded.peer ELSE peer END,
		error = CASE WHEN excluded.error <> '' AND (excluded.last >= last OR error = '') THEN excluded.error ELSE error END,
		count = min(count + excluded.count, 1 << 60), failed = min(failed + excluded.failed, 1 << 60),
		sent = min(sent + excluded.sent, 1 << 60), arrived = min(arrived + excluded.arrived, 1 << 60),
		first = min(first, excluded.first), last = max(last, excluded.last),
		received = max(received, excluded.received)`
)

func (in *ingest) flushFlows(ctx context.Context) error {
	if len(in.flows) == 0 {
		return nil
	}
	keys := slices.SortedFunc(maps.Keys(in.flows), compareFlows)
	values := make([]any, 0, flowWidth*len(keys))
	for _, k := range keys {
		l := in.flows[k]
		peer := ""
		if l.peer != (event.Peer{}) {
			b, err := json.Marshal(l.peer)
			if err != nil {
				return fmt.Errorf("encode a peer: %w", err)
			}
			peer = string(b)
		}
		values = append(values, k.hour, k.workload, k.agent, l.group, k.kind, k.protocol, addressBytes(k.address),
			int64(k.port), l.name, peer, int64(l.count), int64(l.failed), l.failure, int64(l.sent), int64(l.received),
			l.first, l.last, l.stored)
	}
	return in.w.bulk(ctx, sqlFlowInto, sqlFlowConflict, flowWidth, values)
}

// addressBytes is never nil, which would be NULL.
func addressBytes(a netip.Addr) []byte { return append([]byte{}, a.AsSlice()...) }

// compareFlows is the order of the index, so that neighbours share a page.
func compareFlows(a, b flowKey) int {
	return cmp.Or(cmp.Compare(a.workload, b.workload), cmp.Compare(a.hour, b.hour), cmp.Compare(a.agent, b.agent),
		cmp.Compare(a.kind, b.kind), cmp.Compare(a.protocol, b.protocol), a.address.Compare(b.address), cmp.Compare(a.port, b.port))
}

// pruneFlows removes lines to which nothing was added since the cut.
func pruneFlows(cut time.Time) pruneStep {
	remove := deleteOld("DELETE FROM flows WHERE id IN (SELECT id FROM flows WHERE received < ? LIMIT ?)", millis(cut))
	return func(ctx context.Context, w *writer) (int64, bool, error) {
		n, more, err := remove(ctx, w)
		if n > 0 && w.state.loaded {
			w.state.flows.reset()
		}
		return n, more, err
	}
}
