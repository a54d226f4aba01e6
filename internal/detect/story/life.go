package story

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// MaxPeople bounds the entries of a timeline that threats don't make.
const MaxPeople = threat.MaxTimeline - threat.MaxMembers

// recur reopens a story that was resolved before a threat of it happened.
func (s *Story) recur(m *member) {
	if s.State != threat.Resolved || !m.Last.After(*s.Resolved) {
		return
	}
	s.reopen(m.Last, "it happened again after it was resolved as "+string(s.Resolution))
}

// reopen is what recurs; text says why.
func (s *Story) reopen(at time.Time, text string) {
	next, err := threat.Step(s.State, threat.Recur)
	if err != nil {
		return // no state refuses it
	}
	s.State, s.Resolved, s.Resolution, s.recurred = next, nil, threat.Unresolved, true
	s.Reopened++
	s.Note(threat.Entry{Time: at, Kind: threat.EntryState, Text: text, By: "system"})
}

// Recurred says whether the story was reopened by a threat since it was asked last.
func (s *Story) Recurred() bool {
	was := s.recurred
	s.recurred = false
	return was
}

// mergeLife takes what people made of a story that became part of this one.
func (s *Story) mergeLife(o *life) {
	s.People = append(s.People, o.People...)
	slices.SortStableFunc(s.People, func(a, b threat.Entry) int { return a.Time.Compare(b.Time) })
	s.People = s.People[max(0, len(s.People)-MaxPeople):]
	s.Weaknesses = append(s.Weaknesses, o.Weaknesses...)
	s.Reopened += o.Reopened
	if s.Former == 0 {
		s.Former = o.Former
	}
	if s.State == threat.Resolved && o.State != threat.Resolved {
		s.reopen(s.Last, "it turned out to be one with what goes on")
	}
	if o.State == threat.Assigned && s.State != threat.Assigned {
		s.State, s.Assignee = threat.Assigned, o.Assignee
	}
}

// Note adds an entry to the timeline that no threat made. Where there is no room, the
// oldest that no person wrote goes.
func (s *Story) Note(e threat.Entry) {
	e.Text = cut(e.Text, threat.MaxComment)
	if len(s.People) >= MaxPeople {
		i := max(0, slices.IndexFunc(s.People, func(p threat.Entry) bool { return p.Kind != threat.EntryComment }))
		s.People = slices.Delete(s.People, i, i+1)
	}
	s.People = append(s.People, e)
}

// Memory is what a store keeps of a story beside its incident, for Restore.
func (s *Story) Memory() ([]byte, error) {
	b, err := json.Marshal(&s.memory)
	if err != nil {
		return nil, fmt.Errorf("write what is remembered of incident %d: %w", s.ID, err)
	}
	return b, nil
}

// ToldOf reads from what is remembered of a story what people were told of it.
func ToldOf(kept []byte) (Told, error) {
	var m struct {
		Told Told `json:"told"`
	}
	if err := json.Unmarshal(kept, &m); err != nil {
		return m.Told, fmt.Errorf("read what was told of an incident: %w", err)
	}
	return m.Told, nil
}

// Restore puts a stored story into the book.
func (b *Book) Restore(i *threat.Incident, kept []byte) (*Story, error) {
	s := &Story{}
	s.ready()
	if err := json.Unmarshal(kept, &s.memory); err != nil {
		return nil, fmt.Errorf("read what is remembered of incident %d: %w", i.ID, err)
	}
	links := s.Links
	s.Links = nil
	for k, m := range s.Members {
		s.prints[m.Print] = k
		s.size += m.size()
	}
	for k := range s.Beyond {
		s.folds[s.Beyond[k].Rule] = k
	}
	for _, n := range s.Nodes {
		s.keys[nodeKey{n.AgentID, n.Key}] = struct{}{}
	}
	b.stories[s] = struct{}{}
	for _, l := range links {
		b.link(s, l)
	}
	s.Live(i)
	b.Known(s, i.ID, i.Revision)
	return s, nil
}

// Live takes from an incident what people made of it.
func (s *Story) Live(i *threat.Incident) {
	s.State, s.Assignee, s.Resolution, s.Resolved, s.Reopened = i.State, i.Assignee, i.Resolution, i.Resolved, i.Reopened
	s.Former, s.Merged, s.Weaknesses, s.Revision = i.Former, i.Merged, i.Weaknesses, i.Revision
	s.People = nil
	for _, e := range i.Timeline {
		if e.Kind != threat.EntryThreat && e.Kind != threat.EntryViolation {
			s.People = append(s.People, e)
		}
	}
}

// graver says which of two reactions is stronger.
func graver(a, b event.Reaction) bool { return strength(a) > strength(b) }

func strength(r event.Reaction) int {
	return slices.Index([]event.Reaction{event.ReactionNone, event.ReactionAudited, event.ReactionDenied, event.ReactionKilled}, r)
}

// cut makes a text one of at most so many bytes that can be kept.
func cut(s string, most int) string {
	if len(s) <= most && untrusted.Storable(s) {
		return s
	}
	return untrusted.Clip(s, most)
}
