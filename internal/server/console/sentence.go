package console

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// says is an event as the rest of a sentence about its process: "opened
// /etc/shadow for reading". It repeats text of containers as it is: whoever
// shows it quotes it. An exec and an exit have none, they are shown otherwise.
func says(e event.Event) string {
	s := ""
	switch {
	case e.File != nil:
		s = fileSays(e.Kind, e.File)
	case e.Connection != nil:
		s = connectionSays(e.Kind, e.Connection)
	case e.DNS != nil:
		s = dnsSays(e.Kind, e.DNS)
	case e.Privilege != nil:
		s = privilegeSays(e.Kind, e.Privilege)
	case e.Memory != nil:
		s = memorySays(e.Kind, e.Memory)
	case e.Resource != nil:
		s = resourceSays(e.Kind, e.Resource)
	case e.Calls != nil:
		s = "made system calls for the first time: " + strings.Join(e.Calls.Names, ", ")
	}
	if s != "" && e.Times() > 1 {
		s += " " + times(e.Times())
	}
	return s
}

// times writes how often something happened: ×12.
func times(n uint64) string { return "×" + count(n) }

// tried says that something was refused, and why.
func tried(done, errno string) string {
	if errno == "" {
		return done
	}
	return done + ": refused, " + errno
}

func fileSays(k event.Kind, f *event.File) string {
	what := f.Path
	if f.Type != "" {
		what = "the " + typeWord(f.Type) + " " + f.Path
	}
	s := ""
	switch k {
	case event.KindFileWrite:
		s = "opened " + what + " for writing"
	case event.KindFileCreate:
		s = "created " + what
	case event.KindFileRead:
		s = "opened " + what + " for reading"
	case event.KindFileRename:
		s = "renamed " + what + " to " + f.To
	case event.KindFileLink:
		s = "gave " + what + " the further name " + f.To
		if has(f.Flags, "symbolic") {
			s = "made " + f.To + " a symbolic link to " + f.Path
		}
	case event.KindFileDelete:
		s = "deleted " + what
	case event.KindFileChmod:
		s = "made " + what + " " + modeWords(f.Mode)
	case event.KindFileChown:
		s = "gave " + what + " to " + ownerWords(f)
	}
	return tried(s, f.Error)
}

func typeWord(t string) string {
	switch t {
	case "link":
		return "symbolic link"
	case "char", "block":
		return t + " device"
	}
	return t
}

// modeWords says what is new about permission bits that are worth an event.
func modeWords(mode uint32) string {
	var words []string
	if mode&0o4000 != 0 {
		words = append(words, "set-uid")
	}
	if mode&0o2000 != 0 {
		words = append(words, "set-gid")
	}
	if len(words) == 0 {
		words = append(words, "executable")
	}
	return strings.Join(words, " and ") + fmt.Sprintf(" (%04o)", mode)
}

func ownerWords(f *event.File) string {
	var words []string
	if f.UID != nil {
		words = append(words, "uid "+strconv.FormatUint(uint64(*f.UID), 10))
	}
	if f.GID != nil {
		words = append(words, "gid "+strconv.FormatUint(uint64(*f.GID), 10))
	}
	if len(words) == 0 {
		return "somebody else"
	}
	return strings.Join(words, ", ")
}

func connectionSays(k event.Kind, c *event.Connection) string {
	to := farEnd(c)
	switch k {
	case event.KindConnect:
		switch {
		case c.Error != "":
			return "could not connect to " + to + ": " + c.Error
		case c.Resumed:
			return "was connected to " + to + " before the agent started"
		case c.Protocol == "udp":
			return "sent to " + to + " over UDP"
		}
		return "connected to " + to
	case event.KindAccept:
		return "accepted a connection from " + to + " on port " + strconv.Itoa(int(c.Local.Port()))
	case event.KindListen:
		return "opened " + c.Protocol + " port " + strconv.Itoa(int(c.Local.Port())) + " for others, on " + listenAt(c.Local.Addr())
	case event.KindClose:
		return "ended the connection with " + to + ": sent " + size(c.BytesSent) + ", received " + size(c.BytesReceived) + " in " + lasted(c.Duration)
	case event.KindRaw:
		return "opened a " + orElse(c.Protocol, "raw") + " socket, past TCP and UDP"
	case event.KindStdio:
		return "made a connection with " + to + " its " + c.Stream
	case event.KindUnix:
		return socketSays(c)
	case event.KindFlow:
		return "sent " + strconv.FormatUint(c.PacketsSent, 10) + " packets to " + to + " in " + lasted(c.Duration) + ", and received " + strconv.FormatUint(c.PacketsReceived, 10)
	}
	return ""
}

func socketSays(c *event.Connection) string {
	if c.Error != "" {
		return "could not connect to the socket " + c.Path + ": " + c.Error
	}
	s := "connected to the socket " + c.Path
	if c.Outside {
		s += " of " + listenerSays(c)
	}
	return s
}

// listenerSays says whose a unix socket is that is not of the same container.
func listenerSays(c *event.Connection) string {
	switch {
	case c.ListenerWorkloadID != "":
		return "another container"
	case c.ListenerName != "":
		return "the host’s " + c.ListenerName
	}
	return "the host or another container"
}

func listenAt(a netip.Addr) string {
	if !a.IsValid() || a.IsUnspecified() {
		return "all addresses"
	}
	return a.String()
}

// farEnd names a peer by what a person knows of it, with the address behind.
func farEnd(c *event.Connection) string {
	at := ""
	if c.Remote.IsValid() {
		at = c.Remote.String()
	}
	if name := peerName(c.Peer, c.Name); name != "" {
		return strings.TrimSpace(name + " (" + orElse(at, "no address") + ")")
	}
	return orElse(at, "an unknown address")
}

