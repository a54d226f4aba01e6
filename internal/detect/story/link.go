package story

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/threat"
)

// maxLinks bounds what one story is known by, and maxPrints and maxPeers how much of
// that what is easily made up may be: trees and containers always have room. What is
// beyond does not link.
const (
	maxLinks  = 256
	maxPrints = 128
	maxPeers  = 64
)

// linkKind is what two threats have in common.
type linkKind uint8

const (
	byTree        linkKind = iota + 1 // the tree of processes
	byContainer                       // the container that they happened in
	byReach                           // a container that one of them is about, and the other happened in
	byPeer                            // an address or a name outside the fleet
	byPrint                           // they are the same thing
	byActor                           // the session or user that called AWS
	byCredentials                     // the container whose credentials called AWS
)

func (k linkKind) window() time.Duration {
	switch k {
	case byTree:
		return TreeWindow
	case byContainer, byReach:
		return ContainerWindow
	case byPeer:
		return PeerWindow
	case byPrint:
		return PrintWindow
	case byActor:
		return ActorWindow
	case byCredentials:
		return CredentialsWindow
	}
	return 0
}

// link is one thing that a story is known by.
type link struct {
	Kind linkKind `json:"kind"`
	Hash uint64   `json:"hash"`
}

// ref is a story that has a link.
type ref struct {
	story *Story
	kind  linkKind
}

// between returns the window of two links of the same hash; false where they don't
// make one story: two attackers of one container need not be one.
func between(a, b linkKind) (time.Duration, bool) {
	if a == byReach && b == byReach {
		return 0, false
	}
	if a == byCredentials || b == byCredentials {
		return CredentialsWindow, true // what was taken from a container is used later
	}
	return min(a.window(), b.window()), true
}

// linkOf hashes what is linked by. space keeps kinds apart.
func linkOf(k linkKind, space string, parts ...string) link {
	h := sha256.New()
	for _, s := range append([]string{space}, parts...) {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return link{k, binary.LittleEndian.Uint64(h.Sum(nil))}
}

func containerLink(id string) link { return linkOf(byContainer, "container", id) }

// linksOf returns what a threat is linked by.
func linksOf(t *threat.Threat) []link {
	out := []link{linkOf(byPrint, "print", t.Print)}
	add := func(l link) {
		if !slices.Contains(out, l) {
			out = append(out, l)
		}
	}
	if !t.Root.IsZero() {
		add(linkOf(byTree, "tree", t.AgentID, t.WorkloadID, t.Root.String()))
	}
	if t.Call != nil && t.Call.Actor != "" {
		add(linkOf(byActor, "actor", t.Call.Account, t.Call.Actor))
	}
	switch {
	case t.WorkloadID != "" && t.Call != nil:
		add(linkOf(byCredentials, "container", t.WorkloadID))
	case t.WorkloadID != "":
		add(containerLink(t.WorkloadID))
	}
	for i := range t.Peers {
		p := &t.Peers[i]
		if p.Kind == event.PeerWorkload && p.WorkloadID != "" && p.WorkloadID != t.WorkloadID {
			add(linkOf(byReach, "container", p.WorkloadID))
		}
		if !outside(p) {
			continue
		}
		if p.Address.IsValid() {
			add(linkOf(byPeer, "address", p.Address.Addr().Unmap().String()))
		}
		if p.Name != "" {
			add(linkOf(byPeer, "name", p.Name))
		}
	}
	return out
}

// outside says that a peer is nobody whom all containers speak with anyway: not the
// host, its services, or a container of the fleet.
func outside(p *threat.Peer) bool {
	switch p.Kind {
	case event.PeerPublic, event.PeerPrivate, event.PeerUnknown:
	default:
		return false
	}
	a := netip.Addr{}
	if p.Address.IsValid() {
		a = p.Address.Addr().Unmap()
	}
	return !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsUnspecified() && !a.IsMulticast()
}

// room says whether a story can be known by one more of a kind.
func (s *Story) room(k linkKind) bool {
	n := 0
	for _, l := range s.Links {
		if l.Kind == k || k == byReach && l.Kind == byPeer || k == byPeer && l.Kind == byReach {
			n++
		}
	}
	switch k {
	case byPrint:
		return n < maxPrints
	case byPeer, byReach:
		return n < maxPeers
	}
	return len(s.Links) < maxLinks
}

// link makes a story known by something.
func (b *Book) link(s *Story, l link) {
	if _, there := s.linked[l]; there || !s.room(l.Kind) {
		return
	}
	s.linked[l] = struct{}{}
	s.Links = append(s.Links, l)
	for _, r := range b.links[l.Hash] {
		if window, ok := between(l.Kind, r.kind); ok && r.story != s {
			s.near[r.story] = max(s.near[r.story], window)
			r.story.near[s] = max(r.story.near[s], window)
		}
	}
	b.links[l.Hash] = append(b.links[l.Hash], ref{s, l.Kind})
}

// Traces are what the store finds a former story by: its prints, trees and containers.
func (s *Story) Traces() []string {
	var out []string
	for _, l := range s.Links {
		if l.Kind == byPrint || l.Kind == byTree || l.Kind == byContainer || l.Kind == byActor || l.Kind == byCredentials {
			out = append(out, hex.EncodeToString(binary.BigEndian.AppendUint64(nil, l.Hash)))
		}
	}
	return out
}
