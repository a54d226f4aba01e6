package bpf

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/profile"
)

// Bounds of one group's rules in the kernel.
const (
	// maxEdges bounds the memory of a group to some ten MiB. Patterns that stand for
	// themselves take one edge a name, so MaxPatterns of each list fit many times.
	maxEdges = 1 << 17
	// maxAffixes is MAX_AFFIXES of automaton.bpf.h: each costs the kernel two hashes
	// at every name that the folder has no pattern for.
	maxAffixes = 32
	// maxName is the longest name that file systems have: no pattern with a longer
	// one stands for anything.
	maxName = 255
)

// ruleTable is what the kernel decides by: see guard.bpf.h and automaton.bpf.h.
type ruleTable struct {
	key    [2]uint64 // of hashes
	edges  map[guardExecEdgeKey]guardExecEdge
	states uint32 // the number of the last one
}

// newRuleTable begins a table. Its states have numbers behind states: those of another
// table must not be among them, or a kernel that reads a path while one table is put in
// the other's place would go on in the wrong one.
func newRuleTable(key [2]uint64, states uint32) *ruleTable {
	if states > math.MaxUint32-maxEdges {
		states = 0 // no table from so long ago is read any more
	}
	return &ruleTable{key: key, states: states, edges: map[guardExecEdgeKey]guardExecEdge{}}
}

// branch is a place in the tree of a list's patterns.
type branch struct {
	number int
	ends   bool // a pattern ends here
	names  map[string]*branch
}

func (b *branch) child(name string, count *int) *branch {
	if c := b.names[name]; c != nil {
		return c
	}
	*count++
	c := &branch{number: *count, names: map[string]*branch{}}
	b.names[name] = c
	return c
}

// deepName is the last name of a pattern that stands for all below.
const deepName = "**"

// add compiles a list of patterns. The error says what of them is too much for a
// kernel.
func (t *ruleTable) add(list guardExecPathList, patterns []profile.Pattern) error {
	root, count := &branch{names: map[string]*branch{}}, 0
	for _, p := range patterns {
		if err := p.Check(); err != nil {
			return err
		}
		at := root
		for _, name := range p.Names() {
			at = at.child(name, &count)
		}
		at.ends = true
	}
	c := &construction{table: t, known: map[string]reached{}}
	start, err := c.reach([]*branch{root})
	if err != nil {
		return err
	}
	key := guardExecEdgeKey{State: uint32(list), Kind: uint32(guardExecEdgeKindEDGE_START)}
	t.edges[key] = start.edge()
	for len(c.open) > 0 {
		next := c.open[0]
		c.open = c.open[1:]
		if err := c.leave(next); err != nil {
			return err
		}
	}
	return nil
}

// construction makes a deterministic automaton of a tree: each of its states is
// a set of places in the tree.
type construction struct {
	table *ruleTable
	known map[string]reached
	open  []state // whose edges are to be made
}

// state is a set of places, and its number.
type state struct {
	number uint32
	places []*branch
}

// reached is what an edge says of the state that it leads to.
type reached struct {
	state   uint32
	flags   guardExecEdgeFlag
	affixes int
}

func (r reached) edge() guardExecEdge {
	return guardExecEdge{State: r.state, Flags: uint8(r.flags), Affixes: uint8(r.affixes)}
}

// reach returns the state of a set of places, which it opens when it is new.
func (c *construction) reach(places []*branch) (reached, error) {
	slices.SortFunc(places, func(a, b *branch) int { return a.number - b.number })
	places = slices.Compact(places)
	var id strings.Builder
	for _, p := range places {
		id.WriteString(strconv.Itoa(p.number))
		id.WriteByte(' ')
	}
	if r, ok := c.known[id.String()]; ok {
		return r, nil
	}
	c.table.states++
	r := reached{state: c.table.states}
	names := namesOfPlaces(places)
	for _, p := range places {
		if p.ends {
			r.flags |= guardExecEdgeFlagEDGE_ACCEPT
		}
	}
	switch {
	case names.deep:
		r.flags |= guardExecEdgeFlagEDGE_OTHERS
	default:
		if len(names.plain) > 0 {
			r.flags |= guardExecEdgeFlagEDGE_NAMES
		}
		if len(names.affixes) > 0 || names.any {
			r.flags |= guardExecEdgeFlagEDGE_OTHERS
		}
		r.affixes = len(names.affixes)
	}
	if r.affixes > maxAffixes {
		return reached{}, fmt.Errorf("one folder has %d patterns of names with * in them (%s and others), want at most %d: "+
			"let one stand for several", r.affixes, names.affixes[0].text(), maxAffixes)
	}
	c.known[id.String()] = r
	c.open = append(c.open, state{number: r.state, places: places})
	return r, nil
}

// leave makes the edges of a state.
func (c *construction) leave(s state) error {
	names := namesOfPlaces(s.places)
	if names.deep {
		deep := reached{state: s.number, flags: guardExecEdgeFlagEDGE_ACCEPT | guardExecEdgeFlagEDGE_DEEP}
		return c.put(s.number, guardExecEdgeKindEDGE_MASK, 0, deep.edge())
	}
	for i, a := range names.affixes {
		if err := c.put(s.number, guardExecEdgeKindEDGE_AFFIX, uint64(i), c.table.affix(a)); err != nil {
			return err
		}
	}
	for _, name := range names.plain {
		if err := c.lead(s, guardExecEdgeKindEDGE_NAME, hashOf(c.table.key, name), func(n string) bool {
			return n == name || n == "*" || strings.Contains(n, "*") && newAffix(n).fits(name)
		}); err != nil {
			return err
		}
	}
	for _, set := range setsOf(names.affixes) {
		if set == 0 && !names.any {
			continue
		}
		if err := c.lead(s, guardExecEdgeKindEDGE_MASK, set, func(n string) bool {
			i := slices.IndexFunc(names.affixes, func(a affix) bool { return a.text() == n })
			return n == "*" || i >= 0 && set&(1<<i) != 0
		}); err != nil {
			return err
		}
	}
	return nil
}

