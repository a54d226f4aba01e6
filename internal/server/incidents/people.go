package incidents

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Incidents returns a page, in brief. It needs access.ReadIncidents.
func (s *Service) Incidents(ctx context.Context, who access.Identity, q store.IncidentQuery) ([]threat.Incident, error) {
	if err := who.Need(access.ReadIncidents); err != nil {
		return nil, err
	}
	return s.Store.Incidents(ctx, q)
}

// Incident returns one; by the id of one that became part of another, that other. It
// needs access.ReadIncidents.
func (s *Service) Incident(ctx context.Context, who access.Identity, id int64) (threat.Incident, error) {
	if err := who.Need(access.ReadIncidents); err != nil {
		return threat.Incident{}, err
	}
	return s.Store.Incident(ctx, id)
}

// Totals counts incidents. It needs access.ReadIncidents.
func (s *Service) Totals(ctx context.Context, who access.Identity) (store.IncidentTotals, error) {
	if err := who.Need(access.ReadIncidents); err != nil {
		return store.IncidentTotals{}, err
	}
	return s.Store.IncidentTotals(ctx)
}

// Rules counts by rule the resolved incidents that came to this. It needs
// access.ReadIncidents.
func (s *Service) Rules(ctx context.Context, who access.Identity, r threat.Resolution) (map[string]int, error) {
	if err := who.Need(access.ReadIncidents); err != nil {
		return nil, err
	}
	return s.Store.IncidentRules(ctx, r)
}

// Change is what somebody does about an incident.
type Change struct {
	Do threat.Input // Assign, Unassign, Resolve, Reopen, Comment
	// Assignee is to whom it is assigned; empty is who asks.
	Assignee   string
	Resolution threat.Resolution // of Resolve
	Comment    string            // must be there for Comment
	// Revision is the one that who asks knows; 0: whichever there is.
	Revision int64
}

