package agent

import (
	"context"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// maxMade bounds the containers that were made and wait to be held; those beyond are
// held when the engine was asked about them.
const maxMade = 256

// announced takes a container that was made. It never waits.
func (a *Agent) announced(w asset.Workload) {
	a.workloads.announced(w)
	if a.parts.Holder == nil {
		return
	}
	select {
	case a.made <- w:
	default:
	}
}

// holdMade has containers held as soon as they are made, until ctx ends: the engine
// starts most of them at once. Where its plugin asks before a start this is done
// again, and finds it done.
func (a *Agent) holdMade(ctx context.Context) {
	for {
		var w asset.Workload
		select {
		case <-ctx.Done():
			return
		case w = <-a.made:
		}
		if w.ECS != (asset.ECS{}) && a.parts.Identifier != nil {
			one := []asset.Workload{w}
			a.parts.Identifier.Identify(ctx, one) // its service, which labels don't say
			w = one[0]
			a.workloads.announced(w)
		}
		if err := a.parts.Holder.Starting(ctx, w.ID, asset.GroupOf(w)); err != nil && ctx.Err() == nil {
			a.log.Warn("a container is not held as soon as it is made", "container", asset.ShortID(w.ID), "error", err, "remedy", fault.Remedy(err))
		}
	}
}
