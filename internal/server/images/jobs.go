package images

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/store"
)

// lease is a scan that an agent has.
type lease struct {
	imageID, job string
	until        time.Time
}

// leases are the scans that agents have: one each. The store has them too; they
// are here so that it is not asked at every turn.
type leases struct {
	mu     sync.Mutex
	of     map[string]lease // by agent
	wanted bool             // something may be there to hand out
	// none are agents for which nothing was there when the store was last asked.
	none map[string]bool
}

// ask has the loop look for scans to hand out, for all agents.
func (l *leases) ask() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted = true
	clear(l.none)
}

// hasNone notes that nothing is there for an agent.
func (l *leases) hasNone(agentID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.none[agentID] = true
}

func (l *leases) takeAsked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	wanted := l.wanted
	l.wanted = false
	return wanted
}

func (l *leases) put(agentID string, x lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of[agentID] = x
}

// end removes an agent's lease, if it is still that one.
func (l *leases) end(agentID, job string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of[agentID].job == job {
		delete(l.of, agentID)
		l.wanted = true
	}
}

// mayHave returns which of the agents have no scan, and may get one.
func (l *leases) mayHave(agents []string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(agents, func(id string) bool {
		_, has := l.of[id]
		return has || l.none[id]
	})
}

func (l *leases) all() map[string]lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.of)
}

// firstEnd returns when the first of them ends; zero when there is none.
func (l *leases) firstEnd() (first time.Time) {
	for _, x := range l.all() {
		if first.IsZero() || x.until.Before(first) {
			first = x.until
		}
	}
	return first
}

// resume takes up the scans that agents had when the server stopped: they may be
// at them still.
func (s *Service) resume(ctx context.Context) error {
	q := store.ImageQuery{State: store.ScanRunning, Limit: store.MaxPage}
	for {
		page, err := s.st.Images(ctx, q)
		if err != nil {
			return fmt.Errorf("list the scans that run: %w", err)
		}
		for i := range page {
			s.hand(&page[i])
		}
		if len(page) < store.MaxPage {
			return nil
		}
		q.After = page[len(page)-1].ID
	}
}

// hand makes an image what its agent is to scan.
func (s *Service) hand(m *store.Image) {
	w := link.ScanWish{Job: m.Scan.Job, ImageID: m.ID, Until: m.Scan.Next}
	if len(m.References) > 0 {
		w.Reference = m.References[0]
	}
	s.leases.put(m.Scan.Agent, lease{imageID: m.ID, job: m.Scan.Job, until: m.Scan.Next})
	s.directions.AskScan(m.Scan.Agent, w)
}

// handOut gives agents that can scan and have nothing to do the images that wait.
func (s *Service) handOut(ctx context.Context) error {
	counts, _, err := s.st.ScanCounts(ctx, s.advisories.generation())
	if err != nil {
		return fmt.Errorf("count the scans: %w", err)
	}
	busy := s.leases.all()
	// Those that run and are nobody's were another server's; their time ends.
	if counts[store.ScanWaiting] == 0 && counts[store.ScanRunning] <= len(busy) {
		return nil
	}
	n := len(busy)
	free := s.leases.mayHave(s.directions.Listening())
	if n >= maxScans || len(free) == 0 {
		return nil
	}
	able, err := s.able(ctx)
	if err != nil {
		return err
	}
	free = slices.DeleteFunc(free, func(id string) bool { return !able[id] })
	// Not always the same ones first: none would get to its images while others
	// have more.
	mathrand.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	for _, id := range free {
		if n >= maxScans {
			return nil
		}
		got, err := s.lease(ctx, id)
		if err != nil {
			return err
		}
		if got {
			n++
		}
	}
	return nil
}

// able returns the agents that scan when they are asked to.
func (s *Service) able(ctx context.Context) (map[string]bool, error) {
	agents, err := s.st.Agents(ctx)
	if err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	able := map[string]bool{}
	for i := range agents {
		able[agents[i].ID] = slices.Contains(agents[i].Abilities, link.AbilityScan)
	}
	return able, nil
}

// lease gives an agent one of the images that it has, and reports whether there
// was one.
func (s *Service) lease(ctx context.Context, agentID string) (bool, error) {
	const giveUpAtOnce = 16 // images in a row that were tried too often
	for range giveUpAtOnce {
		now := s.clock()
		l := store.Lease{AgentID: agentID, Job: rand.Text(), Now: now, Until: now.Add(leaseFor)}
		m, err := s.st.LeaseScan(ctx, l)
		if fault.Is(err, fault.NotFound) {
			s.leases.hasNone(agentID)
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("hand a scan to agent %s: %w", agentID, err)
		}
		e := step(m.Scan, input{what: handedOut, agent: agentID, job: l.Job, now: now})
		if e.deed == send {
			s.log.Info("scan handed out", "image_id", m.ID, "agent_id", agentID, "try", m.Scan.Tries)
			s.hand(&m)
			s.listeners.touch(m.ID)
			return true, nil
		}
		if err := s.endTry(ctx, m.ID, l.Job, e); err != nil {
			return false, err
		}
	}
	return false, nil
}

// endTry ends a try that failed, as step has decided. A job that is not the
// image's own any more is nothing to end.
func (s *Service) endTry(ctx context.Context, imageID, job string, e effect) error {
	err := s.st.ScanFailed(ctx, imageID, job, e.why, e.at)
	if fault.Is(err, fault.Conflict) || fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("note that the scan of image %s failed: %w", imageID, err)
	}
	s.log.Warn("image not scanned", "image_id", imageID, "why", e.why, "given_up", e.deed == giveUp)
	s.listeners.touch(imageID)
	return nil
}

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

// drop frees an agent of a scan.
func (s *Service) drop(agentID, job string) {
	s.directions.EndScan(agentID, job)
	s.leases.end(agentID, job)
	s.nudge()
}
