package intent

import (
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// Capability is one that a group needs.
type Capability struct {
	Name string
	Why  string
	// Unseen says that it is kept to be safe: no sensor sees its use.
	Unseen bool
}

// lowPorts end where ports begin that anybody may open.
const lowPorts = 1024

// needed are the capabilities that privileged calls rest on: capabilities(7).
var needed = map[event.Kind][]string{
	event.KindMount: {"SYS_ADMIN"}, event.KindUmount: {"SYS_ADMIN"}, event.KindPivotRoot: {"SYS_CHROOT"},
	event.KindModule: {"SYS_MODULE"}, event.KindKexec: {"SYS_BOOT"}, event.KindUser: {"SETGID", "SETUID"},
	event.KindRaw: {"NET_RAW"},
}

// Capabilities returns what the group needs, sorted: what was seen to be used, what
// other entries rest on, and what a person permitted. Where no host sees uses, it is
// all that programs had, and what is needed where a program changes its user.
func Capabilities(p *profile.Profile) []Capability {
	found := map[string]Capability{}
	add := func(unseen bool, why string, names ...string) {
		for _, n := range names {
			if _, ok := found[n]; !ok {
				found[n] = Capability{Name: n, Why: why, Unseen: unseen}
			}
		}
	}
	for _, c := range p.Capabilities {
		if p.UsesSeen && !c.Used && c.Source == profile.Learned {
			continue // had, and never used
		}
		add(false, Origin(c.Evidence), c.Name)
	}
	for _, x := range p.Privileges {
		add(false, "for "+string(x.Kind), needed[x.Kind]...)
	}
	for _, l := range p.Listens {
		if l.Port.First > 0 && l.Port.First < lowPorts {
			add(false, fmt.Sprintf("for port %d", l.Port.First), "NET_BIND_SERVICE")
		}
	}
	if NetworkOf(p).Raw {
		add(false, "for raw sockets", "NET_RAW")
	}
	if root, others := Users(p); root && others && !p.UsesSeen {
		add(true, UnseenWhy, "CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID")
	}
	var all []Capability
	for _, c := range found {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Capability) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Unseen returns the names of those that are kept to be safe, empty for none.
func Unseen(all []Capability) string {
	var names []string
	for _, c := range all {
		if c.Unseen {
			names = append(names, c.Name)
		}
	}
	return strings.Join(names, ", ")
}

// UnseenWhy is why capabilities are kept that were not learned.
const UnseenWhy = "kept because root and another user run, and no sensor sees its use"

// Users reports whether programs run as root, and as others.
func Users(p *profile.Profile) (root, others bool) {
	for _, e := range p.Executables {
		for _, u := range e.Users {
			root, others = root || u == 0, others || u != 0
		}
	}
	return root, others
}

// Network is what protocols a group speaks, and its ports.
type Network struct {
	TCP, UDP, Raw bool
	Binds         []profile.Ports // TCP ports that are opened, sorted
	Connects      []profile.Ports // TCP ports that are connected to, sorted
	UDPBinds      []profile.Ports // UDP ports that are opened, sorted
}

// dns is the port of resolvers, who are asked again over TCP where an answer is
// long.
const dns = 53

// NetworkOf gathers what the profile says of the network.
func NetworkOf(p *profile.Profile) Network {
	var n Network
	for _, l := range p.Listens {
		if l.Protocol == "udp" {
			n.UDP = true
			n.UDPBinds = append(n.UDPBinds, l.Port)
			continue
		}
		n.TCP = true
		n.Binds = append(n.Binds, l.Port)
	}
	for _, c := range p.Callers {
		n.TCP, n.UDP = n.TCP || c.Protocol == "tcp", n.UDP || c.Protocol == "udp"
	}
	for _, c := range p.Peers {
		switch c.Protocol {
		case "tcp":
			n.TCP = true
			n.Connects = append(n.Connects, c.Port)
		case "udp":
			n.UDP = true
		case "icmp":
			n.Raw = true
		}
	}
	if len(p.Names) > 0 {
		n.UDP, n.TCP = true, true
		n.Connects = append(n.Connects, profile.Ports{First: dns, Last: dns})
	}
	n.Raw = n.Raw || Has(p, event.KindRaw) || slices.ContainsFunc(p.Capabilities, func(c profile.Capability) bool { return c.Name == "NET_RAW" })
	n.Binds, n.Connects, n.UDPBinds = merge(n.Binds), merge(n.Connects), merge(n.UDPBinds)
	return n
}

// merge sorts ranges and joins those that touch.
func merge(in []profile.Ports) []profile.Ports {
	slices.SortFunc(in, func(a, b profile.Ports) int { return int(a.First) - int(b.First) })
	out := []profile.Ports{}
	for _, r := range in {
		if r.IsZero() {
			continue
		}
		if last := len(out) - 1; last >= 0 && int(r.First) <= int(out[last].Last)+1 {
			out[last].Last = max(out[last].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

// Any reports whether the group uses the network at all.
func (n Network) Any() bool { return n.TCP || n.UDP || n.Raw }

// GainsByExec returns what of the profile rests on programs that give rights to
// who runs them (set-uid, set-gid, file capabilities), empty if nothing does:
// no_new_privs would end that.
func GainsByExec(p *profile.Profile) string {
	if Has(p, event.KindCapability) {
		return string(event.KindCapability) + " was learned"
	}
	root := map[profile.Pattern]bool{}
	known := map[profile.Pattern]bool{}
	for _, e := range p.Executables {
		known[e.Path] = true
		root[e.Path] = root[e.Path] || len(e.Users) == 0 || slices.Contains(e.Users, 0)
	}
	for _, e := range p.Executables {
		if !slices.Contains(e.Users, 0) || len(e.Parents) == 0 {
			continue
		}
		fromRoot := slices.ContainsFunc(e.Parents, func(up profile.Pattern) bool { return up == "" || !known[up] || root[up] })
		if !fromRoot {
			return string(e.Path) + " runs as root and is started by others alone"
		}
	}
	return ""
}

// systemFolders have more in them than one service's data: rights for all of one
// would be rights for the image.
var systemFolders = []profile.Pattern{
	"/", "/bin", "/boot", "/etc", "/home", "/lib", "/lib64", "/mnt", "/opt", "/root", "/sbin", "/srv", "/usr", "/usr/bin", "/usr/lib", "/usr/lib64",
	"/usr/libexec", "/usr/local", "/usr/local/bin", "/usr/local/lib", "/usr/local/sbin", "/usr/sbin", "/usr/share", "/var", "/var/lib",
}

// Shared reports whether a folder has more in it than one service's data: a
// folder of the system, or one with programs that run.
func Shared(p *profile.Profile, folder profile.Pattern) bool {
	if slices.Contains(systemFolders, folder) {
		return true
	}
	below := func(path profile.Pattern) bool { return strings.HasPrefix(string(path), string(folder)+"/") }
	return slices.ContainsFunc(p.Executables, func(e profile.Executable) bool {
		return e.Origin == event.OriginImage && (below(e.Path) || slices.ContainsFunc(e.Scripts, below))
	})
}
