package brief

import (
	"context"
	"slices"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

// policyName is what problems call the policy.
const policyName = "policy"

// compiled is the policy as it was read last.
type compiled struct {
	stamp  string
	policy *admit.Policy
	err    error
}

// Decide holds a request against the fleet's policy, with its exceptions and what
// is known of the images. An error says that there is no policy here, or none that
// can be read: who asks answers as it is told to for errors. It tells nobody of the
// verdict: see Decided.
func (k *Keeper) Decide(ctx context.Context, r admission.Request) (admission.Verdict, error) {
	s, have := k.Standing()
	if !have || s.Version == 0 {
		return admission.Verdict{}, fault.New(fault.NotFound, "this host has no admission policy").
			With("an administrator writes one (castellan admit policy set FILE), and the agent must reach the server once")
	}
	p, err := k.compile(&s)
	if err != nil {
		return admission.Verdict{}, err
	}
	asked := make([]link.AskedImage, 0, len(r.Task.Containers))
	for i := range r.Task.Containers {
		m := &r.Task.Containers[i].Image
		one := link.AskedImage{Registry: m.Registry, Repository: m.Repository, Digest: m.Digest, ID: m.ID}
		if (m.Digest != "" || m.ID != "") && !slices.Contains(asked, one) && len(asked) < maxImages {
			asked = append(asked, one)
		}
	}
	facts := map[string]*admission.Facts{}
	for _, f := range k.Facts(ctx, asked) {
		if was := facts[f.Digest]; was == nil || was.Trust.Allowed && !f.Trust.Allowed {
			facts[f.Digest] = &f
		}
	}
	return p.Decide(ctx, &r, admit.Given{Facts: facts, Exceptions: s.Exceptions, Now: k.o.Clock().UTC()}), nil
}

// compile reads the policy, once for each.
func (k *Keeper) compile(s *Standing) (*admit.Policy, error) {
	if c := k.compiled.Load(); c != nil && c.stamp == s.Stamp {
		return c.policy, c.err
	}
	c := &compiled{stamp: s.Stamp}
	if c.policy, c.err = admit.Read(s.Policy, policyName); c.err != nil {
		c.err = fault.New(fault.Invalid, "the admission policy can't be read here: %w", c.err).With("update the agent: it is older than the server")
	}
	k.compiled.Store(c)
	return c.policy, c.err
}
