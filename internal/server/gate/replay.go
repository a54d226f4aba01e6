package gate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/written"
)

const (
	// replayOnce is how many verdicts one page of a replay looks at, replayFor how long
	// it takes at most, and maxChanges how many that end otherwise it tells of.
	replayOnce = 2_000
	replayFor  = 10 * time.Second
	maxChanges = 200
)

// Replay asks what requests of the past would come to.
type Replay struct {
	// Text is the policy; with an empty one Version is, the newest with 0.
	Text    string
	Version int64
	// Of are the requests; Before continues a replay. Limit bounds those that are
	// looked at.
	Of store.AdmissionQuery
}

// Replayed is a part of the answer.
type Replayed struct {
	Policy   string `json:"policy"`   // digest of the policy by which
	Examined int    `json:"examined"` // requests
	Same     int    `json:"same"`     // of them, those that end as they did
	// Denied, Waiting and Allowed end otherwise than they did: so.
	Denied  int `json:"denied"`
	Waiting int `json:"waiting"`
	Allowed int `json:"allowed"`
	// Undecided could not be decided on now, and end as the policy declares; Partial are those of which the facts were
	// too many to be kept: they are decided as if nothing was known of their images.
	Undecided int              `json:"undecided"`
	Partial   int              `json:"partial"`
	Rules     map[string]int   `json:"rules"`   // that would deny what was not denied, and how many requests
	Changes   []ReplayedChange `json:"changes"` // the newest of those that end otherwise
	// Next continues the replay as AdmissionQuery.Before; 0: all was looked at.
	Next int64 `json:"next,omitempty"`
	// Reached is when the last that was looked at was received.
	Reached time.Time `json:"reached,omitzero"`
}

// Add adds the part that follows.
func (out *Replayed) Add(part *Replayed) {
	out.Policy, out.Next, out.Reached = part.Policy, part.Next, part.Reached
	out.Examined, out.Same, out.Denied = out.Examined+part.Examined, out.Same+part.Same, out.Denied+part.Denied
	out.Waiting, out.Allowed = out.Waiting+part.Waiting, out.Allowed+part.Allowed
	out.Undecided, out.Partial = out.Undecided+part.Undecided, out.Partial+part.Partial
	out.Changes = append(out.Changes, part.Changes...)
	if out.Rules == nil {
		out.Rules = map[string]int{}
	}
	for rule, n := range part.Rules {
		out.Rules[rule] += n
	}
}

// ReplayedChange is a request that would end otherwise.
type ReplayedChange struct {
	Verdict  int64              `json:"verdict"` // number of the verdict of then
	Request  string             `json:"request"`
	Received time.Time          `json:"received"`
	Door     admission.Door     `json:"door"`
	Place    admission.Place    `json:"place"`
	Family   string             `json:"family,omitempty"`
	Was      admission.Outcome  `json:"was"`
	Now      admission.Outcome  `json:"now"`
	Reasons  []admission.Reason `json:"reasons"` // that count now
}

// Replay decides anew, by another policy, on requests that were decided before, with
// what was known of their images then, and the exceptions that held then. One replay
// runs at a time: Exhausted while another does. It needs access.ReadAdmission.
func (s *Service) Replay(ctx context.Context, who access.Identity, r Replay) (Replayed, error) {
	if err := who.Need(access.ReadAdmission); err != nil {
		return Replayed{}, err
	}
	p, digest, err := s.replayed(ctx, &r)
	if err != nil {
		return Replayed{}, err
	}
	select {
	case s.replays <- struct{}{}:
		defer func() { <-s.replays }()
	default:
		return Replayed{}, fault.New(fault.Exhausted, "another replay is under way").With("try again in some seconds")
	}
	s.records.settle(ctx)
	exceptions, err := s.Store.AdmissionExceptions(ctx, r.Of.Since)
	if err != nil {
		return Replayed{}, fmt.Errorf("read the exceptions: %w", err)
	}
	out := Replayed{Policy: digest, Rules: map[string]int{}, Changes: []ReplayedChange{}}
	end := time.Now().Add(replayFor)
	most := replayOnce
	if r.Of.Limit > 0 {
		most = min(most, r.Of.Limit)
	}
	for out.Examined < most {
		q := r.Of
		q.Limit = min(most-out.Examined, store.MaxAdmissionRecords)
		page, err := s.Store.AdmissionRecords(ctx, q)
		if err != nil {
			return Replayed{}, err
		}
		for i := range page {
			if err := ctx.Err(); err != nil {
				return Replayed{}, fmt.Errorf("replay: %w", err)
			}
			if err := out.add(ctx, p, &page[i], exceptions); err != nil {
				return Replayed{}, err
			}
			r.Of.Before = page[i].ID
			if time.Now().After(end) {
				out.Next = r.Of.Before
				return out, nil
			}
		}
		if len(page) < q.Limit {
			return out, nil
		}
	}
	out.Next = r.Of.Before
	return out, nil
}

