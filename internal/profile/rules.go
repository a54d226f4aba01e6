package profile

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// Rules are what a host's kernel holds the containers of a group to: a profile,
// compiled. Everything in them is permitted, everything else of a control gets
// the control's answer.
type Rules struct {
	Group    asset.Group `json:"group"`
	Revision int64       `json:"revision"` // of the profile, increasing
	// Answers has one for each control.
	Answers map[Control]Answer `json:"answers"`

	Exec      ExecRules      `json:"exec"`
	File      FileRules      `json:"file"`
	Network   NetworkRules   `json:"network"`
	Privilege PrivilegeRules `json:"privilege"`
	Limits    Limits         `json:"limits,omitzero"`
}

// ExecRules say what may run.
type ExecRules struct {
	// Paths are the programs that may run if they came with the image: unchanged, in
	// lower layers of the container's root.
	Paths []Pattern `json:"paths,omitempty"`
	// Written are those that may run and be mapped as code wherever they came from:
	// exceptions to zero drift.
	Written []Pattern `json:"written,omitempty"`
	// Memory permits files without a name (memfd), and code in memory that was
	// written (just-in-time compilers), each where it was learned.
	Memfd    bool `json:"memfd,omitempty"`
	CodeHeap bool `json:"code_heap,omitempty"`
}

// FileRules say which files may be changed or read.
type FileRules struct {
	Writes []Pattern `json:"writes,omitempty"` // made, changed, renamed, deleted, linked
	Reads  []Pattern `json:"reads,omitempty"`  // of the files that are sensitive
}

// NetworkRules say with whom it may speak.
type NetworkRules struct {
	Listens      []PortRule    `json:"listens,omitempty"`
	Destinations []Destination `json:"destinations,omitempty"`
	// Names are DNS names whose addresses may be connected to, at these ports: they
	// hold for the addresses that one of Resolvers answered with.
	Names     []NameRule   `json:"names,omitempty"`
	Resolvers []netip.Addr `json:"resolvers,omitempty"`
	// Raw permits raw and packet sockets, and the like: those of Sockets, or all of them
	// if it has none, as what was compiled by former versions.
	Raw     bool     `json:"raw,omitempty"`
	Sockets []string `json:"sockets,omitempty"` // as in a profile's privileges: raw, packet, vsock, alg
}

// HasSocket reports whether sockets of a name may be made, as event.Connection.Protocol
// has it for event.KindRaw.
func (n *NetworkRules) HasSocket(name string) bool {
	return n.Raw && (len(n.Sockets) == 0 || slices.Contains(n.Sockets, name))
}

// PortRule is ports of a protocol.
type PortRule struct {
	Protocol string `json:"protocol"` // tcp, udp
	Ports    Ports  `json:"ports"`
}

// Destination is addresses with ports; zero Ports for a protocol without.
type Destination struct {
	PortRule
	Network netip.Prefix `json:"network"`
}

// NameRule is a DNS name with ports. "*.example.com" are those below it.
type NameRule struct {
	PortRule
	Name string `json:"name"`
}

// PrivilegeRules say which privileged calls may be made.
type PrivilegeRules struct {
	Capabilities event.Capabilities `json:"capabilities"`    // that may be used or gained
	Kinds        []event.Kind       `json:"kinds,omitempty"` // privilege.… and memory.…
}

// Limits of rules, so that a host's kernel is not filled by one group.
const (
	MaxPatterns     = 4_000 // in one list of patterns
	MaxDestinations = 4_000
)

// Check returns an error if r can't be held: an answer is missing or is none, or
// a list is too long or has something in it that is not what it should be.
func (r *Rules) Check() error {
	if r.Group == "" {
		return fmt.Errorf("rules of no group")
	}
	for _, c := range Controls() {
		switch a := r.Answers[c]; a {
		case Off, Audit, Deny:
		default:
			return fmt.Errorf("rules of %s have %q as the answer for %s: want off, audit or deny", r.Group, a, c)
		}
	}
	for _, l := range []struct {
		what     string
		patterns []Pattern
	}{
		{"programs", r.Exec.Paths}, {"written programs", r.Exec.Written}, {"files to write", r.File.Writes}, {"files to read", r.File.Reads},
	} {
		if len(l.patterns) > MaxPatterns {
			return fmt.Errorf("rules of %s have %d %s, want at most %d", r.Group, len(l.patterns), l.what, MaxPatterns)
		}
		for _, p := range l.patterns {
			if err := p.Check(); err != nil {
				return fmt.Errorf("rules of %s, %s: %w", r.Group, l.what, err)
			}
		}
	}
	if n := len(r.Network.Destinations) + len(r.Network.Names) + len(r.Network.Listens); n > MaxDestinations {
		return fmt.Errorf("rules of %s have %d destinations, names and ports, want at most %d", r.Group, n, MaxDestinations)
	}
	return nil
}
