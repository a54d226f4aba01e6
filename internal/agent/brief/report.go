package brief

import (
	"context"
	"encoding/json"

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
)

// Decided has a verdict told to the server, once it answers. It never waits.
func (k *Keeper) Decided(r admission.Request, v admission.Verdict) {
	one := link.ReportedVerdict{Request: r, Verdict: v}
	one.Request.Place.Host, one.Verdict.Request = k.o.AgentID, r.ID
	k.mu.Lock()
	k.unsent = append(k.unsent, one)
	if over := len(k.unsent) - maxUnsent; over > 0 {
		if k.away == 0 {
			k.o.Log.Error("verdicts are being lost: the server does not take them", "limit", maxUnsent, "remedy", "see why this host does not reach the server; how many were lost is said when it does")
		}
		k.away += uint64(over)
		k.lost += uint64(over)
		k.unsent = append([]link.ReportedVerdict{}, k.unsent[over:]...)
	}
	k.dirty = true
	k.mu.Unlock()
	k.tell.Ring()
}

// Unsent returns how many verdicts wait for the server, and how many were lost.
func (k *Keeper) Unsent() (waiting int, lost uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.unsent), k.lost
}

// batch returns the verdicts that are sent next: as many as a report may have. Those
// that are too large for any are dropped.
func (k *Keeper) batch() []link.ReportedVerdict {
	k.mu.Lock()
	defer k.mu.Unlock()
	size := 0
	for n := 0; n < len(k.unsent); n++ {
		b, err := json.Marshal(&k.unsent[n])
		if err != nil || len(b) > maxVerdict {
			k.o.Log.Error("a verdict is lost: it is too large to be told", "request_id", k.unsent[n].Request.ID, "bytes", len(b), "error", err)
			k.unsent = append(k.unsent[:n:n], k.unsent[n+1:]...)
			k.lost++
			n--
			continue
		}
		if size += len(b) + 1; size > link.MaxReport/2 || n >= link.MaxReported {
			return k.unsent[:n:n]
		}
	}
	return k.unsent[:len(k.unsent):len(k.unsent)]
}

// send tells the server all that waits.
func (k *Keeper) send(ctx context.Context) error {
	for {
		batch := k.batch()
		if len(batch) == 0 {
			return nil
		}
		err := k.o.Server.Admitted(ctx, link.AdmissionReport{AgentID: k.o.AgentID, Verdicts: batch})
		switch {
		case err == nil:
		case fault.Is(err, fault.Invalid), fault.Is(err, fault.Conflict):
			k.o.Log.Error("verdicts are lost: the server refuses them", "count", len(batch), "error", err)
		default:
			return err
		}
		last := batch[len(batch)-1].Request.ID
		k.mu.Lock()
		// The oldest may have been lost meanwhile: what was sent ends with the last.
		for i := min(len(batch), len(k.unsent)) - 1; i >= 0; i-- {
			if k.unsent[i].Request.ID == last {
				k.unsent = k.unsent[i+1:]
				break
			}
		}
		k.dirty = true
		away := k.away
		k.away = 0
		k.mu.Unlock()
		if away > 0 {
			k.o.Log.Error("verdicts were lost while the server was away", "count", away)
		}
	}
}
