package event

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Words says in plain words what the process did, without the process itself:
// "opened /etc/shadow for reading (shadow)". Of an exec it is the executable,
// of a fork nothing. The text is untrusted where it quotes the event: paths,
// names and arguments come from the workload.
func (e *Event) Words() string {
	said := e.words()
	if failed := e.Failed(); failed != "" {
		said += ": " + failed
	}
	if e.Count > 1 {
		said += " (×" + strconv.FormatUint(e.Count, 10) + ")"
	}
	return said
}

// Failed returns why what was tried did not come to pass; empty when it did.
func (e *Event) Failed() string {
	switch {
	case e.File != nil:
		return e.File.Error
	case e.Connection != nil:
		return e.Connection.Error
	case e.Privilege != nil:
		return e.Privilege.Error
	case e.Memory != nil:
		return e.Memory.Error
	case e.DNS != nil && e.DNS.Code != "" && e.DNS.Code != "NOERROR":
		return e.DNS.Code
	case e.Call != nil:
		return e.Call.Error
	}
	return ""
}

func (e *Event) words() string {
	switch {
	case e.File != nil:
		return e.File.words(e.Kind)
	case e.Connection != nil:
		return e.Connection.words(e.Kind)
	case e.DNS != nil:
		return e.DNS.words(e.Kind)
	case e.Privilege != nil:
		return e.Privilege.words(e.Kind)
	case e.Memory != nil:
		return e.Memory.words(e.Kind)
	case e.Resource != nil:
		return e.Resource.words(e.Kind)
	case e.Calls != nil:
		return e.Calls.words()
	case e.Call != nil:
		return e.Call.words()
	case e.Exit != nil && e.Exit.Signal != 0:
		return "was killed by signal " + strconv.Itoa(e.Exit.Signal)
	case e.Exit != nil:
		return "ended with exit code " + strconv.Itoa(e.Exit.Code)
	case e.Exec != nil:
		return "ran " + e.Process.Executable
	case e.Kind == KindFork:
		return "was forked"
	}
	return string(e.Kind)
}

// words names a few of the calls, and the capabilities.
func (c *Calls) words() string {
	const few = 8
	var parts []string
	switch n := len(c.Names); {
	case n > few:
		parts = append(parts, "made the system calls "+strings.Join(c.Names[:few], ", ")+fmt.Sprintf(" and %d more", n-few))
	case n > 0 || c.Capabilities == 0:
		parts = append(parts, "made the system calls "+strings.Join(c.Names, ", "))
	}
	if c.Capabilities != 0 {
		parts = append(parts, "used the capabilities "+strings.Join(c.Capabilities.Names(), ", "))
	}
	return strings.Join(parts, "; ")
}

func (f *File) words(k Kind) string {
	what := f.Path
	if f.Type != "" && f.Type != "file" {
		what = f.Type + " " + what
	}
	switch k {
	case KindFileWrite:
		return "opened " + what + " for writing"
	case KindFileCreate:
		return "created " + what
	case KindFileRead:
		if f.Sensitive != "" {
			return "opened " + what + " for reading (" + f.Sensitive + ")"
		}
		return "opened " + what + " for reading"
	case KindFileRename:
		return "renamed " + what + " to " + f.To
	case KindFileLink:
		if f.Type == "link" || slices.Contains(f.Flags, "symbolic") {
			return "linked " + f.To + " to " + f.Path
		}
		return "gave " + what + " the further name " + f.To
	case KindFileDelete:
		return "deleted " + what
	case KindFileChmod:
		return fmt.Sprintf("changed the mode of %s to %04o", what, f.Mode)
	case KindFileChown:
		return "gave " + what + " to " + owner(f.UID, f.GID)
	}
	return string(k) + " " + what
}

func owner(uid, gid *uint32) string {
	var parts []string
	if uid != nil {
		parts = append(parts, "user "+strconv.FormatUint(uint64(*uid), 10))
	}
	if gid != nil {
		parts = append(parts, "group "+strconv.FormatUint(uint64(*gid), 10))
	}
	if len(parts) == 0 {
		return "the same owner"
	}
	return strings.Join(parts, " and ")
}

func (c *Connection) words(k Kind) string {
	who := c.peer()
	over := ""
	if c.Protocol != "tcp" && c.Protocol != "" {
		over = " over " + c.Protocol
	}
	switch k {
	case KindConnect:
		if c.Error != "" {
			return "could not connect to " + who + over
		}
		if c.Resumed {
			return "was connected to " + who + over
		}
		return "connected to " + who + over
	case KindAccept:
		return "accepted " + who + " at port " + strconv.Itoa(int(c.Local.Port())) + over
	case KindListen:
		return "listens at " + address(c.Local) + over
	case KindClose:
		return fmt.Sprintf("ended with %s%s: sent %s, received %s, after %s",
			who, over, bytesOf(c.BytesSent), bytesOf(c.BytesReceived), c.Duration.Round(time.Millisecond))
	case KindRaw:
		return "opened a " + c.Protocol + " socket"
	case KindStdio:
		return "made a connection with " + who + over + " its " + c.Stream
	case KindUnix:
		return c.socketWords()
	case KindFlow:
		return fmt.Sprintf("sent %d packets (%s) to %s%s within %s, and received %d",
			c.PacketsSent, bytesOf(c.BytesSent), who, over, c.Duration.Round(time.Millisecond), c.PacketsReceived)
	}
	return string(k) + " " + who + over
}

