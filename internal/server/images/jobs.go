package images

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// goneAfter is how long after its last container an image that waits is given
	// up: the ECS agent removes images of ended tasks within hours.
	goneAfter = 24 * time.Hour
	// heardEvery is how often the loop looks whether agents with a scan are alive,
	// silentAfter how long nothing is heard of one before another may have its
	// scan. Both together stay below a minute; an agent reports every five seconds.
	heardEvery  = 15 * time.Second
	silentAfter = 30 * time.Second
	// returnWithin is how long after its own start the server takes none for gone.
	returnWithin = 10 * time.Minute
)

// lease is a scan that an agent has.
type lease struct {
	imageID, job string
	until        time.Time
	heard        time.Time // of the agent, as far as this lease goes
	// open says that others may have it: the agent is silent.
	open bool
	// last is the last try: nobody may take it over, because it would be one more.
	last bool
}

// leases are the scans that agents have: one each. The store has them too; they
// are here so that it is not asked at every turn.
type leases struct {
	mu     sync.Mutex
	of     map[string]lease // by agent
	wanted bool             // something may be there to hand out
	look   time.Time        // when it is looked at next whether agents are alive
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
	if l.look.IsZero() {
		l.look = x.heard.Add(heardEvery)
	}
}

// set changes an agent's lease, if it is still that one.
func (l *leases) set(agentID string, x lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of[agentID].job == x.job {
		l.of[agentID] = x
	}
}

// looked notes when it was looked whether agents are alive.
func (l *leases) looked(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look = time.Time{}
	if len(l.of) > 0 {
		l.look = now.Add(heardEvery)
	}
}

// lookAt returns when that is to be done next; zero when no agent has a scan.
func (l *leases) lookAt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.look
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
			if page[i].Scan.Agent == Own {
				if err := s.resumeOwn(ctx, &page[i]); err != nil {
					return err
				}
				continue
			}
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
	w := link.ScanWish{Job: m.Scan.Job, ImageID: m.ID, Until: m.Scan.Next, Salt: s.salt}
	if len(m.References) > 0 {
		w.Reference = m.References[0]
	}
	for agentID, x := range s.leases.all() {
		if x.imageID == m.ID && x.job != m.Scan.Job {
			s.drop(agentID, x.job) // it was silent, and another one has it now
		}
	}
	s.leases.put(m.Scan.Agent, lease{imageID: m.ID, job: m.Scan.Job, until: m.Scan.Next, heard: s.clock(), last: m.Scan.Tries >= maxTries})
	s.directions.AskScan(m.Scan.Agent, w)
}

// handOut gives agents that can scan and have nothing to do the images that wait.
func (s *Service) handOut(ctx context.Context) error {
	t, err := s.st.ScanTotals(ctx, s.advisories.generation(), analysis)
	if err != nil {
		return fmt.Errorf("count the scans: %w", err)
	}
	n := 0 // scans that agents are at
	for _, x := range s.leases.all() {
		if !x.open {
			n++
		}
	}
	// Those that run and are nobody's were another server's, or their agents are
	// silent; their time ends.
	if t.States[store.ScanWaiting] == 0 && t.States[store.ScanRunning] <= n && t.Outdated == 0 {
		return nil
	}
	free := s.leases.mayHave(s.directions.Listening())
	if n >= maxScans || len(free) == 0 {
		return nil
	}
	able, err := s.able(ctx)
	if err != nil {
		return err
	}
	free = slices.DeleteFunc(free, func(id string) bool { _, can := able[id]; return !can })
	// Not always the same ones first: none would get to its images while others
	// have more.
	mathrand.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	for _, id := range free {
		if n >= maxScans {
			return nil
		}
		got, err := s.lease(ctx, id, able[id])
		if err != nil {
			return err
		}
		if got {
			n++
		}
	}
	return nil
}

// able returns the agents that scan when they are asked to, each with the version
// of its analysis, as far as it is of use here; 0 for one that does not say.
func (s *Service) able(ctx context.Context) (map[string]int, error) {
	agents, err := s.st.Agents(ctx)
	if err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	able := map[string]int{}
	for i := range agents {
		if slices.Contains(agents[i].Abilities, link.AbilityScan) {
			able[agents[i].ID] = min(analysisOf(agents[i].Abilities), analysis)
		}
	}
	return able, nil
}

// analysisOf returns the version of the analysis that abilities tell of.
func analysisOf(abilities []string) int {
	for _, a := range abilities {
		if version, ok := strings.CutPrefix(a, link.AbilityAnalysis); ok {
			n, err := strconv.Atoi(version)
			if err == nil && n > 0 {
				return n
			}
		}
	}
	return 0
}

// lease gives an agent one of the images that it has, and reports whether there
// was one.
func (s *Service) lease(ctx context.Context, agentID string, analysis int) (bool, error) {
	const giveUpAtOnce = 16 // images in a row that were tried too often
	for range giveUpAtOnce {
		now := s.clock()
		l := store.Lease{AgentID: agentID, Job: rand.Text(), Now: now, Until: now.Add(leaseFor), Analysis: analysis}
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
	end := func() error { return s.st.ScanFailed(ctx, imageID, job, e.why, e.at) }
	if e.deed == letGo {
		end = func() error { return s.st.ScanGone(ctx, imageID, job, s.clock()) }
	}
	err := end()
	if fault.Is(err, fault.Conflict) || fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("note that the scan of image %s failed: %w", imageID, err)
	}
	s.log.Warn("image not scanned", "image_id", imageID, "why", e.why, "given_up", e.deed == giveUp, "gone", e.deed == letGo)
	s.listeners.touch(imageID)
	return nil
}

// drop frees an agent of a scan.
func (s *Service) drop(agentID, job string) {
	if agentID == Own {
		s.own.end(job)
		s.nudge()
		return
	}
	s.directions.EndScan(agentID, job)
	s.leases.end(agentID, job)
	s.nudge()
}
