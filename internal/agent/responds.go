package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/response"
)

// Responder does deeds about threats; *respond.Responder is it.
type Responder interface {
	// Do does a deed to a workload, once for each id, and says what came of it. The
	// zero workload is for one that is not known here.
	Do(ctx context.Context, d response.Deed, w asset.Workload) response.Answer
	// Run keeps what is in quarantine so until ctx ends.
	Run(ctx context.Context)
	// Standing says what is in quarantine, without waiting; nil while that is not known.
	// It is read only.
	Standing() *asset.Quarantine
}

const (
	// maxResponds bounds the deeds that wait: more than a host takes in a minute.
	maxResponds = 64
	// answerWithin is how long an answer is tried to be given to a server that is
	// away: the deed is done, and somebody wants to know.
	answerWithin = 10 * time.Minute
)

// responds are the deeds that the server wants done here, in their order.
type responds struct {
	agentID   string
	responder Responder      // nil: none is ever done
	server    link.Responses // nil: as responder
	workload  func(id string) asset.Workload
	log       *slog.Logger
	deeds     chan response.Deed

	mu    sync.Mutex
	taken map[string]time.Time // by id of the deed, when it was taken
}

func newResponds(agentID string, p Parts, workload func(string) asset.Workload, log *slog.Logger) *responds {
	r := &responds{agentID: agentID, responder: p.Responder, workload: workload, log: log, deeds: make(chan response.Deed, maxResponds), taken: map[string]time.Time{}}
	r.server, _ = p.Server.(link.Responses)
	return r
}

// abilities are what the agent announces.
func (r *responds) abilities() []string {
	if r.responder == nil || r.server == nil {
		return nil
	}
	return []string{link.AbilityRespond}
}

// wish takes a deed of the server, which was issued at a time by its clock, once.
// One for which there is no room is told again when the agent connects anew.
func (r *responds) wish(d response.Deed, issued time.Time) {
	if len(r.abilities()) == 0 {
		r.log.Warn("deed not done: that is off here", "deed", d.Kind, "container", asset.ShortID(d.Workload))
		return
	}
	now := time.Now()
	// The clocks may differ: what is granted is a span of time.
	d.Asked, d.Until = now, now.Add(min(d.Until.Sub(issued), response.MaxUntil))
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, at := range r.taken {
		if now.Sub(at) > 2*response.MaxUntil {
			delete(r.taken, id)
		}
	}
	if _, known := r.taken[d.ID]; known {
		return
	}
	select {
	case r.deeds <- d:
		r.taken[d.ID] = now
	default:
		r.log.Warn("deed not done: too many wait", "deed", d.Kind, "container", asset.ShortID(d.Workload))
	}
}

// run does what is wanted until ctx ends.
func (r *responds) run(ctx context.Context) {
	var answering sync.WaitGroup
	defer answering.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-r.deeds:
			// A snapshot takes its time, and so does a server that is away: neither must
			// hold back the next deed.
			if d.Kind == response.Snapshot {
				answering.Go(func() { r.deliver(ctx, d, r.responder.Do(ctx, d, r.workload(d.Workload))) })
				continue
			}
			a := r.responder.Do(ctx, d, r.workload(d.Workload))
			answering.Go(func() { r.deliver(ctx, d, a) })
		}
	}
}

func (r *responds) deliver(ctx context.Context, d response.Deed, a response.Answer) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if a.Kept != nil {
		if err := r.send(ctx, a.ID, a.Kept); err != nil {
			a.Lacks = append(slices.Clone(a.Lacks), "the server does not have it, it is on its host alone: "+err.Error())
		}
	}
	err := untilTaken(ctx, func() error { return r.server.Responded(ctx, link.Responded{AgentID: r.agentID, Answer: a}) })
	if err != nil {
		r.log.Warn("answer to a deed not delivered", "deed", d.Kind, "id", d.ID, "state", a.State, "error", err, "remedy", fault.Remedy(err))
	}
}

// sendWithin is how long it is tried to hand over a snapshot: what asked for it waits.
const sendWithin = 90 * time.Second

// send hands over a snapshot, piece by piece.
func (r *responds) send(ctx context.Context, deed string, k *response.Kept) error {
	server, takes := r.server.(link.Snapshots)
	if !takes {
		return fault.New(fault.Unsupported, "this server takes no snapshots")
	}
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	f, err := os.Open(k.File)
	if err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	defer f.Close()
	p := link.SnapshotPiece{AgentID: r.agentID, Deed: deed, Size: k.Size, Digest: k.Digest}
	buf := make([]byte, link.MaxPiece)
	for p.Offset < k.Size {
		n, err := io.ReadFull(f, buf[:min(int64(len(buf)), k.Size-p.Offset)])
		if err != nil {
			return fmt.Errorf("read snapshot: %w", err)
		}
		p.Piece = buf[:n]
		if err := untilTaken(ctx, func() error { return server.SnapshotPiece(ctx, p) }); err != nil {
			return err
		}
		p.Offset += int64(n)
	}
	return nil
}
