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
	db     []byte
	page   int // bytes
	usable int // of them
	pages  int
	left   int // pages that can still be visited: each belongs to one place
}

func readSQLite(db []byte, header func([]byte) error) error {
	s, err := openSQLite(db)
	if err != nil {
		return err
	}
	root := 0
	if err := s.rows(1, 0, func(row []byte) error {
		n, err := tableRoot(row, "Packages")
		if n > 0 {
			root = n
		}
		return err
	}); err != nil {
		return fmt.Errorf("read the schema: %w", err)
	}
	if root == 0 {
		return errors.New("there is no table Packages")
	}
	return s.rows(root, 0, func(row []byte) error {
		values, err := columns(row)
		if err != nil {
			return err
		}
		if len(values) < 2 {
			return errors.New("a row without a header")
		}
		return header(values[1].data)
	})
}

func openSQLite(db []byte) (*sqliteDB, error) {
	if len(db) < sqliteHead || !bytes.HasPrefix(db, []byte(sqliteMagic)) {
		return nil, errors.New("not a database of SQLite")
	}
	size := int(binary.BigEndian.Uint16(db[16:]))
	if size == 1 {
		size = 64 << 10
	}
	if size < 512 || size&(size-1) != 0 {
		return nil, fmt.Errorf("pages of %d bytes", size)
	}
	s := &sqliteDB{db: db, page: size, usable: size - int(db[20]), pages: len(db) / size}
	s.left = s.pages
	if s.usable < 480 { // the format's own least
		return nil, fmt.Errorf("%d usable bytes a page", s.usable)
	}
	return s, nil
}

// at returns page n, counted from 1, and where its own head begins.
func (s *sqliteDB) at(n int) (page []byte, head int, err error) {
	if n < 1 || n > s.pages {
		return nil, 0, fmt.Errorf("page %d of %d", n, s.pages)
	}
	if s.left--; s.left < 0 {
		return nil, 0, errors.New("pages are used more than once")
	}
	page = s.db[(n-1)*s.page:][:s.page]
	if n == 1 {
		head = sqliteHead
	}
	return page, head, nil
}

// rows hands over the rows of the table whose tree has its root on page n.
func (s *sqliteDB) rows(n, depth int, row func([]byte) error) error {
	if depth > sqliteDepth {
		return errors.New("the tree of pages is too deep")
	}
	page, head, err := s.at(n)
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
	for i := range cells {
		at := int(binary.BigEndian.Uint16(page[list+2*i:]))
		if at+4 > s.usable {
			return fmt.Errorf("page %d: cell %d is behind its end", n, i)
		}
		if interior {
			err = s.rows(int(binary.BigEndian.Uint32(page[at:])), depth+1, row)
		} else {
			err = s.cell(page, at, row)
		}
		if err != nil {
			return err
		}
	}
	if interior {
		return s.rows(int(binary.BigEndian.Uint32(page[head+8:])), depth+1, row)
	}
	return nil
}

// cell hands over one row: its length, its number, what of it lies here, and the
// page on which it goes on.
func (s *sqliteDB) cell(page []byte, at int, row func([]byte) error) error {
	size, n := varint(page[at:s.usable])
	if n == 0 {
		return errors.New("a cell is cut off")
	}
	at += n
	if _, n = varint(page[at:s.usable]); n == 0 {
		return errors.New("a cell is cut off")
	}
	at += n
	if size > uint64(len(s.db)) {
		return fmt.Errorf("a row of %d bytes", size)
	}
	here := s.here(int(size))
	if at+here > s.usable {
		return errors.New("a row is cut off")
	}
	if here == int(size) {
		return row(page[at : at+here])
	}
	if at+here+4 > s.usable {
		return errors.New("a row is cut off")
	}
	// Its pages are visited once each: what is reserved is no more than there is.
	whole := append(make([]byte, 0, size), page[at:at+here]...)
	next := int(binary.BigEndian.Uint32(page[at+here:]))
	for len(whole) < int(size) {
		p, _, err := s.at(next)
		if err != nil {
			return fmt.Errorf("a row that goes on: %w", err)
		}
		whole = append(whole, p[4:min(s.usable, 4+int(size)-len(whole))]...)
		next = int(binary.BigEndian.Uint32(p))
	}
	return row(whole)
}

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
func tableRoot(row []byte, name string) (int, error) {
	values, err := columns(row)
	if err != nil || len(values) < 4 {
		return 0, err
	}
	if string(values[0].data) != "table" || string(values[1].data) != name {
		return 0, nil
	}
	root := 0
	for _, b := range values[3].data {
		root = root<<8 | int(b)
	}
	if values[3].kind == 9 { // the number 1 takes no bytes
		root = 1
	}
	return root, nil
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
