// Package tree knows the processes of hosts as events tell them: who is whose
// parent, what each ran, and whom it is connected to.
//
// It is bounded: of each host it knows so many processes, ended ones for a while.
// Its clock is that of the events.
package tree

import (
	"net/netip"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/detect/keep"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/threat"
)

// Bounds of what is known.
const (
	maxProcesses = 32 << 10         // of a host: what a host with many containers runs
	maxHosts     = 4096             // a large fleet
	keepEnded    = 2 * time.Minute  // children tell of ended parents for a while
	maxPeers     = 4                // open connections of a process that are known by address
	maxDepth     = 64               // of a walk up: deeper trees are made to confuse
	openFor      = 10 * time.Minute // after which a connection counts as closed: its end may have been lost
)

// Process is one process as far as it was seen. Its fields are for reading.
type Process struct {
	Key, Parent event.Key
	WorkloadID  string
	Name        string
	Executable  string
	// Program is what it runs, whatever that file is called here: see Program.
	Program string
	Args    []string // of its last exec; of a fork its parent's
	Line    string   // Args as one text, MaxText bytes at most
	UID     uint32
	// First says that it is the first process of its workload.
	First bool
	// Entered says that it, or one of its ancestors, came in from outside.
	Entered bool
	// Listening says that it, or who forked it, has opened a port.
	Listening bool
	// Raised says that it became root, as a process of another user or the child of
	// one, and that no set-uid program explains it. UID is then 0.
	Raised bool
	Seen   time.Time // when it was seen first
	Ended  time.Time // zero while it runs

	peers  [maxPeers]peer
	known  bool // an event of its own was seen, so that its workload is known
	setUID bool // it, or an ancestor, ran a set-uid program, which may change users
}

type peer struct {
	remote netip.AddrPort
	since  time.Time
}

// Tree is what is known. It is for one goroutine.
type Tree struct {
	hosts *keep.Map[string, *host]
	last  struct { // most events are of the host that the one before was of
		id   string
		host *host
	}
}

type host struct {
	processes *keep.Map[event.Key, *Process]
	ended     []ended // by time, oldest first; those before gone were dealt with
	gone      int
}

type ended struct {
	key event.Key
	at  time.Time
}

// New returns a tree without processes.
func New() *Tree { return &Tree{hosts: keep.New[string, *host](maxHosts, 0)} }

func (t *Tree) host(id string, now time.Time) *host {
	if t.last.host != nil && t.last.id == id {
		return t.last.host
	}
	h, ok := t.hosts.Get(id, now)
	if !ok {
		h = t.hosts.Put(id, &host{processes: keep.New[event.Key, *Process](maxProcesses, 0)}, now)
	}
	t.last.id, t.last.host = id, *h
	return *h
}

// Len is how many processes are known of a host.
func (t *Tree) Len(agentID string) int {
	if h, ok := t.hosts.Get(agentID, time.Time{}); ok {
		return (*h).processes.Len()
	}
	return 0
}

// Observe notes an event and returns the process that it is of.
func (t *Tree) Observe(e *event.Event) *Process {
	h := t.host(e.AgentID, e.Time)
	h.expire(e.Time)
	p := h.of(e)
	switch e.Kind {
	case event.KindExec:
		h.exec(p, e)
	case event.KindExit:
		p.Ended = e.Time
		h.ended = append(h.ended, ended{p.Key, e.Time})
	case event.KindConnect, event.KindAccept:
		if c := e.Connection; c != nil && c.Error == "" && c.Protocol == "tcp" && elsewhere(c.Remote.Addr()) {
			p.connect(c.Remote, e.Time)
		}
	case event.KindListen:
		if c := e.Connection; c != nil && c.Error == "" && c.Protocol == "tcp" {
			p.Listening = true
		}
	case event.KindClose:
		if e.Connection != nil {
			p.close(e.Connection.Remote)
		}
	}
	return p
}

