package bpf

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

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

// together is how many groups are put in force at a time: the kernel waits for its
// programs to leave the former rules of each, some ten milliseconds, and those who wait
// at once wait for the same.
const together = 64

// placed are the rules of a group that are to be put in its place.
type placed struct {
	index  int // among those that are asked for
	group  asset.Group
	number uint32
	known  bool // the group has the place already
	rules  *ebpf.Map
}

// setAll makes these the rules of their groups: for each a map of its own, put in place
// as a whole. The errors are in the order of the rules.
func (g *tablePrograms) setAll(all []profile.Rules) []error {
	errs := make([]error, len(all))
	for from := 0; from < len(all); from += together {
		to := min(from+together, len(all))
		g.setSome(all[from:to], errs[from:to])
	}
	return errs
}

func (g *tablePrograms) setSome(all []profile.Rules, errs []error) {
	var ready []placed
	numbers := maps.Clone(g.numbers)
	for i := range all {
		p, err := g.place(&all[i], numbers)
		if errs[i] = err; err == nil {
			p.index = i
			ready = append(ready, p)
		}
	}
	var waiting sync.WaitGroup
	for _, p := range ready {
		waiting.Go(func() {
			if err := g.maps["tables"].Put(p.number, p.rules); err != nil {
				errs[p.index] = fmt.Errorf("put the rules of %s in force: %w", p.group, err)
			}
		})
	}
	waiting.Wait()
	for _, p := range ready {
		if errs[p.index] == nil && !p.known {
			errs[p.index] = g.name(p)
		}
		if err := p.rules.Close(); err != nil {
			errs[p.index] = errors.Join(errs[p.index], fmt.Errorf("close the rules of %s: %w", p.group, err))
		}
	}
}

// place makes the map of a group's rules, and finds it a place that numbers have not.
// On success the caller closes the map.
func (g *tablePrograms) place(r *profile.Rules, numbers map[asset.Group]uint32) (placed, error) {
	table, err := g.tableOf(r)
	if err != nil {
		return placed{}, err
	}
	p := placed{group: r.Group}
	if p.number, p.known = g.numbers[r.Group]; !p.known {
		if p.number, err = free(numbers); err != nil {
			return placed{}, err
		}
	}
	// With its types: to Linux 6.1 a map without them is of another kind.
	spec := g.table.Copy()
	spec.MaxEntries = uint32(len(table.edges))
	if p.rules, err = ebpf.NewMap(spec); err != nil {
		return placed{}, fmt.Errorf("make the rules of %s: %w", r.Group, err)
	}
	for key, edge := range table.edges {
		if err := p.rules.Put(key, edge); err != nil {
			return placed{}, errors.Join(fmt.Errorf("write the rules of %s: %w", r.Group, err), p.rules.Close())
		}
	}
	numbers[r.Group] = p.number
	return p, nil
}

// name writes down whose a place is.
func (g *tablePrograms) name(p placed) error {
	var name [maxGroupName + 1]byte
	copy(name[:], p.group)
	if err := g.maps[namesMap].Put(p.number, name); err != nil {
		return errors.Join(fmt.Errorf("name group %s: %w", p.group, err), g.maps["tables"].Delete(p.number))
	}
	g.numbers[p.group] = p.number
	return nil
}

func free(all map[asset.Group]uint32) (uint32, error) {
	taken := make(map[uint32]bool, len(all))
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
	err := dropWhere(g.maps[holdsMap], func(_ guardExecHeldId, h guardExecHold) bool { return h.Group == number })
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
		if g.maps[holdsMap].Lookup(id, &now) == nil && now.Group == number {
			continue
		}
		if err := g.maps[holdsMap].Put(id, guardExecHold{Group: number}); err != nil {
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
	err := g.maps[holdsMap].Delete(guardExecHeldId{Id: keyOfContainer(container)})
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
	list := g.maps[holdsMap].Iterate()
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
