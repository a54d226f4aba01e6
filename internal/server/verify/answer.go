package verify

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const (
	// maxKept is how long an image is allowed without asking again, whatever an
	// agent says; leastKept keeps one from asking all the time.
	maxKept   = 6 * time.Hour
	leastKept = time.Minute
	// denialKept is when a denied image is looked at again: somebody may have signed
	// it meanwhile.
	denialKept = 10 * time.Minute
	// firstPause follows a try that found nothing out; each further one is
	// pauseGrows times as long.
	firstPause = time.Minute
	pauseGrows = 3
	maxPause   = 2 * time.Hour
	// maxText bounds each text of a verdict that is kept by itself.
	maxText = 2 << 10
	// maxValues bounds the values of a verdict's JSON: one of a thousand signatures
	// has a third.
	maxValues = 50_000
)

// ask has an agent verify an image.
func (s *Service) ask(agentID string, v *store.TrustDue, p store.TrustPolicy, now time.Time) {
	l := lease{job: rand.Text(), repository: v.Repository, digest: v.Digest, policy: p.Digest, tries: v.Tries, until: now.Add(leaseFor)}
	s.mu.Lock()
	s.leases[agentID] = l
	s.mu.Unlock()
	s.Log.Debug("image handed out to be verified", "repository", v.Repository, "digest", v.Digest, "agent_id", agentID)
	s.Directions.AskVerify(agentID, link.VerifyWish{
		Job: l.job, Repository: v.Repository, Digest: v.Digest, Policy: []byte(p.Text), PolicyDigest: p.Digest, Until: l.until,
	})
}

// underWay are the images that agents are at.
func (s *Service) underWay() map[name]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := map[name]bool{}
	for _, l := range s.leases {
		at[name{l.repository, l.digest}] = true
	}
	return at
}

// endOverdue ends what agents had time enough for.
func (s *Service) endOverdue(ctx context.Context, now time.Time) error {
	s.mu.Lock()
	over := map[string]lease{}
	for agentID, l := range s.leases {
		if now.After(l.until) && !l.ending {
			over[agentID] = l
		}
	}
	s.mu.Unlock()
	for agentID, l := range over {
		why := fmt.Sprintf("agent %s did not answer within %s", agentID, leaseFor)
		if err := s.keep(ctx, agentID, l, undecided(l, why, "is the agent connected, and can it reach the registry?", now)); err != nil {
			return err
		}
	}
	return nil
}

// Verdict takes an agent's answer to a VerifyWish. Errors: Invalid for an answer
// that is none; Conflict when the agent was not asked, or not for this, or by
// another policy, or its time is over.
func (s *Service) Verdict(ctx context.Context, a link.Verified) error {
	if err := a.Check(); err != nil {
		return err
	}
	l, err := s.take(a)
	if err != nil {
		return err
	}
	now := s.Clock()
	v, err := read(a, l, now)
	if err != nil {
		// Its job is over all the same: it would say the same again.
		why := undecided(l, "the answer of agent "+a.AgentID+" is of no use: "+err.Error(), "run the same version of Castellan there as on the server", now)
		if kept := s.keep(ctx, a.AgentID, l, why); kept != nil {
			return kept
		}
		return fault.New(fault.Invalid, "verdict: %w", err)
	}
	return s.keep(ctx, a.AgentID, l, v)
}

// take returns what the agent was asked, which nobody else ends meanwhile.
func (s *Service) take(a link.Verified) (lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, asked := s.leases[a.AgentID]
	if !asked || l.ending || l.job != a.Job || l.repository != a.Repository || l.digest != a.Digest || l.policy != a.PolicyDigest {
		return lease{}, fault.New(fault.Conflict, "agent %s was not asked to verify %s@%s", a.AgentID,
			untrusted.Clip(a.Repository, maxText), untrusted.Clip(a.Digest, maxText))
	}
	if s.Clock().After(l.until) {
		return lease{}, fault.New(fault.Conflict, "the time to verify %s@%s is over", l.repository, l.digest)
	}
	l.ending = true
	s.leases[a.AgentID] = l
	return l, nil
}

