package bpf

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
)

// readNumbers reads which groups have places in tables. Nobody else changes that while
// this program has them loaded.
func (g *tablePrograms) readNumbers() error {
	g.numbers = map[asset.Group]uint32{}
	// Former versions had a name for each place, which was empty while that was free.
	empty := func(_ uint32, name [maxGroupName + 1]byte) bool { return name[0] == 0 }
	if err := dropWhere(g.maps[namesMap], empty); err != nil {
		return err
	}
	var n uint32
	var name [maxGroupName + 1]byte
	all := g.maps[namesMap].Iterate()
	for all.Next(&n, &name) {
		g.numbers[asset.Group(bytes.TrimRight(name[:], "\x00"))] = n
	}
	if err := all.Err(); err != nil {
		return fmt.Errorf("list groups that are held: %w", err)
	}
	return nil
}

func (g *tablePrograms) groups() ([]asset.Group, error) {
	return slices.Sorted(maps.Keys(g.numbers)), nil
}

// set makes r the rules of its group: a map of their own, put in place as a whole.
func (g *tablePrograms) set(r profile.Rules) error {
	table, err := g.tableOf(&r)
	if err != nil {
		return err
	}
	number, known := g.numbers[r.Group]
	if !known {
		if number, err = free(g.numbers); err != nil {
			return err
		}
	}
	// With its types: to Linux 6.1 a map without them is of another kind.
	spec := g.table.Copy()
	spec.MaxEntries = uint32(len(table.edges))
	m, err := ebpf.NewMap(spec)
	if err != nil {
		return fmt.Errorf("make the rules of %s: %w", r.Group, err)
	}
	defer m.Close()
	for key, edge := range table.edges {
		if err := m.Put(key, edge); err != nil {
			return fmt.Errorf("write the rules of %s: %w", r.Group, err)
		}
	}
	if err := g.maps["tables"].Put(number, m); err != nil {
		return fmt.Errorf("put the rules of %s in force: %w", r.Group, err)
	}
	if known {
		return nil
	}
	var name [maxGroupName + 1]byte
	copy(name[:], r.Group)
	if err := g.maps[namesMap].Put(number, name); err != nil {
		return errors.Join(fmt.Errorf("name group %s: %w", r.Group, err), g.maps["tables"].Delete(number))
	}
	g.numbers[r.Group] = number
	return nil
}

func free(all map[asset.Group]uint32) (uint32, error) {
	taken := map[uint32]bool{}
	for _, n := range all {
		taken[n] = true
	}
	for n := range uint32(maxHeldGroups) {
		if !taken[n] {
			return n, nil
		}
	}
	return 0, fault.New(fault.Exhausted, "%d groups are held on this host, and no more are", maxHeldGroups).
		With("run fewer services on one host, or forget groups that are gone: castellan watch forget")
}

// tableOf compiles rules.
func (g *tablePrograms) tableOf(r *profile.Rules) (*ruleTable, error) {
	if len(r.Group) > maxGroupName {
		return nil, fault.New(fault.Invalid, "the name of group %.40s… has %d bytes; at most %d are held", r.Group, len(r.Group), maxGroupName)
	}
	t := newRuleTable(g.setting.HashKey, g.states)
	defer func() { g.states = t.states }()
	for list, patterns := range g.kind.lists(r) {
		if err := t.add(list, patterns); err != nil {
			return nil, fault.New(fault.Exhausted, "rules of %s: %w", r.Group, err).
				With("write patterns that stand for several into the profile: castellan watch profile")
		}
	}
	meta := guardExecEdge{}
	for i, c := range profile.Controls() {
		meta.State |= uint32(answerNumber(r.Answers[c])) << (2 * i)
	}
	if g.kind.meta != nil {
		g.kind.meta(r, &meta)
	}
	t.edges[guardExecEdgeKey{Kind: uint32(guardExecEdgeKindEDGE_META)}] = meta
	return t, nil
}

// remove lets go of a group and of its containers: of those first, so that none is
// held to nothing.
func (g *tablePrograms) remove(name asset.Group) error {
	number, ok := g.numbers[name]
	if !ok {
		return nil
	}
	err := dropWhere(g.maps["holds"], func(_ guardExecHeldId, h guardExecHold) bool { return h.Group == number })
	if err != nil {
		return fmt.Errorf("let go of the containers of %s: %w", name, err)
	}
	if err := g.maps["tables"].Delete(number); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("remove the rules of %s: %w", name, err)
	}
	if err := g.maps[namesMap].Delete(number); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget group %s: %w", name, err)
	}
	delete(g.numbers, name)
	return nil
}

// hold ties a container to a group; of one that runs already the root is looked at.
func (g *tablePrograms) hold(container string, name asset.Group) error {
	return g.holdAll(map[string]asset.Group{container: name})
}

// holdAll ties containers to groups, and then looks once at all that runs: that takes
// as long as there are tasks, and not as there are containers.
func (g *tablePrograms) holdAll(containers map[string]asset.Group) error {
	var errs []error
	tied := false
	for container, name := range containers {
		number, ok := g.numbers[name]
		if !ok {
			continue // its group is not held to this control
		}
		id := guardExecHeldId{Id: keyOfContainer(container)}
		var now guardExecHold
		if g.maps["holds"].Lookup(id, &now) == nil && now.Group == number {
			continue
		}
		if err := g.maps["holds"].Put(id, guardExecHold{Group: number}); err != nil {
			errs = append(errs, fmt.Errorf("hold container %s: %w", asset.ShortID(container), err))
			continue
		}
		tied = true
	}
	if tied {
		errs = append(errs, g.meet())
	}
	return errors.Join(errs...)
}

func (g *tablePrograms) forget(container string) error {
	err := g.maps["holds"].Delete(guardExecHeldId{Id: keyOfContainer(container)})
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("let go of container %s: %w", asset.ShortID(container), err)
	}
	return nil
}

func (g *tablePrograms) containers() (map[string]asset.Group, error) {
	names := map[uint32]asset.Group{}
	for name, n := range g.numbers {
		names[n] = name
	}
	out := map[string]asset.Group{}
	var id guardExecHeldId
	var h guardExecHold
	list := g.maps["holds"].Iterate()
	for list.Next(&id, &h) {
		if name, ok := names[h.Group]; ok {
			out[hex.EncodeToString(id.Id[:])] = name
		}
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("list containers that are held: %w", err)
	}
	return out, nil
}
