package intake

import (
	"net/netip"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// More limits of what one event may hold.
const (
	// maxCount bounds how often one event stands for: sums over a year of such
	// events at full speed still fit into 63 bits.
	maxCount = 1 << 40
	// maxBytes bounds one connection's counters: numbers in JSON are exact up to
	// here.
	maxBytes = 1 << 53
	// maxDomain holds the longest DNS name (RFC 1035: 255 bytes) with each of
	// its bytes escaped as \ddd.
	maxDomain = 1_024
	maxWord   = 64 // of a system call, flag, type, rule
	maxFlags  = 64 // a system call has fewer
	maxMode   = 0o7777
	maxSize   = 1 << 16 // of a DNS message: RFC 1035, 4.2.2
)

// cleanCount bounds how often it happened and until when.
func cleanCount(e *event.Event) {
	e.Count = min(e.Count, maxCount)
	if e.Last.IsZero() {
		return
	}
	if e.Count < 2 || !sane(e.Last) {
		e.Last = time.Time{}
	} else if e.Last.Before(e.Time) {
		e.Last = e.Time
	}
}

// cleanPayload keeps the one payload that the kind decides, bounded, and
// reports whether it is there.
func cleanPayload(e *event.Event) bool {
	from := *e
	e.Exec, e.Exit, e.File, e.Connection, e.DNS, e.Privilege, e.Memory, e.Resource = nil, nil, nil, nil, nil, nil, nil, nil
	e.Calls, e.Call = nil, nil
	e.Reaction = cleanReaction(from.Reaction)
	switch {
	case e.Kind == event.KindFork:
		return true
	case e.Kind == event.KindExec && from.Exec != nil:
		e.Exec = cleanExec(from.Exec)
	case e.Kind == event.KindExit && from.Exit != nil:
		e.Exit = cleanExit(from.Exit)
	case e.Kind == event.KindCalls && from.Calls != nil:
		e.Calls = &event.Calls{
			Names:        cleanList(from.Calls.Names, event.MaxCalls, maxWord),
			Capabilities: from.Calls.Capabilities, CapabilitiesSeen: from.Calls.CapabilitiesSeen,
		}
	case !slices.Contains(event.Kinds(), e.Kind):
		return false // of a newer agent, or of none
	case e.Kind.Sensor() == "file" && from.File != nil:
		e.File = cleanFile(from.File)
	case e.Kind.Sensor() == "network" && from.Connection != nil:
		e.Connection = cleanConnection(from.Connection)
	case e.Kind.Sensor() == "dns" && from.DNS != nil:
		e.DNS = cleanDNS(from.DNS)
	case e.Kind.Sensor() == "privilege" && from.Privilege != nil:
		e.Privilege = cleanPrivilege(from.Privilege)
	case e.Kind.Sensor() == "memory" && from.Memory != nil:
		e.Memory = cleanMemory(from.Memory)
	case e.Kind.Sensor() == "resource" && from.Resource != nil:
		e.Resource = cleanResource(from.Resource)
	default:
		return false
	}
	return true
}

func cleanReaction(r event.Reaction) event.Reaction {
	return event.Reaction(oneOf(string(r), string(event.ReactionAudited), string(event.ReactionDenied), string(event.ReactionKilled)))
}

func cleanExit(x *event.Exit) *event.Exit {
	c := *x
	c.Lifetime = max(c.Lifetime, 0)
	return &c
}

func cleanFile(f *event.File) *event.File {
	c := *f
	c.Path, c.To = untrusted.Clip(f.Path, maxPath), untrusted.Clip(f.To, maxPath)
	c.Origin = cleanOrigin(f.Origin)
	c.Layer = cleanLayer(f.Layer, c.Origin)
	c.FileSystem = untrusted.Clip(f.FileSystem, maxWord)
	c.Type = oneOf(f.Type, "folder", "link", "fifo", "socket", "char", "block")
	c.Mode &= maxMode
	c.Flags = cleanFlags(f.Flags)
	c.Sensitive = untrusted.Clip(f.Sensitive, maxPath)
	c.Error = cleanErrno(f.Error)
	return &c
}

func cleanConnection(n *event.Connection) *event.Connection {
	c := *n
	c.Protocol = cleanProtocol(n.Protocol)
	c.Local, c.Remote = cleanEnd(n.Local), cleanEnd(n.Remote)
	c.Error = cleanErrno(n.Error)
	c.BytesSent, c.BytesReceived = min(n.BytesSent, maxBytes), min(n.BytesReceived, maxBytes)
	c.PacketsSent, c.PacketsReceived = min(n.PacketsSent, maxBytes), min(n.PacketsReceived, maxBytes)
	c.Duration = max(n.Duration, 0)
	c.Name = untrusted.Clip(n.Name, maxDomain)
	c.Path, c.Asked = untrusted.Clip(n.Path, maxPath), untrusted.Clip(n.Asked, maxPath)
	c.Stream = oneOf(n.Stream, "input", "output", "error")
	c.ListenerName = untrusted.Clip(n.ListenerName, maxWord)
	if !asset.IsContainerID(n.ListenerWorkloadID) {
		c.ListenerWorkloadID = ""
	}
	c.Peer = event.Peer{} // who it is, the server says
	return &c
}

func cleanDNS(d *event.DNS) *event.DNS {
	c := *d
	c.Protocol = oneOf(d.Protocol, "udp", "tcp")
	c.Server, c.Client = cleanEnd(d.Server), cleanEnd(d.Client)
	c.Name = untrusted.Clip(d.Name, maxDomain)
	c.Type, c.Code = untrusted.Clip(d.Type, maxWord), untrusted.Clip(d.Code, maxWord)
	if len(d.Answers) > event.MaxAnswers {
		c.Truncated = true
	}
	c.Answers = cleanList(d.Answers, event.MaxAnswers, maxDomain)
	c.Size = min(max(d.Size, 0), maxSize)
	return &c
}

func cleanPrivilege(p *event.Privilege) *event.Privilege {
	c := *p
	c.Call = untrusted.Clip(p.Call, maxWord)
	c.Source, c.Target = untrusted.Clip(p.Source, maxPath), untrusted.Clip(p.Target, maxPath)
	c.Type = untrusted.Clip(p.Type, maxWord)
	c.Flags = cleanFlags(p.Flags)
	if !asset.IsContainerID(p.WorkloadID) {
		c.WorkloadID = ""
	}
	c.Error = cleanErrno(p.Error)
	return &c
}

func cleanMemory(m *event.Memory) *event.Memory {
	c := *m
	c.Call, c.Path = untrusted.Clip(m.Call, maxWord), untrusted.Clip(m.Path, maxPath)
	c.Origin = cleanOrigin(m.Origin)
	c.Layer = cleanLayer(m.Layer, c.Origin)
	c.Protection = cleanFlags(m.Protection)
	c.Error = cleanErrno(m.Error)
	return &c
}

func cleanResource(r *event.Resource) *event.Resource {
	c := *r
	c.What = oneOf(r.What, "memory", "cpu", "pids", "descriptors")
	c.Used, c.Limit, c.Resident = min(r.Used, maxBytes), min(r.Limit, maxBytes), min(r.Resident, maxBytes)
	c.Scope = event.Scope(oneOf(string(r.Scope), string(event.ScopeContainer), string(event.ScopeCgroup), string(event.ScopeHost)))
	return &c
}

func cleanFlags(words []string) []string { return cleanList(words, maxFlags, maxWord) }

// cleanList returns at most n texts of at most size bytes each; list itself
// when there is nothing to change.
func cleanList(list []string, n, size int) []string {
	if len(list) <= n && !slices.ContainsFunc(list, func(s string) bool { return len(s) > size || !untrusted.Storable(s) }) {
		return list
	}
	out := make([]string, min(len(list), n))
	for i := range out {
		out[i] = untrusted.Clip(list[i], size)
	}
	return out
}

// cleanEnd writes an address in its one form: what is IPv4 as IPv4, and without
// a zone, whose name means something on its host alone.
func cleanEnd(a netip.AddrPort) netip.AddrPort {
	if !a.Addr().IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

func cleanProtocol(s string) string {
	const maxNumber = 3 // an IP protocol is a byte
	if len(s) > 0 && len(s) <= maxNumber && only(s, func(c byte) bool { return '0' <= c && c <= '9' }) {
		return s
	}
	return oneOf(s, "tcp", "udp", "icmp", "raw", "packet", "vsock", "alg", "unix")
}

// cleanErrno lets the names of errors through: E and capitals.
func cleanErrno(s string) string {
	const longest = 24 // ERESTART_RESTARTBLOCK is 21
	isErrno := len(s) <= longest && only(s, func(c byte) bool { return 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' })
	if !isErrno {
		return ""
	}
	return s
}

// oneOf returns s when it is one of the words, else none.
func oneOf(s string, words ...string) string {
	if slices.Contains(words, s) {
		return s
	}
	return ""
}

func only(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return true
}