// lead makes one edge, to all that the names that fit lead to.
func (c *construction) lead(s state, kind guardExecEdgeKind, hash uint64, fits func(string) bool) error {
	var to []*branch
	for _, p := range s.places {
		for name, b := range p.names {
			if fits(name) {
				to = append(to, b)
			}
		}
	}
	r, err := c.reach(to)
	if err != nil {
		return err
	}
	return c.put(s.number, kind, hash, r.edge())
}

func (c *construction) put(number uint32, kind guardExecEdgeKind, hash uint64, e guardExecEdge) error {
	if len(c.table.edges) >= maxEdges {
		return fmt.Errorf("the patterns come to more than %d edges in the kernel: "+
			"let one pattern stand for several, above all where folders called * have many below", maxEdges)
	}
	c.table.edges[guardExecEdgeKey{Hash: hash, State: number, Kind: uint32(kind)}] = e
	return nil
}

// leadingNames are the names that lead on from a set of places.
type leadingNames struct {
	plain   []string
	affixes []affix
	any     bool // "*"
	deep    bool // "**"
}

func namesOfPlaces(places []*branch) leadingNames {
	all := map[string]bool{}
	for _, p := range places {
		for name := range p.names {
			all[name] = true
		}
	}
	var n leadingNames
	for _, name := range slices.Sorted(maps.Keys(all)) {
		switch {
		case name == deepName:
			n.deep = true
		case name == "*":
			n.any = true
		case strings.Contains(name, "*"):
			if a := newAffix(name); a.length() <= maxName {
				n.affixes = append(n.affixes, a)
			}
		case len(name) <= maxName:
			n.plain = append(n.plain, name)
		}
	}
	return n
}

// affix is a name with one "*" in it.
type affix struct{ before, after string }

func newAffix(name string) affix {
	before, after, _ := strings.Cut(name, "*")
	return affix{before, after}
}

func (a affix) text() string { return a.before + "*" + a.after }
func (a affix) length() int  { return len(a.before) + len(a.after) }

func (a affix) fits(name string) bool {
	return len(name) >= a.length() && strings.HasPrefix(name, a.before) && strings.HasSuffix(name, a.after)
}

func (t *ruleTable) affix(a affix) guardExecEdge {
	return guardExecEdge{
		Prefix: hashOf(t.key, a.before), PrefixLen: uint8(len(a.before)),
		Suffix: hashOf(t.key, a.after), SuffixLen: uint8(len(a.after)),
	}
}

// setsOf returns every set of the affixes that some name can fit, and no other
// name fit more or less of: as bits, the empty one first.
//
// Which beginnings and ends fit a name is said by the longest of each; whether
// both have room in it, by its length.
func setsOf(affixes []affix) []uint64 {
	sets := map[uint64]bool{0: true}
	for _, b := range affixes {
		for _, e := range affixes {
			var lengths []int
			inside := func(a affix) bool {
				return strings.HasPrefix(b.before, a.before) && strings.HasSuffix(e.after, a.after)
			}
			for _, a := range affixes {
				if inside(a) {
					lengths = append(lengths, a.length())
				}
			}
			for _, longest := range lengths {
				var set uint64
				for i, a := range affixes {
					if inside(a) && a.length() <= longest {
						set |= 1 << i
					}
				}
				sets[set] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(sets), func(a, b uint64) int {
		if n := bits.OnesCount64(a) - bits.OnesCount64(b); n != 0 {
			return n
		}
		return int(int64(a) - int64(b))
	})
}

// hashOf is hash_names of automaton.bpf.h: SipHash-1-3 but for how the length ends
// it.
func hashOf(key [2]uint64, text string) uint64 {
	v := [4]uint64{key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d, key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573}
	round := func() {
		v[0] += v[1]
		v[2] += v[3]
		v[1] = bits.RotateLeft64(v[1], 13) ^ v[0]
		v[3] = bits.RotateLeft64(v[3], 16) ^ v[2]
		v[0] = bits.RotateLeft64(v[0], 32)
		v[2] += v[1]
		v[0] += v[3]
		v[1] = bits.RotateLeft64(v[1], 17) ^ v[2]
		v[3] = bits.RotateLeft64(v[3], 21) ^ v[0]
		v[2] = bits.RotateLeft64(v[2], 32)
	}
	mix := func(word uint64) {
		v[3] ^= word
		round()
		v[0] ^= word
	}
	rest := []byte(text)
	for ; len(rest) >= 8; rest = rest[8:] {
		mix(binary.LittleEndian.Uint64(rest))
	}
	if len(rest) > 0 {
		var word [8]byte
		copy(word[:], rest)
		mix(binary.LittleEndian.Uint64(word[:]))
	}
	mix(uint64(len(text)))
	v[2] ^= 0xff
	round()
	round()
	round()
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}
