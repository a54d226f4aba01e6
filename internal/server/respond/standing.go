package respond

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/respond"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// PartStanding is the name of the condition that says why what stands is not known.
const PartStanding = "responses that stand"

// remember reads, once, what was done before this start: all that stands, and the
// newest of the others.
func (s *Service) remember(ctx context.Context) error {
	s.remembering.Lock()
	defer s.remembering.Unlock()
	if s.remembered {
		return nil
	}
	all, err := s.stored(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range all {
		if k := s.put(r); k.Answer.State.Ended() {
			k.end()
		}
	}
	s.remembered = true
	return nil
}

// stored reads them, the oldest first.
func (s *Service) stored(ctx context.Context) ([]Response, error) {
	known := map[string]bool{}
	var all []Response
	for _, part := range []struct {
		standing bool
		most     int
	}{{false, maxKept}, {true, maxStanding}} {
		q := store.ResponseDeedQuery{Standing: part.standing, Limit: store.MaxPage}
		for n := 0; n < part.most; {
			page, last, err := s.Store.ResponseDeeds(ctx, q)
			if err != nil {
				return nil, fmt.Errorf("read what was done about threats: %w", err)
			}
			for _, r := range page {
				if !known[r.Deed.ID] && (part.standing || n < part.most) {
					all = append(all, r)
				}
				known[r.Deed.ID] = true
				n++
			}
			if len(page) < store.MaxPage {
				break
			}
			q.Before = last
		}
	}
	slices.Reverse(all) // what stands and is older came last
	return all, nil
}

// save stores responses as they are by now.
func (s *Service) save(ctx context.Context, ids ...string) error {
	ctx, cancel := audit.Outlive(ctx)
	defer cancel()
	s.saving.Lock()
	defer s.saving.Unlock()
	var errs []error
	for _, id := range ids {
		s.mu.Lock()
		k := s.all[id]
		var r Response
		if k != nil {
			r = k.Response
		}
		s.mu.Unlock()
		if k == nil {
			continue // so much was done since that there is no room for it
		}
		if err := s.Store.PutResponseDeed(ctx, r); err != nil {
			errs = append(errs, fmt.Errorf("keep what was done about a threat: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Holds takes what an agent says it holds in quarantine, and makes that what is listed:
// a quarantine that nobody here knows of, as of a server that lost its data or of
// somebody who did it on the host itself, and one that its agent does not hold any more.
// What an agent started anew holds was done, though it could not answer.
func (s *Service) Holds(ctx context.Context, a *asset.Agent) {
	if a.Quarantine == nil {
		return
	}
	err := s.remember(ctx)
	if err == nil {
		err = s.compare(ctx, a)
	}
	if ctx.Err() == nil {
		s.Condition(ctx, PartStanding, err)
	}
}

// compare does it, unless the agent has not looked since it was last done.
func (s *Service) compare(ctx context.Context, a *asset.Agent) error {
	q := a.Quarantine
	s.mu.Lock()
	known := s.looked[a.ID].Equal(q.Looked)
	s.mu.Unlock()
	if known {
		return nil
	}
	var errs []error
	for i := range q.Held {
		if h := &q.Held[i]; asset.IsContainerID(h.WorkloadID) {
			errs = append(errs, s.holds(ctx, a, h))
		}
	}
	later := false
	if q.More == 0 { // else what is not told may be held as well
		var err error
		later, err = s.gone(ctx, a)
		errs = append(errs, err)
	}
	err := errors.Join(errs...)
	if err == nil && !later {
		s.mu.Lock()
		s.looked[a.ID] = q.Looked
		s.mu.Unlock()
	}
	return err
}

// holds notes that an agent holds a container in quarantine.
func (s *Service) holds(ctx context.Context, a *asset.Agent, h *asset.Held) error {
	w, err := s.Store.Workload(ctx, h.WorkloadID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("look for a workload in quarantine: %w", err)
	}
	if err == nil && w.AgentID != a.ID || h.Deed == "" || len(h.Deed) > response.MaxID {
		return nil // nobody speaks for another agent's workloads
	}
	s.mu.Lock()
	k := s.all[h.Deed]
	change := false
	switch {
	case k == nil:
		change = len(s.order) < maxKept+maxStanding
		if change {
			k = s.put(Response{Deed: deedHeld(h), AgentID: a.ID, Group: h.Group, Name: w.Name})
			if w.Group != "" {
				k.Group = w.Group
			}
		}
	case k.AgentID != a.ID || k.Deed.Workload != h.WorkloadID || k.Standing() && k.Answer.State.Ended():
		// another agent's, or known
	case k.Answer.State.Ended():
		change = lookedAt(a).After(s.lastOf(h.WorkloadID))
	default: // an answer is under way, unless who would give it has ended since
		change = a.Started.After(h.At)
	}
	if !change {
		s.mu.Unlock()
		return nil
	}
	k.step(respond.Hold)
	k.Answer = response.Answer{
		ID: h.Deed, State: response.Done, Did: []string{heldSentence(h)}, Undo: response.Release, Ended: lookedAt(a), Lacks: append([]string(nil), k.Answer.Lacks...),
	}
	if h.Problem != "" {
		k.Answer.Lacks = []string{"it is not held as it should: " + untrusted.Clip(h.Problem, response.MaxLine)}
	}
	r := k.Response
	s.mu.Unlock()
	defer k.end()
	s.Directions.EndRespond(a.ID, h.Deed)
	return errors.Join(s.audit(ctx, "agent:"+a.ID, "", r, "found", heldSentence(h)), s.save(ctx, h.Deed))
}

// lookedAt is when an agent looked at what it holds, by its clock.
func lookedAt(a *asset.Agent) time.Time { return a.Quarantine.Looked.UTC() }

// deedHeld is what must have been asked for.
func deedHeld(h *asset.Held) response.Deed {
	by := untrusted.Clip(h.By, response.MaxID)
	if by == "" {
		by = "unknown"
	}
	reason := untrusted.Clip(strings.Map(visible, h.Reason), response.MaxReason)
	return response.Deed{ID: h.Deed, Kind: response.Quarantine, Workload: h.WorkloadID, Freeze: h.Freeze, By: by, Reason: reason, Asked: h.At.UTC(), Until: h.At.UTC()}
}

func heldSentence(h *asset.Held) string {
	what := "its network is cut"
	if h.Freeze {
		what += " and its processes are frozen"
	}
	return what + ", as the agent of its host tells, since " + h.At.UTC().Format(time.RFC3339)
}

// lastOf is when the quarantine of a workload ended last, or began, by the clock of its
// agent; mu is held.
func (s *Service) lastOf(workload string) (last time.Time) {
	for _, k := range s.all {
		d, a := &k.Deed, &k.Answer
		about := d.Workload == workload && !d.DryRun && (d.Kind == response.Quarantine || d.Kind == response.Release)
		if about && (a.State == response.Done || a.State == response.Undone || a.State == response.Over) && a.Ended.After(last) {
			last = a.Ended
		}
	}
	return last
}

// gone notes what an agent held and does not hold any more. Of what is being released the
// answer says that, which comes later than a report now and then: then it is to be looked
// at again.
func (s *Service) gone(ctx context.Context, a *asset.Agent) (later bool, _ error) {
	held := map[string]bool{}
	for _, h := range a.Quarantine.Held {
		held[h.WorkloadID] = true
	}
	s.mu.Lock()
	releasing := map[string]bool{}
	for _, k := range s.all {
		if k.Deed.Kind == response.Release && !k.Deed.DryRun && !s.aged(k).Answer.State.Ended() {
			releasing[k.Deed.Workload] = true
		}
	}
	var all []Response
	for _, k := range s.all {
		if k.AgentID == a.ID && k.Deed.Kind == response.Quarantine && k.Answer.State.Ended() && k.Standing() && !held[k.Deed.Workload] && lookedAt(a).After(k.Answer.Ended) {
			if releasing[k.Deed.Workload] {
				later = true
				continue
			}
			all = append(all, k.Response)
		}
	}
	s.mu.Unlock()
	var errs []error
	for _, r := range all {
		errs = append(errs, s.over(ctx, a, r))
	}
	return later, errors.Join(errs...)
}

// over ends a quarantine that its agent does not hold any more.
func (s *Service) over(ctx context.Context, a *asset.Agent, r Response) error {
	why := "it ended: its agent does not hold it any more, as when it is released on the host itself"
	w, err := s.Store.Workload(ctx, r.Deed.Workload)
	switch {
	case err != nil && !fault.Is(err, fault.NotFound):
		return fmt.Errorf("look for a workload that was in quarantine: %w", err)
	case err != nil || w.State == asset.Exited || w.State == asset.Lost:
		why = "it ended with its container, which is gone"
	}
	s.mu.Lock()
	k := s.all[r.Deed.ID]
	change := k != nil && k.step(respond.Gone)
	if change {
		k.Answer.Did, k.Answer.Undo, k.Answer.Ended = append(slices.Clone(k.Answer.Did), why), "", lookedAt(a)
		k.Answer.Bound()
		r = k.Response
	}
	s.mu.Unlock()
	if !change {
		return nil
	}
	s.leaveUndone(ctx, r.Deed.Workload, response.Release, why)
	s.note(ctx, 0, r.Deed.Workload, "agent:"+a.ID, "quarantine, over: "+why)
	return errors.Join(s.audit(ctx, "agent:"+a.ID, "", r, string(response.Over), why), s.save(ctx, r.Deed.ID))
}
