package bpf_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/profile"
)

// pinsOf lists what is pinned of the one generation of a kind.
func pinsOf(t *testing.T, dir, kind string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, kind, "*", "*"))
	check(t, err)
	if len(all) == 0 {
		t.Fatalf("nothing is pinned of %s", kind)
	}
	return all
}

// pinnedMap opens a map of the one generation of a kind.
func pinnedMap(t *testing.T, dir, kind, name string) *ebpf.Map {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, kind, "*", name))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s of %s: %v, %v", name, kind, found, err)
	}
	m, err := ebpf.LoadPinnedMap(found[0], nil)
	check(t, err)
	t.Cleanup(func() { check(t, m.Close()) })
	return m
}

// entries counts those of a map.
func entries(t *testing.T, m *ebpf.Map) (n int) {
	t.Helper()
	key := make([]byte, m.KeySize())
	err := m.NextKey(nil, &key)
	for ; err == nil; err = m.NextKey(append([]byte(nil), key...), &key) {
		n++
	}
	if !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Fatal(err)
	}
	return n
}

// Whoever ends programs may be killed when they are detached and their pins are still
// there. They hold again when they are to.
func TestNetGuardAttachesWhatWasDetachedAndIsStillPinned(t *testing.T) {
	dir := pins(t)
	g := openNetGuard(t, dir)
	id, cg := netContainer(t)
	port := listener(t, "127.0.0.2:0")
	check(t, g.Set(netRules(profile.Deny, profile.NetworkRules{})))
	g.stop()
	for _, pin := range pinsOf(t, dir, "network") {
		if !strings.HasPrefix(filepath.Base(pin), "link_") {
			continue
		}
		at, err := link.LoadPinnedLink(pin, nil)
		check(t, err)
		check(t, errors.Join(at.Detach(), at.Close()))
	}
	g = openNetGuard(t, dir)
	check(t, g.Set(netRules(profile.Deny, profile.NetworkRules{})))
	check(t, g.Hold(id, netGroup))
	if contained(t, cg, tcpTo("127.0.0.2", port)) {
		t.Error("the connection is made, though its container is held")
	}
}

// A host is let go of whatever is missing of what is pinned: this program may be killed
// while it loads programs, and while it ends them.
func TestReleaseOfProgramsThatAreNotWhole(t *testing.T) {
	for _, missing := range []string{"", "holds", "tables", "net_holds", "net_rules", "all"} {
		t.Run(missing, func(t *testing.T) {
			dir := pins(t)
			execs := execGuard(t, dir)
			nets := openNetGuard(t, dir)
			check(t, execs.Set(execRules(profile.Deny, profile.ExecRules{})))
			check(t, nets.Set(netRules(profile.Deny, profile.NetworkRules{})))
			execs.stop()
			nets.stop()
			for _, pin := range append(pinsOf(t, dir, "exec"), pinsOf(t, dir, "network")...) {
				if name := filepath.Base(pin); name == missing || missing == "all" {
					check(t, os.Remove(pin))
				}
			}
			if n, err := bpf.Held(dir); err != nil || n != 2 {
				t.Errorf("of %d groups something is pinned, %v; want 2", n, err)
			}
			if _, err := bpf.Release(dir); err != nil {
				t.Errorf("release: %v", err)
			}
			if n, err := bpf.Held(dir); err != nil || n != 0 {
				t.Errorf("released, of %d groups something is pinned, %v", n, err)
			}
		})
	}
}

// What is left of programs that were about to be ended holds nobody.
func TestProgramsLetGoBeforeTheyEnd(t *testing.T) {
	dir := pins(t)
	execs := execGuard(t, dir)
	nets := openNetGuard(t, dir)
	id := newID(t)
	check(t, execs.Set(execRules(profile.Deny, profile.ExecRules{})))
	check(t, nets.Set(netRules(profile.Deny, profile.NetworkRules{})))
	check(t, errors.Join(execs.Hold(id, netGroup), nets.Hold(id, netGroup)))
	former := map[string]*ebpf.Map{"exec": pinnedMap(t, dir, "exec", "holds"), "network": pinnedMap(t, dir, "network", "net_holds")}
	execs.stop()
	nets.stop()

	next, err := bpf.OpenExecGuardAs(dir, "another", quiet())
	check(t, err)
	t.Cleanup(func() { check(t, next.Close()) })
	after, err := bpf.OpenNetGuardAs(dir, "another", quiet())
	check(t, err)
	t.Cleanup(func() { check(t, after.Close()) })
	for kind, m := range former {
		if n := entries(t, m); n != 1 {
			t.Errorf("beside another version %d containers are held to %s, want 1", n, kind)
		}
	}
	check(t, errors.Join(next.Settle(), after.Settle()))
	for kind, m := range former {
		if n := entries(t, m); n != 0 {
			t.Errorf("programs that were ended hold %d containers to %s", n, kind)
		}
	}
	if held, err := next.Containers(); err != nil || held[id] != netGroup {
		t.Errorf("held by the next version: %v, %v", held, err)
	}
}

