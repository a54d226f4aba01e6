package rule

import (
	"net/netip"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/castellan-security/castellan/internal/detect/tree"
	"github.com/castellan-security/castellan/internal/event"
)

// Field is one thing that conditions can name.
type Field struct {
	Name string
	Type string // string, int, bool, duration, list(string)
	Doc  string

	number int
	get    func(*Subject) ref.Val
}

// Fields lists what conditions can name. What an event does not have is empty, 0 or
// false; the list is not to be changed.
func Fields() []*Field { return fields }

var (
	fields = numbered(everyEvent(), ofProcess(), ofExec(), ofFile(), ofConnection(), ofDNS(), ofPrivilege(), ofRest(), ofCall())
	byName = named(fields)
)

func numbered(groups ...[]*Field) []*Field {
	var all []*Field
	for _, g := range groups {
		for _, f := range g {
			f.number = len(all)
			all = append(all, f)
		}
	}
	return all
}

func named(all []*Field) map[string]*Field {
	m := map[string]*Field{}
	for _, f := range all {
		m[f.Name] = f
	}
	return m
}

// kindsOf returns which sensor's events have a field: the kind, or what it begins
// with; empty for all.
func kindsOf(field string) string {
	switch part, _, _ := strings.Cut(field, "."); part {
	case "exec":
		return "process.exec"
	case "exit":
		return "process.exit"
	case "connection":
		return "network."
	case "file", "dns", "privilege", "memory", "resource":
		return part + "."
	case "call", "actor":
		return string(event.KindCall)
	}
	return ""
}

func celType(name string) *cel.Type {
	switch name {
	case "int":
		return cel.IntType
	case "bool":
		return cel.BoolType
	case "double":
		return cel.DoubleType
	case "duration":
		return cel.DurationType
	case "list(string)":
		return cel.ListType(cel.StringType)
	}
	return cel.StringType
}

func text(name, doc string, get func(*Subject) string) *Field {
	return &Field{Name: name, Type: "string", Doc: doc, get: func(s *Subject) ref.Val { return types.String(get(s)) }}
}

func number(name, doc string, get func(*Subject) int64) *Field {
	return &Field{Name: name, Type: "int", Doc: doc, get: func(s *Subject) ref.Val { return types.Int(get(s)) }}
}

func truth(name, doc string, get func(*Subject) bool) *Field {
	return &Field{Name: name, Type: "bool", Doc: doc, get: func(s *Subject) ref.Val { return types.Bool(get(s)) }}
}

func span(name, doc string, get func(*Subject) time.Duration) *Field {
	return &Field{Name: name, Type: "duration", Doc: doc, get: func(s *Subject) ref.Val { return types.Duration{Duration: get(s)} }}
}

func list(name, doc string, get func(*Subject) []string) *Field {
	return &Field{Name: name, Type: "list(string)", Doc: doc, get: func(s *Subject) ref.Val {
		return types.NewStringList(types.DefaultTypeAdapter, get(s))
	}}
}

// of calls get with a payload, or gives the zero value where the event has none.
func of[P, V any](pick func(*event.Event) *P, get func(*P) V) func(*Subject) V {
	return func(s *Subject) (zero V) {
		if p := pick(s.Event); p != nil {
			return get(p)
		}
		return zero
	}
}

func everyEvent() []*Field {
	return []*Field{
		text("event.kind", "what happened", func(s *Subject) string { return string(s.Event.Kind) }),
		text("event.workload", "the container's id; empty for the host itself", func(s *Subject) string { return s.Event.WorkloadID }),
		text("event.group", "the container's group", func(s *Subject) string { return s.Event.Group }),
		text("event.agent", "the host's agent", func(s *Subject) string { return s.Event.AgentID }),
		text("event.error", "why it failed: EPERM, ECONNREFUSED, NXDOMAIN, …", func(s *Subject) string { return s.Event.Failed() }),
		truth("event.failed", "it did not come to pass", func(s *Subject) bool { return s.Event.Failed() != "" }),
		number("event.count", "how many times, at least 1", func(s *Subject) int64 { return int64(min(s.Event.Times(), 1<<62)) }),
		text("event.reaction", "what the kernel did: audited, denied, killed", func(s *Subject) string { return string(s.Event.Reaction) }),
	}
}