// keep stores what came of a job, and ends it. One whose policy or whose image is
// gone has come to nothing, and is no error of the loop's.
func (s *Service) keep(ctx context.Context, agentID string, l lease, v store.TrustVerdict) error {
	v.Agent = agentID
	err := s.Store.PutTrustVerdict(ctx, v)
	known := fault.Is(err, fault.Conflict) || fault.Is(err, fault.NotFound)
	s.mu.Lock()
	if s.leases[agentID].job == l.job {
		if err == nil || known {
			delete(s.leases, agentID)
		} else {
			l.ending = false
			s.leases[agentID] = l
		}
	}
	s.mu.Unlock()
	if err != nil && !known {
		return fmt.Errorf("keep the verdict of %s@%s: %w", l.repository, l.digest, err)
	}
	s.Directions.EndVerify(agentID, l.job)
	if err == nil && v.State != store.TrustAllowed {
		s.Log.Warn("image is not allowed by the trust policy", "repository", v.Repository, "digest", v.Digest, "state", v.State, "reason", v.Reason)
	}
	s.nudge()
	return nil
}

// undecided is the verdict of a try that found nothing out. It replaces an earlier
// one that allowed: what can't be found out any more is no leave.
func undecided(l lease, why, remedy string, now time.Time) store.TrustVerdict {
	pause := firstPause
	for range min(l.tries, 8) {
		pause = min(pause*pauseGrows, maxPause)
	}
	return store.TrustVerdict{
		Repository: l.repository, Digest: l.digest, State: store.TrustUndecided, Policy: l.policy,
		Reason: untrusted.Clip(why, maxText), Remedy: untrusted.Clip(remedy, maxText),
		Checked: now, Next: now.Add(pause), Tries: l.tries + 1,
	}
}

// read makes a verdict of an answer, which may be anything.
func read(a link.Verified, l lease, now time.Time) (store.TrustVerdict, error) {
	if a.Error != "" {
		return undecided(l, a.Error, a.Remedy, now), nil
	}
	if n := strings.Count(string(a.Verdict), ",") + strings.Count(string(a.Verdict), "{") + strings.Count(string(a.Verdict), "["); n > maxValues {
		return store.TrustVerdict{}, fmt.Errorf("it has more than %d values", maxValues)
	}
	var v trust.Verdict
	if err := json.Unmarshal(a.Verdict, &v); err != nil {
		return store.TrustVerdict{}, fmt.Errorf("read it: %w", err)
	}
	if v.Digest != l.digest || v.Repository != l.repository || v.Policy != l.policy {
		return store.TrustVerdict{}, fmt.Errorf("it is about another image, or by another policy")
	}
	details, err := json.Marshal(v)
	if err != nil || len(details) > store.MaxTrustVerdict {
		return store.TrustVerdict{}, fmt.Errorf("it has %d bytes, and at most %d are kept", len(details), store.MaxTrustVerdict)
	}
	out := store.TrustVerdict{
		Repository: l.repository, Digest: l.digest, State: store.TrustDenied, Policy: l.policy,
		Reason: untrusted.Clip(v.Reason, maxText), Remedy: untrusted.Clip(v.Remedy, maxText),
		Signers: signers(&v), Checked: now, Next: now.Add(denialKept), Details: details,
	}
	if v.Allowed {
		// How long it holds is a span of the agent's clock.
		holds := min(max(v.Until.Sub(v.At), leastKept), maxKept)
		out.State, out.Next, out.Remedy = store.TrustAllowed, now.Add(holds), ""
	}
	return out, nil
}

// signers are those whose signatures hold, those that the policy names first.
func signers(v *trust.Verdict) []store.TrustSigner {
	var named, others []store.TrustSigner
	for i := range v.Signatures {
		c := &v.Signatures[i]
		if c.State != trust.SignatureGood || c.By == nil {
			continue
		}
		x := store.TrustSigner{
			Identity: untrusted.Clip(c.By.String(), maxText), Kind: untrusted.Clip(string(c.Kind), maxText), At: c.Time,
			Proof: untrusted.Clip(string(c.Proof), maxText), Attests: untrusted.Clip(c.Predicate, maxText), LogIndex: c.Log,
		}
		for _, n := range c.Signers[:min(len(c.Signers), store.MaxTrustSigners)] {
			x.Names = append(x.Names, untrusted.Clip(n, maxText))
		}
		if len(x.Names) > 0 {
			named = append(named, x)
		} else {
			others = append(others, x)
		}
	}
	all := append(named, others...)
	return all[:min(len(all), store.MaxTrustSigners)]
}