func (c *Connection) socketWords() string {
	s := "connected to the socket " + c.Path
	if c.Error != "" {
		return "could not connect to the socket " + c.Path
	}
	if c.Outside {
		s += " of " + c.listener()
	}
	if c.Asked != "" {
		s += " as " + c.Asked
	}
	return s
}

// listener says whose a unix socket is that is not of the same container.
func (c *Connection) listener() string {
	switch {
	case c.ListenerWorkloadID != "":
		return "another container"
	case c.ListenerName != "":
		return c.ListenerName + " of the host"
	}
	return "the host or another container"
}

// peer names the other end as well as it is known.
func (c *Connection) peer() string {
	at := address(c.Remote)
	switch {
	case c.Peer.Group != "":
		return c.Peer.Group + " (" + at + ")"
	case c.Name != "":
		return c.Name + " (" + at + ")"
	}
	return at
}

func address(a netip.AddrPort) string {
	switch {
	case !a.IsValid():
		return "?"
	case a.Port() == 0:
		return a.Addr().String()
	}
	return a.String()
}

func (d *DNS) words(k Kind) string {
	if k == KindQuery {
		return "asked for " + d.Name + " " + d.Type
	}
	if len(d.Answers) == 0 {
		return "was answered " + d.Name + " " + d.Type
	}
	return "was answered " + d.Name + " " + d.Type + ": " + strings.Join(d.Answers, ", ")
}

// verbs begin the words of a privilege event; the target follows.
var verbs = map[Kind]string{
	KindMount: "mounted", KindUmount: "unmounted", KindPivotRoot: "changed the root to",
	KindUnshare: "left its namespaces for new ones", KindSetns: "joined a namespace", KindClone: "started a process in new namespaces",
	KindPtrace: "traced", KindProcessWrite: "reached into the memory of", KindModule: "loaded or unloaded a kernel module",
	KindKexec: "loaded another kernel", KindBPF: "used BPF", KindPerf: "opened a performance event",
	KindKeyring: "used a kernel keyring", KindUserfault: "took over page faults", KindIOURing: "made an io_uring",
	KindCapability: "gained", KindUser: "became user", KindKernelKnob: "reached for", KindDevice: "opened the device",
}

func (p *Privilege) words(k Kind) string {
	said := []string{verbs[k]}
	add := func(s string) {
		if s != "" {
			said = append(said, s)
		}
	}
	switch k {
	case KindPivotRoot:
		if p.Target == "" { // the call alone is known
			said[0] = "changed its root"
		}
		add(p.Target)
	case KindMount:
		add(p.Type)
		add(p.Source)
		if p.Target != "" {
			add("on " + p.Target)
		}
	case KindCapability:
		names := strings.Join(p.Gained.Names(), ", ")
		if slices.Contains(p.Flags, CapabilityUsed) {
			return "used " + names
		}
		add(names)
	case KindUser:
		add(fmt.Sprintf("%d, was %d", p.NewUID, p.OldUID))
	case KindPtrace, KindProcessWrite:
		if !p.Process.IsZero() {
			add("process " + strconv.FormatUint(uint64(p.Process.PID), 10))
		}
		add(p.Target)
	default:
		add(p.Type)
		add(p.Target)
	}
	if len(p.Flags) > 0 {
		add("(" + strings.Join(p.Flags, ", ") + ")")
	}
	return strings.Join(said, " ")
}

func (m *Memory) words(k Kind) string {
	switch k {
	case KindExecMap:
		return "mapped " + m.Path + " as code"
	case KindExecProtect:
		if m.Path != "" {
			return "made writable memory of " + m.Path + " executable"
		}
		return "made writable memory executable"
	case KindMemfd:
		return "made the memory file " + m.Path
	}
	return string(k) + " " + m.Path
}

func (r *Resource) words(k Kind) string {
	switch k {
	case KindOOM:
		if r.Scope == ScopeHost {
			return "was killed because the host has no memory left"
		}
		return "was killed for want of memory at " + bytesOf(r.Limit)
	case KindThrottle:
		return "is held back: its CPU share is used up"
	}
	if r.What == "memory" {
		return "uses " + bytesOf(r.Used) + " of " + bytesOf(r.Limit) + " memory"
	}
	return fmt.Sprintf("uses %d of %d %s", r.Used, r.Limit, r.What)
}

// bytesOf writes a number of bytes with three digits.
func bytesOf(n uint64) string {
	const unit = 1024
	if n < unit {
		return strconv.FormatUint(n, 10) + " B"
	}
	v, i := float64(n)/unit, 0
	for v >= unit && i < 4 {
		v, i = v/unit, i+1
	}
	return strconv.FormatFloat(v, 'g', 3, 64) + " " + "KMGTP"[i:i+1] + "iB"
}
