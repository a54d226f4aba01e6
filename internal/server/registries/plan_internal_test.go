package registries

import (
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/store"
)

// What a registry told of is looked at also when the registry is changed in the
// middle of that look: it is not told again, and may be in no catalogue.
func TestAChangeKeepsWhatWasBeingListed(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	r := store.WatchedRegistry{Registry: asset.Registry{Name: "hub", Host: "registry.example"}}
	before := newPlan(r, nil)
	before.poll.Next = now.Add(time.Hour)
	before.tell("shop/web", now.Add(-time.Minute))
	if l := before.take(now); len(l.some) != 1 {
		t.Fatalf("a look at %v, want shop/web", l.some)
	}
	after := newPlan(r, before)
	after.force = true
	if l := after.take(now); len(l.some) != 1 || l.some[0] != "shop/web" {
		t.Errorf("after a change a look at %v, want shop/web", l.some)
	}
}