// ofProcess are the fields of the process whose doing it was, and of its parents.
func ofProcess() []*Field {
	all := one("process", "the process", func(s *Subject) *tree.Process { return s.Process })
	all = append(all, one("parent", "the parent", func(s *Subject) *tree.Process { return s.Parent })...)
	return append(all,
		number("process.uid", "real user id", func(s *Subject) int64 { return int64(s.Event.Process.UID) }),
		number("process.euid", "effective user id", func(s *Subject) int64 { return int64(s.Event.Process.EUID) }),
		truth("process.entered", "it, or one of its ancestors, came in from outside: docker exec, ECS Exec", func(s *Subject) bool { return s.Process.Entered }),
		truth("process.first", "the container's first process", func(s *Subject) bool { return s.Process.First }),
		truth("process.starting", "the container's first process, or what that started, in the container's first minute", func(s *Subject) bool {
			return s.Tree.Starting(s.Event.AgentID, s.Process, s.Event.Time)
		}),
		truth("process.raised", "it is root, was another user or the child of one, and no set-uid program was between", func(s *Subject) bool { return s.Process.Raised }),
		span("process.age", "since it was seen first", func(s *Subject) time.Duration { return s.Event.Time.Sub(s.Process.Seen) }),
		list("ancestors.programs", "what its ancestors within the container run, parent first", func(s *Subject) []string {
			return ancestors(s, func(p *tree.Process) string { return p.Program })
		}),
		list("ancestors.lines", "the command lines of its ancestors within the container, parent first", func(s *Subject) []string {
			return ancestors(s, func(p *tree.Process) string { return p.Line })
		}))
}

func ancestors(s *Subject, get func(*tree.Process) string) []string {
	var out []string
	s.Tree.Ancestors(s.Event.AgentID, s.Process, func(p *tree.Process) bool {
		out = append(out, get(p))
		return true
	})
	return out
}

// one are the fields of one process.
func one(name, who string, pick func(*Subject) *tree.Process) []*Field {
	str := func(get func(*tree.Process) string) func(*Subject) string {
		return func(s *Subject) string {
			if p := pick(s); p != nil {
				return get(p)
			}
			return ""
		}
	}
	return []*Field{
		text(name+".name", "the kernel's name of "+who, str(func(p *tree.Process) string { return p.Name })),
		text(name+".executable", "the file that "+who+" runs", str(func(p *tree.Process) string { return p.Executable })),
		text(name+".program", "what "+who+" runs, without folder, version, architecture: python for /usr/bin/python3.11, sh for a busybox called so", str(func(p *tree.Process) string { return p.Program })),
		text(name+".line", "the command line of "+who+", where its exec was seen", str(func(p *tree.Process) string { return p.Line })),
		text(name+".peer", "the address of the open connection of "+who+" with another machine; empty for none", str2(pick, func(s *Subject, p *tree.Process) string {
			if a, ok := p.Connected(s.Event.Time); ok {
				return a.String()
			}
			return ""
		})),
		truth(name+".connected", who+" has an open connection with another machine", func(s *Subject) bool {
			p := pick(s)
			if p == nil {
				return false
			}
			_, ok := p.Connected(s.Event.Time)
			return ok
		}),
		truth(name+".listening", who+", or who forked it, opened a port", func(s *Subject) bool { p := pick(s); return p != nil && p.Listening }),
		truth(name+".interactive", who+" is a shell that reads its commands: it has neither a script nor -c", func(s *Subject) bool { return Interactive(pick(s)) }),
	}
}

func str2(pick func(*Subject) *tree.Process, get func(*Subject, *tree.Process) string) func(*Subject) string {
	return func(s *Subject) string {
		if p := pick(s); p != nil {
			return get(s, p)
		}
		return ""
	}
}

// stream returns what an exec has as one of its first descriptors.
func stream(at int) func(*Subject) string {
	return func(s *Subject) string {
		if x := s.Event.Exec; x != nil && at < len(x.Stdio) {
			return string(x.Stdio[at].Kind)
		}
		return ""
	}
}

// peerOf returns the other end of what an exec reads or writes.
func peerOf(x *event.Exec) string {
	for i, s := range x.Stdio {
		if i < 2 && s.Remote.IsValid() {
			return s.Remote.String()
		}
	}
	return ""
}

// preloads returns the libraries that the loader is told to take first: it takes
// colons and, for LD_PRELOAD, spaces between them (ld.so(8)).
func preloads(x *event.Exec) []string {
	var out []string
	for _, v := range x.Environment {
		name, value, _ := strings.Cut(v, "=")
		if name == "LD_PRELOAD" || name == "LD_AUDIT" {
			out = append(out, strings.FieldsFunc(value, func(r rune) bool { return r == ':' || r == ' ' })...)
		}
	}
	return out
}

