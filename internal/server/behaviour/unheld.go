package behaviour

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/profile"
)

// heldBy returns how the hosts of a group hold it, and of those that run it and do
// not, why: their At is zero.
func (s *Service) heldBy(ctx context.Context, g asset.Group) ([]HeldBy, error) {
	now := s.Clock()
	out := s.held.by(g, now)
	var silent []string
	for _, id := range s.hosts.running(g) {
		if !slices.ContainsFunc(out, func(h HeldBy) bool { return h.AgentID == id }) {
			silent = append(silent, id)
		}
	}
	if len(silent) == 0 {
		return out, nil
	}
	agents, err := s.Store.Agents(ctx)
	if err != nil {
		return nil, err
	}
	asking := s.held.asking(now)
	for i := range agents {
		if a := &agents[i]; slices.Contains(silent, a.ID) {
			why := unheld(a, g, asking[a.ID])
			left, cut := s.hosts.held(a.ID, s.inForce, now)
			switch {
			case !asking[a.ID] || slices.Contains(left, g):
			case !s.inForce(g):
				continue // only learned from, and there are others to hold
			default:
				why.Error = fmt.Sprintf("this host has %d groups more than the %d that one holds, and this is one of those that are left out", cut, link.MaxHeldGroups)
				why.Remedy = "run fewer services on one host, or forget groups that are gone: castellan watch forget"
			}
			out = append(out, HeldBy{AgentID: a.ID, Held: why})
		}
	}
	slices.SortFunc(out, func(a, b HeldBy) int { return cmpText(a.AgentID, b.AgentID) })
	return out, nil
}

// unheld says why a host that runs a group does not hold it.
func unheld(a *asset.Agent, g asset.Group, asks bool) profile.Held {
	h := profile.Held{Group: g}
	switch {
	case asks:
		h.Error = "the agent of this host has not fetched the rules of the group yet"
	case slices.Contains(a.Abilities, link.AbilityHold):
		h.Error = fmt.Sprintf("the agent of this host has not asked for rules in the last %.0f minutes; what it held goes on there", forgetHeld.Minutes())
		h.Remedy = "look whether it runs: castellan agents"
	default:
		h.Error = "the agent of this host does not hold containers to profiles"
		if a.Version != "" {
			h.Error += fmt.Sprintf(": it has version %.40s", a.Version)
		}
		h.Remedy = "update the agent if it is older than its server, and start it with a data folder and without --hold=false"
	}
	return h
}

// asking are the agents that asked for rules in the last minutes.
func (h *held) asking(now time.Time) map[string]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string]bool{}
	for id, o := range h.of {
		if now.Sub(o.at) <= forgetHeld {
			out[id] = true
		}
	}
	return out
}
