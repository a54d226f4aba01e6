package vulndb

import (
	"encoding/binary"
	"iter"
	"slices"
	"sort"
)

// The index of names has a pair of 32 bits each for every name of every
// advisory (its identifier and its aliases): a hash of the name, and the
// advisory. Pairs are sorted.
const nameSize = 8

// maxNamed is how many advisories with one name are looked at. A CVE has one for
// each distribution that fixed it in one go, some dozens.
const maxNamed = 1 << 12

func hashName[T string | []byte](name T) uint32 { return uint32(hashPackage(1<<32-1, name) >> 32) }

// Named returns the advisories of which the identifier or an alias is name. Where
// the file is damaged, those behind the damage are missing.
func (db *DB) Named(name string) iter.Seq2[Number, Record] {
	return func(yield func(Number, Record) bool) {
		s := db.section(sectionNames)
		h := hashName(name)
		at := func(i int) uint32 { return binary.LittleEndian.Uint32(s[i*nameSize:]) }
		n := len(s) / nameSize
		first := sort.Search(n, func(i int) bool { return at(i) >= h })
		for i := first; i < min(n, first+maxNamed) && at(i) == h; i++ {
			number := Number(binary.LittleEndian.Uint32(s[i*nameSize+4:]))
			r, err := db.Record(number)
			if err != nil {
				return
			}
			if r.ID != name && !slices.Contains(r.Aliases, name) {
				continue // another name with the same hash
			}
			if !yield(number, r) {
				return
			}
		}
	}
}