func ofExec() []*Field {
	exec := func(e *event.Event) *event.Exec { return e.Exec }
	return []*Field{
		text("exec.requested", "the path given to execve where it differs from what runs: a script", of(exec, func(x *event.Exec) string { return x.Requested })),
		text("exec.subject", "what is executed in the end: the script that an interpreter was given, or else the file", subject),
		list("exec.args", "the arguments, the program's own name first", of(exec, func(x *event.Exec) []string { return x.Args })),
		text("exec.cwd", "working directory", of(exec, func(x *event.Exec) string { return x.Cwd })),
		text("exec.origin", "where the executed file came from: image, written, mount, memory, host", of(exec, func(x *event.Exec) string { return string(x.Origin) })),
		text("exec.stdin", "what it has as its input: none (closed), file, folder, pipe, terminal, null, device, tcp, udp, unix, socket, other", stream(0)),
		text("exec.stdout", "what it has as its output, in the same words", stream(1)),
		text("exec.stderr", "what it has for errors, in the same words", stream(2)),
		text("exec.peer", "the other end, with its port, of a connection that it has as its input or output; empty for none", of(exec, peerOf)),
		list("exec.environment", "the variables that change which code it runs or what is kept of it, as NAME=value: LD_PRELOAD, BASH_ENV, …", of(exec, func(x *event.Exec) []string { return x.Environment })),
		text("exec.preload", "the first library that LD_PRELOAD or LD_AUDIT names; empty for none", of(exec, func(x *event.Exec) string {
			if all := preloads(x); len(all) > 0 {
				return all[0]
			}
			return ""
		})),
		list("exec.preloads", "the libraries that LD_PRELOAD and LD_AUDIT name", of(exec, preloads)),
		truth("exec.deleted", "the file had no name left", of(exec, func(x *event.Exec) bool { return x.Deleted })),
		truth("exec.setuid", "the file has that bit", of(exec, func(x *event.Exec) bool { return x.SetUID })),
		truth("exec.entered", "it came into the container from outside", of(exec, func(x *event.Exec) bool { return x.Entered })),
		list("exec.capabilities", "effective, after the exec", of(exec, func(x *event.Exec) []string { return x.Capabilities.Names() })),
	}
}

func ofFile() []*Field {
	file := func(e *event.Event) *event.File { return e.File }
	return []*Field{
		text("file.path", "the file; of a rename or link the old name", of(file, func(f *event.File) string { return f.Path })),
		text("file.to", "the new name", of(file, func(f *event.File) string { return f.To })),
		text("file.target", "the name that the file has afterwards: file.to, or else file.path", of(file, fileTarget)),
		text("file.name", "what is behind the last slash of file.target", of(file, func(f *event.File) string { return tree.Base(fileTarget(f)) })),
		text("file.origin", "where the file came from: image, written, mount, memory", of(file, func(f *event.File) string { return string(f.Origin) })),
		text("file.system", "the type of its file system: overlay, tmpfs, proc, …", of(file, func(f *event.File) string { return f.FileSystem })),
		text("file.type", "of what is no plain file: folder, link, fifo, socket, char, block", of(file, func(f *event.File) string { return f.Type })),
		number("file.mode", "permission bits after the event", of(file, func(f *event.File) int64 { return int64(f.Mode) })),
		truth("file.setuid", "it has the set-uid or set-gid bit after the event", of(file, func(f *event.File) bool { return f.Mode&0o6000 != 0 })),
		truth("file.executable", "somebody may execute it after the event", of(file, func(f *event.File) bool { return f.Mode&0o111 != 0 })),
		list("file.flags", "of the open: write, append, truncate, create, exclusive, path; symbolic for such a link", of(file, func(f *event.File) []string { return f.Flags })),
		truth("file.own", "it is of the process's own folder in procfs", own),
		text("file.sensitive", "why reading it is told: keys, shadow, token, cloud, environ, memory, secrets, or a pattern of the settings", of(file, func(f *event.File) string { return f.Sensitive })),
	}
}

func fileTarget(f *event.File) string {
	if f.To != "" {
		return f.To
	}
	return f.Path
}

