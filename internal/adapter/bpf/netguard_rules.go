package bpf

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
)

// Classes of ports, and limits, of netguard.bpf.c.
const (
	portOne = iota
	portAny
	portRange
	maxRanges    = 8
	maxGroupName = 799
	netKeyBits   = 64 // of struct net_destination before the address
	// maxExpanded is how many ports of a range are written one by one where all
	// ranges are taken.
	maxExpanded = 64
)

// nameWild is WILD of netguard.bpf.c.
const nameWild = 0x5bd1e9955bd1e995

// maxSuffix is SUFFIXES of netguard.bpf.c: labels behind the star of a name.
const maxSuffix = 6

func hashOfGroup(name asset.Group) netguardNetGroup {
	return netguardNetGroup{Hash: sha256.Sum256([]byte(name))}
}

// table is what one group's rules come to.
type netTable struct {
	rules        netguardNetRuleset
	destinations []netguardNetDestination
	listens      []netguardNetListen
	names        []netguardNetNamed
	resolvers    []netguardNetResolver
}

// droppedTogether is how many groups' former tables are dropped at a time: as long both are
// in the maps, which have room for a thousand peers of each.
const droppedTogether = 256

// setAll makes these the rules of their groups, each as a whole. Former ones are dropped
// for many groups at once, because they are looked for among those of all groups.
func (g *netPrograms) setAll(all []profile.Rules) []error {
	errs := make([]error, len(all))
	for from := 0; from < len(all); from += droppedTogether {
		former := map[uint32]int{} // numbers of tables, with whose they were
		for i := from; i < min(from+droppedTogether, len(all)); i++ {
			var old uint32
			if old, errs[i] = g.set(&all[i]); old != 0 {
				former[old] = i
			}
		}
		if err := g.drop(former); err != nil {
			for _, i := range former {
				errs[i] = errors.Join(errs[i], err)
			}
		}
	}
	return errs
}

// set makes r the rules of its group, as a whole, and returns the number of a table that
// no program knows any more; 0 for none.
func (g *netPrograms) set(r *profile.Rules) (former uint32, err error) {
	key := hashOfGroup(r.Group)
	var old netguardNetRuleset
	if err := g.maps["net_rules"].Lookup(key, &old); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, fmt.Errorf("read the network rules of %s: %w", r.Group, err)
	}
	number := uint32(1 + rand.IntN(1<<31))
	for number == old.Table {
		number++
	}
	t, err := g.tableOf(r, number)
	if err != nil {
		return 0, err
	}
	if err := g.fill(t); err != nil {
		return number, fmt.Errorf("write the network rules of %s: %w", r.Group, err)
	}
	if err := g.maps["net_rules"].Put(key, t.rules); err != nil {
		return number, fmt.Errorf("write the network rules of %s: %w", r.Group, err)
	}
	t.rules = netguardNetRuleset{} // the kernel has them
	g.written[number] = t
	return old.Table, nil
}

// remove lets go of a group and of its containers.
func (g *netPrograms) remove(name asset.Group) error {
	key := hashOfGroup(name)
	var old netguardNetRuleset
	if err := g.maps["net_rules"].Lookup(key, &old); err == nil {
		if err := g.maps["net_rules"].Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove the network rules of %s: %w", name, err)
		}
		if err := g.drop(map[uint32]int{old.Table: 0}); err != nil {
			return err
		}
	}
	return dropWhere(g.maps[netHoldsMap], func(_ [32]byte, of netguardNetGroup) bool { return of == key })
}

// entries are the names of maps with the keys that a table has in them.
func (t *netTable) entries() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for _, k := range t.destinations {
			if !yield("net_destinations", k) {
				return
			}
		}
		for _, k := range t.listens {
			if !yield("net_listens", k) {
				return
			}
		}
		for _, k := range t.names {
			if !yield("net_names", k) {
				return
			}
		}
		for _, k := range t.resolvers {
			if !yield("net_resolvers", k) {
				return
			}
		}
	}
}

// fill writes a table that no program knows yet.
func (g *netPrograms) fill(t netTable) error {
	one := uint8(1)
	for name, key := range t.entries() {
		if err := g.maps[name].Put(key, one); err != nil {
			return err
		}
	}
	return nil
}