// peerName is who a peer is, or "" when only its address is known.
func peerName(p event.Peer, asked string) string {
	switch p.Kind {
	case event.PeerWorkload:
		if p.Group != "" {
			return p.Group
		}
		return asset.ShortID(p.WorkloadID)
	case event.PeerSelf:
		return "itself"
	case event.PeerHost:
		return "a host"
	}
	return asked
}

// serviceName says what answers at a link-local service address.
func serviceName(a netip.Addr) string {
	switch a.String() {
	case "169.254.169.254", "fd00:ec2::254":
		return "instance metadata"
	case "169.254.170.2":
		return "task metadata"
	case "169.254.169.253", "fd00:ec2::253", "127.0.0.11":
		return "resolver"
	case "169.254.169.123", "fd00:ec2::123":
		return "time"
	}
	return "service"
}

func dnsSays(k event.Kind, d *event.DNS) string {
	asked := d.Name + " " + d.Type
	if k == event.KindQuery {
		return "asked for " + asked
	}
	switch {
	case d.Code != "" && d.Code != "NOERROR":
		return "was told " + d.Code + " for " + asked
	case len(d.Answers) == 0:
		return "was told that " + asked + " has no answer"
	}
	shown := d.Answers
	const most = 3
	more := ""
	if len(shown) > most {
		shown, more = shown[:most], ", …"
	}
	return "was told that " + asked + " is " + strings.Join(shown, ", ") + more
}

// privilegePhrases say what was done; the object follows.
var privilegePhrases = map[event.Kind]string{
	event.KindUmount:       "unmounted",
	event.KindPivotRoot:    "changed its root to",
	event.KindUnshare:      "left namespaces for new ones",
	event.KindClone:        "created a process in new namespaces",
	event.KindKexec:        "loaded another kernel",
	event.KindPerf:         "opened a performance event",
	event.KindKeyring:      "used a kernel keyring",
	event.KindUserfault:    "took over page faults (userfaultfd)",
	event.KindIOURing:      "made an io_uring, whose operations pass by the system calls",
	event.KindDevice:       "opened the device",
	event.KindKernelKnob:   "opened a setting of the host's kernel for writing:",
	event.KindBPF:          "used the kernel's BPF",
	event.KindModule:       "loaded the kernel module",
	event.KindPtrace:       "traced process",
	event.KindProcessWrite: "reached into the memory of process",
}

func privilegeSays(k event.Kind, p *event.Privilege) string {
	s := privilegePhrases[k]
	other := strconv.FormatUint(uint64(p.Process.PID), 10)
	switch k {
	case event.KindMount:
		s = "mounted " + orElse(p.Source, orElse(p.Type, "something")) + " on " + p.Target
		if p.Type != "" && p.Source != "" {
			s += " as " + p.Type
		}
	case event.KindSetns:
		s = "joined the " + orElse(p.Type, "unknown") + " namespace of another process"
	case event.KindPtrace, event.KindProcessWrite:
		s += " " + other
	case event.KindCapability:
		s = "gained " + strings.Join(p.Gained.Names(), ", ")
	case event.KindUser:
		s = fmt.Sprintf("became uid %d, was uid %d", p.NewUID, p.OldUID)
	case event.KindModule:
		if p.Call == "delete_module" {
			s = "unloaded the kernel module"
		}
		s += " " + p.Target
	default:
		if p.Target != "" {
			s += " " + p.Target
		}
	}
	if len(p.Flags) > 0 {
		s += " (" + strings.Join(p.Flags, ", ") + ")"
	}
	return tried(s, p.Error)
}

func memorySays(k event.Kind, m *event.Memory) string {
	s := ""
	switch k {
	case event.KindExecMap:
		s = "mapped " + orElse(m.Path, "a file") + " as code"
	case event.KindExecProtect:
		s = "made " + size(m.Length) + " of memory executable"
		if m.Path != "" {
			s += ", of " + m.Path
		}
	case event.KindMemfd:
		s = "made a file in memory, called " + orElse(m.Path, "nothing")
	}
	return tried(s, m.Error)
}

func resourceSays(k event.Kind, r *event.Resource) string {
	switch k {
	case event.KindOOM:
		s := "was killed by the kernel for want of memory"
		switch {
		case r.Scope == event.ScopeHost:
			s = "was killed by the kernel: the host has no memory left"
		case r.Limit > 0 && r.Scope == event.ScopeCgroup:
			s += ", at a limit of " + size(r.Limit) + " around it"
		case r.Limit > 0:
			s += ", at a limit of " + size(r.Limit)
		}
		if r.Resident > 0 {
			s += "; it had " + size(r.Resident) + " in memory"
		}
		return s
	case event.KindThrottle:
		s := "was held back: its CPU share is used up"
		if r.Limit > 0 {
			s += " (" + amount("cpu", r.Limit) + ")"
		}
		return s
	case event.KindLimit:
		return "came close to its limit of " + orElse(r.What, "something") + ": " + amount(r.What, r.Used) + " of " + amount(r.What, r.Limit)
	}
	return ""
}

// amount writes a quantity of a resource in its unit.
func amount(what string, n uint64) string {
	switch what {
	case "memory":
		return size(n)
	case "cpu":
		return strconv.FormatFloat(float64(n)/1000, 'f', -1, 64) + " CPU"
	}
	return count(n)
}

func has(words []string, word string) bool {
	for _, w := range words {
		if w == word {
			return true
		}
	}
	return false
}
