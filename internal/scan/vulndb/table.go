package vulndb

import (
	"encoding/binary"
	"math/bits"

	"github.com/castellan-security/castellan/internal/scan/version"
)

// The table leads from a package to its block: open addressing, as many slots
// as a power of two, at most three quarters of them taken. A slot is the upper
// half of the hash and, one higher than it is, where the block begins.
//
//	 0  number of slots (a power of two), longest probe, packages (32 bits each)
//	12  slots
const (
	tableHead = 12
	slotSize  = 8
	maxProbe  = 1 << 10 // longer ones are not met with our hash; a hostile file must not make us walk
)

type table struct {
	slots    []byte
	mask     uint32
	probes   uint32
	packages uint32
}

func readTable(b []byte) (table, error) {
	if len(b) < tableHead {
		return table{}, damaged("its table of packages")
	}
	u32 := binary.LittleEndian.Uint32
	n := u32(b)
	t := table{slots: b[tableHead:], mask: n - 1, probes: u32(b[4:]), packages: u32(b[8:])}
	if bits.OnesCount32(n) != 1 || uint64(len(t.slots)) != uint64(n)*slotSize || t.probes > maxProbe {
		return table{}, damaged("its table of packages")
	}
	return t, nil
}

// hashPackage is FNV-1a with its bits mixed once more. It is not for
// withstanding an attack: who looks up cannot change the table, and who wrote
// the table is bounded by maxProbe.
func hashPackage[T string | []byte](ecosystem uint32, name T) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := (uint64(offset) ^ uint64(ecosystem)) * prime
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * prime
	}
	h ^= h >> 29
	h *= 0xbf58476d1ce4e5b9
	return h ^ h>>32
}

// Package is all that a file has about one package of one ecosystem.
type Package struct {
	db       *DB
	order    version.Order
	versions []byte // references of four bytes, from low to high
	entries  []byte
	count    int
}

// Lookup finds a package by the exact name of its ecosystem (see Releases) and
// its own, as advisory.Normalize returns it.
func (db *DB) Lookup(ecosystem, name string) (Package, bool) {
	id, ok := db.ecosystems[ecosystem]
	if !ok {
		return Package{}, false
	}
	h := hashPackage(id, name)
	for probe := range db.table.probes {
		slot := db.table.slots[((uint32(h)+probe)&db.table.mask)*slotSize:]
		at := binary.LittleEndian.Uint32(slot[4:])
		if at == 0 {
			break
		}
		if binary.LittleEndian.Uint32(slot) != uint32(h>>32) {
			continue
		}
		if b, ok := db.blockAt(at - 1); ok && b.ecosystem == id && string(b.name) == name {
			return b.Package, true
		}
	}
	return Package{}, false
}

// block is a package's block with what it is about.
type block struct {
	Package
	ecosystem uint32
	name      []byte
}

// blockAt reads the head of a block: its size, the ecosystem, the name, how many
// versions and how many entries; then the versions, then the entries.
func (db *DB) blockAt(at uint32) (block, bool) {
	s := db.section(sectionPackages)
	if uint64(at) >= uint64(len(s)) {
		return block{}, false
	}
	c := cursor{b: s[at:]}
	body := cursor{b: c.bytes(), bad: c.bad}
	return db.readBlock(body)
}

func (db *DB) readBlock(c cursor) (block, bool) {
	b := block{ecosystem: c.u32()}
	b.name = db.text(c.u32())
	n := c.count()
	b.count = c.count()
	if n > len(c.b)/4 {
		return block{}, false
	}
	b.versions = c.take(4 * n)
	b.entries = c.b
	if c.bad || b.ecosystem >= uint32(len(db.names)) {
		return block{}, false
	}
	b.db = db
	b.order = version.OrderOf(db.names[b.ecosystem])
	return b, true
}

// versionRef returns where the i-th version is written; i must be within.
func (p *Package) versionRef(i int) uint32 { return binary.LittleEndian.Uint32(p.versions[4*i:]) }

// Order is how the package's versions are ordered.
func (p *Package) Order() version.Order { return p.order }