// Change does something about an incident, and returns it as it is then. It needs
// access.WriteIncidents. Errors: Invalid for a change that is none, Conflict where it
// makes no sense in the incident's state or somebody else has changed it meanwhile.
func (s *Service) Change(ctx context.Context, who access.Identity, id int64, c Change) (threat.Incident, error) {
	if err := who.Need(access.WriteIncidents); err != nil {
		return threat.Incident{}, err
	}
	if err := c.check(who); err != nil {
		return threat.Incident{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.open(ctx); err != nil {
		return threat.Incident{}, err
	}
	i, err := s.Store.Incident(ctx, id)
	if err != nil {
		return threat.Incident{}, err
	}
	if c.Revision != 0 && c.Revision != i.Revision {
		return threat.Incident{}, fault.New(fault.Conflict, "incident %d is at revision %d, you know %d", i.ID, i.Revision, c.Revision).
			With("read it again: something happened meanwhile")
	}
	words, err := s.apply(who, &i, &c)
	if err != nil {
		return threat.Incident{}, err
	}
	if err := s.put(ctx, &i); err != nil {
		return threat.Incident{}, err
	}
	return i, s.audit(ctx, who, i.ID, c, words)
}

// check refuses what is no change, and fills in who it is assigned to.
func (c *Change) check(who access.Identity) error {
	c.Assignee, c.Comment = strings.TrimSpace(c.Assignee), strings.TrimSpace(c.Comment)
	switch {
	case !slices.Contains([]threat.Input{threat.Assign, threat.Unassign, threat.Resolve, threat.Reopen, threat.Comment}, c.Do):
		return fault.New(fault.Invalid, "%.40q is nothing that can be done about an incident", c.Do).With("want assign, unassign, resolve, reopen or comment")
	case len(c.Comment) > threat.MaxComment || !untrusted.Storable(c.Comment):
		return fault.New(fault.Invalid, "the comment is longer than %d bytes, or no text", threat.MaxComment)
	case len(c.Assignee) > threat.MaxAssignee || !untrusted.Storable(c.Assignee):
		return fault.New(fault.Invalid, "to whom it is assigned is longer than %d bytes, or no text", threat.MaxAssignee)
	case c.Do == threat.Comment && c.Comment == "":
		return fault.New(fault.Invalid, "the comment is empty")
	case c.Do == threat.Resolve && !slices.Contains(threat.Resolutions(), c.Resolution):
		return fault.New(fault.Invalid, "%.40q is no resolution: want attack, test, harmless or false-alarm", c.Resolution)
	}
	if c.Do == threat.Assign && c.Assignee == "" {
		c.Assignee = who.Name
	}
	return nil
}

// apply changes an incident, and returns what was done in words.
func (s *Service) apply(who access.Identity, i *threat.Incident, c *Change) (words string, err error) {
	next, err := threat.Step(i.State, c.Do)
	if err != nil {
		refused := fault.New(fault.Conflict, "%w", err)
		if i.State == threat.Resolved {
			return "", refused.With(fmt.Sprintf("reopen it first: castellan detect reopen %d", i.ID))
		}
		return "", refused
	}
	now := s.Clock().UTC()
	i.State, i.Updated = next, now
	kind := threat.EntryState
	switch c.Do {
	case threat.Assign:
		i.Assignee, words = c.Assignee, "assigned to "+c.Assignee
	case threat.Unassign:
		words, i.Assignee = "no longer assigned to "+i.Assignee, ""
	case threat.Resolve:
		i.Resolution, i.Resolved, words = c.Resolution, &now, "resolved as "+string(c.Resolution)
	case threat.Reopen:
		i.Resolution, i.Resolved, words = threat.Unresolved, nil, "reopened"
		i.Reopened++
	default:
		kind = threat.EntryComment
	}
	text := words
	if c.Comment != "" {
		text = strings.TrimPrefix(words+": "+c.Comment, ": ")
	}
	if n := byPeople(i); n >= detect.MaxStoryEntries {
		return "", fault.New(fault.Exhausted, "%d entries of people are in incident %d, which is the most", n, i.ID)
	}
	i.Timeline = append(i.Timeline, threat.Entry{Time: now, Kind: kind, Text: text, By: who.Actor})
	slices.SortStableFunc(i.Timeline, func(a, b threat.Entry) int { return a.Time.Compare(b.Time) })
	return words, nil
}

// byPeople counts the entries of a timeline that no threat made.
func byPeople(i *threat.Incident) (n int) {
	for k := range i.Timeline {
		if e := &i.Timeline[k]; e.Kind != threat.EntryThreat && e.Kind != threat.EntryViolation {
			n++
		}
	}
	return n
}

// maxResponses leaves room for people in a timeline.
const maxResponses = detect.MaxStoryEntries / 2

// Responded notes in an incident that something was done about it: by is a person or
// a response rule. With 0 it is the newest incident of the workload that is not
// resolved; where there is none, and where too much was done already, nothing is noted.
func (s *Service) Responded(ctx context.Context, id int64, workload, by, text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.open(ctx); err != nil {
		return err
	}
	if id == 0 {
		q := store.IncidentQuery{Workload: workload, States: []threat.State{threat.Open, threat.Assigned, threat.Reopened}, Limit: 1}
		page, err := s.Store.Incidents(ctx, q)
		if err != nil || len(page) == 0 || workload == "" {
			return err
		}
		id = page[0].ID
	}
	i, err := s.Store.Incident(ctx, id)
	if fault.Is(err, fault.NotFound) || err == nil && byPeople(&i) >= maxResponses {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read incident %d: %w", id, err)
	}
	i.Updated = s.Clock().UTC()
	i.Timeline = append(i.Timeline, threat.Entry{Time: i.Updated, Kind: threat.EntryResponse, Text: untrusted.Clip(text, threat.MaxText), By: by})
	slices.SortStableFunc(i.Timeline, func(a, b threat.Entry) int { return a.Time.Compare(b.Time) })
	return s.put(ctx, &i)
}

// put stores an incident that was changed by hand; mu is held, and the book is there.
func (s *Service) put(ctx context.Context, i *threat.Incident) error {
	if err := s.Store.SaveIncidents(ctx, &store.IncidentChange{Put: []store.IncidentPut{{Incident: i}}}); err != nil {
		s.book = nil
		return fmt.Errorf("store incident %d: %w", i.ID, err)
	}
	if st := s.book.Story(i.ID); st != nil {
		st.Live(i)
	}
	s.await(i.ID)
	s.changes.Publish(nil)
	return nil
}

// maxAuditDetail bounds what of a comment is in the audit log; the incident has all.
const maxAuditDetail = 500

func (s *Service) audit(ctx context.Context, who access.Identity, id int64, c Change, words string) error {
	detail := words
	if c.Comment != "" {
		detail = strings.TrimPrefix(words+": "+untrusted.Clip(c.Comment, maxAuditDetail), ": ")
	}
	return audit.Log{Store: s.Store, Clock: s.Clock}.Done(ctx, who, "incident."+string(c.Do), fmt.Sprintf("incident:%d", id), detail)
}
