package behaviour

import (
	"context"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/profile"
)

const (
	// sampleEvery is how often it is looked what workloads have used: limits are
	// learned from the most of it, so that it need not be known at once.
	sampleEvery = 2 * time.Minute
	// sampledAtOnce bounds the workloads that are looked at each time.
	sampledAtOnce = 500
)

// usage learns from what the workloads of groups that learn have used since the last
// time. What is seen twice, over a restart, says nothing new.
func (k *keeper) usage(ctx context.Context, now time.Time) error {
	since := k.sampled
	if since.IsZero() {
		since = now.Add(-time.Hour)
	}
	looked := 0
	for _, g := range k.groups {
		if g.learner == nil || g.Mode != profile.Discover && !g.Relearning {
			continue
		}
		for _, id := range k.s.hosts.live(g.Group) {
			if looked++; looked > sampledAtOnce {
				break
			}
			samples, err := k.s.Store.Samples(ctx, id, since, now, 0)
			if err != nil {
				return fmt.Errorf("read what workload %s has used: %w", asset.ShortID(id), err)
			}
			var before asset.Sample
			for i := range samples {
				g.learner.Usage(samples[i], before)
				before, g.dirty = samples[i], true
			}
		}
	}
	k.sampled = now
	return nil
}
