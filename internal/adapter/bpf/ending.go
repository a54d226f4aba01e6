package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/castellan-security/castellan/internal/event"
)

// Times of flows, and of the looks at them.
const (
	// flowIdle is how long nothing must have come or gone for a flow to be over.
	flowIdle = 30 * time.Second
	// askIdle is the same for questions to the DNS: one socket each.
	askIdle = 5 * time.Second
	dnsPort = 53
)

// Maps of network.bpf.c that are swept.
const (
	endedMap = "ended"
	flowsMap = "flows"
)

// ending is a told end of a connection, for as long as others like it are added
// up in the kernel.
type ending struct {
	like like
	sums networkEndings // as far as they were handed over
	at   uint64         // when that was, or the event itself, in nanoseconds since boot
}

// endings tells the ends that the kernel only added up.
type endings struct {
	told   map[uint64]*ending
	swept  uint64 // when, in nanoseconds since boot
	keys   []networkPeerKey
	values []networkEndings
}

func (s *endings) remember(id, at uint64, e *event.Event) {
	if id == 0 {
		return
	}
	if t := s.told[id]; t != nil {
		t.like = likeOf(e)
		return // what was added up before it is still to be told
	}
	s.told[id] = &ending{like: likeOf(e), at: at}
}

// sweep works as that of window does, with sums.
func (s *endings) sweep(maps map[string]*ebpf.Map, now uint64, all bool, c *Clock, hand func(event.Event)) error {
	if !all && now-s.swept < uint64(sweepEvery) {
		return nil
	}
	if s.swept = now; s.keys == nil {
		s.keys, s.values = make([]networkPeerKey, sweepBatch), make([]networkEndings, sweepBatch)
	}
	span, err := windowOf(maps)
	if err != nil {
		return err
	}
	var cursor ebpf.MapBatchCursor
	var old []networkPeerKey
	for {
		n, err := maps[endedMap].BatchLookup(&cursor, s.keys, s.values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read ended connections: %w", err)
		}
		for i, r := range s.values[:n] {
			t := s.told[r.Id]
			if t != nil && r.Count > t.sums.Count && (all || now-min(now, t.at) >= span) {
				hand(t.more(r, c))
				t.sums, t.at = r, now
			}
			idle := now-min(now, r.Last) >= span && now-min(now, r.Since) >= span
			if idle && (t == nil || r.Count == t.sums.Count) {
				old = append(old, s.keys[i])
				delete(s.told, r.Id)
			}
		}
		if err != nil {
			break
		}
	}
	return forget(maps[endedMap], old)
}

// more returns the event that stands for the ends added up since the last.
func (t *ending) more(r networkEndings, clock *Clock) event.Event {
	e := t.like.event()
	e.Time, e.Last = clock.Time(t.at), clock.Time(max(r.Last, t.at))
	e.Count = r.Count - t.sums.Count
	c := e.Connection
	c.BytesSent, c.BytesReceived = r.Sent-t.sums.Sent, r.Received-t.sums.Received
	c.PacketsSent, c.PacketsReceived = r.PacketsSent-t.sums.PacketsSent, r.PacketsReceived-t.sums.PacketsReceived
	c.Duration = time.Duration(r.Duration - t.sums.Duration)
	return e
}

// windowOf returns the window in force in nanoseconds.
func windowOf(maps map[string]*ebpf.Map) (uint64, error) {
	var length uint64
	if err := maps[settingsMap].Lookup(uint32(0), &length); err != nil {
		return 0, fmt.Errorf("read the window: %w", err)
	}
	return length, nil
}

func forget[K any](m *ebpf.Map, keys []K) error {
	for _, key := range keys {
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget an entry of %s: %w", m, err)
		}
	}
	return nil
}

// trackedRaw is struct tracked as it stands in memory: it begins with a record.
type trackedRaw [unsafe.Sizeof(networkTracked{})]byte

// flows is what is needed to look at flows of packets.
type flows struct {
	swept  uint64
	keys   []networkFlowKey
	values []trackedRaw
}

// alike is what flows that are told together have in common.
type alike struct {
	workload string
	doer     uint64
	protocol string
	incoming bool
	addr     netip.Addr
	port     uint16
}

// sweepFlows tells flows that are over, or with all every flow, and adds up
// those that are alike.
func (s *network) sweepFlows(maps map[string]*ebpf.Map, now uint64, all bool, d *decoder, hand func(event.Event)) error {
	f := &s.flows
	if !all && now-f.swept < uint64(sweepEvery) {
		return nil
	}
	if f.swept = now; f.keys == nil {
		f.keys, f.values = make([]networkFlowKey, sweepBatch), make([]trackedRaw, sweepBatch)
	}
	var cursor ebpf.MapBatchCursor
	var old []networkFlowKey
	over := map[alike]*event.Event{}
	for {
		n, err := maps[flowsMap].BatchLookup(&cursor, f.keys, f.values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read flows: %w", err)
		}
		for i := range f.values[:n] {
			raw := f.values[i][:]
			last := u64(raw, unsafe.Offsetof(networkTracked{}.Last))
			if last == 0 || !all && now-min(now, last) < idleOf(f.keys[i]) {
				continue
			}
			old = append(old, f.keys[i])
			if err := s.addFlow(over, raw, d); err != nil {
				return err
			}
		}
		if err != nil {
			break
		}
	}
	for _, e := range over {
		hand(*e)
	}
	return forget(maps[flowsMap], old)
}

func idleOf(k networkFlowKey) uint64 {
	if k.Port == dnsPort {
		return uint64(askIdle)
	}
	return uint64(flowIdle)
}

// addFlow adds a flow to those like it.
func (s *network) addFlow(over map[alike]*event.Event, raw []byte, d *decoder) error {
	var e event.Event
	var at networkTracked
	if _, err := s.connection(d, raw, &e); err != nil {
		return err
	}
	c := e.Connection
	setEnd(raw, c)
	since, last := u64(raw, unsafe.Offsetof(at.Since)), u64(raw, unsafe.Offsetof(at.Last))
	if since != 0 {
		c.Duration = time.Duration(last - min(since, last))
	}
	e.Kind, e.Time = event.KindClose, d.clock.Time(last)
	k := alike{e.WorkloadID, u64(raw, unsafe.Offsetof(at.Doer)), c.Protocol, c.Incoming, c.Remote.Addr(), c.Remote.Port()}
	if c.Incoming {
		k.port = c.Local.Port()
	}
	if e.WorkloadID == "" {
		k.port = 0 // the engine's resolver answers each question of a container at another one
	}
	first := over[k]
	if first == nil {
		over[k] = &e
		return nil
	}
	first.Count = first.Times() + 1
	if first.Last.IsZero() {
		first.Last = first.Time
	}
	if e.Time.Before(first.Time) {
		first.Time = e.Time
	}
	if e.Time.After(first.Last) {
		first.Last = e.Time
	}
	o := first.Connection
	o.BytesSent += c.BytesSent
	o.BytesReceived += c.BytesReceived
	o.PacketsSent += c.PacketsSent
	o.PacketsReceived += c.PacketsReceived
	o.Duration += c.Duration
	return nil
}