// drop removes tables that no program knows any more, by their numbers. Of those that
// this program wrote it knows what is in them; others are looked for among the tables of
// all groups, which takes 20 µs for each peer of any of them.
func (g *netPrograms) drop(tables map[uint32]int) error {
	var errs []error
	others := map[uint32]bool{}
	for number := range tables {
		t, ok := g.written[number]
		if !ok {
			others[number] = true
			continue
		}
		for name, key := range t.entries() {
			if err := g.maps[name].Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				errs = append(errs, fmt.Errorf("remove former network rules from %s: %w", name, err))
			}
		}
		delete(g.written, number)
	}
	if len(others) > 0 {
		errs = append(errs, g.dropTables(func(number uint32) bool { return others[number] }))
	}
	return errors.Join(errs...)
}

// dropTables removes tables by their numbers, whoever wrote them.
func (g *netPrograms) dropTables(is func(number uint32) bool) error {
	return errors.Join(
		dropWhere(g.maps["net_destinations"], func(k netguardNetDestination, _ uint8) bool { return is(k.Table) }),
		dropWhere(g.maps["net_listens"], func(k netguardNetListen, _ uint8) bool { return is(k.Table) }),
		dropWhere(g.maps["net_names"], func(k netguardNetNamed, _ uint8) bool { return is(k.Table) }),
		dropWhere(g.maps["net_resolvers"], func(k netguardNetResolver, _ uint8) bool { return is(k.Table) }))
}

// dropUnknown removes tables that no group has: whoever wrote them was killed before they
// were in force, or before the former ones were gone. No program would ever read them,
// and nobody else remove them.
func (g *netPrograms) dropUnknown() error {
	known := map[uint32]bool{}
	var key netguardNetGroup
	var r netguardNetRuleset
	all := g.maps["net_rules"].Iterate()
	for all.Next(&key, &r) {
		known[r.Table] = true
	}
	if err := all.Err(); err != nil {
		return fmt.Errorf("list groups whose network is held: %w", err)
	}
	return g.dropTables(func(number uint32) bool { return !known[number] })
}

// dropWhere removes the entries of a map for which is holds. What others remove
// meanwhile can make the kernel begin again; a few rounds are enough then.
func dropWhere[K, V any](m *ebpf.Map, is func(K, V) bool) error {
	var keys []K
	var key K
	var value V
	all := m.Iterate()
	for all.Next(&key, &value) {
		if is(key, value) {
			keys = append(keys, key)
		}
	}
	if err := all.Err(); err != nil {
		return fmt.Errorf("list what is to be removed of %s: %w", m, err)
	}
	for _, k := range keys {
		if err := m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove from %s: %w", m, err)
		}
	}
	return nil
}

func answerNumber(a profile.Answer) uint8 {
	switch a {
	case profile.Audit:
		return 1
	case profile.Deny:
		return 2
	}
	return 0
}

// tableOf translates rules. Whatever may be reached may also be connected to by UDP
// without a port, as the C library does to know its own address.
func (g *netPrograms) tableOf(r *profile.Rules, number uint32) (netTable, error) {
	t := netTable{rules: netguardNetRuleset{
		Table: number, Answer: answerNumber(r.Answers[profile.ControlNetwork]),
		Limited: answerNumber(r.Answers[profile.ControlResource]), Rate: r.Limits.NewConnections,
	}}
	if len(r.Group) > maxGroupName {
		return t, fault.New(fault.Invalid, "the name of group %.40s… has %d bytes; at most %d are held", r.Group, len(r.Group), maxGroupName)
	}
	for i := range len(r.Group) {
		t.rules.Name[i] = r.Group[i]
	}
	if r.Network.HasSocket("raw") {
		t.rules.Raw = 1
	}
	p := ports{rules: &t.rules}
	for _, d := range r.Network.Destinations {
		protocol, err := protocolNumber(d.Protocol)
		if err != nil {
			return t, err
		}
		address := d.Network.Addr().As16()
		bits := d.Network.Bits()
		if d.Network.Addr().Is4() {
			bits += 96
		}
		t.rules.Protocols[protocol/8] |= 1 << (protocol % 8)
		to := netguardNetDestination{Bits: netKeyBits + uint32(bits), Table: number, Protocol: protocolUDP, PortClass: portOne, Address: address}
		if n := len(t.destinations); n == 0 || t.destinations[n-1].Address != address || t.destinations[n-1].Bits != to.Bits {
			t.destinations = append(t.destinations, to)
		}
		to.Protocol = protocol
		for to.PortClass, to.Port = range p.of(d.Ports) {
			t.destinations = append(t.destinations, to)
		}
	}
	for _, l := range r.Network.Listens {
		protocol, err := protocolNumber(l.Protocol)
		if err != nil {
			return t, err
		}
		for class, port := range p.of(l.Ports) {
			t.listens = append(t.listens, netguardNetListen{Table: number, Protocol: protocol, PortClass: class, Port: port})
		}
	}
	for _, n := range r.Network.Names {
		protocol, err := protocolNumber(n.Protocol)
		if err != nil {
			return t, err
		}
		hash, err := g.hashOfName(n.Name)
		if err != nil {
			return t, err
		}
		t.rules.Protocols[protocol/8] |= 1 << (protocol % 8)
		of := netguardNetNamed{Name: hash, Table: number, Protocol: protocolUDP, PortClass: portOne}
		t.names = append(t.names, of)
		of.Protocol = protocol
		for of.PortClass, of.Port = range p.of(n.Ports) {
			t.names = append(t.names, of)
		}
	}
	for _, a := range r.Network.Resolvers {
		t.resolvers = append(t.resolvers, netguardNetResolver{Table: number, Address: a.As16()})
	}
	if p.err != nil {
		return t, fault.New(fault.Exhausted, "network rules of %s: %w", r.Group, p.err).With("write fewer ranges of ports into the profile")
	}
	return t, nil
}

