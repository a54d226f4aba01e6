package vulndb

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/scan/version"
)

// blockCompiler makes the blocks of packages out of what was spooled about them.
type blockCompiler struct {
	strings *stringTable
	// numbers turns the numbers in which advisories were added into those that
	// they have in the file.
	numbers []Number
	entries []spooled
	keys    []byte // of all versions of one package
	found   []keyed
	body    []byte
	out     []byte
	more    []byte
}

type spooled struct {
	number Number
	a      advisory.Affected
	raw    []byte
}

// keyed is a version with its key, which lies in keys.
type keyed struct {
	from, to uint32
	text     string
}

// droppedNumber is the number of an advisory that was replaced by a newer one.
const droppedNumber = ^Number(0)

// add takes what was spooled about the package that is being compiled.
func (p *blockCompiler) add(value []byte) error {
	number := p.numbers[binary.LittleEndian.Uint32(value)]
	if number == droppedNumber {
		return nil
	}
	raw := bytes.Clone(value[4:])
	a, ok := unspoolAffected(raw)
	if !ok {
		return fmt.Errorf("compile advisories: what was spooled is damaged")
	}
	p.entries = append(p.entries, spooled{number, a, raw})
	return nil
}

// block returns the block of the package, or nil if nothing is said about it. It
// is valid until the next call.
func (p *blockCompiler) block(ecosystem uint32, order version.Order, name string) []byte {
	slices.SortFunc(p.entries, func(a, b spooled) int {
		return cmp.Or(cmp.Compare(a.number, b.number), bytes.Compare(a.raw, b.raw))
	})
	p.entries = slices.CompactFunc(p.entries, func(a, b spooled) bool { return a.number == b.number && bytes.Equal(a.raw, b.raw) })
	if len(p.entries) == 0 {
		return nil
	}
	p.collect(order)
	body := binary.AppendUvarint(p.body[:0], uint64(ecosystem))
	body = binary.AppendUvarint(body, uint64(p.strings.ref(name)))
	body = binary.AppendUvarint(body, uint64(len(p.found)))
	body = binary.AppendUvarint(body, uint64(len(p.entries)))
	for _, v := range p.found {
		body = binary.LittleEndian.AppendUint32(body, p.strings.ref(v.text))
	}
	last := Number(0)
	for i := range p.entries {
		e := &p.entries[i]
		body = binary.AppendUvarint(body, uint64(e.number-last))
		last = e.number
		body = p.appendEntry(body, order, &e.a)
	}
	p.entries = p.entries[:0]
	p.body = body
	p.out = append(binary.AppendUvarint(p.out[:0], uint64(len(body))), body...)
	return p.out
}

// collect sorts all versions that the entries mention; of those that are the
// same in the ecosystem's order the shortest spelling stays.
func (p *blockCompiler) collect(order version.Order) {
	p.keys, p.found = p.keys[:0], p.found[:0]
	add := func(v string) {
		if v == "" {
			return
		}
		from := len(p.keys)
		p.keys, _ = appendKey(p.keys, order, v)
		p.found = append(p.found, keyed{uint32(from), uint32(len(p.keys)), v})
	}
	for i := range p.entries {
		for _, r := range p.entries[i].a.Ranges {
			add(r.Introduced)
			add(r.Fixed)
			add(r.Last)
		}
		for _, v := range p.entries[i].a.Versions {
			add(v)
		}
	}
	p.settle()
	p.drop(order)
}

// settle sorts the versions that were found and leaves one of each.
func (p *blockCompiler) settle() {
	slices.SortFunc(p.found, func(a, b keyed) int {
		return cmp.Or(bytes.Compare(p.key(a), p.key(b)), cmp.Compare(len(a.text), len(b.text)), cmp.Compare(a.text, b.text))
	})
	p.found = slices.CompactFunc(p.found, func(a, b keyed) bool { return bytes.Equal(p.key(a), p.key(b)) })
}

