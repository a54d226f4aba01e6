// Package compile makes of a profile the rules that a host's kernel holds a group
// to.
package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// Options are what rules depend on besides the profile.
type Options struct {
	Mode profile.Mode
	// Switched are the answers that somebody set for single controls. An answer never
	// is stronger than the mode's: in discover nothing is held, in monitor nothing is
	// denied.
	Switched map[profile.Control]profile.Answer
	// Group returns the addresses of the workloads of a group. Nil: of no group are
	// they known.
	Group func(asset.Group) []netip.Addr
	// Hosts are the addresses of the fleet's hosts.
	Hosts []netip.Addr
	// Own are addresses of the group's workloads on this host, which they reach
	// themselves by.
	Own []netip.Addr
	// Resolvers are DNS servers whose answers count, besides those of the profile.
	Resolvers []netip.Addr
}

// Compile returns the rules, and in sentences what of the profile they can't hold
// to, for whoever looks at them. Rules that are returned pass Check.
func Compile(p *profile.Profile, o Options) (profile.Rules, []string, error) {
	c := compiler{o: o, rules: profile.Rules{Group: p.Group, Revision: p.Revision, Limits: p.Limits, Answers: map[profile.Control]profile.Answer{}}}
	for _, k := range profile.Controls() {
		c.rules.Answers[k] = Answer(o.Mode, o.Switched[k])
	}
	c.exec(p)
	for _, f := range p.Writes {
		c.rules.File.Writes = append(c.rules.File.Writes, f.Changes()...)
	}
	for _, f := range p.Reads {
		c.rules.File.Reads = append(c.rules.File.Reads, f.Path)
	}
	c.network(p)
	c.privilege(p)
	r := &c.rules
	for _, l := range []struct {
		control profile.Control
		what    string
		list    *[]profile.Pattern
	}{
		{profile.ControlExec, "programs", &r.Exec.Paths}, {profile.ControlExec, "programs that did not come with the image", &r.Exec.Written},
		{profile.ControlFile, "files to write", &r.File.Writes}, {profile.ControlFile, "sensitive files to read", &r.File.Reads},
	} {
		*l.list = reduce(*l.list)
		c.bound(l.control, l.what, len(*l.list), profile.MaxPatterns, func() { *l.list = (*l.list)[:profile.MaxPatterns] })
	}
	n := len(r.Network.Destinations) + len(r.Network.Names) + len(r.Network.Listens)
	c.bound(profile.ControlNetwork, "peers and ports", n, profile.MaxDestinations, func() {
		r.Network.Destinations = nil
		r.Network.Names = r.Network.Names[:min(len(r.Network.Names), profile.MaxDestinations/2)]
		r.Network.Listens = r.Network.Listens[:min(len(r.Network.Listens), profile.MaxDestinations/2)]
	})
	if err := r.Check(); err != nil {
		return profile.Rules{}, nil, fmt.Errorf("compile the profile of %s: %w", p.Group, err)
	}
	return *r, c.notes, nil
}

// Answer is what happens to what lies outside, in a mode, where somebody set
// switched, or nothing.
func Answer(m profile.Mode, switched profile.Answer) profile.Answer {
	var most profile.Answer
	switch m {
	case profile.Protect:
		most = profile.Deny
	case profile.Monitor:
		most = profile.Audit
	default:
		return profile.Off
	}
	if switched == profile.Off || switched == profile.Audit {
		return switched
	}
	return most
}

type compiler struct {
	o     Options
	rules profile.Rules
	notes []string
}

func (c *compiler) note(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(c.notes, s) {
		c.notes = append(c.notes, s)
	}
}

// bound switches a control to audit if a kernel could not hold all of its list:
// half a list would block what is normal.
func (c *compiler) bound(k profile.Control, what string, have, most int, cut func()) {
	if have <= most {
		return
	}
	cut()
	c.note("The profile has %d %s, and a host holds %d: %s is not held at all. Write patterns for what belongs together.", have, what, most, k)
	c.rules.Answers[k] = profile.Off
}

func (c *compiler) exec(p *profile.Profile) {
	x := &c.rules.Exec
	for _, e := range p.Executables {
		switch e.Origin {
		case event.OriginImage, event.OriginUnknown:
			x.Paths = append(x.Paths, e.Path)
		case event.OriginMemory:
			x.Memfd = true
		case event.OriginHost:
		default:
			x.Written = append(x.Written, e.Path)
		}
		for _, s := range e.Scripts {
			// Rungs that can tell where a script came from let those of the image run anyway.
			if slices.Contains(e.Loose, s) {
				x.Written = append(x.Written, s)
				x.Written = append(x.Written, inFolder(e.Path, s)...)
				continue
			}
			x.Paths = append(x.Paths, s)
		}
	}
	for _, v := range p.Privileges {
		switch v.Kind {
		case event.KindMemfd:
			x.Memfd = true
		case event.KindExecProtect:
			x.CodeHeap = true
		}
	}
}

// inFolder are the files that an interpreter runs when it is given a folder of that name,
// or, as Node can be, a file without its ending. Hosts tell them from others by these
// names: see runs_in of guard_script.bpf.h.
func inFolder(interpreter, script profile.Pattern) (files []profile.Pattern) {
	var ends []string
	switch name := path.Base(string(interpreter)); {
	case strings.HasPrefix(name, "python") && !slices.Contains([]string{".py", ".pyc"}, path.Ext(string(script))):
		ends = []string{"/__main__.*", "/__pycache__/__main__.*"}
	case strings.HasPrefix(name, "node") && !slices.Contains([]string{".js", ".cjs", ".mjs", ".ts"}, path.Ext(string(script))):
		ends = []string{"/package.json", "/index.*", ".js", ".json", ".node"}
		if folder := path.Dir(string(script)); path.Base(folder) == path.Base(string(script)) {
			files = append(files, profile.Pattern(folder+"/package.json")) // which Node looks at, too
		}
	}
	for _, end := range ends {
		if p := script + profile.Pattern(end); p.Check() == nil {
			files = append(files, p)
		}
	}
	return files
}

