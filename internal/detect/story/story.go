// Package story makes stories of threats: those of one tree of processes, of one
// container, or about one peer, minutes apart, are one incident.
//
// A Book holds the stories that may still go on. It has no input or output, and no
// clock but that of its caller. In which order threats come makes no difference to
// which of them are one story, as long as the story is shorter than
// threat.MaxOpenedFor and has room for its links: agents report late.
//
// Two stories are one when they have a link in common, and no more time lies between
// the end of the one and the beginning of the other than the link's window. That
// holds again for what they are together, until no two are one.
//
// It is not for finding threats (see engine), and not for keeping incidents.
package story

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/threat"
)

// How far apart things may be that are one story, by the agents' clocks.
const (
	// TreeWindow is for one tree of processes, which is the surest sign there is.
	TreeWindow = 30 * time.Minute
	// ContainerWindow is for one container.
	ContainerWindow = 10 * time.Minute
	// PeerWindow is for one peer of several containers. Their hosts' clocks differ.
	PeerWindow = 10 * time.Minute
	// ActorWindow is for one session, or user, that called AWS: what people and
	// intruders do is hours long, with pauses.
	ActorWindow = time.Hour
	// CredentialsWindow is from what happened in a container to a call by its
	// credentials: those of a task hold for six hours.
	CredentialsWindow = 6 * time.Hour
	// PrintWindow is for the very same thing: it goes on with the story in which it
	// began.
	PrintWindow = threat.MaxOpenedFor
	// ReopenWithin is how long after somebody resolved it a story goes on when it
	// recurs. After that it is a new one, which names the former.
	ReopenWithin = 24 * time.Hour
	// KeepFor is how long after its last threat a story stays in a Book.
	KeepFor = threat.MaxOpenedFor + time.Hour
)

// Bounds against clocks that were set: what an agent says is believed within these.
// Outside, what happened counts as of when it was heard of.
const (
	MaxAhead = 5 * time.Minute
	MaxLate  = 7 * 24 * time.Hour // longer than an agent's spool lasts
)

// Bounds of memory.
const (
	// MaxStories bounds the stories of a Book; those whose last threat is oldest go.
	MaxStories = 2_000
	// maxAside bounds the violations that wait for a threat near them.
	maxAside = 4_096
)

// Book holds the stories that may still go on. It is for one goroutine.
type Book struct {
	stories map[*Story]struct{}
	byID    map[int64]*Story
	links   map[uint64][]ref
	aside   []member // violations that no story has, the oldest first
	gone    []int64  // see Absorbed
}

// NewBook returns a book without stories.
func NewBook() *Book {
	return &Book{stories: map[*Story]struct{}{}, byID: map[int64]*Story{}, links: map[uint64][]ref{}}
}

// Story is one story as it is in a Book.
type Story struct {
	life
	memory
	size int // bytes of members and nodes, about

	prints   map[string]int // print → index of members
	folds    map[string]int // rule → index of Beyond
	keys     map[nodeKey]struct{}
	linked   map[link]struct{}
	near     map[*Story]time.Duration // those with a link in common, and its window
	recurred bool                     // see Recurred
	into     *Story                   // of which it became part; nil: it is itself
}

// life is what people made of a story, and what the store knows of it.
type life struct {
	ID, Revision, Former int64
	State                threat.State
	Assignee             string
	Resolution           threat.Resolution
	Resolved             *time.Time
	Reopened             int
	Merged               []int64
	Weaknesses           []threat.Weakness
	People               []threat.Entry // responses, comments, states: oldest first
}

// memory is what a story remembers of its threats.
type memory struct {
	Opened  time.Time     `json:"opened"`
	Last    time.Time     `json:"last"`
	Members []member      `json:"members"`
	Nodes   []threat.Node `json:"nodes,omitempty"` // ancestors
	// Beyond are threats that found no room among Members, by their rules.
	Beyond []beyond `json:"beyond,omitempty"`
	Links  []link   `json:"links"`
	Told   Told     `json:"told,omitzero"`
}

// Told is what people were told of a story last.
type Told struct {
	Times    int              `json:"times"` // how often
	Severity finding.Severity `json:"severity"`
	Reopened int              `json:"reopened,omitempty"`
	Resolved bool             `json:"resolved,omitempty"`
	Groups   int              `json:"groups,omitempty"` // how many it was in; 0 of versions that did not say
}

type beyond struct {
	threat.Fold
	Tactic     threat.Tactic `json:"tactic,omitempty"`
	Techniques []string      `json:"techniques,omitempty"`
}