// drop forgets listed versions that a range of the same entry holds: OSV lists
// all that a range holds, some thousand for a package, and they say nothing new.
func (p *blockCompiler) drop(order version.Order) {
	for i := range p.entries {
		a := &p.entries[i].a
		spans := p.spans(order, a)
		a.Versions = slices.DeleteFunc(a.Versions, func(v string) bool {
			at := Position{twice: 2 * p.index(order, v), loose: !hasPlace(order, v)}
			return v == "" || slices.ContainsFunc(spans, func(s span) bool { return s.holds(at) })
		})
	}
	// What only they mentioned is not needed any more.
	used := make([]bool, len(p.found))
	mark := func(v string) {
		if v != "" {
			used[p.index(order, v)] = true
		}
	}
	for i := range p.entries {
		for _, r := range p.entries[i].a.Ranges {
			mark(r.Introduced)
			mark(r.Fixed)
			mark(r.Last)
		}
		for _, v := range p.entries[i].a.Versions {
			mark(v)
		}
	}
	kept := p.found[:0]
	for i, v := range p.found {
		if used[i] {
			kept = append(kept, v)
		}
	}
	p.found = kept
}

func hasPlace(order version.Order, v string) bool {
	var buffer [enough]byte
	_, loose := appendKey(buffer[:0], order, v)
	return !loose
}

func (p *blockCompiler) key(k keyed) []byte { return p.keys[k.from:k.to] }

// index returns the number of a version that was collected; -1 for none.
func (p *blockCompiler) index(order version.Order, v string) int {
	if v == "" {
		return -1
	}
	var buffer [enough]byte
	key, _ := appendKey(buffer[:0], order, v)
	i, _ := slices.BinarySearchFunc(p.found, key, func(k keyed, key []byte) int { return bytes.Compare(p.key(k), key) })
	return i
}

// spans turns ranges of versions into ranges of numbers, sorted, each once.
func (p *blockCompiler) spans(order version.Order, a *advisory.Affected) []span {
	spans := make([]span, 0, len(a.Ranges))
	for _, r := range a.Ranges {
		s := span{from: p.index(order, r.Introduced), to: p.index(order, r.Fixed)}
		if r.Last != "" {
			s.to, s.last = p.index(order, r.Last), true
		}
		spans = append(spans, s)
	}
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(uint(a.to), uint(b.to)), compareBools(a.last, b.last))
	})
	return slices.Compact(spans)
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// appendEntry writes what is behind the number of an entry's advisory.
func (p *blockCompiler) appendEntry(body []byte, order version.Order, a *advisory.Affected) []byte {
	spans := p.spans(order, a)
	plain := len(spans) == 1 && len(a.Versions) == 0
	flags := byte(a.Of)&flagOf | byte(a.Status)<<statusShift&flagStatus
	more := p.limits(a)
	if a.Rating != advisory.Unrated {
		flags |= flagRated
	}
	if len(more) > 0 {
		flags |= flagMore
	}
	if plain {
		flags |= flagPlain
	}
	body = append(body, flags)
	if a.Rating != advisory.Unrated {
		body = append(body, byte(a.Rating))
	}
	if len(more) > 0 {
		body = appendString(body, more)
	}
	if plain {
		return appendSpan(body, spans[0])
	}
	body = binary.AppendUvarint(body, uint64(len(spans)))
	for _, s := range spans {
		body = appendSpan(body, s)
	}
	listed := make([]int, 0, len(a.Versions))
	for _, v := range a.Versions {
		listed = append(listed, p.index(order, v))
	}
	slices.Sort(listed)
	listed = slices.Compact(listed)
	body = binary.AppendUvarint(body, uint64(len(listed)))
	last := 0
	for _, i := range listed {
		body = binary.AppendUvarint(body, uint64(i-last))
		last = i
	}
	return body
}

// limits writes what few entries have, or nothing.
func (p *blockCompiler) limits(a *advisory.Affected) []byte {
	if a.Note == "" && a.Repository == "" && len(a.Arches) == 0 && len(a.Scores) == 0 {
		return nil
	}
	b := p.strings.appendOptional(p.more[:0], a.Note)
	b = p.strings.appendOptional(b, a.Repository)
	b = binary.AppendUvarint(b, uint64(len(a.Arches)))
	for _, arch := range a.Arches {
		b = binary.AppendUvarint(b, uint64(p.strings.ref(arch)))
	}
	p.more = p.strings.appendScores(b, a.Scores)
	return p.more
}
