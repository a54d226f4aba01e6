package images

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/store"
)

// endOverdue ends the tries whose time is over.
func (s *Service) endOverdue(ctx context.Context) error {
	now := s.clock()
	for agentID, x := range s.leases.all() {
		if !now.After(x.until) {
			continue
		}
		m, err := s.st.Image(ctx, x.imageID)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return fmt.Errorf("read image %s: %w", x.imageID, err)
		}
		e := step(m.Scan, input{what: overdue, agent: agentID, job: x.job, now: now})
		if e.deed != refuse {
			if err := s.endTry(ctx, x.imageID, x.job, e); err != nil {
				return err
			}
		}
		s.drop(agentID, x.job)
	}
	return nil
}

// openSilent lets other agents have the scans of those of which nothing is heard.
// Until one takes it, the scan stays the silent agent's: its answer is as good as
// before, and when it is heard again it has the rest of its time.
func (s *Service) openSilent(ctx context.Context) error {
	now := s.clock()
	defer s.leases.looked(now)
	agents, err := s.st.Agents(ctx)
	if err != nil {
		return fmt.Errorf("list agents: %w", err)
	}
	seen := map[string]time.Time{}
	for i := range agents {
		seen[agents[i].ID] = agents[i].Seen
	}
	for _, id := range s.directions.Listening() {
		seen[id] = now
	}
	for agentID, x := range s.leases.all() {
		if seen[agentID].After(x.heard) {
			x.heard = seen[agentID]
		}
		silent, until := !x.last && now.Sub(x.heard) >= silentAfter, x.until
		if silent {
			until = now
		}
		if silent != x.open {
			err := s.st.MoveScanEnd(ctx, x.imageID, x.job, until)
			if err != nil && !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.NotFound) {
				return fmt.Errorf("move the end of the scan of image %s: %w", x.imageID, err)
			}
			s.log.Info("agent with a scan is silent, or heard again", "agent_id", agentID, "image_id", x.imageID, "silent", silent)
			s.leases.ask()
		}
		x.open = silent
		s.leases.set(agentID, x)
	}
	return nil
}

// sweepGone gives up images of which every container has ended before any agent
// scanned them, and those that only agents have that are not heard of any more.
func (s *Service) sweepGone(ctx context.Context) error {
	now := s.clock()
	agents, err := s.st.Agents(ctx)
	if err != nil {
		return fmt.Errorf("list agents: %w", err)
	}
	listening := s.directions.Listening()
	// After a long stop of the server all of them were silent.
	g := store.Gone{Before: now.Add(-goneAfter), Now: now, OnlyBack: now.Sub(s.started) < returnWithin}
	for i := range agents {
		if agents[i].Seen.Before(g.Before) && !slices.Contains(listening, agents[i].ID) {
			g.Silent = append(g.Silent, agents[i].ID)
		}
	}
	gone, back, err := s.st.SweepGone(ctx, g)
	if err != nil {
		return fmt.Errorf("give up images that are gone: %w", err)
	}
	for _, id := range gone {
		s.log.Info("image is gone before it was scanned", "image_id", id)
		s.listeners.touch(id)
	}
	for _, id := range back {
		s.log.Info("image that was gone is back", "image_id", id)
		s.listeners.touch(id)
	}
	if len(back) > 0 {
		s.leases.ask()
	}
	return s.endVain(ctx, agents, g.Silent)
}

// endVain ends the wait of images that are scanned, and wait for a newer analysis
// that no agent which has them has any more: they are as before, and asked for
// again when one has it.
func (s *Service) endVain(ctx context.Context, agents []asset.Agent, silent []string) error {
	able := map[string]int{}
	for i := range agents {
		if slices.Contains(agents[i].Abilities, link.AbilityScan) && !slices.Contains(silent, agents[i].ID) {
			able[agents[i].ID] = analysisOf(agents[i].Abilities)
		}
	}
	ended, err := s.st.SweepVain(ctx, able)
	if err != nil {
		return fmt.Errorf("end the wait for a newer analysis: %w", err)
	}
	for _, id := range ended {
		s.log.Info("image stays as an older analysis found it: no agent that has it has a newer one", "image_id", id)
		s.listeners.touch(id)
	}
	return nil
}
