package agent

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/pace"
)

// Scanner says what is in images of the engine.
type Scanner interface {
	// ScanImage returns what is in the image of a wish as link.Scanned.Inventory has
	// it, of at most link.MaxInventory bytes. It looks for secrets if the wish has a
	// salt. It may take minutes and ends when ctx does. Errors carry a fault.Kind: NotFound when the engine has no such image;
	// Invalid, Unsupported and Exhausted when another try would end the same.
	ScanImage(ctx context.Context, w link.ScanWish) ([]byte, error)
	// Analysis is the version of the analysis by which it scans.
	Analysis() int
}

const (
	// maxScans bounds the scans that wait; the server hands out anew what is not
	// answered.
	maxScans = 64
	// maxScanTime bounds what a server may grant for one.
	maxScanTime = 2 * time.Hour
)

// scans are the images that the server wants scanned. They are scanned one by
// one, each job once.
type scans struct {
	agentID string
	scanner Scanner // nil: none is ever wanted
	server  link.Server
	log     *slog.Logger
	bell    chan struct{}

	mu      sync.Mutex
	waiting []scanJob
	known   map[string]bool // jobs that were taken
	order   []string        // of known, the oldest first
}

type scanJob struct {
	link.ScanWish
	deadline time.Time // by the own clock
}

func newScans(agentID string, p Parts, log *slog.Logger) *scans {
	return &scans{agentID: agentID, scanner: p.Scanner, server: p.Server, log: log, bell: make(chan struct{}, 1), known: map[string]bool{}}
}

// abilities are what the agent announces.
func (s *scans) abilities() []string {
	if s.scanner == nil {
		return nil
	}
	return []string{link.AbilityScan, link.AbilityAnalysis + strconv.Itoa(s.scanner.Analysis())}
}

// wish takes a wish of the server, which was issued at a time by its clock. One
// that was taken before, and one for which there is no room, changes nothing.
func (s *scans) wish(w link.ScanWish, issued time.Time) {
	if s.scanner == nil {
		s.log.Warn("scan not done: scanning is off here", "image", w.ImageID)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[w.Job] {
		return
	}
	if len(s.waiting) >= maxScans {
		s.log.Warn("scan not done: too many wait", "image", w.ImageID, "waiting", len(s.waiting))
		return
	}
	s.known[w.Job] = true
	if s.order = append(s.order, w.Job); len(s.order) > 4*maxScans {
		delete(s.known, s.order[0])
		s.order = s.order[1:]
	}
	// The clocks may differ: what is granted is a span of time.
	s.waiting = append(s.waiting, scanJob{w, time.Now().Add(min(w.Until.Sub(issued), maxScanTime))})
	select {
	case s.bell <- struct{}{}:
	default:
	}
}

// run scans what is wanted until ctx ends.
func (s *scans) run(ctx context.Context) {
	for {
		job, ok := s.next()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-s.bell:
			}
			continue
		}
		within, cancel := context.WithDeadline(ctx, job.deadline)
		if within.Err() == nil {
			s.deliver(within, job, s.scan(within, job))
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
	}
}

func (s *scans) next() (scanJob, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		return scanJob{}, false
	}
	job := s.waiting[0]
	s.waiting = s.waiting[1:]
	return job, true
}

// scan scans an image and makes an answer of it.
func (s *scans) scan(ctx context.Context, job scanJob) link.Scanned {
	began := time.Now()
	answer := link.Scanned{AgentID: s.agentID, Job: job.Job, ImageID: job.ImageID}
	err := inventory.CheckDigest(job.ImageID)
	if err == nil {
		answer.Inventory, err = s.scanner.ScanImage(ctx, job.ScanWish)
	}
	if err == nil && (len(answer.Inventory) == 0 || len(answer.Inventory) > link.MaxInventory) {
		err = fault.New(fault.Exhausted, "inventory has %d bytes", len(answer.Inventory))
	}
	if err == nil {
		s.log.Info("image scanned", "image", job.ImageID, "reference", job.Reference, "took", time.Since(began), "bytes", len(answer.Inventory))
		return answer
	}
	kind := fault.Of(err)
	answer.Inventory = nil
	answer.Error, answer.Remedy = cut(err.Error(), link.MaxScanText), cut(fault.Remedy(err), link.MaxScanText)
	answer.Missing = kind == fault.NotFound
	answer.Final = kind == fault.Invalid || kind == fault.Unsupported || kind == fault.Exhausted
	s.log.Warn("image not scanned", "image", job.ImageID, "reference", job.Reference, "error", err, "remedy", answer.Remedy)
	return answer
}

// cut bounds a text, which goes on the wire as UTF-8 or not at all.
func cut(s string, most int) string { return strings.ToValidUTF8(s[:min(len(s), most)], "") }

// deliver gives the server its answer. One that does not get through by the
// job's end is of no use any more.
func (s *scans) deliver(ctx context.Context, job scanJob, answer link.Scanned) {
	err := untilTaken(ctx, func() error { return s.server.Inventory(ctx, answer) })
	if err != nil {
		s.log.Warn("answer to a scan not delivered", "image", job.ImageID, "error", err, "remedy", fault.Remedy(err))
	}
}

// untilTaken gives the server an answer by give, as often as it takes while the
// server is away or busy, until ctx ends, and returns the last error.
func untilTaken(ctx context.Context, give func() error) error {
	var p pauses
	for {
		err := give()
		if err == nil {
			return nil
		}
		again := fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Exhausted)
		if !again || !pace.Wait(ctx, p.next()) {
			return err
		}
	}
}