// member is what is alike: threats of one print, or one violation.
type member struct {
	threat.Threat
	Kind threat.EntryKind `json:"kind"`
	// Told are hashes of the newest that were folded: an agent that got no answer
	// tells them again.
	Told []uint64 `json:"told"`
}

type nodeKey struct {
	agent string
	key   event.Key
}

// Take folds a threat into the story that it belongs to, which may be a new one,
// and returns it; nil where the same was taken before. now is when it was heard of.
func (b *Book) Take(t *threat.Threat, now time.Time) *Story {
	m := memberOf(t)
	believe(&m.Threat, now)
	return b.take(m, linksOf(&m.Threat), t)
}

// TakeViolation folds a violation of a profile. What a kernel refused in a protected
// group is a story by itself; all else joins a story that is near, now or when it
// begins, and makes it no longer. The story is nil where there is none.
func (b *Book) TakeViolation(v *profile.Violation, now time.Time) *Story {
	if v.WorkloadID == "" {
		return nil
	}
	m := violationMember(v)
	believe(&m.Threat, now)
	if v.Mode == profile.Protect && (v.Reaction == event.ReactionDenied || v.Reaction == event.ReactionKilled) {
		return b.take(m, linksOf(&m.Threat), nil)
	}
	for _, r := range b.links[containerLink(m.WorkloadID).Hash] {
		if r.kind == byContainer && r.story.reaches(&m, ContainerWindow) {
			r.story.fold(m)
			return r.story
		}
	}
	if len(b.aside) >= maxAside {
		b.aside = slices.Delete(b.aside, 0, 1+maxAside/8)
	}
	b.aside = append(b.aside, m)
	return nil
}

// believe puts the times of a threat where they can be.
func believe(t *threat.Threat, now time.Time) {
	span := min(max(t.Last.Sub(t.First), 0), threat.MaxOpenedFor)
	if t.Last.After(now.Add(MaxAhead)) || t.Last.Before(now.Add(-MaxLate)) {
		t.Last = now
	}
	t.First = t.Last.Add(-span)
}

func (b *Book) take(m member, links []link, t *threat.Threat) *Story {
	var s *Story
	near := b.nearest(&m, links)
	if slices.ContainsFunc(near, func(o *Story) bool { return o.told(&m) }) {
		return nil
	}
	for _, o := range near {
		switch {
		case s == nil:
			s = o
		case s.joins(o):
			s = b.merge(s, o)
		}
	}
	if s == nil {
		s = &Story{memory: memory{Opened: m.First, Last: m.Last}}
		s.ready()
		b.stories[s] = struct{}{}
	}
	s.recur(&m)
	if m.First.Before(s.Opened) {
		s.Opened = m.First
	}
	if m.Last.After(s.Last) {
		s.Last = m.Last
	}
	for _, l := range links {
		b.link(s, l)
	}
	if t != nil {
		s.ancestors(t)
	}
	s.fold(m)
	s = b.settle(s)
	b.join(s)
	return s
}

