package verify

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const (
	// TrustAnew is the state of an image under a policy that is tried when what is
	// kept of it does not say: it would have to be verified anew.
	TrustAnew store.TrustState = "anew"
	// MaxChanges bounds the images that are told of one trial, those of each state by
	// themselves: who reads of a hundred denials mends the policy first.
	MaxChanges = 100
	// maxListedDoubts is how many are told of each; all are of one image alone.
	maxListedDoubts = 3
	// tryWithin bounds a trial, and the waiting for those before it: a thousand
	// images take less than a second, and a policy's conditions may take their time.
	tryWithin = 15 * time.Second
	// tryPage is how many verdicts are held at a time.
	tryPage = 50
)

// Trial is what a policy would say of what runs now.
type Trial struct {
	// Problems are what is wrong with its text; then there is nothing else.
	Problems []trust.Problem
	Before   map[store.TrustState]int // images that run, by their state
	After    map[store.TrustState]int // the same by the state that they would have
	// Changes are the images whose state would be another: denied, then to be
	// verified anew, then allowed. More are not told.
	Changes []Change
	More    int
	// Untried are images for which there was no time.
	Untried int
}

// Change is an image under a policy that is tried.
type Change struct {
	Repository string           `json:"repository"`
	Digest     string           `json:"digest"`
	Groups     []asset.Group    `json:"groups" nullable:"false"` // that run it
	Running    int              `json:"running"`
	Before     store.TrustState `json:"before"`
	After      store.TrustState `json:"after"`
	Reason     string           `json:"reason"`
	Remedy     string           `json:"remedy,omitempty"`
	Doubts     []string         `json:"doubts,omitempty"` // why it would have to be verified anew
}

// Tried is one image under a policy that is tried, with the whole explanation.
type Tried struct {
	Problems []trust.Problem
	Change
	Verdict *trust.Verdict // as far as it can be known; nil for an image of no registry
}

// Try says what a text would say, as the policy, of the images that run now, by
// what was found of them before: no registry is asked, and nothing changes. It
// needs access.ReadImages.
func (s *Service) Try(ctx context.Context, who access.Identity, text string) (Trial, error) {
	t := Trial{Before: map[store.TrustState]int{}, After: map[store.TrustState]int{}}
	r, problems, end, err := s.trial(ctx, who, text)
	if err != nil || len(problems) > 0 {
		t.Problems = problems
		return t, err
	}
	defer end()
	changes := map[store.TrustState][]Change{}
	for after := int64(0); ; {
		page, err := s.Store.TrustDetails(r.ctx, after, tryPage)
		if err != nil {
			if ctx.Err() == nil && r.ctx.Err() != nil {
				break // the time is over, and what was tried is told
			}
			return Trial{}, err
		}
		for i := range page {
			r.count(&t, changes, &page[i])
		}
		if len(page) < tryPage {
			break
		}
		after = page[len(page)-1].ID
	}
	if err := s.untried(ctx, &t); err != nil {
		return Trial{}, err
	}
	t.Changes = slices.Concat(changes[store.TrustDenied], changes[TrustAnew], changes[store.TrustAllowed])
	return t, ctx.Err()
}

// untried counts what there was no time for.
func (s *Service) untried(ctx context.Context, t *Trial) error {
	totals, err := s.Store.TrustTotals(ctx)
	if err != nil {
		return err
	}
	for state, n := range totals.States {
		t.Untried += max(0, n-t.Before[state])
	}
	return nil
}

// TryImage is Try for one image, with the whole explanation; NotFound if it is not
// known. It needs access.ReadImages.
func (s *Service) TryImage(ctx context.Context, who access.Identity, text, repository, digest string) (Tried, error) {
	r, problems, end, err := s.trial(ctx, who, text)
	if err != nil || len(problems) > 0 {
		return Tried{Problems: problems}, err
	}
	defer end()
	v, err := s.Store.TrustImage(ctx, repository, digest)
	if err != nil {
		return Tried{}, err
	}
	return r.try(&v)
}

// trial is a policy that is tried.
type trial struct {
	ctx      context.Context // of this trial alone
	now      time.Time
	new, old *trust.Policy // old is nil if there is none
}

