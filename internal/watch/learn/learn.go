// Package learn turns the events of a group into its profile.
//
// What was learned is a set: the same behaviour gives the same profile, whatever
// the order in which hosts tell of it, as long as a process is told of before
// what it did. It is bounded: what there was no room for is counted and said.
package learn

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/widen"
)

// Learner learns how the workloads of one group behave. It is not safe for use by
// several at once.
type Learner struct {
	group asset.Group
	given *profile.Profile // what it began with: a person's, or a starting profile

	main     *seen
	hosts    []string
	versions []version
	strings  map[string]string
	usage    usage
	rates    map[string]*rate // of connections, by workload; not kept

	entered  entered
	life     life
	expected int // hosts on which the group runs; 0: not known

	lastHost    string
	lastHostBit uint64
}

// New returns a learner that knows nothing yet.
func New(g asset.Group) *Learner {
	return &Learner{group: g, main: newSeen(), strings: map[string]string{}, rates: map[string]*rate{}, entered: newEntered(), life: newLife()}
}

// Adopt makes a profile what the learner begins with: an imported one, a starting
// profile, or what a person permitted. What it learned before is forgotten, unless
// the profile has it; how settled it is, is not.
func (l *Learner) Adopt(p *profile.Profile) {
	l.given = Clone(p)
	l.given.Group = l.group
	l.main = newSeen()
}

// ClockSet says that the server's clock was set, from was to now, or that nobody
// watched in between: that was no time in which nothing new came. For how long nothing
// new has come counts anew; what was watched before stays.
func (l *Learner) ClockSet(was, now time.Time) { l.life.clockSet(was, now) }

// Group is whose behaviour is learned.
func (l *Learner) Group() asset.Group { return l.group }

// Take learns from an event. w is the workload whose event it is, and may be nil
// where that is not known any more: the image's version is unknown then.
func (l *Learner) Take(e *event.Event, w *asset.Workload) {
	session := l.entered.session(e, w)
	l.life.take(e, session != nil)
	if !teaches(e) || namedAsSetUp(e) {
		return
	}
	s := l.main
	if session != nil {
		if s = session.seen; s == nil {
			return
		}
	}
	m := l.markOf(e, w)
	switch {
	case e.Exec != nil:
		l.exec(s, e, w, &m)
	case e.File != nil:
		l.file(s, e, &m)
	case e.Connection != nil:
		l.connection(s, e, &m)
		if session == nil {
			l.begun(e)
		}
	case e.DNS != nil && e.Kind == event.KindQuery:
		if name := dnsName(e.DNS.Name); name != "" {
			put(s, s.names, name, &m, maxQueries, droppedNames)
		}
	case e.Privilege != nil:
		l.privilege(s, e, &m)
	case e.Memory != nil:
		l.memory(s, e, &m)
	case e.Calls != nil:
		for _, name := range e.Calls.Names {
			if callName(name) {
				put(s, s.calls, name, &m, maxCalls, droppedCalls)
			}
		}
		s.usesSeen = s.usesSeen || e.Calls.CapabilitiesSeen
		for _, name := range e.Calls.Capabilities.Names() {
			put(s, s.used, name, &m, maxCapabilities, droppedCalls)
		}
	}
}

// Runs learns from a process that runs since before somebody watched, as of a time: what
// it executed, and which script. w is its workload, agentID whose host that is on.
func (l *Learner) Runs(r *event.Running, agentID string, w *asset.Workload, now time.Time) {
	e := event.Event{
		Kind: event.KindExec, AgentID: agentID, WorkloadID: r.WorkloadID, Time: now, Received: now, Process: r.Process,
		Exec: &event.Exec{Args: r.Args, Origin: r.Origin},
	}
	if e.Process.Executable == "" || !teaches(&e) {
		return
	}
	m := l.markOf(&e, w)
	l.exec(l.main, &e, w, &m)
}

// teaches reports whether what an event tells was done, and not refused.
func teaches(e *event.Event) bool {
	if e.Reaction == event.ReactionDenied || e.Reaction == event.ReactionKilled || e.WorkloadID == "" {
		return false
	}
	switch {
	case bySetUp(e):
		return false
	case e.File != nil:
		return e.File.Error == "" && !nameless(e.File) // a file that could not be opened was not written
	case e.DNS != nil:
		return true // a name that there isn't was asked for all the same
	}
	failed := e.Failed()
	return failed != "EPERM" && failed != "EACCES"
}

// nameless reports whether a file has no name: a pipe or socket lies nowhere, and is told
// as the root of its own file system. The runtime gives those that a container writes to to
// the container's user.
func nameless(f *event.File) bool { return f.Path == "/" && (f.Type == "fifo" || f.Type == "socket") }

