package rpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// SQLite's file format (sqlite.org/fileformat2.html), as far as reading one
// table from its first row to its last needs it.
const (
	sqliteMagic    = "SQLite format 3\x00"
	sqliteHead     = 100
	sqliteInterior = 0x05 // of a table; the kind of page
	sqliteLeaf     = 0x0d
	sqliteDepth    = 40 // no tree of pages is deeper
)

// sqliteDB is a database that is being read.
type sqliteDB struct {
	db     *held
	page   int // bytes
	usable int // of them
	pages  int
	left   int // pages that can still be visited: each belongs to one place

	leaf, next []byte // pages at hand
}

// rowOf takes a row; fits says before whether one of that size is wanted. One
// that cannot be read spoils no other.
type rowOf struct {
	fits    func(size int) bool
	take    func(row []byte) error
	damaged func(error)
}

func readSQLite(db *held, rec *records) error {
	s, err := openSQLite(db)
	if err != nil {
		return err
	}
	root := 0
	schema := rowOf{func(size int) bool { return size <= maxHeader }, func(row []byte) error {
		if n := tableRoot(row, "Packages"); n > 0 {
			root = n
		}
		return nil
	}, func(error) {}}
	if err := s.rows(1, 0, schema); err != nil {
		return fmt.Errorf("read the schema: %w", err)
	}
	if root == 0 {
		return errors.New("there is no table Packages")
	}
	return s.rows(root, 0, rowOf{rec.fits, func(row []byte) error {
		values, err := columns(row)
		if err == nil && len(values) < 2 {
			err = errors.New("a row without a header")
		}
		if err != nil {
			rec.damaged(err)
			return nil
		}
		return rec.take(values[1].data)
	}, rec.damaged})
}

func openSQLite(db *held) (*sqliteDB, error) {
	var head [sqliteHead]byte
	if db.size < sqliteHead {
		return nil, errors.New("not a database of SQLite")
	}
	if err := db.copy(head[:], 0); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(head[:], []byte(sqliteMagic)) {
		return nil, errors.New("not a database of SQLite")
	}
	size := int(binary.BigEndian.Uint16(head[16:]))
	if size == 1 {
		size = 64 << 10
	}
	if size < 512 || size&(size-1) != 0 {
		return nil, fmt.Errorf("pages of %d bytes", size)
	}
	s := &sqliteDB{db: db, page: size, usable: size - int(head[20]), pages: db.size / size, leaf: make([]byte, size), next: make([]byte, size)}
	s.left = s.pages
	if s.usable < 480 { // the format's own least
		return nil, fmt.Errorf("%d usable bytes a page", s.usable)
	}
	return s, nil
}

// errTwice ends the reading: who links pages in circles has no rows to lose.
var errTwice = errors.New("pages are used more than once")

// read fills buf with page n, counted from 1, and returns where its own head
// begins.
func (s *sqliteDB) read(n int, buf []byte) (head int, err error) {
	if n < 1 || n > s.pages {
		return 0, fmt.Errorf("page %d of %d", n, s.pages)
	}
	if s.left--; s.left < 0 {
		return 0, errTwice
	}
	if n == 1 {
		head = sqliteHead
	}
	return head, s.db.copy(buf, (n-1)*s.page)
}

// rows hands over the rows of the table whose tree has its root on page n.
func (s *sqliteDB) rows(n, depth int, row rowOf) error {
	if depth > sqliteDepth {
		return errors.New("the tree of pages is too deep")
	}
	page := s.leaf
	head, err := s.read(n, page)
	if err != nil {
		return err
	}
	interior := page[head] == sqliteInterior
	if !interior && page[head] != sqliteLeaf {
		return fmt.Errorf("page %d is of kind %d, not of a table", n, page[head])
	}
	cells, list := int(binary.BigEndian.Uint16(page[head+3:])), head+8
	if interior {
		list += 4
	}
	if list+2*cells > s.usable {
		return fmt.Errorf("page %d has %d cells", n, cells)
	}
	var below []uint32 // pages, for the page at hand is gone once they are read
	for i := range cells {
		at := int(binary.BigEndian.Uint16(page[list+2*i:]))
		if at+4 > s.usable {
			return fmt.Errorf("page %d: cell %d is behind its end", n, i)
		}
		if interior {
			below = append(below, binary.BigEndian.Uint32(page[at:]))
			continue
		}
		if err := s.cell(page, at, row); err != nil {
			return err
		}
	}
	if interior {
		below = append(below, binary.BigEndian.Uint32(page[head+8:]))
	}
	for _, child := range below {
		if err := s.rows(int(child), depth+1, row); err != nil {
			return err
		}
	}
	return nil
}

