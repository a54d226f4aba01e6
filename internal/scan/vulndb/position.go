package vulndb

import (
	"bytes"

	"github.com/castellan-security/castellan/internal/scan/version"
)

// A package's block has every version that its entries mention once, from low to
// high. So an installed version is looked up in it once; whether a range holds
// it is then a matter of comparing small numbers.

// Position is where a version stands among those that a package's entries
// mention.
type Position struct {
	// twice is 2*i for the i-th version itself, 2*i-1 for what is just below it.
	twice int
	// loose says that the version has no place in the order, so that nothing can
	// be said but whether it is mentioned itself, and what holds of all versions.
	loose bool
}

// Ordered says whether the version has a place in the order.
func (p Position) Ordered() bool { return !p.loose }

// enough holds the key of nearly every version without an allocation.
const enough = 128

// Position returns where a version stands. A version that has no place in the
// order, because there is none or because it is none, is held by ranges
// without ends and where it is listed itself.
func (p *Package) Position(v string) Position {
	var buffer, other [enough]byte
	key, loose := appendKey(buffer[:0], p.order, v)
	low, high := 0, len(p.versions)/4
	for low < high {
		mid := int(uint(low+high) / 2)
		at, _ := appendKey(other[:0], p.order, string(p.db.text(p.versionRef(mid))))
		switch bytes.Compare(at, key) {
		case 0:
			return Position{2 * mid, loose}
		case -1:
			low = mid + 1
		default:
			high = mid
		}
	}
	return Position{2*low - 1, loose}
}

// looseKey stands in front of versions that have no place in the order. No key
// of an order begins with it, so they come last, as text.
const looseKey = 0xFF

// appendKey appends what a package's versions are sorted by, and says whether
// the version is without a place.
func appendKey(dst []byte, o version.Order, v string) (key []byte, loose bool) {
	if key, err := o.AppendKey(dst, v); err == nil {
		return key, false
	}
	return append(append(dst, looseKey), v...), true
}

// span is a stretch of versions, by their numbers in the block.
type span struct {
	from int  // -1: from the first
	to   int  // -1: without end
	last bool // the end is in it
}

func (s span) holds(at Position) bool {
	if at.loose {
		return s.from < 0 && s.to < 0
	}
	if s.from >= 0 && at.twice < 2*s.from {
		return false
	}
	switch {
	case s.to < 0:
		return true
	case s.last:
		return at.twice <= 2*s.to
	}
	return at.twice < 2*s.to
}