// markOf is what one event adds to the evidence.
func (l *Learner) markOf(e *event.Event, w *asset.Workload) mark {
	first, last := when(e)
	m := mark{First: first, Last: last, Count: e.Times(), Hosts: l.host(e.AgentID)}
	if w != nil {
		m.Versions = l.versionBit(VersionOf(w), w.Image.Reference, first, last)
	}
	return m
}

// VersionOf names the version of the image that a workload runs: the manifest's
// digest, or the engine's id where that is not known.
func VersionOf(w *asset.Workload) string { return cmp.Or(w.Image.Digest, w.Image.ID) }

func (l *Learner) exec(s *seen, e *event.Event, w *asset.Workload, m *mark) {
	x := e.Exec
	path := e.Process.Executable
	if x.PathTruncated || !clean(path) {
		s.dropped[droppedPaths]++
		return
	}
	k := execKey{path: program(path, x.Origin), origin: x.Origin}
	m.Sample = sample(path)
	one := execMark{mark: *m, digest: x.Digest, users: map[uint32]bool{e.Process.EUID: true}}
	if c, ok := ContentOf(e, w); ok {
		one.contents = []profile.Content{c}
	}
	if parent, known := Parent(e); known && parent == "" {
		one.parents = []string{""}
	} else if known {
		one.parents = l.parents(parent)
	}
	if script := Script(e); script != "" {
		p := program(script, event.OriginImage)
		one.scripts = []string{p}
		if onVolume(w, script) {
			one.loose = []string{p}
		}
	}
	for _, p := range Loads(e) {
		one.loads = append(one.loads, FilePattern(p))
	}
	s.putExec(k, &one)
	for _, name := range x.Capabilities.Names() {
		put(s, s.capabilities, name, m, maxCapabilities, droppedCalls)
	}
}

func (l *Learner) file(s *seen, e *event.Event, m *mark) {
	f := e.File
	if f.PathTruncated {
		s.dropped[droppedPaths]++
		return
	}
	if clean(e.Process.Executable) {
		m.Programs = l.parents(e.Process.Executable)
	}
	for _, path := range changed(e) {
		m.Sample = sample(path)
		switch {
		case path != f.Path:
		case e.Kind == event.KindFileRename:
			path = before(path, f.To)
		case e.Kind == event.KindFileLink: // locked as passwd is: passwd.47 becomes passwd.lock
			path = before(path, strings.TrimSuffix(f.To, ".lock"))
		}
		if e.Kind == event.KindFileRead {
			s.addFile(s.reads, path, m, droppedReads)
			continue
		}
		s.addFile(s.writes, path, m, droppedFiles)
	}
	if e.Kind == event.KindFileRename && f.Type == "folder" && clean(f.Path) && clean(f.To) {
		s.moved(f.Path, f.To, m)
	}
}

// moved notes that what was written in a folder, and below it, lies in another one now: a
// release or a plugin is unpacked beside its place and renamed to it, and goes from there
// file by file.
func (s *seen) moved(from, to string, m *mark) {
	n := s.writes.root
	for _, name := range profile.Pattern(from).Names() {
		if n = n.kids[s.writes.key(n, name)]; n == nil {
			return
		}
	}
	place := widen.At(profile.Pattern(to).Names())
	counts := place.Total == 0 && !place.Whole && !place.Tree
	var below []profile.Pattern
	walk(n, "", func(p profile.Pattern, _ *mark) { below = append(below, p) })
	one := *m
	one.Count = 1
	for _, p := range below {
		if p == "/" || strings.HasSuffix(string(p), "/**") && counts {
			continue // the folder itself, and what is never one where it is now
		}
		one.Sample = sample(to + string(p))
		s.addPattern(s.writes, profile.Pattern(to)+p, &one, droppedFiles)
	}
}

// before returns the pattern of the names under which a file is written before it is
// renamed, seen one of them, or that name.
func before(path, to string) string {
	i, j := strings.LastIndexByte(path, '/')+1, strings.LastIndexByte(to, '/')+1
	if path[:i] != to[:j] {
		return path
	}
	if p := widen.Written(path[i:], to[j:]); p != "" {
		return path[:i] + p
	}
	return path
}

// changed returns what a file event was about, as absolute paths: what was
// changed, or what was read.
func changed(e *event.Event) []string {
	f := e.File
	var out []string
	switch e.Kind {
	case event.KindFileRename:
		out = []string{f.Path, f.To}
	case event.KindFileLink:
		out = []string{f.To} // what a symbolic link leads to is not changed
		if !IsSymbolic(e) {
			out = append(out, f.Path) // it can be, by its other name
		}
	default:
		out = []string{f.Path}
	}
	return slices.DeleteFunc(out, func(p string) bool { return !clean(p) })
}

// IsSymbolic reports whether a link is a symbolic one: text, and no further name of a
// file.
func IsSymbolic(e *event.Event) bool {
	return e.Kind == event.KindFileLink && (e.File.Type == "link" || slices.Contains(e.File.Flags, "symbolic"))
}