// cell hands over one row.
func (s *sqliteDB) cell(page []byte, at int, row rowOf) error {
	whole, err := s.row(page, at, row.fits)
	switch {
	case errors.Is(err, errTwice):
		return err
	case err != nil:
		row.damaged(err)
		return nil
	case whole == nil:
		return nil
	}
	return row.take(whole)
}

// row returns the row in a cell: its length, its number, what of it lies here,
// and the page on which it goes on. It is nil if it does not fit.
func (s *sqliteDB) row(page []byte, at int, fits func(size int) bool) ([]byte, error) {
	size, n := varint(page[at:s.usable])
	if n == 0 {
		return nil, errCutOff
	}
	at += n
	if _, n = varint(page[at:s.usable]); n == 0 {
		return nil, errCutOff
	}
	at += n
	if size > uint64(s.db.size) {
		return nil, fmt.Errorf("a row of %d bytes", size)
	}
	if !fits(int(size)) {
		return nil, nil
	}
	here := s.here(int(size))
	if at+here > s.usable {
		return nil, errCutOff
	}
	if here == int(size) {
		return page[at : at+here], nil
	}
	if at+here+4 > s.usable {
		return nil, errCutOff
	}
	whole := append(s.db.room(int(size))[:0], page[at:at+here]...)
	next := int(binary.BigEndian.Uint32(page[at+here:]))
	for len(whole) < int(size) {
		if _, err := s.read(next, s.next); err != nil {
			return nil, fmt.Errorf("a row that goes on: %w", err)
		}
		whole = append(whole, s.next[4:min(s.usable, 4+int(size)-len(whole))]...)
		next = int(binary.BigEndian.Uint32(s.next))
	}
	return whole, nil
}

var errCutOff = errors.New("a row is cut off")

// here returns how many bytes of a row of that size lie in its cell; the formula
// is the format's.
func (s *sqliteDB) here(size int) int {
	most := s.usable - 35
	if size <= most {
		return size
	}
	least := (s.usable-12)*32/255 - 23
	if k := least + (size-least)%(s.usable-4); k <= most {
		return k
	}
	return least
}

// column is one value of a row.
type column struct {
	kind uint64 // of the format: 12 and more are bytes and text
	data []byte
}

// columns takes a row apart.
func columns(row []byte) ([]column, error) {
	size, n := varint(row)
	if n == 0 || size > uint64(len(row)) {
		return nil, errors.New("the head of a row is damaged")
	}
	kinds, data := row[n:max(n, int(size))], row[size:]
	var out []column
	for len(kinds) > 0 {
		kind, n := varint(kinds)
		if n == 0 {
			return nil, errors.New("the head of a row is damaged")
		}
		kinds = kinds[n:]
		length := sizeOf(kind)
		if length > uint64(len(data)) {
			return nil, errors.New("a row is shorter than it says")
		}
		out = append(out, column{kind, data[:length]})
		data = data[length:]
	}
	return out, nil
}

// sizeOf returns how many bytes a value of that kind has.
func sizeOf(kind uint64) uint64 {
	switch {
	case kind >= 12:
		return (kind - 12) / 2
	case kind == 5:
		return 6
	case kind == 6 || kind == 7:
		return 8
	case kind <= 4:
		return kind
	}
	return 0
}

// tableRoot returns the root page of the named table, if a row of the schema is
// about it: type, name, table, root page, text.
func tableRoot(row []byte, name string) int {
	values, err := columns(row)
	if err != nil || len(values) < 4 || string(values[0].data) != "table" || string(values[1].data) != name {
		return 0
	}
	root := 0
	for _, b := range values[3].data {
		root = root<<8 | int(b)
	}
	if values[3].kind == 9 { // the number 1 takes no bytes
		root = 1
	}
	return root
}

// varint reads a number of 1 to 9 bytes, and returns how many; 0 if it is cut
// off.
func varint(b []byte) (uint64, int) {
	var v uint64
	for i := range min(len(b), 9) {
		if i == 8 {
			return v<<8 | uint64(b[i]), 9
		}
		v = v<<7 | uint64(b[i]&0x7f)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}