// replayed is the policy of a replay, with its digest.
func (s *Service) replayed(ctx context.Context, r *Replay) (*admit.Policy, string, error) {
	if r.Text == "" {
		kept, err := s.Store.AdmissionPolicy(ctx, r.Version)
		if err != nil {
			return nil, "", err
		}
		r.Text = kept.Text
	}
	p, problems := parse(r.Text)
	if len(problems) > 0 {
		return nil, "", written.Refused(problems)
	}
	return p, p.Digest(), nil
}

// add decides on one request anew.
func (out *Replayed) add(ctx context.Context, p *admit.Policy, v *store.AdmissionVerdict, exceptions []store.AdmissionException) error {
	facts, err := factsOf(v)
	if err != nil {
		return err
	}
	known := make([]gathered, len(facts))
	for i := range facts {
		known[i].facts = &facts[i]
	}
	out.Examined++
	out.Reached = v.Received
	if v.FactsLost {
		out.Partial++
	}
	now := judge(ctx, p, &v.Request, known, holding(exceptions, v.Received), v.Received)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	if now.Declared {
		out.Undecided++
	}
	if outcome(&now) == outcome(&v.Verdict) {
		out.Same++
		return nil
	}
	switch outcome(&now) {
	case admission.Deny:
		out.Denied++
	case admission.Wait:
		out.Waiting++
	case admission.Allow:
		out.Allowed++
	}
	reasons := slices.DeleteFunc(slices.Clone(now.Reasons), func(x admission.Reason) bool {
		return x.Effect != admission.Denies && x.Effect != admission.Waits
	})
	seen := map[string]bool{}
	for i := range reasons {
		if rule := reasons[i].Rule; reasons[i].Effect == admission.Denies && !seen[rule] {
			seen[rule] = true
			out.Rules[rule]++
		}
	}
	if len(out.Changes) < maxChanges {
		out.Changes = append(out.Changes, ReplayedChange{
			Verdict: v.ID, Request: v.Request.ID, Received: v.Received, Door: v.Request.Door, Place: v.Request.Place, Family: v.Request.Task.Family,
			Was: outcome(&v.Verdict), Now: outcome(&now), Reasons: append([]admission.Reason{}, reasons...),
		})
	}
	return nil
}

// Try decides on one request by a text as the policy, with what is known now; it is
// not kept. It needs access.ReadAdmission.
func (s *Service) Try(ctx context.Context, who access.Identity, text string, r admission.Request) (admission.Verdict, error) {
	if err := who.Need(access.ReadAdmission); err != nil {
		return admission.Verdict{}, err
	}
	if err := checkRequest(&r); err != nil {
		return admission.Verdict{}, err
	}
	p, problems := parse(text)
	if len(problems) > 0 {
		return admission.Verdict{}, written.Refused(problems)
	}
	x, err := s.standing(ctx)
	if err != nil {
		return admission.Verdict{}, err
	}
	trial := *x
	trial.compiled, trial.policy.Digest, trial.stamp = p, p.Digest(), "trial "+p.Digest()+x.stamp
	v, _, err := s.decide(ctx, &trial, &r, s.Clock().UTC())
	return v, err
}