// trial reads the policy and that in force, and waits for its turn, which the
// caller ends: conditions are work, whoever has written them.
func (s *Service) trial(ctx context.Context, who access.Identity, text string) (*trial, []trust.Problem, func(), error) {
	if err := who.Need(access.ReadImages); err != nil {
		return nil, nil, nil, err
	}
	p, problems := s.parse(text)
	if len(problems) > 0 {
		return nil, problems, nil, nil
	}
	limited, cancel := context.WithTimeout(ctx, tryWithin)
	select {
	case s.trying <- struct{}{}:
	case <-limited.Done():
		cancel()
		return nil, nil, nil, fault.New(fault.Exhausted, "other policies are being tried").With("try again in a few seconds")
	}
	end := func() { cancel(); <-s.trying }
	r := &trial{ctx: limited, now: s.Clock(), new: p}
	was, err := s.Store.TrustPolicy(ctx, 0)
	switch {
	case fault.Is(err, fault.NotFound):
		return r, nil, end, nil
	case err != nil:
		end()
		return nil, nil, nil, err
	}
	if r.old, problems = s.parse(was.Text); len(problems) > 0 {
		s.Log.Warn("trust policy in force can't be read", "version", was.Version, "problem", problems[0].Text)
		r.old = nil // nothing that was found by it is relied on
	}
	return r, nil, end, nil
}

// count tries one of many.
func (r *trial) count(t *Trial, changes map[store.TrustState][]Change, v *store.TrustImage) {
	x, err := r.try(v)
	if err != nil {
		return // it is told as untried
	}
	t.Before[x.Before]++
	t.After[x.After]++
	// What is not known is no change of what was not known either.
	open := x.After == TrustAnew && x.Before != store.TrustAllowed && x.Before != store.TrustDenied
	switch {
	case x.Before == x.After || open:
	case len(changes[x.After]) >= MaxChanges:
		t.More++
	default:
		x.Doubts = x.Doubts[:min(len(x.Doubts), maxListedDoubts)]
		changes[x.After] = append(changes[x.After], x.Change)
	}
}

// try holds the policy against what is kept of an image. An error means that the
// time is over.
func (r *trial) try(v *store.TrustImage) (Tried, error) {
	t := Tried{Change: Change{
		Repository: v.Repository, Digest: v.Digest, Groups: v.Groups, Running: v.Running, Before: v.State, After: v.State,
	}}
	if v.State == store.TrustLocal {
		t.Reason = "no registry has it: no policy lets it run, and none is asked"
		return t, nil
	}
	var kept trust.Verdict
	if len(v.Details) > 0 {
		if err := json.Unmarshal(v.Details, &kept); err != nil {
			return t.anew("what is kept of it can't be read: " + err.Error()), nil
		}
	}
	kept.Repository, kept.Digest, kept.Policy = v.Repository, v.Digest, v.Policy
	x, err := trust.Recall(r.ctx, r.new, r.old, &kept, r.now)
	if r.ctx.Err() != nil {
		return t, r.ctx.Err()
	}
	if err != nil { // its name or its digest is none
		return t.anew(err.Error()), nil
	}
	if len(v.Details) == 0 && len(x.Doubts) > 0 {
		x.Doubts = []string{"nothing was found out of it yet: it is " + string(v.State)}
	}
	t.Verdict, t.Doubts = &x.Verdict, x.Doubts
	t.Reason, t.Remedy = untrusted.Clip(x.Verdict.Reason, maxText), untrusted.Clip(x.Verdict.Remedy, maxText)
	switch {
	case x.Verdict.Allowed:
		t.After, t.Remedy = store.TrustAllowed, ""
	case len(x.Doubts) > 0:
		t = t.anew(x.Doubts...)
	default:
		t.After = store.TrustDenied
	}
	return t, nil
}

func (t Tried) anew(doubts ...string) Tried {
	t.After, t.Doubts, t.Remedy = TrustAnew, doubts, ""
	t.Reason = untrusted.Clip("it must be verified anew: "+doubts[0], maxText)
	return t
}
