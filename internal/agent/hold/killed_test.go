package hold_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/agent/hold"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/internal/profile"
)

// A group whose rules are not on disk, because that was full or its file is damaged, is
// held after a restart until the server has said that it has no rules of it.
func TestWhatIsNotOnDiskIsHeldUntilTheServerSaysMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, k := &fleet{rules: map[asset.Group]link.BriefRules{shop: rules(t, shop, 3, profile.Protect)}, away: fault.New(fault.Unavailable, "away")}, newKernel()
		k.groups[shop], k.groups["left/over/x"] = 2, 1
		k.containers[id("a")], k.containers[id("x")] = shop, "left/over/x"
		keeper := open(t, t.TempDir(), f, k, nil)
		defer run(t, keeper)()
		keeper.Seen(asset.Inventory{Workloads: []asset.Workload{workload("a", shop, asset.Running), workload("x", "left/over/x", asset.Running)}, Complete: true, Asked: time.Now()})
		synctest.Wait()
		k.has(t, map[asset.Group]int64{shop: 2, "left/over/x": 1}, map[string]asset.Group{id("a"): shop, id("x"): "left/over/x"})
		f.set(func() { f.away = nil })
		time.Sleep(time.Minute)
		synctest.Wait()
		k.has(t, map[asset.Group]int64{shop: 3}, map[string]asset.Group{id("a"): shop})
	})
}

// Rules that could not be written down are as soon as they can be: else a restart would
// put the former ones in force.
func TestRulesAreWrittenDownWhenTheDiskTakesThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f, k := &fleet{rules: map[asset.Group]link.BriefRules{shop: rules(t, shop, 3, profile.Protect)}}, newKernel()
		keeper := open(t, dir, f, k, nil)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		stop := run(t, keeper)
		synctest.Wait()
		k.has(t, map[asset.Group]int64{shop: 3}, map[string]asset.Group{})
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		stop()
		f.set(func() { f.away = fault.New(fault.Unavailable, "away") })
		k = newKernel() // the host has rebooted
		open(t, dir, f, k, nil)
		k.has(t, map[asset.Group]int64{shop: 3}, map[string]asset.Group{})
	})
}

// Rules that a full disk did not take stay in force when the agent is killed and started
// again: those that are on the disk are older. After a reboot these are all that there is.
func TestFormerRulesOnDiskDoNotReplaceNewerOnes(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		f, k := former(t, dir)
		filler := fill(t, dir)
		f.set(func() { f.rules[shop] = rules(t, shop, 4, profile.Protect) })
		stop := run(t, open(t, dir, f, k, nil))
		synctest.Wait()
		k.has(t, map[asset.Group]int64{shop: 4}, map[string]asset.Group{})
		stop()
		f.set(func() { f.away = fault.New(fault.Unavailable, "away") })

		keeper := open(t, dir, f, k, nil)
		k.has(t, map[asset.Group]int64{shop: 4}, map[string]asset.Group{})
		if held := keeper.Held(); len(held) != 1 || held[0].Stamp != "" {
			t.Errorf("the server is told that these are in force: %+v", held)
		}
		rebooted := newKernel()
		open(t, dir, f, rebooted, nil)
		rebooted.has(t, map[asset.Group]int64{shop: 3}, map[string]asset.Group{})

		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		f.set(func() { f.away = nil })
		stop = run(t, keeper)
		synctest.Wait()
		stop()
		rebooted = newKernel()
		f.set(func() { f.away = fault.New(fault.Unavailable, "away") })
		open(t, dir, f, rebooted, nil)
		rebooted.has(t, map[asset.Group]int64{shop: 4}, map[string]asset.Group{})
		if left, err := filepath.Glob(filepath.Join(dir, "*.former")); err != nil || len(left) != 0 {
			t.Errorf("left on disk: %v, %v", left, err)
		}
	})
}

// fill makes a file of all the room that there is on a disk.
func fill(t *testing.T, dir string) string {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return f.Name()
}

// What a kernel had no room for is in force when it has, whether or not the server answers.
func TestWhatTheKernelRefusedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f, _ := former(t, dir)
		f.set(func() { f.away = fault.New(fault.Unavailable, "away") })
		k := newKernel() // the host has rebooted
		k.broken = fault.New(fault.Exhausted, "no memory")
		keeper := open(t, dir, f, k, nil)
		defer run(t, keeper)()
		keeper.Seen(asset.Inventory{Workloads: []asset.Workload{workload("a", shop, asset.Running)}, Complete: true, Asked: time.Now()})
		synctest.Wait()
		k.has(t, map[asset.Group]int64{}, map[string]asset.Group{})
		k.mu.Lock()
		k.broken = nil
		k.mu.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		k.has(t, map[asset.Group]int64{shop: 3}, map[string]asset.Group{id("a"): shop})
	})
}

// Whoever released the host may have been killed before anything was let go, and so may
// an agent that was about to end its programs.
func TestAnAgentThatStartsLetsGoOfAReleasedHost(t *testing.T) {
	dir := t.TempDir()
	f, k := &fleet{rules: map[asset.Group]link.BriefRules{}}, newKernel()
	k.groups[shop], k.containers[id("a")] = 3, shop
	if err := hold.Release(dir, hold.Released{At: time.Now(), By: "root"}); err != nil {
		t.Fatal(err)
	}
	open(t, dir, f, k, nil)
	k.has(t, map[asset.Group]int64{}, map[string]asset.Group{})
}

// Who releases a host while its agent is stopped, and takes it back before that goes on,
// or removes pins, has removed what the agent had put in force.
func TestWhatSomebodyRemovedIsPutInForceAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, k := &fleet{rules: map[asset.Group]link.BriefRules{shop: rules(t, shop, 3, profile.Protect)}}, newKernel()
		keeper := open(t, t.TempDir(), f, k, nil)
		defer run(t, keeper)()
		synctest.Wait()
		keeper.Seen(asset.Inventory{Workloads: []asset.Workload{workload("a", shop, asset.Running)}, Complete: true, Asked: time.Now()})
		if err := k.LetGo(); err != nil {
			t.Fatal(err)
		}
		k.mu.Lock()
		k.lost = true
		k.mu.Unlock()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		k.has(t, map[asset.Group]int64{shop: 3}, map[string]asset.Group{id("a"): shop})
	})
}