// of returns the process of an event, and brings it up to date.
func (h *host) of(e *event.Event) *Process {
	at, ok := h.processes.Get(e.Process.Key, e.Time)
	if !ok {
		at = h.processes.Put(e.Process.Key, &Process{Key: e.Process.Key, Seen: e.Time}, e.Time)
	}
	p := *at
	before, known := p.UID, p.known
	if !p.known {
		p.known = true
		before, known = h.inherit(p, e)
	}
	if e.Exec != nil && e.Exec.SetUID {
		p.setUID = true
	}
	p.WorkloadID = e.WorkloadID
	if tellsUser(e) {
		p.become(e.Process.UID, before, known && e.WorkloadID != "")
	}
	if e.Process.Name != "" {
		p.Name = e.Process.Name
	}
	if !e.Process.Parent.IsZero() {
		p.Parent = e.Process.Parent
	}
	if e.Process.Executable != "" && e.Process.Executable != p.Executable {
		p.Executable = e.Process.Executable
		p.Program = Program(p.Executable, p.Args)
	}
	if p.Program == "" {
		p.Program = p.Name
	}
	return p
}

// tellsUser says that an event tells the user of its process: what is read of a
// container as a whole names a process of it, and not who that is.
func tellsUser(e *event.Event) bool {
	switch e.Kind.Sensor() {
	case "resource", "dns":
		return false
	}
	return e.Kind != event.KindClose && e.Kind != event.KindCalls
}

// become notes a process's user, who it was before if that is known.
func (p *Process) become(uid, before uint32, known bool) {
	switch {
	case uid != 0:
		p.Raised = false
	case known && before != 0 && !p.setUID:
		p.Raised = true
	}
	p.UID = uid
}

// inherit gives a new process what it has from its parent, and returns the parent's
// user where that is known and counts.
func (h *host) inherit(p *Process, e *event.Event) (uid uint32, known bool) {
	p.First = e.Process.ContainerPID == 1 && e.WorkloadID != ""
	p.Parent = e.Process.Parent
	parent := h.get(p.Parent)
	if parent == nil {
		return 0, false
	}
	if parent.known && parent.WorkloadID != e.WorkloadID {
		return 0, false // from outside: what it has there does not count here
	}
	p.Entered, p.Listening, p.setUID, p.Raised = parent.Entered, parent.Listening, parent.setUID, parent.Raised
	known = parent.known && (e.Exec == nil || !e.Exec.Entered)
	if e.Kind == event.KindExec {
		return parent.UID, known // of its own it has what it runs; its parent's connections are asked for there
	}
	p.Args, p.Line, p.peers = parent.Args, parent.Line, parent.peers
	return parent.UID, known
}

func (h *host) exec(p *Process, e *event.Event) {
	x := e.Exec
	if x == nil {
		return
	}
	p.Args, p.Line = x.Args, Line(x.Args)
	p.Program = Program(p.Executable, p.Args)
	p.Ended = time.Time{}
	if x.Entered {
		p.Entered = true
	}
	child := p
	for i := range x.Ancestors {
		a := &x.Ancestors[i]
		if child.Parent.IsZero() {
			child.Parent = a.Key
		}
		at, ok := h.processes.Get(a.Key, e.Time)
		if !ok {
			at = h.processes.Put(a.Key, &Process{Key: a.Key, Name: a.Name, Executable: a.Executable, Seen: e.Time,
				Program: Program(a.Executable, nil), WorkloadID: e.WorkloadID}, e.Time)
			if (*at).Program == "" {
				(*at).Program = a.Name
			}
		}
		child = *at
	}
}

func (h *host) get(k event.Key) *Process {
	if k.IsZero() {
		return nil
	}
	if p, ok := h.processes.Get(k, time.Time{}); ok {
		return *p
	}
	return nil
}

// expire forgets what ended a while ago.
func (h *host) expire(now time.Time) {
	for h.gone < len(h.ended) && (now.Sub(h.ended[h.gone].at) > keepEnded || len(h.ended)-h.gone > maxProcesses) {
		if p := h.get(h.ended[h.gone].key); p != nil && !p.Ended.IsZero() {
			h.processes.Delete(p.Key)
		}
		h.gone++
	}
	if h.gone > len(h.ended)/2 {
		h.ended = append(h.ended[:0], h.ended[h.gone:]...)
		h.gone = 0
	}
}

// Parent returns the parent of a process of a host; nil where it is not known.
func (t *Tree) Parent(agentID string, p *Process) *Process {
	return t.host(agentID, p.Seen).get(p.Parent)
}

// Ancestors calls do for each ancestor within the workload, parent first, until it
// returns false.
func (t *Tree) Ancestors(agentID string, p *Process, do func(*Process) bool) {
	h, workload := t.host(agentID, p.Seen), p.WorkloadID
	for range maxDepth {
		p = h.get(p.Parent)
		if p == nil || outside(p, workload) || !do(p) {
			return
		}
	}
}

