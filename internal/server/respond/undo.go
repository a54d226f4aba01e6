package respond

import (
	"context"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/respond"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const (
	// undoEvery is how often is looked for what is to be undone.
	undoEvery = 5 * time.Second
	// undoWithin is how long undoing is tried of a host that is away.
	undoWithin = 7 * 24 * time.Hour
	// undoAtOnce bounds what is undone at a time.
	undoAtOnce = 50
)

// undoDue begins to undo what is to be undone by now, each once at a time.
func (s *Service) undoDue(ctx context.Context) {
	now := s.Clock()
	due, err := s.Store.ResponseRuns(ctx, store.ResponseRunQuery{Undo: now, Limit: undoAtOnce})
	if err != nil {
		s.Condition(ctx, PartRules, err)
		return
	}
	for i := range due {
		run := due[i]
		s.mu.Lock()
		busy := s.undoing[run.ID]
		s.undoing[run.ID] = true
		s.mu.Unlock()
		if busy {
			continue
		}
		s.doing.Go(func() {
			defer func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				delete(s.undoing, run.ID)
			}()
			if err := s.undo(ctx, run); err != nil && ctx.Err() == nil {
				s.Log.Error("what a response rule did is not undone", "rule", run.Rule, "did", run.Did, "workload", run.Workload, "error", err, "remedy", fault.Remedy(err))
			}
		})
	}
}

// undo takes back what a rule did. A host that is away is asked again later; what
// somebody else wants as it is stays so.
func (s *Service) undo(ctx context.Context, run store.ResponseRun) error {
	who := access.Identity{Actor: respond.RuleActor + run.Rule, Scopes: []access.Scope{access.ManageResponse}}
	got, err := s.asked(ctx, who, Ask{Kind: run.Kind.Undo(), Workload: run.Workload, Reason: "undo what rule " + run.Rule + " did, as it says"})
	if ctx.Err() != nil {
		return nil // the next start does
	}
	now := s.Clock().UTC()
	over := now.Sub(run.UndoAt) > undoWithin
	switch {
	case err == nil && got.Answer.State == response.Done:
		run.State, run.Undone, run.UndoAt = response.Undone, now, time.Time{}
		s.note(ctx, run.Incident, run.Workload, who.Actor, "undid "+run.Did+": "+sentence(&got.Answer))
		s.tellRun(ctx, &run, finding.Low)
	case err == nil && got.Answer.State == response.Refused || fault.Is(err, fault.NotFound) || over:
		run.UndoAt = time.Time{}
		run.Detail = untrusted.Clip(run.Detail+"; not undone: "+why(err, &got.Answer), maxDetail)
		s.tellStays(ctx, &run)
	default:
		return s.later(run, err, &got.Answer)
	}
	_, err = s.Store.PutResponseRun(ctx, run)
	return err
}

// later leaves a run to be undone, and says so once.
func (s *Service) later(run store.ResponseRun, err error, a *response.Answer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.late[run.ID] {
		return nil
	}
	s.late[run.ID] = true
	s.Log.Warn("what a response rule did is not undone yet: it is tried again", "rule", run.Rule, "did", run.Did, "workload", run.Workload, "why", why(err, a))
	return nil
}

func why(err error, a *response.Answer) string {
	if err != nil {
		return err.Error()
	}
	return sentence(a)
}

// settled notes that what rules did to a workload was taken back, or is now somebody
// else's: they are not to undo it.
func (s *Service) settled(ctx context.Context, r Response) {
	d := &r.Deed
	if d.DryRun || r.Answer.State != response.Done || respond.IsRule(d.By) || d.Kind != response.Release && d.Kind != response.Reinstate {
		return
	}
	s.leaveUndone(ctx, d.Workload, d.Kind, "undone by "+d.By)
}

// leaveUndone has rules not undo what they did to a workload, by a kind of deed: it was,
// or has ended.
func (s *Service) leaveUndone(ctx context.Context, workload string, by response.Kind, why string) {
	runs, err := s.Store.ResponseRuns(ctx, store.ResponseRunQuery{Workload: workload, Undo: s.Clock().Add(respond.MaxUndo), Limit: undoAtOnce})
	if err != nil {
		s.Log.Error("what response rules did is not marked as undone", "workload", workload, "error", err)
		return
	}
	for _, run := range runs {
		if run.Kind.Undo() != by {
			continue
		}
		run.State, run.Undone, run.UndoAt = response.Undone, s.Clock().UTC(), time.Time{}
		run.Detail = untrusted.Clip(run.Detail+"; "+why, maxDetail)
		if _, err := s.Store.PutResponseRun(ctx, run); err != nil {
			s.Log.Error("what response rules did is not marked as undone", "workload", workload, "error", err)
		}
	}
}
