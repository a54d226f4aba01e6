package match

import (
	"cmp"
	"math"
	"slices"
)

// placed is a finding and its place in the order of what deserves attention.
type placed struct {
	urgency uint64
	at      int32
}

// sortFound puts first what deserves attention first; of equals, packages are in
// the order of the inventory.
func sortFound(list []*found) []placed {
	order := make([]placed, len(list))
	for i := range list {
		order[i] = placed{list[i].urgency(), int32(i)}
	}
	slices.SortFunc(order, func(a, b placed) int {
		if c := cmp.Compare(b.urgency, a.urgency); c != 0 {
			return c
		}
		f, g := list[a.at], list[b.at]
		return cmp.Or(cmp.Compare(f.index, g.index), cmp.Compare(f.id, g.id), cmp.Compare(a.at, b.at))
	})
	return order
}

// urgency is higher for what comes first: in use, then exploited, then by severity,
// then by the probability of being exploited.
func (f *found) urgency() uint64 {
	u := uint64(f.severity) << 32
	if f.inUse {
		u |= 1 << 63
	}
	if f.kev != nil {
		u |= 1 << 62
	}
	if f.epss != nil {
		u |= uint64(math.Float32bits(max(f.epss.EPSS, 0))) // bits of what is not negative order like it
	}
	return u
}