// starting bounds the start of a container: scripts of images write their settings
// in seconds.
const starting = time.Minute

// Starting says that a process is the container's first, or descends from it, and
// that neither it nor the container is older than a minute.
func (t *Tree) Starting(agentID string, p *Process, now time.Time) bool {
	if p.Entered || now.Sub(p.Seen) > starting {
		return false
	}
	first := p
	if !p.First {
		t.Ancestors(agentID, p, func(a *Process) bool {
			first = a
			return !a.First
		})
	}
	return first.First && p.Key.Start-first.Key.Start <= uint64(starting)
}

// Root returns the process under which a tree folds: the oldest ancestor within the
// workload that is not its first process, or the process itself.
func (t *Tree) Root(agentID string, p *Process) *Process {
	top := p
	if p.First {
		return p
	}
	t.Ancestors(agentID, p, func(a *Process) bool {
		if a.First {
			return false
		}
		top = a
		return true
	})
	return top
}

// outside says that an ancestor is not of the workload.
func outside(p *Process, workload string) bool {
	if p.known {
		return p.WorkloadID != workload
	}
	return workload != "" && runtimes[p.Program]
}

// runtimes are the parents that a container's processes have outside of it.
var runtimes = map[string]bool{
	"containerd-shim": true, "containerd-shim-runc-v2": true, "containerd-shim-runc-v1": true, "runc": true, "crun": true,
	"conmon": true, "dockerd": true, "containerd": true, "systemd": true, "amazon-ecs-agent": true,
}

func (p *Process) connect(remote netip.AddrPort, now time.Time) {
	oldest := 0
	for i := range p.peers {
		if p.peers[i].remote == remote {
			oldest = i
			break
		}
		if p.peers[i].since.Before(p.peers[oldest].since) {
			oldest = i
		}
	}
	p.peers[oldest] = peer{remote, now}
}

func (p *Process) close(remote netip.AddrPort) {
	for i := range p.peers {
		if p.peers[i].remote == remote {
			p.peers[i] = peer{}
		}
	}
}

// Connected returns the newest of its connections over TCP with another machine that
// are open, as far as was seen; ok is false if there is none.
func (p *Process) Connected(now time.Time) (remote netip.AddrPort, ok bool) {
	var since time.Time
	for _, c := range p.peers {
		if c.remote.IsValid() && now.Sub(c.since) <= openFor && !c.since.Before(since) {
			remote, since, ok = c.remote, c.since, true
		}
	}
	return remote, ok
}

func elsewhere(a netip.Addr) bool {
	return a.IsValid() && !a.Unmap().IsLoopback() && !a.IsUnspecified()
}

// Line makes one text of arguments.
func Line(args []string) string {
	switch len(args) {
	case 0:
		return ""
	case 1:
		return threat.Clip(args[0])
	}
	n := 0
	for i, a := range args {
		if n += len(a) + 1; n > threat.MaxText {
			return threat.Clip(strings.Join(args[:i+1], " "))
		}
	}
	return strings.Join(args, " ")
}

// Process returns a process of a host by its key; nil where it is not known.
func (t *Tree) Process(agentID string, k event.Key) *Process {
	if h, ok := t.hosts.Get(agentID, time.Time{}); ok {
		return (*h).get(k)
	}
	return nil
}

// Know notes a process that ran before anybody told events of it. What events told
// stays as it is.
func (t *Tree) Know(agentID string, r *event.Running) {
	if r.Process.Key.IsZero() {
		return
	}
	h := t.host(agentID, r.Started)
	if p := h.get(r.Process.Key); p != nil && p.known {
		return
	}
	p := &Process{
		Key: r.Process.Key, Parent: r.Process.Parent, WorkloadID: r.WorkloadID, Name: r.Process.Name, Executable: r.Process.Executable,
		Args: r.Args, Line: Line(r.Args), UID: r.Process.UID, Entered: r.Entered, Seen: r.Started, known: true,
		First: r.Process.ContainerPID == 1 && r.WorkloadID != "",
	}
	if p.Program = Program(p.Executable, p.Args); p.Program == "" {
		p.Program = p.Name
	}
	h.processes.Put(p.Key, p, r.Started)
}
