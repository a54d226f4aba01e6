package respond

import (
	"context"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/store"
)

// Sessions has AWS refuse the credentials that roles have given out; *aws.Sessions
// does.
type Sessions interface {
	// Role returns the ARN of the role of a task; NotFound when it has none.
	Role(ctx context.Context, of asset.ECS) (string, error)
	// Revoke has the credentials refused that a role gave out before a time.
	Revoke(ctx context.Context, role string, before time.Time) error
	// Reinstate takes that back.
	Reinstate(ctx context.Context, role string) error
}

// ofRole revokes or reinstates the sessions of a task's role, and ends the response.
func (s *Service) ofRole(ctx context.Context, r Response, w asset.Workload) (Response, error) {
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*stopWithin)
	defer cancel()
	a := response.Answer{ID: r.Deed.ID, State: response.Done}
	if err := s.doRole(within, &r, w, &a); err != nil {
		a.State, a.Error, a.Remedy = response.Failed, err.Error(), fault.Remedy(err)
		if fault.Is(err, fault.Denied) || fault.Is(err, fault.Unsupported) || fault.Is(err, fault.Invalid) || fault.Is(err, fault.NotFound) || fault.Is(err, fault.Exhausted) {
			a.State = response.Refused
		}
	}
	r.Answer = a
	return r, s.end(ctx, r, r.Deed.By)
}

func (s *Service) doRole(ctx context.Context, r *Response, w asset.Workload, a *response.Answer) error {
	switch {
	case w.ECS.TaskARN == "" && r.Deed.Kind == response.Reinstate:
		return fault.New(fault.Unsupported, "the workload is of no task of ECS: it has no role, and nothing was revoked")
	case w.ECS.TaskARN == "":
		return fault.New(fault.Unsupported, "the workload is of no task of ECS: it has no role").With("revoke by hand what credentials it holds")
	case s.Sessions == nil:
		return fault.New(fault.Unsupported, "this server does not speak with IAM")
	}
	role, err := s.roleOf(ctx, r, w)
	if err != nil {
		return err
	}
	r.Role = role
	if r.Deed.DryRun {
		what := "would have IAM refuse the credentials that it has given out until now"
		if r.Deed.Kind == response.Reinstate {
			what = "would have IAM take the credentials again that it has given out"
		}
		a.Did = []string{fmt.Sprintf("role %s: %s", role, what)}
		return nil
	}
	if r.Deed.Kind == response.Reinstate {
		if err := s.Sessions.Reinstate(ctx, role); err != nil {
			return err
		}
		a.Did = []string{fmt.Sprintf("IAM takes the credentials again that role %s has given out, within a minute", role)}
		return nil
	}
	s.mu.Lock()
	err = s.rates.Take(&r.Deed, w.Group, s.Clock())
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if err := s.Sessions.Revoke(ctx, role, s.Clock()); err != nil {
		return err
	}
	a.Undo = response.Reinstate
	a.Did = []string{fmt.Sprintf("IAM refuses the credentials that role %s has given out until now, within a minute", role)}
	a.Lacks = []string{
		"whoever is in the container can ask for credentials anew once ECS renews them: quarantine it, or stop its task, too",
		"all other tasks of that role are refused, too, until ECS renews theirs or they start anew",
	}
	return nil
}

// roleOf finds the role of a workload's task. Whose sessions were revoked is known
// from then on, were the task gone.
func (s *Service) roleOf(ctx context.Context, r *Response, w asset.Workload) (string, error) {
	if r.Deed.Kind == response.Reinstate {
		s.mu.Lock()
		for _, k := range s.all {
			if k.Deed.Kind == response.Revoke && k.Deed.Workload == w.ID && k.Role != "" && k.Answer.State == response.Done && !k.Deed.DryRun {
				s.mu.Unlock()
				return k.Role, nil
			}
		}
		s.mu.Unlock()
		runs, err := s.Store.ResponseRuns(ctx, store.ResponseRunQuery{Workload: w.ID})
		if err != nil {
			return "", err
		}
		for _, run := range runs {
			if run.Kind == response.Revoke && run.Role != "" && run.Undone.IsZero() && !run.DryRun {
				return run.Role, nil
			}
		}
	}
	return s.Sessions.Role(ctx, w.ECS)
}
