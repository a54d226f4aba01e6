package bpf

import (
	"container/list"
	"net/netip"
	"time"
)

// Limits of what is remembered of answers.
const (
	// maxNames bounds it: 16,384 entries of about 250 bytes are 4 MiB.
	maxNames = 16_384
	// minNameLife is kept whatever the answer says: programs connect later than
	// a short time to live allows, and keep what they were told.
	minNameLife = 5 * time.Minute
	// maxNameLife keeps a hostile answer from being remembered for long.
	maxNameLife = 24 * time.Hour
)

// nameKey is an address as one asker knows it: a container, or, with netns
// instead, everybody in a network namespace.
type nameKey struct {
	workload string
	netns    uint32
	addr     netip.Addr
}

type nameEntry struct {
	key     nameKey
	name    string
	expires uint64 // nanoseconds since boot
}

// names remembers what workloads were told by the DNS, to name what they
// connect to. The least recently used is forgotten first. It is shared by the
// sensors, and belongs to the goroutine that reads records.
type names struct {
	entries map[nameKey]*list.Element
	used    *list.List // of *nameEntry, latest first
}

func newNames() *names { return &names{entries: map[nameKey]*list.Element{}, used: list.New()} }

// learn remembers that addr was the answer to a question for name.
func (n *names) learn(workload string, netns uint32, addr netip.Addr, name string, ttl time.Duration, now uint64) {
	expires := now + uint64(min(max(ttl, minNameLife), maxNameLife))
	n.put(nameEntry{nameKey{netns: netns, addr: addr}, name, expires})
	if workload != "" {
		n.put(nameEntry{nameKey{workload: workload, addr: addr}, name, expires})
	}
}

func (n *names) put(e nameEntry) {
	if at := n.entries[e.key]; at != nil {
		*at.Value.(*nameEntry) = e
		n.used.MoveToFront(at)
		return
	}
	if n.used.Len() >= maxNames {
		oldest := n.used.Back()
		delete(n.entries, oldest.Value.(*nameEntry).key)
		n.used.Remove(oldest)
	}
	n.entries[e.key] = n.used.PushFront(&e)
}

// of returns the name that led to addr: what the workload asked for itself,
// else what somebody in its network namespace did; "" for none.
func (n *names) of(workload string, netns uint32, addr netip.Addr, now uint64) string {
	if workload != "" {
		if name := n.get(nameKey{workload: workload, addr: addr}, now); name != "" {
			return name
		}
	}
	return n.get(nameKey{netns: netns, addr: addr}, now)
}

func (n *names) get(k nameKey, now uint64) string {
	at := n.entries[k]
	if at == nil {
		return ""
	}
	e := at.Value.(*nameEntry)
	if e.expires < now {
		return ""
	}
	n.used.MoveToFront(at)
	return e.name
}
