package images

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Own stands for this server's own scanner where agents have their ids. It has
// characters that no agent's id has.
const Own = "this server"

// OwnLease is how long a scan of this server may take: longer than the scanner
// itself allows, so that only a scanner that is gone is ever overdue.
const OwnLease = 40 * time.Minute

// own are the scans of this server that run: those that the store has beside
// them are of one that stopped.
type own struct {
	mu   sync.Mutex
	jobs map[string]bool
}

func (o *own) add(job string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.jobs == nil {
		o.jobs = map[string]bool{}
	}
	o.jobs[job] = true
}

func (o *own) end(job string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.jobs, job)
}

func (o *own) has(job string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.jobs[job]
}

// Known makes images known that were seen elsewhere than on an agent's host. Who
// calls it has them scanned, unless an agent is first.
func (s *Service) Known(ctx context.Context, seen []store.Image) error {
	all := make(map[string]store.Image, len(seen))
	for i := range seen {
		all[seen[i].ID] = seen[i]
	}
	return s.noteImages(ctx, all)
}

// Claim gives this server the scan of an image. Its end is told to Inventory, in
// the name of Own and with the job that is returned. Conflict when no scan is
// wanted, because it is scanned or somebody is at it, or not any more, because it
// was tried too often; the image says which.
func (s *Service) Claim(ctx context.Context, imageID string) (job string, err error) {
	now := s.clock()
	l := store.Lease{AgentID: Own, Job: rand.Text(), Now: now, Until: now.Add(OwnLease), Analysis: analysis}
	s.own.add(l.Job) // before the store has it, so that it is never taken for one of a server that stopped
	m, err := s.st.LeaseImage(ctx, imageID, l)
	if err != nil {
		s.own.end(l.Job)
		return "", fmt.Errorf("take the scan of image %s: %w", imageID, err)
	}
	if e := step(m.Scan, input{what: handedOut, agent: Own, job: l.Job, now: now}); e.deed != send {
		s.own.end(l.Job)
		if err := s.endTry(ctx, m.ID, l.Job, e); err != nil {
			return "", err
		}
		return "", fault.New(fault.Conflict, "image %s is given up: %s", imageID, e.why)
	}
	s.listeners.touch(m.ID)
	return l.Job, nil
}

// Unclaim gives a scan back that was not begun, or not ended, for a reason that is
// none of the image's: it was no try, and others may scan the image at once. It
// may be called again after an error.
func (s *Service) Unclaim(ctx context.Context, imageID, job, why string) error {
	err := s.st.ReleaseScan(ctx, imageID, job, untrusted.Clip(why, maxWhy), s.clock())
	if err != nil && !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("give back the scan of image %s: %w", imageID, err)
	}
	s.own.end(job)
	s.listeners.touch(imageID)
	s.leases.ask()
	s.nudge()
	return nil
}

// resumeOwn has an image wait anew whose scan by this server ended with it.
func (s *Service) resumeOwn(ctx context.Context, m *store.Image) error {
	if s.own.has(m.Scan.Job) {
		return nil
	}
	in := input{what: failed, agent: Own, job: m.Scan.Job, now: s.clock(), why: "the server stopped before the scan ended"}
	return s.endTry(ctx, m.ID, m.Scan.Job, step(m.Scan, in))
}

// Touch tells those who follow images that something changed of them elsewhere:
// of what registries hold.
func (s *Service) Touch() { s.listeners.touch("") }
