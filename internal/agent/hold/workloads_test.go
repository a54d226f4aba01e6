package hold_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/profile"
)

// A container that was removed while no agent ran is not held for ever: places are few.
func TestContainersThatWereRemovedWhileNobodyLookedAreLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f, k := former(t, dir)
		k.containers[id("a")], k.containers[id("b")] = shop, shop
		keeper := open(t, dir, f, k, nil)
		keeper.Seen(asset.Inventory{Workloads: []asset.Workload{workload("b", shop, asset.Running)}, Complete: true, Asked: time.Now()})
		k.has(t, map[asset.Group]int64{shop: 3}, map[string]asset.Group{id("b"): shop})
	})
}

// A container that is made while the engine is being asked for its whole list stays tied.
func TestWhatStartsWhileTheEngineIsListedStaysHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, k := &fleet{rules: map[asset.Group]link.BriefRules{shop: rules(t, shop, 3, profile.Protect)}}, newKernel()
		keeper := open(t, t.TempDir(), f, k, nil)
		defer run(t, keeper)()
		synctest.Wait()
		asked := time.Now()
		time.Sleep(time.Second)
		if err := keeper.Starting(t.Context(), id("a"), shop); err != nil {
			t.Fatal(err)
		}
		keeper.Seen(asset.Inventory{Complete: true, Asked: asked})
		k.has(t, map[asset.Group]int64{shop: 3}, map[string]asset.Group{id("a"): shop})
		// It is not in a list that was asked for later: it was removed.
		time.Sleep(time.Second)
		keeper.Seen(asset.Inventory{Complete: true, Asked: time.Now()})
		k.has(t, map[asset.Group]int64{shop: 3}, map[string]asset.Group{})
	})
}
