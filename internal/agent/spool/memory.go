package spool

import "github.com/castellan-security/castellan/internal/event"

// eventOverhead is what one event takes beside its text: the struct, its
// payload and the slice headers, rounded up.
const eventOverhead = 800

// memory is the newest events of this start, in order.
type memory struct {
	events []event.Event // from head on
	in     []*segment    // of each event; nil when it is in memory alone
	head   int
	bytes  int
	only   int // events that are in memory alone: the newest ones
	// evicted grows with each event that was forgotten for want of room.
	evicted uint64
}

func (m *memory) len() int { return len(m.events) - m.head }

// add appends an event that is in memory alone.
func (m *memory) add(e *event.Event) {
	m.events, m.in = append(m.events, *e), append(m.in, nil)
	m.bytes += size(e)
	m.only++
}

// forget removes the n oldest.
func (m *memory) forget(n int) {
	for i := m.head; i < m.head+n; i++ {
		m.bytes -= size(&m.events[i])
		if m.in[i] == nil {
			m.only--
		}
	}
	clear(m.events[m.head : m.head+n])
	clear(m.in[m.head : m.head+n])
	m.head += n
	if m.head == len(m.events) || m.head > 1024 && m.head > len(m.events)/2 {
		m.compact(func(int) bool { return true })
	}
}

// compact keeps what keep says and moves it to the front.
func (m *memory) compact(keep func(i int) bool) {
	to := 0
	for i := m.head; i < len(m.events); i++ {
		if keep(i) {
			m.events[to], m.in[to] = m.events[i], m.in[i]
			to++
		}
	}
	clear(m.events[to:])
	clear(m.in[to:])
	m.events, m.in, m.head = m.events[:to], m.in[:to], 0
}

// without removes the events of a segment that is gone.
func (m *memory) without(seg *segment) {
	m.compact(func(i int) bool {
		if m.in[i] != seg {
			return true
		}
		m.bytes -= size(&m.events[i])
		return false
	})
}

// dropNewest removes the newest event if it is in memory alone.
func (m *memory) dropNewest() bool {
	last := len(m.events) - 1
	if m.len() == 0 || m.in[last] != nil {
		return false
	}
	m.bytes -= size(&m.events[last])
	m.only--
	clear(m.events[last:])
	m.events, m.in = m.events[:last], m.in[:last]
	return true
}

// size estimates the memory of an event.
func size(e *event.Event) int {
	n := eventOverhead + len(e.WorkloadID) + len(e.Process.Executable)
	if x := e.Exec; x != nil {
		n += len(x.Requested) + len(x.Cwd) + texts(x.Args)
		for i := range x.Ancestors {
			n += len(x.Ancestors[i].Executable) + 48
		}
	}
	if f := e.File; f != nil {
		n += len(f.Path) + len(f.To) + texts(f.Flags)
	}
	if d := e.DNS; d != nil {
		n += len(d.Name) + texts(d.Answers)
	}
	if p := e.Privilege; p != nil {
		n += len(p.Source) + len(p.Target) + len(p.WorkloadID) + texts(p.Flags)
	}
	if m := e.Memory; m != nil {
		n += len(m.Path)
	}
	return n
}

func texts(ss []string) int {
	n := 16 * len(ss)
	for _, s := range ss {
		n += len(s)
	}
	return n
}
