package learn

import (
	"net/netip"
	"slices"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// seen is a set of behaviour.
type seen struct {
	execs        map[execKey]*execMark
	foreign      int // of execs: that did not come with the image
	scripts      int // of all execs
	writes       *tree
	reads        *tree
	listens      map[portKey]*mark
	peers        map[peerKey]*mark
	callers      map[peerKey]*mark
	names        map[string]*mark
	capabilities map[string]*mark // that were had
	used         map[string]*mark // that were used, of the same
	usesSeen     bool
	privileges   map[privilegeKey]*mark
	calls        map[string]*mark
	dropped      map[string]uint64 // how often there was no room, by what it was
}

func newSeen() *seen {
	return &seen{
		execs: map[execKey]*execMark{}, writes: newTree(false), reads: newTree(true),
		listens: map[portKey]*mark{}, peers: map[peerKey]*mark{}, callers: map[peerKey]*mark{},
		names: map[string]*mark{}, capabilities: map[string]*mark{}, used: map[string]*mark{}, privileges: map[privilegeKey]*mark{}, calls: map[string]*mark{},
		dropped: map[string]uint64{},
	}
}

// Bounds of what is kept of one group, so that a container that does ever new things
// can't fill the memory of the server.
const (
	maxExecutables  = 2_000 // programs of the image; an image has as many
	maxForeign      = 256   // programs and libraries that did not come with the image
	maxPeers        = 4_000 // as many as rules can have destinations
	maxListens      = 512
	maxQueries      = 2_000
	maxPrivileges   = 512
	maxCalls        = 512 // Linux has fewer than 500 system calls
	maxCapabilities = 64
	maxParents      = 32
	maxUsers        = 32
	maxScripts      = 256   // of one interpreter
	maxAllScripts   = 4_000 // of all
)

// What there can be no room for.
const (
	droppedPrograms = "programs"
	droppedForeign  = "programs that did not come with the image"
	droppedScripts  = "scripts"
	droppedFiles    = "files"
	droppedReads    = "sensitive files"
	droppedPeers    = "peers"
	droppedPorts    = "ports"
	droppedNames    = "DNS names"
	droppedCalls    = "privileged calls"
	droppedPaths    = "paths that are too deep to be told whole"
)

type execKey struct {
	path   string
	origin event.Origin
}

type execMark struct {
	mark
	digest  string // of the content; several for one path are none
	several bool
	parents []string
	users   map[uint32]bool
	scripts []string
	loose   []string // of scripts: on volumes
	loads   []string // code that it loads besides
	more    bool     // there was no room for all scripts
	// contents are by layer, the newest of them: see content.go.
	contents []profile.Content
}

type portKey struct {
	protocol string
	port     uint16
}

// peerKey is who was spoken with: one of group, name, address and kind is set.
type peerKey struct {
	portKey
	group   asset.Group
	name    string
	address netip.Addr
	kind    event.PeerKind
}

type privilegeKey struct {
	kind   event.Kind
	detail string
}

// put adds a mark to one of the sets, if there is room.
func put[K comparable](s *seen, set map[K]*mark, k K, m *mark, most int, what string) {
	have := set[k]
	if have == nil {
		if len(set) >= most {
			s.dropped[what] += m.Count
			return
		}
		have = &mark{}
		set[k] = have
	}
	have.add(m)
}

// each calls do with every mark.
func (s *seen) each(do func(*mark)) {
	for _, e := range s.execs {
		do(&e.mark)
	}
	for _, t := range []*tree{s.writes, s.reads} {
		t.each(func(_ profile.Pattern, m *mark) { do(m) })
	}
	for _, set := range []map[string]*mark{s.names, s.capabilities, s.used, s.calls} {
		for _, m := range set {
			do(m)
		}
	}
	for _, m := range s.listens {
		do(m)
	}
	for _, set := range []map[peerKey]*mark{s.peers, s.callers} {
		for _, m := range set {
			do(m)
		}
	}
	for _, m := range s.privileges {
		do(m)
	}
}

// add adds everything of another set, which is not changed.
func (s *seen) add(o *seen) {
	for k, e := range o.execs {
		s.putExec(k, e)
	}
	o.writes.each(func(p profile.Pattern, m *mark) { s.addPattern(s.writes, p, m, droppedFiles) })
	o.reads.each(func(p profile.Pattern, m *mark) { s.addPattern(s.reads, p, m, droppedReads) })
	for k, m := range o.listens {
		put(s, s.listens, k, m, maxListens, droppedPorts)
	}
	for k, m := range o.peers {
		put(s, s.peers, k, m, maxPeers, droppedPeers)
	}
	for k, m := range o.callers {
		put(s, s.callers, k, m, maxPeers, droppedPeers)
	}
	for k, m := range o.names {
		put(s, s.names, k, m, maxQueries, droppedNames)
	}
	for k, m := range o.capabilities {
		put(s, s.capabilities, k, m, maxCapabilities, droppedCalls)
	}
	for k, m := range o.used {
		put(s, s.used, k, m, maxCapabilities, droppedCalls)
	}
	s.usesSeen = s.usesSeen || o.usesSeen
	for k, m := range o.privileges {
		put(s, s.privileges, k, m, maxPrivileges, droppedCalls)
	}
	for k, m := range o.calls {
		put(s, s.calls, k, m, maxCalls, droppedCalls)
	}
	for what, n := range o.dropped {
		s.dropped[what] += n
	}
}

func (s *seen) addFile(t *tree, path string, m *mark, what string) {
	if !t.add(path, m) {
		s.dropped[what] += m.Count
	}
}

func (s *seen) addPattern(t *tree, p profile.Pattern, m *mark, what string) {
	if !t.addPattern(p, m) {
		s.dropped[what] += m.Count
	}
}

// putExec adds what is known of a program.
func (s *seen) putExec(k execKey, e *execMark) {
	have := s.execs[k]
	if have == nil {
		most, what := maxExecutables, droppedPrograms
		if k.origin != event.OriginImage {
			most, what = maxForeign, droppedForeign
		}
		if k.origin != event.OriginImage && s.foreign >= most || k.origin == event.OriginImage && len(s.execs)-s.foreign >= most {
			s.dropped[what] += e.Count
			return
		}
		if k.origin != event.OriginImage {
			s.foreign++
		}
		have = &execMark{digest: e.digest, users: map[uint32]bool{}}
		s.execs[k] = have
	}
	if e.digest != "" && have.digest == "" && !have.several {
		have.digest = e.digest
	}
	if e.several || e.digest != "" && e.digest != have.digest {
		have.digest, have.several = "", true
	}
	have.add(&e.mark)
	have.contents = joinContents(have.contents, e.contents)
	have.more = have.more || e.more
	for _, p := range e.parents {
		have.parents = leastParents(have.parents, p)
	}
	for u := range e.users {
		if len(have.users) < maxUsers {
			have.users[u] = true
		}
	}
	for _, x := range e.scripts {
		s.putScript(have, x, e.Count)
	}
	for _, x := range e.loose {
		have.loose = least(have.loose, x, maxScripts)
	}
	for _, x := range e.loads {
		if len(have.loads) == maxScripts && !slices.Contains(have.loads, x) {
			s.dropped[droppedScripts] += e.Count
			continue
		}
		have.loads = least(have.loads, x, maxScripts)
	}
}

// putScript adds a script to an interpreter's.
func (s *seen) putScript(to *execMark, script string, count uint64) {
	if slices.Contains(to.scripts, script) {
		return
	}
	n := len(to.scripts)
	if n == maxScripts || s.scripts >= maxAllScripts || len(script) > maxString {
		to.more = true
		s.dropped[droppedScripts] += count
		return
	}
	to.scripts = least(to.scripts, script, maxScripts)
	s.scripts++
}

// leastParents is least for parents, of which "" is one: the engine.
func leastParents(set []string, p string) []string {
	if p == "" {
		if len(set) > 0 && set[0] == "" {
			return set
		}
		set = append([]string{""}, set...)
		return set[:min(len(set), maxParents)]
	}
	return least(set, p, maxParents)
}
