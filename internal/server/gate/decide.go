package gate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const (
	// maxContainers bounds the containers of a request: ECS takes ten in a task, a
	// CI gate may ask for a stack of some.
	maxContainers = 100
	// maxRequestID bounds the id of a request.
	maxRequestID = 256
)

// PolicyRule is the rule of reasons that are about the policy itself.
const PolicyRule = "policy"

// Decide holds a request against the policy, and keeps what comes of it. Without a
// policy nothing is let through. It needs access.DecideAdmission. An error says that
// nobody could decide: the door answers as it is told to for errors.
func (s *Service) Decide(ctx context.Context, who access.Identity, r admission.Request) (admission.Verdict, error) {
	if err := who.Need(access.DecideAdmission); err != nil {
		return admission.Verdict{}, err
	}
	if err := checkRequest(&r); err != nil {
		return admission.Verdict{}, err
	}
	x, err := s.standing(ctx)
	if err != nil {
		return admission.Verdict{}, err
	}
	if x.policy.Version == 0 {
		s.noPolicy(ctx, "a door")
	}
	now := s.Clock().UTC()
	v, known, err := s.decide(ctx, x, &r, now)
	if err != nil {
		return admission.Verdict{}, fmt.Errorf("decide on request %.80q: %w", r.ID, err)
	}
	s.want(who.Actor, known, now)
	s.records.put(ctx, store.AdmissionVerdict{Received: now, Actor: who.Actor, Request: r, Verdict: v, Facts: packedOf(known)})
	return v, nil
}

// checkRequest returns what is wrong with a request.
func checkRequest(r *admission.Request) error {
	switch {
	case r.ID == "" || len(r.ID) > maxRequestID || !untrusted.Storable(r.ID):
		return fault.New(fault.Invalid, "id: want one to %d bytes of text, unlike that of any other request", maxRequestID)
	case !slices.Contains(admission.Doors(), r.Door):
		return fault.New(fault.Invalid, "door: %.40q is none; there are %v", string(r.Door), admission.Doors())
	case !slices.Contains(admission.Actions(), r.Action):
		return fault.New(fault.Invalid, "action: %.40q is none; there are %v", string(r.Action), admission.Actions())
	case len(r.Task.Containers) > maxContainers:
		return fault.New(fault.Invalid, "task: it has %d containers, at most %d are decided on", len(r.Task.Containers), maxContainers)
	}
	return nil
}

// decide holds a request against what stands now. What can't be looked up is
// answered as the policy declares for errors; an error says that whoever asked has
// gone.
func (s *Service) decide(ctx context.Context, x *standing, r *admission.Request, now time.Time) (admission.Verdict, []gathered, error) {
	known, err := s.gatherAll(ctx, r, false)
	switch {
	case ctx.Err() != nil:
		return admission.Verdict{}, nil, ctx.Err()
	case x.compiled == nil:
		return noPolicy(r, x, now), known, nil
	case err != nil:
		s.Log.Error("what is known of images can't be read", "request_id", r.ID, "error", err)
		if fault.Of(err) == fault.Unknown { // it may say anything
			err = errors.New("what is known of the images can't be read: see the server's log")
		}
		return x.compiled.Undecided(r, err, now), nil, nil
	}
	key, named := memoKey(r, x.stamp, known)
	if named {
		if v, ok := s.memo.get(key, r.ID, now); ok {
			return v, known, nil
		}
	}
	v := judge(ctx, x.compiled, r, known, holding(x.exceptions, now), now)
	if err := ctx.Err(); err != nil {
		return admission.Verdict{}, nil, err // what it says is only that nobody waits for it
	}
	if named {
		s.memo.put(key, v, now)
	}
	return v, known, nil
}

// noPolicy is the verdict where nobody has said what is let through.
func noPolicy(r *admission.Request, x *standing, now time.Time) admission.Verdict {
	why := admission.Reason{
		Effect: admission.Denies, Rule: PolicyRule, Severity: finding.Critical,
		Message: "the fleet has no admission policy", Remedy: "an administrator writes one: castellan admit policy set FILE",
	}
	if x.trouble != nil {
		why.Message = "the fleet's admission policy can't be read: " + untrusted.Clip(x.trouble.Error(), 1_000)
		why.Remedy = cmp.Or(fault.Remedy(x.trouble), "an administrator sets one that this version reads: castellan admit policy set FILE")
	}
	return admission.Verdict{
		Request: r.ID, Outcome: admission.Deny, Policy: x.policy.Digest, At: now, Declared: true, Reasons: []admission.Reason{why},
	}
}

// gatherAll returns what is known of the images of a request, each once, in the
// order of its containers.
func (s *Service) gatherAll(ctx context.Context, r *admission.Request, engine bool) ([]gathered, error) {
	var all []gathered
	seen := make([]image, 0, 8)
	for i := range r.Task.Containers {
		for _, m := range r.Task.Containers[i].Images() {
			n := imageOf(m, engine)
			if n.digest == "" && n.id == "" || slices.Contains(seen, n) || len(seen) == maxContainers {
				continue // of what has no digest nothing can be known
			}
			seen = append(seen, n)
			g, err := s.gather(ctx, n)
			if err != nil {
				return nil, err
			}
			all = append(all, g)
		}
	}
	return all, nil
}

func packedOf(known []gathered) []store.AdmissionFacts {
	var all []store.AdmissionFacts
	for i := range known {
		all = append(all, known[i].packed)
	}
	return all
}
