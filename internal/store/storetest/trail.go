package storetest

import (
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

func trailCases() []testCase {
	return []testCase{
		{"trails are kept by their names", func(k *kit) {
			put := func(name, queue string, at time.Time) (store.WatchedTrail, error) {
				return k.st.PutTrail(k.ctx, store.WatchedTrail{Trail: asset.Trail{Name: name, Queue: queue, Quiet: time.Hour}, Created: at, By: "user:anna"})
			}
			b, err := put("b", "q", base())
			k.ok(err)
			a, err := put("a", "q", base())
			k.ok(err)
			all, err := k.st.Trails(k.ctx)
			k.ok(err)
			same(k, "by name", all, []store.WatchedTrail{a, b})
			changed, err := put("b", "other", base().Add(time.Hour))
			k.ok(err)
			b.Queue = "other"
			same(k, "changed, from when it was", changed, b)
			k.ok(k.st.DeleteTrail(k.ctx, "a"))
			k.wantFault(k.st.DeleteTrail(k.ctx, "a"), fault.NotFound)
			all, err = k.st.Trails(k.ctx)
			k.ok(err)
			same(k, "what is left", all, []store.WatchedTrail{b})
		}},
		{"trails are not without end", func(k *kit) {
			for i := range store.MaxTrails {
				_, err := k.st.PutTrail(k.ctx, store.WatchedTrail{Trail: asset.Trail{Name: fmt.Sprint("t", i)}, Created: base()})
				k.ok(err)
			}
			_, err := k.st.PutTrail(k.ctx, store.WatchedTrail{Trail: asset.Trail{Name: "more"}})
			k.wantFault(err, fault.Exhausted)
		}},
	}
}
