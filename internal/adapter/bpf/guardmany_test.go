package bpf_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/profile"
)

// A host holds more groups than any has containers; places of groups that are gone are
// taken again, and a program that takes over knows them all.
func TestExecGuardHoldsManyGroups(t *testing.T) {
	const many, most = 520, 16 << 10 // bytes of a group with forty programs
	dir := pins(t)
	g := execGuard(t, dir)
	rules := execRules(profile.Deny, profile.ExecRules{})
	for i := range 40 {
		rules.Exec.Paths = append(rules.Exec.Paths, profile.Pattern(fmt.Sprintf("/usr/lib/service/bin/tool-%02d", i)))
	}
	name := func(i int) asset.Group { return asset.Group(fmt.Sprintf("shop/service-%04d/app", i)) }
	set := func(i int) {
		t.Helper()
		rules.Group = name(i)
		check(t, g.Set(rules))
	}
	is := func(i int) {
		t.Helper()
		id := newID(t)
		check(t, g.Hold(id, name(i)))
		if held, err := g.Containers(); err != nil || held[id] != name(i) {
			t.Fatalf("a container of group %d is held to %q, %v", i, held[id], err)
		}
		if killed, code := ran(t, id, "exec=/bin/tool", "tool", "exit=3"); !killed {
			t.Errorf("a container of group %d is not held: code %d", i, code)
		}
	}
	for i := range many {
		set(i)
	}
	is(0)
	is(many - 1)
	if bytes := bytesOfRules(t, dir); bytes > most {
		t.Errorf("the rules of a group take %d bytes, want %d at most", bytes, most)
	}
	for i := range 20 {
		check(t, g.Remove(name(i)))
		set(many + i)
	}
	is(many + 19)
	g.stop()
	g = execGuard(t, dir)
	if all, err := g.Groups(); err != nil || len(all) != many || all[0] != name(20) {
		t.Errorf("after a restart %d groups are held, %v, want %d", len(all), err, many)
	}
	is(many)
	if n := placesTaken(t, dir); n != many {
		t.Errorf("the places up to %d are taken for %d groups", n, many)
	}
}

// tablesOf opens the map of all rules that is pinned in a folder.
func tablesOf(t *testing.T, dir string) *ebpf.Map {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "exec", "*", "tables"))
	if err != nil || len(all) != 1 {
		t.Fatalf("pinned: %v, %v", all, err)
	}
	m, err := ebpf.LoadPinnedMap(all[0], nil)
	check(t, err)
	t.Cleanup(func() { check(t, m.Close()) })
	return m
}

// bytesOfRules is what the rules of the first group take of the kernel's memory.
func bytesOfRules(t *testing.T, dir string) uint64 {
	t.Helper()
	var rules *ebpf.Map
	check(t, tablesOf(t, dir).Lookup(uint32(0), &rules))
	defer func() { check(t, rules.Close()) }()
	info, err := rules.Info()
	check(t, err)
	bytes, ok := info.Memlock()
	if !ok {
		t.Skip("this kernel does not say what a map takes")
	}
	t.Logf("the rules of a group with forty programs take %d bytes", bytes)
	return bytes
}

// placesTaken is the number of the last group's place, and one.
func placesTaken(t *testing.T, dir string) (n int) {
	t.Helper()
	m := tablesOf(t, dir)
	for i := range m.MaxEntries() {
		var rules *ebpf.Map
		if m.Lookup(i, &rules) != nil {
			continue
		}
		check(t, rules.Close())
		n = int(i) + 1
	}
	return n
}

// Of many groups that are set at once each is told apart: one that is too much for the
// kernel does not keep the others out, and one that has nothing for these programs is let go.
func TestGuardSetsManyGroupsAtOnce(t *testing.T) {
	g := execGuard(t, pins(t))
	rules := func(name asset.Group, a profile.Answer, paths int) profile.Rules {
		r := execRules(a, profile.ExecRules{})
		r.Group = name
		for i := range paths {
			r.Exec.Paths = append(r.Exec.Paths, profile.Pattern(fmt.Sprintf("/opt/%02d*", i)))
		}
		return r
	}
	check(t, g.Set(rules("shop/former/app", profile.Deny, 1)))
	all := []profile.Rules{rules("shop/former/app", profile.Off, 1)}
	for i := range 100 {
		all = append(all, rules(asset.Group(fmt.Sprintf("shop/service-%03d/app", i)), profile.Deny, 1))
	}
	const much = 70
	all[much] = rules("shop/much/app", profile.Deny, 33)
	for i, err := range g.SetAll(all) {
		if (err != nil) != (i == much) {
			t.Errorf("group %s: %v", all[i].Group, err)
		}
	}
	groups, err := g.Groups()
	check(t, err)
	if len(groups) != 99 || slices.Contains(groups, "shop/former/app") || slices.Contains(groups, "shop/much/app") {
		t.Errorf("%d groups are held: %v", len(groups), groups)
	}
	for _, name := range []asset.Group{all[1].Group, all[100].Group} {
		id := newID(t)
		check(t, g.Hold(id, name))
		if killed, code := ran(t, id, "exec=/bin/tool", "tool", "exit=3"); !killed {
			t.Errorf("a container of %s is not held: code %d", name, code)
		}
	}
	for i := range all {
		all[i].Answers[profile.ControlExec] = profile.Off
	}
	check(t, errors.Join(g.SetAll(all)...))
	if groups, err := g.Groups(); err != nil || len(groups) != 0 {
		t.Errorf("held: %v, %v", groups, err)
	}
}