func (c *compiler) network(p *profile.Profile) {
	n := &c.rules.Network
	for _, l := range p.Listens {
		n.Listens = append(n.Listens, profile.PortRule{Protocol: l.Protocol, Ports: l.Port})
	}
	for _, q := range p.Reaches() {
		rule := profile.PortRule{Protocol: q.Protocol, Ports: q.Port}
		switch {
		case q.Name != "":
			n.Names = append(n.Names, profile.NameRule{PortRule: rule, Name: q.Name})
		case q.Network.IsValid():
			c.to(rule, q.Network)
			if q.Port.Has(dnsPort) && q.Network.IsSingleIP() {
				n.Resolvers = append(n.Resolvers, q.Network.Addr())
			}
		default:
			c.peers(rule, q)
		}
	}
	n.Resolvers = append(n.Resolvers, c.o.Resolvers...)
	if len(n.Resolvers) == 0 && len(n.Names) > 0 {
		c.note("The profile has DNS names but no DNS server: the addresses behind the names are not known to the host.")
	}
	slices.SortFunc(n.Resolvers, netip.Addr.Compare)
	n.Resolvers = slices.Compact(n.Resolvers)
	slices.SortFunc(n.Destinations, func(a, b profile.Destination) int {
		return cmp.Or(a.Network.Addr().Compare(b.Network.Addr()), cmp.Compare(a.Network.Bits(), b.Network.Bits()),
			cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Ports.First, b.Ports.First), cmp.Compare(a.Ports.Last, b.Ports.Last))
	})
	n.Destinations = slices.Compact(n.Destinations)
	c.sockets(p)
}

// sockets are those that are more than a connection, by their names; an entry without one
// stands for all.
func (c *compiler) sockets(p *profile.Profile) {
	n, all := &c.rules.Network, false
	for _, v := range p.Privileges {
		if v.Kind == event.KindRaw {
			n.Raw, all = true, all || v.Detail == ""
			n.Sockets = append(n.Sockets, v.Detail)
		}
	}
	if all {
		n.Sockets = nil
	}
	slices.Sort(n.Sockets)
	n.Sockets = slices.Compact(n.Sockets)
}

const dnsPort = 53

func (c *compiler) to(rule profile.PortRule, network netip.Prefix) {
	c.rules.Network.Destinations = append(c.rules.Network.Destinations, profile.Destination{PortRule: rule, Network: network.Masked()})
}

func (c *compiler) hosts(rule profile.PortRule, list []netip.Addr) {
	for _, a := range list {
		if a = a.Unmap(); a.IsValid() {
			c.to(rule, netip.PrefixFrom(a, a.BitLen()))
		}
	}
}

// peers resolves who a peer is to addresses.
func (c *compiler) peers(rule profile.PortRule, q profile.Peer) {
	var list []netip.Addr
	switch {
	case q.Group != "":
		if c.o.Group != nil {
			list = c.o.Group(q.Group)
		}
		if len(list) == 0 {
			c.note("No workload of %s is known: connections to it would lie outside until one runs.", q.Group)
		}
	case q.Kind == event.PeerSelf:
		c.to(rule, netip.MustParsePrefix("127.0.0.0/8"))
		c.to(rule, netip.MustParsePrefix("::1/128"))
		c.to(rule, netip.MustParsePrefix("0.0.0.0/32")) // which the kernel takes for the loopback
		c.to(rule, netip.MustParsePrefix("::/128"))
		list = c.o.Own
	case q.Kind == event.PeerHost:
		list = c.o.Hosts
	case q.Kind == event.PeerService:
		c.to(rule, netip.MustParsePrefix("169.254.0.0/16"))
		c.to(rule, netip.MustParsePrefix("fd00:ec2::/32"))
	}
	c.hosts(rule, list)
}

func (c *compiler) privilege(p *profile.Profile) {
	r := &c.rules.Privilege
	for _, k := range p.Capabilities {
		set, ok := event.CapabilityOf(k.Name)
		if !ok {
			c.note("%q is no capability that this program knows: it is left out.", k.Name)
			continue
		}
		r.Capabilities |= set
	}
	for _, v := range p.Privileges {
		if v.Kind != event.KindRaw {
			r.Kinds = append(r.Kinds, v.Kind)
		}
	}
	slices.Sort(r.Kinds)
	r.Kinds = slices.Compact(r.Kinds)
}

// maxReduced bounds the comparisons for making a list shorter: a second's work.
const maxReduced = 4 << 20

// reduce sorts a list and leaves out what another of its patterns stands for.
func reduce(list []profile.Pattern) []profile.Pattern {
	slices.Sort(list)
	list = slices.Compact(list)
	var wide []profile.Pattern
	for _, p := range list {
		if !p.Exact() {
			wide = append(wide, p)
		}
	}
	if len(list)*len(wide) > maxReduced {
		return list
	}
	return slices.DeleteFunc(list, func(p profile.Pattern) bool {
		return slices.ContainsFunc(wide, func(w profile.Pattern) bool { return w != p && w.Covers(p) && !(p.Covers(w) && w > p) })
	})
}