func (l *Learner) connection(s *seen, e *event.Event, m *mark) {
	c := e.Connection
	switch e.Kind {
	case event.KindListen:
		k := portKey{c.Protocol, c.Local.Port()}
		if k.mayBeChosen() && len(s.listens) > maxListens/2 && s.chooses() {
			k.port = chosen.First // one range with those that are known, and there is no end of them
		}
		put(s, s.listens, k, m, maxListens, droppedPorts)
	case event.KindConnect:
		if k, ok := peer(c, false); ok {
			put(s, s.peers, k, m, maxPeers, droppedPeers)
		}
		if k, ok := named(c); ok {
			put(s, s.peers, k, m, maxPeers, droppedPeers)
		}
	case event.KindAccept:
		if k, ok := peer(c, true); ok {
			put(s, s.callers, k, m, maxPeers, droppedPeers)
		}
	case event.KindRaw:
		put(s, s.privileges, privilegeKey{e.Kind, c.Protocol}, m, maxPrivileges, droppedCalls)
	}
}

func (l *Learner) privilege(s *seen, e *event.Event, m *mark) {
	if e.Kind == event.KindCapability {
		for _, name := range e.Privilege.Gained.Names() {
			put(s, s.capabilities, name, m, maxCapabilities, droppedCalls)
		}
		return
	}
	put(s, s.privileges, privilegeKey{e.Kind, Detail(e)}, m, maxPrivileges, droppedCalls)
}

func (l *Learner) memory(s *seen, e *event.Event, m *mark) {
	if e.Kind != event.KindExecMap {
		put(s, s.privileges, privilegeKey{e.Kind, ""}, m, maxPrivileges, droppedCalls)
		return
	}
	if !clean(e.Memory.Path) || e.Memory.Origin == event.OriginImage {
		return
	}
	m.Sample = sample(e.Memory.Path)
	one := execMark{mark: *m, users: map[uint32]bool{e.Process.EUID: true}}
	if clean(e.Process.Executable) {
		one.parents = l.parents(e.Process.Executable)
	}
	s.putExec(execKey{program(e.Memory.Path, e.Memory.Origin), e.Memory.Origin}, &one)
}

// parents is a program as an entry names those that do something; none if there are
// too many programs.
func (l *Learner) parents(path string) []string {
	if kept := l.keep(program(path, event.OriginImage)); kept != "" {
		return []string{kept}
	}
	return nil
}

// program is a program's path as a profile has it. Only the folders of programs of
// the image are widened at once: of what came from elsewhere see alike.
func program(path string, origin event.Origin) string {
	if origin != event.OriginImage && origin != event.OriginUnknown || widen.Temporary(path) {
		return path
	}
	return stamped(path)
}

// maxStrings and maxString bound the texts that are kept once for all evidence.
const (
	maxStrings = 2_000
	maxString  = 512
)

// keep returns the one copy of a text, "" if there are too many.
func (l *Learner) keep(s string) string {
	if have, ok := l.strings[s]; ok {
		return have
	}
	if len(l.strings) >= maxStrings || len(s) > maxString {
		return ""
	}
	s = strings.Clone(s)
	l.strings[s] = s
	return s
}

// sample is a path as a sample; none if it is too long for one.
func sample(path string) string {
	if len(path) > maxString {
		return ""
	}
	return path
}

// clean reports whether a path is absolute, and one that a pattern can stand for.
func clean(path string) bool {
	return len(path) > 0 && path[0] == '/' && len(path) <= profile.MaxPattern && strings.Count(path, "/") <= profile.MaxDepth &&
		!strings.Contains(path, "//") && !strings.Contains(path, "/./") && !strings.Contains(path, "/../") &&
		(path == "/" || !strings.HasSuffix(path, "/")) && !strings.HasSuffix(path, "/..") && !strings.HasSuffix(path, "/.") &&
		!strings.ContainsRune(path, 0)
}

// onVolume reports whether a path lies on a volume of the workload.
func onVolume(w *asset.Workload, path string) bool {
	return w != nil && slices.ContainsFunc(w.Settings.Mounts, func(m asset.Mount) bool {
		t := strings.TrimSuffix(m.Target, "/")
		return t != "" && (path == t || strings.HasPrefix(path, t+"/"))
	})
}

// each calls do with every mark of the learner.
func (l *Learner) each(do func(*mark)) {
	l.main.each(do)
	for _, c := range l.entered.commands {
		if c.seen != nil {
			c.seen.each(do)
		}
	}
}

// Done reports whether what an event tells was done by a workload, and not refused
// or failed before it began.
func Done(e *event.Event) bool { return teaches(e) }

// FilePattern is the pattern that stands for one path, by its names alone.
func FilePattern(path string) string {
	names := profile.Pattern(path).Names()
	temporary := widen.Temporary(path)
	for i := range names {
		names[i] = widen.Shape(names[i], temporary)
	}
	return "/" + strings.Join(names, "/")
}
