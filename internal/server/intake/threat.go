package intake

import (
	"context"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/topology"
	"github.com/castellan-security/castellan/internal/threat"
)

// PartThreats is the name of the condition that says why threats can't be taken.
const PartThreats = "threats"

const (
	// threatsAMinute and threatsAtOnce bound the threats that one agent may tell: rules
	// tell what is alike once a minute. What is more waits at the agent.
	threatsAMinute = 600
	threatsAtOnce  = 2_000
	// maxSeries bounds the name of a series.
	maxSeries = 64
)

// Threats takes what agents' rules of detection found.
type Threats interface {
	// Take takes threats of one agent, oldest first: all of them, or none with an error.
	// They are the caller's; Take keeps none.
	Take(ctx context.Context, agentID string, threats []*threat.Threat) error
}

// Pass has threats be taken by to from now on; without it, agents keep them. Call it
// before the first report.
func (in *Intake) Pass(to Threats) { in.threats = to }

// told is what an agent told of threats so far.
type told struct {
	series string
	last   uint64  // number of the newest that was taken
	left   float64 // that it may tell
	at     time.Time
}

// spend returns how many of n threats may be told now.
func (t *told) spend(n int, now time.Time) int {
	if t.at.IsZero() {
		t.left = threatsAtOnce
	} else {
		t.left = min(threatsAtOnce, t.left+max(0, now.Sub(t.at).Minutes())*threatsAMinute)
	}
	t.at = now
	n = min(n, int(t.left))
	t.left -= float64(n)
	return n
}

// takeThreats has the threats of a report taken that were not before, and returns the
// number of the newest that need not come again. A report whose threats can't be taken
// is taken all the same: they wait at the agent.
func (in *Intake) takeThreats(ctx context.Context, a *reporter, r *link.Report, now time.Time) uint64 {
	if in.threats == nil || len(r.Threats) == 0 || len(r.ThreatSeries) > maxSeries {
		return 0
	}
	if a.told.series != r.ThreatSeries {
		a.told.series, a.told.last = r.ThreatSeries, 0
	}
	fresh := r.Threats
	for len(fresh) > 0 && fresh[0].Number <= a.told.last {
		fresh = fresh[1:]
	}
	fresh = fresh[:a.told.spend(len(fresh), now)]
	if len(fresh) == 0 {
		return a.told.last
	}
	good, err := in.judgeThreats(ctx, r.Agent.ID, fresh, now)
	if err == nil {
		err = in.pass(ctx, r.Agent.ID, good)
	}
	if ctx.Err() == nil && in.conditions.Set(PartThreats, err) {
		if err != nil {
			in.log.Error("threats are not taken", "agent_id", r.Agent.ID, "error", err)
		} else {
			in.log.Info("threats are taken again")
		}
	}
	if err != nil {
		return a.told.last
	}
	a.told.last = fresh[len(fresh)-1].Number
	return a.told.last
}

// pass hands threats on. One that is refused for good is left out and counted, so that it
// does not hold up all that follow.
func (in *Intake) pass(ctx context.Context, agentID string, good []*threat.Threat) error {
	if len(good) == 0 {
		return nil
	}
	err := in.threats.Take(ctx, agentID, good)
	if !fault.Is(err, fault.Invalid) {
		return err
	}
	if len(good) == 1 {
		in.log.Warn("threat refused", "agent_id", agentID, "rule", good[0].Rule, "error", err)
		in.lost(agentID, LostForm, 1)
		return nil
	}
	for i := range good {
		if err := in.pass(ctx, agentID, good[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// judgeThreats returns the threats that make sense and are the agent's to tell, bounded
// and completed, and counts the others.
func (in *Intake) judgeThreats(ctx context.Context, agentID string, fresh []link.NumberedThreat, now time.Time) ([]*threat.Threat, error) {
	var malformed, foreign, last uint64
	good := make([]*threat.Threat, 0, len(fresh))
	for i := range fresh {
		t := fresh[i].Threat // a copy: the agent in this process shares it
		t.Bound()
		if fresh[i].Number <= last || t.WorkloadID != "" && !asset.IsContainerID(t.WorkloadID) || t.Check() != nil {
			malformed++
			continue
		}
		last = fresh[i].Number
		group, mine, err := in.known.group(ctx, in, t.WorkloadID, agentID, now)
		if err != nil {
			return nil, err
		}
		if !mine {
			foreign++
			continue
		}
		t.AgentID, t.Group = agentID, group
		in.completeThreat(&t, now)
		good = append(good, &t)
	}
	in.lost(agentID, LostForm, malformed)
	in.lost(agentID, LostOwner, foreign)
	return good, nil
}

// completeThreat sets right what a clock or an agent said wrong, and says who peers are.
func (in *Intake) completeThreat(t *threat.Threat, now time.Time) {
	for _, at := range []*time.Time{&t.First, &t.Last} {
		if !sane(*at) {
			*at = now
		}
	}
	if t.Last.Before(t.First) {
		t.First = t.Last
	}
	for i := range t.Evidence {
		e := &t.Evidence[i]
		e.ID = 0
		if !sane(e.Time) {
			e.Time = t.Last
		}
	}
	for i := range t.Peers {
		p := &t.Peers[i]
		p.Peer = event.Peer{}
		if p.Address.IsValid() {
			p.Peer = in.peers.index.Resolve(topology.Question{AgentID: t.AgentID, WorkloadID: t.WorkloadID, Protocol: "tcp", Remote: p.Address, At: t.Last})
		}
	}
}