// ports tells ranges apart by their places.
type ports struct {
	rules *netguardNetRuleset
	err   error
}

// of yields what a range of ports is in keys: its class, and the port of class
// portOne. No ports at all mean any, as for ICMP.
func (p *ports) of(want profile.Ports) iter.Seq2[uint8, uint16] {
	return func(yield func(uint8, uint16) bool) {
		switch {
		case want.IsZero(), want.First <= 1 && want.Last == 65535:
			yield(portAny, 0)
			return
		case want.First == want.Last:
			yield(portOne, want.First)
			return
		}
		n := p.rules.Ranges
		for i := range n {
			if p.rules.Range[i].First == want.First && p.rules.Range[i].Last == want.Last {
				yield(portRange+i, 0)
				return
			}
		}
		if n < maxRanges {
			p.rules.Range[n].First, p.rules.Range[n].Last = want.First, want.Last
			p.rules.Ranges++
			yield(portRange+n, 0)
			return
		}
		if want.Last-want.First >= maxExpanded {
			p.err = fmt.Errorf("there are more than %d ranges of ports; %d-%d finds no room", maxRanges, want.First, want.Last)
			return
		}
		for port := want.First; port >= want.First && port <= want.Last; port++ {
			if !yield(portOne, port) {
				return
			}
		}
	}
}

func protocolNumber(name string) (uint8, error) {
	switch name {
	case "tcp":
		return protocolTCP, nil
	case "udp":
		return protocolUDP, nil
	case "icmp":
		return protocolICMP, nil
	}
	n, err := strconv.ParseUint(name, 10, 8)
	if err != nil {
		return 0, fault.New(fault.Invalid, "%q is no protocol", name)
	}
	return uint8(n), nil
}

// hashOfName hashes a name as names_of of netguard.bpf.c does.
func (g *netPrograms) hashOfName(name string) (uint64, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	rest, wild := strings.CutPrefix(name, "*.")
	if rest == "" || strings.Contains(rest, "*") {
		return 0, fault.New(fault.Invalid, "%q is no DNS name: a star may only stand for its beginning, as in *.example.com", name)
	}
	if wild && strings.Count(rest, ".") >= maxSuffix {
		return 0, fault.New(fault.Unsupported, "%q has more than %d parts behind the star", name, maxSuffix)
	}
	var hash uint64
	for i := range len(rest) {
		hash = hash*g.setting.Factor + uint64(rest[i])
	}
	if wild {
		hash ^= nameWild
	}
	return hash, nil
}

// inverseOf returns the number that x, which is odd, must be multiplied by to be 1
// modulo 2^64: each step of Newton's doubles the bits that are right.
func inverseOf(x uint64) uint64 {
	inverse := x
	for range 6 {
		inverse *= 2 - x*inverse
	}
	return inverse
}
