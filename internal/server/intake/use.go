package intake

import (
	"context"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
)

// tell tells of the images of the workloads that were stored, and of what the
// report says that they use of them. What an agent says of another one's workload
// is left out.
func (in *Intake) tell(ctx context.Context, r *link.Report, stored []asset.Workload, now time.Time) error {
	if in.images == nil {
		return nil
	}
	if len(stored) > 0 {
		in.images.Noted(stored)
	}
	for i := range r.Events {
		if p := executed(&r.Events[i]); p != "" {
			in.images.Used(r.Events[i].WorkloadID, p)
		}
	}
	var malformed, foreign uint64
	for _, u := range r.Uses {
		if !asset.IsContainerID(u.WorkloadID) {
			malformed++
			continue
		}
		_, mine, err := in.known.group(ctx, in, u.WorkloadID, r.Agent.ID, now)
		if err != nil {
			return err
		}
		if !mine {
			foreign++
			continue
		}
		in.images.Used(u.WorkloadID, u.Paths...)
	}
	in.lost(r.Agent.ID, LostForm, malformed)
	in.lost(r.Agent.ID, LostOwner, foreign)
	return nil
}

// executed returns the file of its image that a workload executed; "" when the
// event is of something else, or when only the end of the path is known.
func executed(e *event.Event) string {
	if e.WorkloadID == "" || e.Exec == nil || e.Exec.Origin != event.OriginImage || e.Exec.PathTruncated {
		return ""
	}
	return e.Process.Executable
}
