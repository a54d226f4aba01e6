package incidents

import (
	"context"
	"fmt"
	"slices"

	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// look finds the weaknesses that fit an incident, and has people told of it where
// there is news.
func (s *Service) look(ctx context.Context, id int64) error {
	i, err := s.Store.Incident(ctx, id)
	if fault.Is(err, fault.NotFound) || err == nil && i.ID != id {
		return nil // it went, or became part of one that is looked at by its own id
	}
	if err != nil {
		return fmt.Errorf("read incident %d: %w", id, err)
	}
	weak, err := s.weaknesses(ctx, &i)
	if err != nil {
		return fmt.Errorf("look for weaknesses that fit incident %d: %w", id, err)
	}
	s.mu.Lock()
	b, err := s.open(ctx)
	if err != nil {
		s.mu.Unlock()
		return err
	}
	st := b.Story(id)
	told := detect.Told{}
	if st != nil {
		told = st.Told
	}
	s.mu.Unlock()
	if st == nil {
		// It is long over, and only what people do about it is news.
		if told, err = s.toldOf(ctx, id); err != nil {
			return err
		}
	}
	now := told
	if told.Times > 0 && told.Groups == 0 {
		now.Groups = len(i.Groups) // what has joined since then is not known
	}
	if why := news(told, &i); why != "" && s.Tell != nil {
		now = detect.Told{Times: told.Times + 1, Severity: max(told.Severity, i.Severity), Reopened: i.Reopened, Resolved: !i.State.Active(), Groups: len(i.Groups)}
		if err := s.Tell(ctx, noticeOf(&i, now.Times, why)); err != nil {
			return fmt.Errorf("tell of incident %d: %w", id, err)
		}
	}
	if now != told || !slices.Equal(weak, i.Weaknesses) {
		// Who was told by now would be told again after a stop in this moment.
		lasting, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteWithin)
		err := s.note(lasting, id, now, weak)
		cancel()
		if err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.looked) > 2*detect.MaxStories {
		clear(s.looked) // those that go on are looked at once more
	}
	s.looked[id] = shapeOf(&i)
	return nil
}

// toldOf returns what was told of an incident that no book has.
func (s *Service) toldOf(ctx context.Context, id int64) (detect.Told, error) {
	memory, err := s.Store.IncidentMemory(ctx, id)
	if err != nil {
		return detect.Told{}, fmt.Errorf("read incident %d: %w", id, err)
	}
	return detect.ToldOf(memory)
}

// note stores what was told of an incident, and which weaknesses fit it.
func (s *Service) note(ctx context.Context, id int64, told detect.Told, weak []threat.Weakness) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.open(ctx)
	if err != nil {
		return err
	}
	st := b.Story(id)
	if st == nil {
		i, err := s.Store.Incident(ctx, id)
		if fault.Is(err, fault.NotFound) || err == nil && i.ID != id {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read incident %d: %w", id, err)
		}
		memory, err := s.Store.IncidentMemory(ctx, id)
		if err != nil {
			return fmt.Errorf("read incident %d: %w", id, err)
		}
		aside := detect.NewBook()
		if st, err = aside.Restore(&i, memory); err != nil {
			return err
		}
	}
	st.Told, st.Weaknesses = told, weak
	memory, err := st.Memory()
	if err != nil {
		return err
	}
	c := store.IncidentChange{Put: []store.IncidentPut{{Incident: st.Incident(s.Clock().UTC()), Memory: memory, Traces: st.Traces()}}}
	if err := s.Store.SaveIncidents(ctx, &c); err != nil {
		s.book = nil
		return fmt.Errorf("store incident %d: %w", id, err)
	}
	st.Revision = c.Put[0].Incident.Revision
	s.changes.Publish(nil)
	return nil
}

// news says why people are to be told of an incident; "" where there is no reason.
func news(told detect.Told, i *threat.Incident) string {
	switch {
	case told.Times == 0 && !i.State.Active():
		return "" // it was dealt with before anybody was told
	case told.Times == 0:
		return "opened"
	case i.Reopened > told.Reopened:
		return "reopened"
	case !i.State.Active() && !told.Resolved:
		return "resolved"
	case i.State.Active() && i.Severity > told.Severity:
		return "graver"
	case i.State.Active() && told.Groups > 0 && len(i.Groups) > told.Groups:
		return "spread"
	}
	return ""
}

// noticeOf is what others are told; times is which telling of the incident it is.
func noticeOf(i *threat.Incident, times int, why string) notice.Notice {
	n := notice.Notice{
		Kind: notice.Incident, ID: fmt.Sprintf("incident-%d-%d", i.ID, times), Subject: fmt.Sprintf("incident:%d", i.ID), Resolved: why == "resolved",
		Time: i.Last, Severity: i.Severity, Title: i.Title, Detail: i.Story, Link: fmt.Sprintf("/incidents/%d", i.ID),
		Remedy: fmt.Sprintf("look at it: castellan detect incident %d", i.ID), Count: int(min(i.Count, 1<<31-1)),
	}
	switch why {
	case "reopened":
		n.Title = "Again: " + n.Title
	case "graver":
		n.Title = "Graver now: " + n.Title
	case "spread":
		n.Title = "Spread to another group: " + n.Title
	case "resolved":
		n.Title, n.Remedy = "Resolved as "+string(i.Resolution)+": "+n.Title, ""
	}
	if len(i.Rules) > 0 {
		n.Rule = i.Rules[0].Rule
	}
	for _, t := range i.Techniques {
		n.Techniques = append(n.Techniques, notice.Technique{ID: t})
	}
	if len(i.Workloads) > 0 || len(i.Agents) > 0 {
		n.Workload = &notice.Workload{}
		if len(i.Workloads) > 0 {
			n.Workload.ID = i.Workloads[0]
		}
		if len(i.Groups) > 0 {
			n.Workload.Group, n.Workload.Groups = i.Groups[0], i.Groups[1:]
		}
		if len(i.Agents) > 0 {
			n.Workload.Host = i.Agents[0]
		}
	}
	return n
}
