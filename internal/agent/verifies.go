package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/link"
)

// Verifier says whether images may run.
type Verifier interface {
	// VerifyImage holds the signatures of the image of a wish against its policy, and
	// returns the verdict as link.Verified.Verdict has it, of at most link.MaxVerdict
	// bytes. An error means that it could not be found out. It ends when ctx does.
	VerifyImage(ctx context.Context, w link.VerifyWish) ([]byte, error)
}

const (
	// maxVerifies bounds the wishes that wait; the server has one at a time for an
	// agent, and takes one back before it sends another.
	maxVerifies = 8
	// maxVerifyTime bounds what a server may grant for one.
	maxVerifyTime = 10 * time.Minute
)

// verifies are the images that the server wants verified, one by one, each job
// once.
type verifies struct {
	agentID  string
	verifier Verifier // nil: none is ever wanted
	server   link.Server
	log      *slog.Logger
	jobs     chan verifyJob

	mu   sync.Mutex
	last string // job that was taken last
}

type verifyJob struct {
	link.VerifyWish
	deadline time.Time // by the own clock
}

func newVerifies(agentID string, p Parts, log *slog.Logger) *verifies {
	return &verifies{agentID: agentID, verifier: p.Verifier, server: p.Server, log: log, jobs: make(chan verifyJob, maxVerifies)}
}

// abilities are what the agent announces.
func (v *verifies) abilities() []string {
	if v.verifier == nil {
		return nil
	}
	return []string{link.AbilityVerify}
}

// wish takes a wish of the server, which was issued at a time by its clock. The
// one that was taken last, and one for which there is no room, changes nothing.
func (v *verifies) wish(w link.VerifyWish, issued time.Time) {
	if v.verifier == nil {
		v.log.Warn("image not verified: that is off here", "repository", w.Repository)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.last == w.Job {
		return
	}
	// The clocks may differ: what is granted is a span of time.
	select {
	case v.jobs <- verifyJob{w, time.Now().Add(min(w.Until.Sub(issued), maxVerifyTime))}:
		v.last = w.Job
	default:
		v.log.Warn("image not verified: too many wait", "repository", w.Repository)
	}
}

// run verifies what is wanted until ctx ends.
func (v *verifies) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case job := <-v.jobs:
			within, cancel := context.WithDeadline(ctx, job.deadline)
			if within.Err() == nil {
				v.deliver(within, job, v.verify(within, job))
			}
			cancel()
		}
	}
}

// verify verifies an image and makes an answer of it.
func (v *verifies) verify(ctx context.Context, job verifyJob) link.Verified {
	answer := link.Verified{AgentID: v.agentID, Job: job.Job, Repository: job.Repository, Digest: job.Digest, PolicyDigest: job.PolicyDigest}
	err := inventory.CheckDigest(job.Digest)
	if err == nil {
		answer.Verdict, err = v.verifier.VerifyImage(ctx, job.VerifyWish)
	}
	if err == nil && (len(answer.Verdict) == 0 || len(answer.Verdict) > link.MaxVerdict) {
		err = fault.New(fault.Exhausted, "verdict has %d bytes", len(answer.Verdict))
	}
	if err == nil {
		v.log.Debug("image verified", "repository", job.Repository, "digest", job.Digest)
		return answer
	}
	answer.Verdict = nil
	answer.Error, answer.Remedy = cut(err.Error(), link.MaxScanText), cut(fault.Remedy(err), link.MaxScanText)
	v.log.Warn("image not verified", "repository", job.Repository, "digest", job.Digest, "error", err, "remedy", answer.Remedy)
	return answer
}

// deliver gives the server its answer.
func (v *verifies) deliver(ctx context.Context, job verifyJob, answer link.Verified) {
	err := untilTaken(ctx, func() error { return v.server.Verdict(ctx, answer) })
	if err != nil {
		v.log.Warn("verdict not delivered", "repository", job.Repository, "digest", job.Digest, "error", err, "remedy", fault.Remedy(err))
	}
}
