package console

import (
	"net/netip"
	"strconv"

	"github.com/castellan-security/castellan/internal/event"
)

// link is one way on from a page.
type link struct{ Href, Label string }

// links lead from an event to others about the same thing.
func (d eventData) links() (out []link) {
	add := func(label string, pairs ...string) {
		if pairs[1] != "" {
			out = append(out, link{eventsOf(pairs...), label})
		}
	}
	if f := d.File; f != nil {
		add("Everything about this path", "path", f.Path)
		add("Everything about its other name", "path", f.To)
	}
	if m := d.Memory; m != nil {
		add("Everything about this file", "path", m.Path)
	}
	if c := d.Connection; c != nil {
		add("Everything about this socket", "path", c.Path)
		if c.ListenerWorkloadID != "" {
			out = append(out, link{"/workloads/" + c.ListenerWorkloadID, "The workload that listens there"})
		}
		if c.Remote.IsValid() {
			add("Everything with this address", "peer", c.Remote.Addr().String())
		}
		add("Everything with this name", "peer", c.Name)
		if c.Peer.WorkloadID != "" {
			out = append(out, link{"/workloads/" + c.Peer.WorkloadID, "The workload at the other end"})
		}
	}
	if q := d.DNS; q != nil {
		add("Everything with this name", "peer", q.Name)
	}
	return out
}

// peerWord is the badge of a kind of peer.
func peerWord(k event.PeerKind) string {
	switch k {
	case event.PeerWorkload, event.PeerHost, event.PeerSelf, event.PeerService, event.PeerPrivate, event.PeerPublic:
		return string(k)
	}
	return ""
}

func peerGlyph(k event.PeerKind) string {
	switch k {
	case event.PeerWorkload, event.PeerSelf:
		return "box"
	case event.PeerHost:
		return "host"
	case event.PeerPublic:
		return "globe"
	}
	return "ring"
}

// peerSentence says what a kind of peer is.
func peerSentence(k event.PeerKind) string {
	switch k {
	case event.PeerWorkload:
		return "a container of this fleet"
	case event.PeerHost:
		return "a host of this fleet, or somebody behind its address translation"
	case event.PeerSelf:
		return "the workload itself"
	case event.PeerService:
		return "a service of the platform"
	case event.PeerPrivate:
		return "a private address that nobody of this fleet has"
	case event.PeerPublic:
		return "an address of the internet"
	}
	return "not known"
}

// failedCode reports an answer of the DNS that is none.
func failedCode(code string) bool { return code != "" && code != "NOERROR" }

// calmer is the tone of an origin where nothing is executed.
func calmer(tone) tone { return calm }

func deviceWords(dev uint32) string {
	// The kernel's dev_t: 12 bits of major, 20 of minor (include/linux/kdev_t.h).
	return strconv.Itoa(int(dev>>20)) + ":" + strconv.Itoa(int(dev&(1<<20-1)))
}

func portText(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// hasPeer reports whether events of the kind have somebody at the other end who has an
// address.
func hasPeer(k event.Kind) bool {
	return k != event.KindListen && k != event.KindRaw && k != event.KindUnix
}

// whoListens says where the process is that listens at a unix socket.
func whoListens(c *event.Connection) string {
	switch {
	case !c.Outside:
		return "within the same container"
	case c.ListenerWorkloadID != "":
		return "in another container"
	case c.ListenerName != "":
		return "on the host"
	}
	return "on the host or in another container"
}

func whoBegan(incoming bool) string {
	if incoming {
		return "by the peer"
	}
	return "by the workload"
}
