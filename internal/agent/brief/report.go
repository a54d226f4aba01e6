package brief

import (
	"context"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

const (
	// maxUnsent bounds the verdicts that wait for the server; beyond, the oldest are
	// lost, which the log says.
	maxUnsent = 2_000
	// maxVerdict bounds one verdict as JSON: what no server would take is not kept.
	maxVerdict = 256 << 10
	// tellAfter is how long a refusal waits on this host's disk until it is told, with
	// those that came meanwhile, and passAfter how long what passes does: while a
	// container starts, others have more to do. tellAt is how many don't wait.
	tellAfter = 500 * time.Millisecond
	passAfter = 2 * time.Second
	tellAt    = link.MaxReported
)

// waiting is a verdict that waits for the server.
type waiting struct {
	link.ReportedVerdict
	size int // as JSON; 0 until that is known, untellable if it is told to nobody
}

const untellable = -1

// Decided has a verdict told to the server, once it answers. It never waits.
func (k *Keeper) Decided(r admission.Request, v admission.Verdict) {
	one := waiting{ReportedVerdict: link.ReportedVerdict{Request: r, Verdict: v}}
	one.Request.Place.Host, one.Verdict.Request = k.o.AgentID, r.ID
	k.mu.Lock()
	k.unsent = append(k.unsent, one)
	if over := len(k.unsent) - maxUnsent; over > 0 {
		if k.away == 0 {
			k.o.Log.Error("verdicts are being lost: the server does not take them", "limit", maxUnsent, "remedy", "see why this host does not reach the server; how many were lost is said when it does")
		}
		k.away += uint64(over)
		k.lost += uint64(over)
		k.drop(k.first + over)
	}
	k.hurry = k.hurry || !v.Allowed()
	k.mu.Unlock()
	k.tell.Ring()
}

// drop lets verdicts go, up to the one of that number: they were sent or are lost.
// k.mu is held.
func (k *Keeper) drop(end int) {
	n := min(end-k.first, len(k.unsent))
	if n <= 0 {
		return
	}
	// Not copied for each: what is added makes room when there is none.
	k.unsent = k.unsent[n:]
	k.first += n
	if len(k.unsent) == 0 {
		k.unsent = nil
	}
}

// patience is how long the verdicts that wait still may.
func (k *Keeper) patience() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case len(k.unsent) >= tellAt:
		return 0
	case k.hurry:
		return tellAfter
	}
	return passAfter
}

// Unsent returns how many verdicts wait for the server, and how many were lost.
func (k *Keeper) Unsent() (waiting int, lost uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.unsent), k.lost
}

// batch returns the verdicts that are sent next, as many as a report may have, and
// the number of the one that comes after them.
func (k *Keeper) batch() (batch []link.ReportedVerdict, end int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hurry = false
	size := 0
	for i := range k.unsent {
		one := &k.unsent[i]
		switch {
		case one.size == untellable:
			continue
		case one.size == 0:
			return batch, k.first + i // it came just now
		}
		if size += one.size + 1; size > link.MaxReport/2 || len(batch) >= link.MaxReported {
			return batch, k.first + i
		}
		batch = append(batch, one.ReportedVerdict)
	}
	return batch, k.first + len(k.unsent)
}

// send tells the server all that waits.
func (k *Keeper) send(ctx context.Context) error {
	for {
		k.saveUnsent()
		batch, end := k.batch()
		var err error
		if len(batch) > 0 {
			err = k.o.Server.Admitted(ctx, link.AdmissionReport{AgentID: k.o.AgentID, Verdicts: batch})
		}
		switch {
		case err == nil:
		case fault.Is(err, fault.Invalid), fault.Is(err, fault.Conflict):
			k.o.Log.Error("verdicts are lost: the server refuses them", "count", len(batch), "error", err)
		default:
			return err
		}
		k.mu.Lock()
		k.drop(end)
		away := k.away
		if len(batch) > 0 {
			k.away = 0
		}
		k.mu.Unlock()
		if len(batch) == 0 {
			return nil
		}
		if away > 0 {
			k.o.Log.Error("verdicts were lost while the server was away", "count", away)
		}
	}
}