// Rules of the network that are in no group's table are dropped at the next start.
func TestNetGuardDropsTablesOfNobody(t *testing.T) {
	dir := pins(t)
	g := openNetGuard(t, dir)
	to := profile.NetworkRules{Destinations: []profile.Destination{{Network: netip.MustParsePrefix("10.0.0.0/8"), PortRule: portRule("tcp", 80, 80)}}}
	check(t, g.Set(netRules(profile.Deny, to)))
	g.stop()
	destinations := pinnedMap(t, dir, "network", "net_destinations")
	want := entries(t, destinations)
	// The table of a group whose rules were about to be put in force.
	rules := pinnedMap(t, dir, "network", "net_rules")
	key, err := rules.NextKeyBytes(nil)
	if err != nil || key == nil {
		t.Fatal(key, err)
	}
	check(t, rules.Delete(key))
	if want == 0 || entries(t, destinations) != want {
		t.Fatalf("%d destinations", entries(t, destinations))
	}
	g = openNetGuard(t, dir)
	if n := entries(t, destinations); n != 0 {
		t.Errorf("%d destinations of nobody are left", n)
	}
	check(t, g.Set(netRules(profile.Deny, to)))
	if n := entries(t, destinations); n != want {
		t.Errorf("%d destinations, want %d", n, want)
	}
}

// Who releases a host, or removes pins, while an agent has its programs open is noticed,
// and the rules hold when they are set again.
func TestGuardNoticesThatItsPinsAreGone(t *testing.T) {
	dir := pins(t)
	g := execGuard(t, dir)
	nets := openNetGuard(t, dir)
	id, cg := netContainer(t)
	port := listener(t, "127.0.0.2:0")
	set := func() {
		t.Helper()
		check(t, errors.Join(g.Set(execRules(profile.Deny, profile.ExecRules{})), nets.Set(netRules(profile.Deny, profile.NetworkRules{}))))
		check(t, errors.Join(g.Hold(id, netGroup), nets.Hold(id, netGroup)))
	}
	set()
	if g.Lost() || nets.Lost() {
		t.Error("what is pinned is lost")
	}
	_, err := bpf.Release(dir)
	check(t, err)
	if !g.Lost() || !nets.Lost() {
		t.Error("what was released by another is not noticed")
	}
	if g.Lost() || nets.Lost() {
		t.Error("it is lost twice")
	}
	set()
	if is, code := ran(t, id, "exec=/bin/tool", "tool", "exit=3"); !is {
		t.Errorf("set again, a program runs, code %d", code)
	}
	if contained(t, cg, tcpTo("127.0.0.2", port)) {
		t.Error("set again, the connection is made")
	}
}

// An upgrade that is begun while another one is not over takes nobody for a container of
// another group: two versions may have numbered groups that came meanwhile alike.
func TestExecGuardTakesOverFromTwoVersions(t *testing.T) {
	dir := pins(t)
	groups := map[string]asset.Group{}
	step := func(version string, g asset.Group) {
		t.Helper()
		guard, err := bpf.OpenExecGuardAs(dir, version, quiet())
		check(t, err)
		r := execRules(profile.Deny, profile.ExecRules{})
		r.Group = g
		id := newID(t)
		check(t, errors.Join(guard.Set(r), guard.Hold(id, g), guard.Close()))
		groups[id] = g
	}
	step("a", "shop/store/web")
	step("b", "shop/orders/api") // beside a
	step("a", "shop/stock/db")   // beside b
	next, err := bpf.OpenExecGuardAs(dir, "c", quiet())
	check(t, err)
	t.Cleanup(func() { check(t, next.Close()) })
	held, err := next.Containers()
	check(t, err)
	if len(held) < 2 {
		t.Errorf("of a former version only these were taken over: %v", held)
	}
	for id, g := range held {
		if groups[id] != g {
			t.Errorf("a container of %s is held as one of %s", groups[id], g)
		}
	}
}