func ofConnection() []*Field {
	conn := func(e *event.Event) *event.Connection { return e.Connection }
	addr := func(a netip.AddrPort) string {
		if !a.IsValid() {
			return ""
		}
		return a.Addr().Unmap().String()
	}
	return []*Field{
		text("connection.protocol", "tcp, udp, icmp, raw, packet, unix, or a number", of(conn, func(c *event.Connection) string { return c.Protocol })),
		text("connection.address", "of the peer", of(conn, func(c *event.Connection) string { return addr(c.Remote) })),
		number("connection.port", "of the peer", of(conn, func(c *event.Connection) int64 { return int64(c.Remote.Port()) })),
		text("connection.remote", "address and port of the peer", of(conn, func(c *event.Connection) string {
			if !c.Remote.IsValid() {
				return ""
			}
			return c.Remote.String()
		})),
		number("connection.local_port", "of this side", of(conn, func(c *event.Connection) int64 { return int64(c.Local.Port()) })),
		text("connection.local_address", "of this side", of(conn, func(c *event.Connection) string { return addr(c.Local) })),
		text("connection.name", "what the DNS was asked for when it told this address", of(conn, func(c *event.Connection) string { return c.Name })),
		text("connection.place", "where the peer's address is: self, service (link-local: metadata), private, public", of(conn, func(c *event.Connection) string { return string(Place(c.Remote.Addr())) })),
		text("connection.peer", "who the peer is, where the server knows: workload, host, self, service, private, public", of(conn, func(c *event.Connection) string { return string(c.Peer.Kind) })),
		truth("connection.incoming", "of a connection that ended, or became input or output: the peer began it", of(conn, func(c *event.Connection) bool { return c.Incoming })),
		text("connection.error", "why it failed", of(conn, func(c *event.Connection) string { return c.Error })),
		text("connection.path", "of a unix socket: the name that its listener gave it, which begins with @ for an abstract one; of one that refused, what was asked for", of(conn, func(c *event.Connection) string { return c.Path })),
		text("connection.asked", "what the process called a unix socket, where that is another name", of(conn, func(c *event.Connection) string { return c.Asked })),
		text("connection.listener", "name of the process that listens at a unix socket; systemd where that made it", of(conn, func(c *event.Connection) string { return c.ListenerName })),
		text("connection.listener_workload", "container of that process; empty for the host's", of(conn, func(c *event.Connection) string { return c.ListenerWorkloadID })),
		truth("connection.outside", "who listens at a unix socket is not of the same container", of(conn, func(c *event.Connection) bool { return c.Outside })),
		text("connection.stream", "what a connection took the place of, for network.stdio: input, output, error", of(conn, func(c *event.Connection) string { return c.Stream })),
		number("connection.sent", "bytes, when it ended", of(conn, func(c *event.Connection) int64 { return int64(min(c.BytesSent, 1<<62)) })),
		number("connection.received", "bytes, when it ended", of(conn, func(c *event.Connection) int64 { return int64(min(c.BytesReceived, 1<<62)) })),
		span("connection.duration", "when it ended", of(conn, func(c *event.Connection) time.Duration { return c.Duration })),
	}
}

func ofDNS() []*Field {
	dns := func(e *event.Event) *event.DNS { return e.DNS }
	return []*Field{
		text("dns.name", "what was asked for, in lower case", of(dns, func(d *event.DNS) string { return d.Name })),
		text("dns.domain", "the part of the name that somebody registered, as a guess: its last two labels, or three", of(dns, func(d *event.DNS) string { return Domain(d.Name) })),
		text("dns.type", "A, AAAA, TXT, …", of(dns, func(d *event.DNS) string { return d.Type })),
		text("dns.code", "of an answer: NOERROR, NXDOMAIN, …", of(dns, func(d *event.DNS) string { return d.Code })),
		text("dns.server", "address of who was asked", of(dns, func(d *event.DNS) string {
			if !d.Server.IsValid() {
				return ""
			}
			return d.Server.Addr().Unmap().String()
		})),
		text("dns.place", "where that address is: self, service, private, public", of(dns, func(d *event.DNS) string { return string(Place(d.Server.Addr())) })),
		number("dns.size", "bytes of the message", of(dns, func(d *event.DNS) int64 { return int64(d.Size) })),
		list("dns.answers", "addresses, names and texts", of(dns, func(d *event.DNS) []string { return d.Answers })),
	}
}

