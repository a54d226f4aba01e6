package gate

import (
	"context"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const (
	// reportsAMinute and reportsAtOnce bound the verdicts that one agent may tell: a
	// host that starts a container a second tells some hundred. What one agent tells
	// must not push out what others told.
	reportsAMinute = 600
	reportsAtOnce  = 2_000
	// maxMeters bounds the agents that are remembered.
	maxMeters = 10_000
)

// meters say how much agents may still tell.
type meters struct {
	mu sync.Mutex
	of map[string]meter
}

type meter struct {
	left float64
	at   time.Time
}

// spend takes n of an agent's, if there are as many.
func (m *meters) spend(agentID string, n int, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	x, known := m.of[agentID]
	if !known {
		if len(m.of) >= maxMeters {
			clear(m.of)
		}
		x = meter{reportsAtOnce, now}
	}
	x.left = min(reportsAtOnce, x.left+max(0, now.Sub(x.at).Minutes())*reportsAMinute)
	x.at = now
	enough := x.left >= float64(n)
	if enough {
		x.left -= float64(n)
	}
	m.of[agentID] = x
	return enough
}

// Brief is link.Admission: what an agent decides by, as far as it does not have it.
// a.AgentID must have been proven by the caller.
func (s *Service) Brief(ctx context.Context, a link.AdmissionAsk) (link.AdmissionBrief, error) {
	if err := a.Check(); err != nil {
		return link.AdmissionBrief{}, err
	}
	x, err := s.standing(ctx)
	if err != nil {
		return link.AdmissionBrief{}, err
	}
	b := link.AdmissionBrief{AdmissionWish: link.AdmissionWish{Version: x.policy.Version, Digest: x.policy.Digest, Stamp: x.stamp}}
	if a.Stamp != x.stamp {
		b.Changed, b.Policy, b.Exceptions = true, []byte(x.policy.Text), holding(x.exceptions, s.Clock())
	}
	size := 0
	for i := range a.Images {
		f, err := s.briefFacts(ctx, a.AgentID, &a.Images[i])
		if err != nil {
			return link.AdmissionBrief{}, err
		}
		if size += len(f.Packed); size > link.MaxBriefFacts && i > 0 {
			break
		}
		b.Facts = append(b.Facts, f)
	}
	return b, nil
}

// briefFacts is what an agent is told of an image. An allowing word of another agent
// about signatures is no leave: who has taken one host must not gain others.
func (s *Service) briefFacts(ctx context.Context, agentID string, m *link.AskedImage) (link.BriefFacts, error) {
	g, err := s.gather(ctx, named(m.Registry, m.Repository, m.Digest, m.ID))
	if err != nil {
		return link.BriefFacts{}, err
	}
	packed := g.packed
	if g.facts.Trust.Allowed && g.agent != agentID {
		f := *g.facts
		f.Trust = admission.Trust{
			Why:    "another agent has verified it: its word is no leave for this host",
			Remedy: "this host verifies it by itself once it has the image; castellan trust images shows what came of it",
		}
		if packed, err = store.NewAdmissionFacts(&f); err != nil {
			return link.BriefFacts{}, err
		}
	}
	out := link.BriefFacts{Hash: hex.EncodeToString(packed.Hash[:16])}
	if out.Hash == m.Have {
		out.Same = true
		return out, nil
	}
	if len(packed.JSON) > link.MaxFactsUnpacked {
		return link.BriefFacts{}, fault.New(fault.Exhausted, "the facts of image %s have %d bytes", untrusted.Clip(m.Digest, maxRequestID), len(packed.JSON))
	}
	out.Packed, err = link.PackFacts(packed.JSON)
	return out, err
}

// Admitted is link.Admission: it keeps what an agent has decided. r.AgentID must
// have been proven by the caller. The facts that are kept beside are those that the
// server knows now: nobody takes an agent's word for them.
func (s *Service) Admitted(ctx context.Context, r link.AdmissionReport) error {
	if err := r.Check(); err != nil {
		return err
	}
	now := s.Clock().UTC()
	if !s.meters.spend(r.AgentID, len(r.Verdicts), now) {
		return fault.New(fault.Exhausted, "agent %s tells more than %d verdicts a minute", r.AgentID, reportsAMinute).
			With("what has it so busy? castellan admit verdicts --host " + r.AgentID)
	}
	x, err := s.standing(ctx)
	if err != nil {
		return err
	}
	vs := make([]store.AdmissionVerdict, 0, len(r.Verdicts))
	for i := range r.Verdicts {
		v := &r.Verdicts[i]
		if err := checkRequest(&v.Request); err != nil {
			return fmt.Errorf("verdict of agent %s: %w", r.AgentID, err)
		}
		if v.Request.Door != admission.Docker {
			return fault.New(fault.Invalid, "agent %s tells of the door %q, which is none of a host", r.AgentID, v.Request.Door)
		}
		// An agent that has a policy of its own needs none of the fleet.
		if x.policy.Version == 0 && v.Verdict.Policy == "" && !v.Verdict.Allowed() {
			s.noPolicy(ctx, "the engine of agent "+r.AgentID)
		}
		known, err := s.gatherAll(ctx, &v.Request, true)
		if err != nil {
			return err
		}
		vs = append(vs, store.AdmissionVerdict{Received: now, Agent: r.AgentID, Request: v.Request, Verdict: v.Verdict, Facts: packedOf(known)})
	}
	if !s.records.putAll(ctx, vs) {
		return fault.New(fault.Unavailable, "the verdicts of agent %s are not stored yet: it keeps them and tells them again", r.AgentID)
	}
	return nil
}
