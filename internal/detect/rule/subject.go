package rule

import (
	"net/netip"
	"path"
	"strconv"
	"strings"

	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"github.com/castellan-security/castellan/internal/detect/tree"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/threat"
)

// Subject is an event as rules see it: with its process, and what is known around
// that. One subject serves one event after the other.
type Subject struct {
	Event   *event.Event
	Tree    *tree.Tree
	Process *tree.Process
	Parent  *tree.Process // nil where it is not known

	values []ref.Val // of the fields that were asked for, by their number
	asked  []int
	root   *tree.Process
	vars   *variables
}

// Set makes s that of an event. The tree must have observed it.
func (s *Subject) Set(e *event.Event, t *tree.Tree, p *tree.Process) {
	s.Event, s.Tree, s.Process, s.Parent, s.root = e, t, p, t.Parent(e.AgentID, p), nil
	for _, i := range s.asked {
		s.values[i] = nil
	}
	s.asked = s.asked[:0]
	if s.vars == nil {
		s.vars = &variables{s}
	}
}

// Root is the process under which the subject's tree folds.
func (s *Subject) Root() *tree.Process {
	if s.root == nil {
		s.root = s.Tree.Root(s.Event.AgentID, s.Process)
	}
	return s.root
}

// value returns the value of a field, which is found out once.
func (s *Subject) value(f *Field) ref.Val {
	if s.values == nil {
		s.values = make([]ref.Val, len(fields))
	}
	if v := s.values[f.number]; v != nil {
		return v
	}
	v := f.get(s)
	s.values[f.number] = v
	s.asked = append(s.asked, f.number)
	return v
}

// variables are what a subject is for CEL.
type variables struct{ of *Subject }

// ResolveName is part of CEL's interface of what expressions are held against.
func (v *variables) ResolveName(name string) (any, bool) {
	f := byName[name]
	if f == nil {
		return nil, false
	}
	return v.of.value(f), true
}

// Parent is part of CEL's interface: there is nothing behind.
func (v *variables) Parent() interpreter.Activation { return nil }

// shells are the programs that take commands from who talks to them.
var shells = map[string]bool{
	"sh": true, "bash": true, "dash": true, "ash": true, "zsh": true, "ksh": true, "mksh": true, "fish": true, "csh": true,
	"tcsh": true, "rbash": true, "busybox": true, "oksh": true, "yash": true, "pwsh": true,
}

// Shell says that a program takes commands from who talks to it.
func Shell(program string) bool { return shells[program] }

// Interactive says that a process is a shell that takes its commands from what it
// reads, and not from a script or its arguments.
func Interactive(p *tree.Process) bool {
	if p == nil || len(p.Args) == 0 || !shells[p.Program] {
		return false
	}
	args := p.Args
	if len(args) > 1 && tree.Base(args[0]) == "busybox" {
		args = args[1:]
	}
	for i, a := range args {
		switch {
		case i == 0:
		case a == "" || a[0] != '-' && a[0] != '+':
			return false // a script
		case a == "--rcfile" || a == "--init-file":
			return true
		case strings.HasPrefix(a, "--"):
		case strings.Contains(a, "i"):
			return true
		case strings.Contains(a, "c"):
			return false
		}
	}
	return true
}

// Place says where an address is, as far as it says itself.
func Place(a netip.Addr) event.PeerKind {
	a = a.Unmap()
	switch {
	case !a.IsValid():
		return event.PeerUnknown
	case a.IsLoopback() || a.IsUnspecified():
		return event.PeerSelf
	case a.IsLinkLocalUnicast() || a == serviceV6:
		return event.PeerService
	case a.IsPrivate() || a.IsMulticast() || shared.Contains(a):
		return event.PeerPrivate
	}
	return event.PeerPublic
}

var (
	shared    = netip.MustParsePrefix("100.64.0.0/10") // of carriers, and of VPCs
	serviceV6 = netip.MustParseAddr("fd00:ec2::254")   // the instance metadata service
)

// peer returns who an event is about on the network.
func (s *Subject) peer() (threat.Peer, bool) {
	if c := s.Event.Call; c != nil {
		a := c.Address()
		return threat.Peer{Address: netip.AddrPortFrom(a, 0), Peer: event.Peer{Kind: Place(a)}}, a.IsValid()
	}
	c := s.Event.Connection
	if c == nil || !c.Remote.IsValid() {
		return threat.Peer{}, false
	}
	p := threat.Peer{Address: c.Remote, Name: c.Name, Peer: c.Peer}
	if p.Kind == "" {
		p.Kind = Place(c.Remote.Addr())
	}
	return p, true
}

// files returns the paths that an event is about.
func (s *Subject) files() []string {
	e := s.Event
	var out []string
	add := func(p string) {
		if p != "" && len(out) < threat.MaxFiles {
			out = append(out, threat.Clip(p))
		}
	}
	switch {
	case e.File != nil:
		add(e.File.Path)
		add(e.File.To)
	case e.Memory != nil:
		add(e.Memory.Path)
	case e.Privilege != nil && strings.HasPrefix(e.Privilege.Target, "/"):
		add(e.Privilege.Target)
	case e.Exec != nil:
		add(e.Process.Executable)
	}
	return out
}

// subject returns what an exec executes in the end: the script that an interpreter
// was given, or else the file. It is as good as the arguments.
func subject(s *Subject) string {
	x := s.Event.Exec
	if x == nil {
		return ""
	}
	file := s.Event.Process.Executable
	switch {
	case x.Requested != "" && tree.Base(x.Requested) != tree.Base(file) && !multiple(s.Process, x.Requested):
		file = x.Requested
	case shells[s.Process.Program] || scripted[s.Process.Program]:
		for i, a := range x.Args {
			if i > 0 && a != "" && a[0] == '-' && (a == "-c" || a == "-e" || a == "-m" || a == "-r") {
				break // what follows is code
			}
			if i > 0 && a != "" && a[0] != '-' {
				file = a
				break
			}
		}
	}
	if file != "" && file[0] != '/' && x.Cwd != "" {
		return path.Join(x.Cwd, file)
	}
	return file
}

// multiple says that a program was asked for by one of its other names.
func multiple(p *tree.Process, requested string) bool {
	return tree.Program(requested, p.Args) == p.Program || shells[tree.Base(requested)] && shells[p.Program] || scripted[strings.TrimRight(tree.Base(requested), "0123456789.")]
}

// scripted are programs that run scripts.
var scripted = map[string]bool{"python": true, "perl": true, "ruby": true, "php": true, "node": true, "lua": true, "tclsh": true, "awk": true, "pypy": true}

// own says that a file is of the process's own folder in procfs.
func own(s *Subject) bool {
	if s.Event.File == nil {
		return false
	}
	rest, ok := strings.CutPrefix(s.Event.File.Path, "/proc/")
	if !ok {
		return false
	}
	pid, _, _ := strings.Cut(rest, "/")
	n, err := strconv.ParseUint(pid, 10, 32)
	return pid == "self" || pid == "thread-self" || err == nil && (uint32(n) == s.Event.Process.ContainerPID || uint32(n) == s.Event.Process.Key.PID)
}