// Domain guesses which part of a name somebody registered: the last two labels, or
// three where the last two are short, such as co.uk.
func Domain(name string) string {
	end := strings.LastIndexByte(name, '.')
	if end <= 0 {
		return name
	}
	second := strings.LastIndexByte(name[:end], '.')
	if second < 0 {
		return name
	}
	const short = 3 // letters: co, com, org, ac before a country
	if end-second-1 <= short && len(name)-end-1 == 2 {
		if third := strings.LastIndexByte(name[:second], '.'); third >= 0 {
			return name[third+1:]
		}
		return name
	}
	return name[second+1:]
}

func ofPrivilege() []*Field {
	priv := func(e *event.Event) *event.Privilege { return e.Privilege }
	return []*Field{
		text("privilege.call", "the system call, or exec", of(priv, func(p *event.Privilege) string { return p.Call })),
		text("privilege.source", "mount: what is mounted", of(priv, func(p *event.Privilege) string { return p.Source })),
		text("privilege.target", "mount point, path, module, keyring, namespace", of(priv, func(p *event.Privilege) string { return p.Target })),
		text("privilege.type", "type of file system, of BPF program, of namespace", of(priv, func(p *event.Privilege) string { return p.Type })),
		list("privilege.flags", "flags and commands in words: bind, newuser, attach, prog_load, host, userns", of(priv, func(p *event.Privilege) []string { return p.Flags })),
		list("privilege.gained", "capabilities that are new", of(priv, func(p *event.Privilege) []string { return p.Gained.Names() })),
		truth("privilege.other", "it is done to another process", func(s *Subject) bool {
			p := s.Event.Privilege
			return p != nil && !p.Process.IsZero() && p.Process != s.Event.Process.Key
		}),
		text("privilege.workload", "container of the other process; empty for the same or the host's", of(priv, func(p *event.Privilege) string { return p.WorkloadID })),
		truth("privilege.child", "the other process is a child of this one", func(s *Subject) bool {
			p := s.Event.Privilege
			if p == nil || p.Process.IsZero() {
				return false
			}
			other := s.Tree.Process(s.Event.AgentID, p.Process)
			return other != nil && other.Parent == s.Event.Process.Key
		}),
		number("privilege.old_uid", "effective user before", of(priv, func(p *event.Privilege) int64 { return int64(p.OldUID) })),
		number("privilege.new_uid", "effective user after", of(priv, func(p *event.Privilege) int64 { return int64(p.NewUID) })),
		number("privilege.major", "the device's major number", of(priv, func(p *event.Privilege) int64 { return int64(p.Device >> 8 & 0xfff) })),
	}
}

func ofRest() []*Field {
	mem := func(e *event.Event) *event.Memory { return e.Memory }
	res := func(e *event.Event) *event.Resource { return e.Resource }
	exit := func(e *event.Event) *event.Exit { return e.Exit }
	return []*Field{
		text("memory.call", "mmap, mprotect, memfd_create, …", of(mem, func(m *event.Memory) string { return m.Call })),
		text("memory.path", "the mapped file, or the memfd's name", of(mem, func(m *event.Memory) string { return m.Path })),
		text("memory.origin", "where that file came from", of(mem, func(m *event.Memory) string { return string(m.Origin) })),
		list("memory.protection", "read, write, execute: as asked for", of(mem, func(m *event.Memory) []string { return m.Protection })),
		number("memory.length", "bytes", of(mem, func(m *event.Memory) int64 { return int64(min(m.Length, 1<<62)) })),
		text("resource.what", "memory, cpu, pids, descriptors", of(res, func(r *event.Resource) string { return r.What })),
		number("resource.used", "bytes, processes, or thousandths of a CPU", of(res, func(r *event.Resource) int64 { return int64(min(r.Used, 1<<62)) })),
		number("resource.limit", "in the same unit; 0 for none", of(res, func(r *event.Resource) int64 { return int64(min(r.Limit, 1<<62)) })),
		text("resource.scope", "whose memory ran out, for resource.oom: container, cgroup (around it), host; empty where nobody found out", of(res, func(r *event.Resource) string { return string(r.Scope) })),
		number("resource.resident", "bytes in memory of the process that is killed, for resource.oom", of(res, func(r *event.Resource) int64 { return int64(min(r.Resident, 1<<62)) })),
		number("exit.code", "0 when a signal ended it", of(exit, func(x *event.Exit) int64 { return int64(x.Code) })),
		number("exit.signal", "0 when it ended by itself", of(exit, func(x *event.Exit) int64 { return int64(x.Signal) })),
		span("exit.lifetime", "from its start to its end", of(exit, func(x *event.Exit) time.Duration { return x.Lifetime })),
	}
}
