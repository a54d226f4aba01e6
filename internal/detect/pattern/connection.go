package pattern

import (
	"hash/maphash"
	"net/netip"
	"time"

	"github.com/castellan-security/castellan/internal/detect/keep"
	"github.com/castellan-security/castellan/internal/event"
)

// Ephemeral is the first of the ports that Linux and container engines choose by
// themselves: a peer that is called at many of these need not be scanned.
const Ephemeral = 32768

// Vain says that a peer was tried and did not take the connection: it refused, was
// not there, or did not answer before the process gave up. What fails for a reason of
// the own side says nothing about the peer.
func Vain(c *event.Connection) bool {
	switch c.Error {
	case "", "EINPROGRESS", "EALREADY", "EISCONN", "EADDRNOTAVAIL", "EADDRINUSE", "ENETUNREACH", "EAFNOSUPPORT",
		"EINVAL", "EINTR", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EBADF", "EFAULT":
		return false
	}
	return true
}

// Bounds of Answered.
const (
	maxAnswered  = 16 << 10
	keepAnswered = 24 * time.Hour
)

// Answered knows which peers took a connection of a group: a service that is down is
// no unknown machine.
type Answered struct{ peers *keep.Map[uint64, struct{}] }

// NewAnswered returns one that knows of none.
func NewAnswered() *Answered {
	return &Answered{keep.New[uint64, struct{}](maxAnswered, keepAnswered)}
}

// Has says whether the peer of a connection took one before.
func (a *Answered) Has(e *event.Event) bool {
	_, ok := a.peers.Get(a.key(e), e.Time)
	return ok
}

// Note notes that it did.
func (a *Answered) Note(e *event.Event) { a.peers.Put(a.key(e), struct{}{}, e.Time) }

func (a *Answered) key(e *event.Event) uint64 {
	r := e.Connection.Remote
	return maphash.Comparable(seed, struct {
		group Workload
		peer  netip.AddrPort
	}{Group(e), netip.AddrPortFrom(r.Addr().Unmap(), r.Port())})
}

// Destination names who is at the other end: what the container asked the DNS for, or
// the address where it did not ask.
func Destination(c *event.Connection) string {
	if c.Name != "" {
		return c.Name
	}
	return c.Remote.Addr().Unmap().String()
}