// nearest are the stories that a member belongs to, the oldest first.
func (b *Book) nearest(m *member, links []link) []*Story {
	found := map[*Story]bool{}
	for _, l := range links {
		for _, r := range b.links[l.Hash] {
			if window, ok := between(l.Kind, r.kind); ok && r.story.reaches(m, window) {
				found[r.story] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(found), older)
}

// reaches says whether a member is near enough to a story to be of it.
func (s *Story) reaches(m *member, window time.Duration) bool {
	if s.State == threat.Resolved && m.Last.After(s.Resolved.Add(ReopenWithin)) {
		return false
	}
	return gap(s.Opened, s.Last, m.First, m.Last) <= window && spanOf(s.Opened, s.Last, m.First, m.Last) <= threat.MaxOpenedFor
}

// joins says whether two stories together are not too long to be one.
func (s *Story) joins(o *Story) bool {
	return spanOf(s.Opened, s.Last, o.Opened, o.Last) <= threat.MaxOpenedFor
}

func gap(from, to, from2, to2 time.Time) time.Duration {
	return max(from2.Sub(to), from.Sub(to2), 0)
}

func spanOf(from, to, from2, to2 time.Time) time.Duration {
	if from2.Before(from) {
		from = from2
	}
	if to2.After(to) {
		to = to2
	}
	return to.Sub(from)
}

// older orders stories: those that are stored by their ids, before those that are not.
func older(a, b *Story) int {
	if (a.ID == 0) != (b.ID == 0) {
		return cmp.Compare(b.ID, a.ID)
	}
	return cmp.Or(cmp.Compare(a.ID, b.ID), a.Opened.Compare(b.Opened), a.Last.Compare(b.Last), cmp.Compare(a.Members[0].Print, b.Members[0].Print))
}

// settle merges until no two stories near each other are one.
func (b *Book) settle(s *Story) *Story {
	for again := true; again; {
		again = false
		for _, o := range slices.SortedFunc(maps.Keys(s.near), older) {
			if gap(s.Opened, s.Last, o.Opened, o.Last) <= s.near[o] && s.joins(o) && !s.over(o) {
				s, again = b.merge(s, o), true
				break
			}
		}
	}
	return s
}

// over says that one of two stories was resolved long before the other began.
func (s *Story) over(o *Story) bool {
	long := func(a, b *Story) bool {
		return a.State == threat.Resolved && b.Opened.After(a.Resolved.Add(ReopenWithin))
	}
	return long(s, o) || long(o, s)
}

// merge makes one story of two, the older of them.
func (b *Book) merge(s, o *Story) *Story {
	if older(o, s) < 0 {
		s, o = o, s
	}
	b.forget(o)
	o.into = s
	if o.ID != 0 {
		s.Merged = append(s.Merged, o.ID)
		b.gone = append(b.gone, o.ID)
	}
	s.Merged = append(s.Merged, o.Merged...)
	s.mergeLife(&o.life)
	if o.Opened.Before(s.Opened) {
		s.Opened = o.Opened
	}
	if o.Last.After(s.Last) {
		s.Last = o.Last
	}
	for _, n := range o.Nodes {
		s.node(n)
	}
	for _, m := range o.Members {
		s.fold(m)
	}
	for i := range o.Beyond {
		s.beyond(&o.Beyond[i])
	}
	for _, l := range o.Links {
		b.link(s, l)
	}
	s.recurred = s.recurred || o.recurred
	s.Told.Severity = max(s.Told.Severity, o.Told.Severity) // nobody is told of it twice
	if s.Told.Times == 0 {
		s.Told = o.Told
	}
	return s
}

// join takes violations that waited for a story near them.
func (b *Book) join(s *Story) {
	if len(b.aside) == 0 {
		return
	}
	b.aside = slices.DeleteFunc(b.aside, func(m member) bool {
		if _, ok := s.linked[containerLink(m.WorkloadID)]; !ok || !s.reaches(&m, ContainerWindow) {
			return false
		}
		s.fold(m)
		return true
	})
}

// Known gives a story the id that the store gave it.
func (b *Book) Known(s *Story, id, revision int64) {
	s.ID, s.Revision = id, revision
	b.byID[id] = s
}

// Story returns that of an id; nil where the book does not have it.
func (b *Book) Story(id int64) *Story { return b.byID[id] }

// Whole returns the story that a story is part of by now, which may be itself.
func (s *Story) Whole() *Story {
	for s.into != nil {
		s = s.into
	}
	return s
}

// Has says whether a story is in the book still, and not part of another.
func (b *Book) Has(s *Story) bool {
	_, ok := b.stories[s]
	return ok
}

// Len is how many stories there are.
func (b *Book) Len() int { return len(b.stories) }

// Absorbed returns the ids of stored stories that became part of others since it was
// called last.
func (b *Book) Absorbed() []int64 {
	gone := b.gone
	b.gone = nil
	return gone
}

// Forget lets go of stories that are over, and of the oldest where there are too many.
func (b *Book) Forget(now time.Time) {
	cut := now.Add(-KeepFor)
	for s := range b.stories {
		if s.Last.Before(cut) {
			b.forget(s)
		}
	}
	if many := len(b.stories) - MaxStories; many > 0 {
		all := slices.SortedFunc(maps.Keys(b.stories), func(a, c *Story) int { return a.Last.Compare(c.Last) })
		for _, s := range all[:many] {
			b.forget(s)
		}
	}
	b.aside = slices.DeleteFunc(b.aside, func(m member) bool { return m.Last.Before(now.Add(-ContainerWindow - MaxAhead)) })
}

func (b *Book) forget(s *Story) {
	delete(b.stories, s)
	if b.byID[s.ID] == s {
		delete(b.byID, s.ID)
	}
	for _, l := range s.Links {
		rest := slices.DeleteFunc(b.links[l.Hash], func(r ref) bool { return r.story == s })
		if len(rest) == 0 {
			delete(b.links, l.Hash)
			continue
		}
		b.links[l.Hash] = rest
	}
	for o := range s.near {
		delete(o.near, s)
	}
	clear(s.near)
}

// Severities of violations: of what a kernel refused, and of what was seen. A profile
// says what is usual, so neither is more.
const (
	refused = finding.Low
	seen    = finding.Negligible
)
