// Package compare holds events against a profile, and says of those that lie
// outside what was done, by whom, and what the profile allows instead.
package compare

import (
	"net/netip"
	"slices"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/learn"
)

// Index is a profile made ready for comparing. It never changes: many may compare
// with it at once. It does not see later changes of the profile.
type Index struct {
	p *profile.Profile

	programs map[string][]*program // by path
	widened  []*program            // whose path is a pattern
	foreign  *patterns             // that may run though they did not come with the image
	writes   *patterns
	reads    *patterns

	listens      map[string][]profile.Ports
	peers        ends
	callers      ends
	names        names
	capabilities event.Capabilities
	privileges   map[event.Kind][]string
}

// program is an executable, ready for comparing.
type program struct {
	*profile.Executable
	parents *patterns // nil: whoever
	scripts *patterns
	loads   *patterns
}

// ends are peers, by who they are.
type ends struct {
	ports    map[string][]portRule // of groups and kinds, as learn.End has them
	names    []named
	networks map[netip.Prefix][]portRule
	lengths  []int // of networks
}

type portRule struct {
	protocol string
	ports    profile.Ports
}

// named are the names at one range of ports.
type named struct {
	portRule
	names
}

// names are DNS names.
type names struct {
	exact map[string]bool
	below map[string]bool // domains of "*.DOMAIN"
}

// NewIndex makes a profile ready.
func NewIndex(p *profile.Profile) *Index {
	p = learn.Clone(p)
	x := &Index{
		p: p, programs: map[string][]*program{}, foreign: patternsOf(nil), writes: patternsOf(nil), reads: patternsOf(nil),
		listens: map[string][]profile.Ports{}, peers: endsOf(p.Reaches()), callers: endsOf(p.Callers), privileges: map[event.Kind][]string{},
	}
	for i := range p.Executables {
		e := &p.Executables[i]
		one := &program{Executable: e, scripts: patternsOf(e.Scripts), loads: patternsOf(e.Loads)}
		if len(e.Parents) > 0 {
			one.parents = patternsOf(e.Parents)
		}
		if e.Origin != event.OriginImage && e.Origin != event.OriginUnknown {
			x.foreign.add(e.Path)
		}
		if e.Path.Exact() {
			x.programs[string(e.Path)] = append(x.programs[string(e.Path)], one)
		} else {
			x.widened = append(x.widened, one)
		}
	}
	for _, f := range p.Writes {
		for _, path := range f.Changes() {
			x.writes.add(path)
		}
	}
	for _, f := range p.Reads {
		x.reads.add(f.Path)
	}
	for _, l := range p.Listens {
		x.listens[l.Protocol] = append(x.listens[l.Protocol], l.Port)
	}
	for _, n := range p.Names {
		x.names.add(n.Name)
	}
	for _, n := range p.Peers {
		x.names.add(n.Name) // who may be spoken with may be asked for
	}
	for _, c := range p.Capabilities {
		bit, ok := event.CapabilityOf(c.Name)
		if ok {
			x.capabilities |= bit
		}
	}
	for _, v := range p.Privileges {
		x.privileges[v.Kind] = append(x.privileges[v.Kind], v.Detail)
	}
	return x
}

// Profile is what is compared with. It must not be changed.
func (x *Index) Profile() *profile.Profile { return x.p }

func (n *names) add(name string) {
	if n.exact == nil {
		n.exact, n.below = map[string]bool{}, map[string]bool{}
	}
	if len(name) > 2 && name[:2] == "*." {
		n.below[name[2:]] = true
	} else if name != "" {
		n.exact[name] = true
	}
}

func (n *names) has(name string) bool {
	if n.exact[name] {
		return true
	}
	for i := range len(name) {
		if name[i] == '.' && n.below[name[i+1:]] {
			return true
		}
	}
	return false
}

func endsOf(list []profile.Peer) ends {
	e := ends{ports: map[string][]portRule{}, networks: map[netip.Prefix][]portRule{}}
	for _, p := range list {
		at := portRule{p.Protocol, p.Port}
		switch {
		case p.Network.IsValid():
			n := p.Network.Masked()
			e.networks[n] = append(e.networks[n], at)
			if !slices.Contains(e.lengths, n.Bits()) {
				e.lengths = append(e.lengths, n.Bits())
			}
		case p.Name != "":
			i := slices.IndexFunc(e.names, func(n named) bool { return n.portRule == at })
			if i < 0 {
				i, e.names = len(e.names), append(e.names, named{portRule: at})
			}
			e.names[i].add(p.Name)
		default:
			e.ports[learn.End(p)] = append(e.ports[learn.End(p)], at)
		}
	}
	return e
}

// has reports whether a connection of that protocol and port, with whom it is, is
// among them. who is a group or a kind, as learn.End has it.
func (e *ends) has(who, name string, a netip.Addr, protocol string, port uint16) bool {
	fits := func(p portRule) bool { return p.protocol == protocol && (p.ports.IsZero() || p.ports.Has(port)) }
	if slices.ContainsFunc(e.ports[who], fits) {
		return true
	}
	if name != "" {
		for i := range e.names {
			if fits(e.names[i].portRule) && e.names[i].has(name) {
				return true
			}
		}
	}
	for _, bits := range e.lengths {
		if n, err := a.Prefix(bits); err == nil && slices.ContainsFunc(e.networks[n], fits) {
			return true
		}
	}
	return false
}
