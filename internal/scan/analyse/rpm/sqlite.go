package rpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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
	ended  func() error

	leaf []byte // the page at hand
}

// rowOf takes a row; fits says before whether one of that size is wanted. One
// that cannot be read spoils no other.
type rowOf struct {
	fits    func(size int) bool
	take    func(row *scattered) error
	damaged func(error)
}

// maxColumns is how much of a row says what its columns are: RPM's tables have two
// columns, and the table of tables five.
const maxColumns = 64

func readSQLite(db *held, rec *records) error {
	s, err := openSQLite(db, rec.ended)
	if err != nil {
		return err
	}
	root, err := s.root("Packages")
	if err != nil {
		return err
	}
	return s.rows(root, 0, rowOf{rec.fits, func(row *scattered) error {
		values, err := columns(row)
		if err == nil && len(values) < 2 {
			err = errors.New("a row without a header")
		}
		if err != nil {
			rec.damaged(err)
			return nil
		}
		v := values[1]
		return rec.take(io.NewSectionReader(row, int64(v.at), int64(v.size)), v.size)
	}, rec.damaged})
}

// root returns the root page of the named table.
func (s *sqliteDB) root(table string) (int, error) {
	root := 0
	var unread error // the first row of the schema that is damaged, which may be the table's
	damaged := func(err error) {
		if unread == nil {
			unread = err
		}
	}
	schema := rowOf{func(size int) bool { return size <= maxHeader }, func(row *scattered) error {
		n, err := tableRoot(row, table)
		switch {
		case err != nil:
			damaged(err)
		case n > 0:
			root = n
		}
		return nil
	}, damaged}
	if err := s.rows(1, 0, schema); err != nil {
		return 0, fmt.Errorf("read the schema: %w", err)
	}
	switch {
	case root > 0:
		return root, nil
	case unread != nil:
		return 0, fmt.Errorf("there is no table %s in a schema that is damaged: %w", table, unread)
	}
	return 0, fmt.Errorf("there is no table %s", table)
}

func openSQLite(db *held, ended func() error) (*sqliteDB, error) {
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
	s := &sqliteDB{db: db, ended: ended, page: size, usable: size - int(head[20]), pages: db.size / size, leaf: make([]byte, size)}
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
	return head, s.db.copy(buf, s.place(n))
}

// place is where page n begins.
func (s *sqliteDB) place(n int) int { return (n - 1) * s.page }

// rows hands over the rows of the table whose tree has its root on page n.
func (s *sqliteDB) rows(n, depth int, row rowOf) error {
	if depth > sqliteDepth {
		return errors.New("the tree of pages is too deep")
	}
	if err := s.ended(); err != nil {
		return err
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
		if err := s.cell(n, page, at, row); err != nil {
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

// cell hands over one row of page n.
func (s *sqliteDB) cell(n int, page []byte, at int, row rowOf) error {
	whole, err := s.row(n, page, at, row.fits)
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

// row finds where the row in a cell of page n lies: its length, its number, what
// of it lies here, and the page on which it goes on. It is nil if it does not fit.
func (s *sqliteDB) row(n int, page []byte, at int, fits func(size int) bool) (*scattered, error) {
	size, k := varint(page[at:s.usable])
	if k == 0 {
		return nil, errCutOff
	}
	at += k
	if _, k = varint(page[at:s.usable]); k == 0 {
		return nil, errCutOff
	}
	at += k
	if size > uint64(s.db.size) {
		return nil, fmt.Errorf("a row of %d bytes", size)
	}
	if !fits(int(size)) {
		return nil, nil
	}
	here := s.here(int(size))
	whole := s.db.scatter()
	if at+here > s.usable {
		return nil, errCutOff
	}
	if err := whole.add(s.place(n)+at, here); err != nil {
		return nil, err
	}
	if here == int(size) {
		return whole, nil
	}
	if at+here+4 > s.usable {
		return nil, errCutOff
	}
	next := int(binary.BigEndian.Uint32(page[at+here:]))
	for whole.size < int(size) {
		var link [4]byte
		if _, err := s.read(next, link[:]); err != nil {
			return nil, fmt.Errorf("a row that goes on: %w", err)
		}
		if err := whole.add(s.place(next)+4, min(s.usable-4, int(size)-whole.size)); err != nil {
			return nil, fmt.Errorf("a row that goes on: %w", err)
		}
		next = int(binary.BigEndian.Uint32(link[:]))
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

// column is one value of a row, and where in the row it lies.
type column struct {
	kind     uint64 // of the format: 12 and more are bytes and text
	at, size int
}

// columns takes a row apart.
func columns(row *scattered) ([]column, error) {
	head := make([]byte, min(maxColumns, row.size))
	if _, err := row.ReadAt(head, 0); err != nil {
		return nil, err
	}
	size, n := varint(head)
	if n == 0 || size > uint64(len(head)) {
		return nil, errors.New("the head of a row is damaged")
	}
	kinds, at := head[n:max(n, int(size))], int(size)
	var out []column
	for len(kinds) > 0 {
		kind, n := varint(kinds)
		if n == 0 {
			return nil, errors.New("the head of a row is damaged")
		}
		kinds = kinds[n:]
		length := sizeOf(kind)
		if length > uint64(row.size-at) {
			return nil, errors.New("a row is shorter than it says")
		}
		out = append(out, column{kind, at, int(length)})
		at += int(length)
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
func tableRoot(row *scattered, name string) (int, error) {
	values, err := columns(row)
	if err != nil || len(values) < 4 {
		return 0, err
	}
	var texts [4][]byte
	for i, v := range values[:4] {
		if v.size > maxColumns { // then it is another table's
			return 0, nil
		}
		texts[i] = make([]byte, v.size)
		if _, err := row.ReadAt(texts[i], int64(v.at)); err != nil {
			return 0, err
		}
	}
	if string(texts[0]) != "table" || string(texts[1]) != name {
		return 0, nil
	}
	root := 0
	for _, b := range texts[3] {
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
