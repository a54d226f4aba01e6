package rpm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Berkeley DB's hash access method (dbinc/db_page.h of 4.8 to 5.3): pages of one
// size, the first with what holds for all. A package is the value of a pair, kept
// on pages of its own as soon as it is longer than a page, which headers are.
const (
	bdbHashMagic     = 0x061561
	bdbMinPage       = 512
	bdbMaxPage       = 64 << 10
	bdbPageHead      = 26
	bdbHashUnsorted  = 2
	bdbOverflow      = 7
	bdbHash          = 13
	bdbKeyData       = 1 // kinds of item on a page
	bdbOffPage       = 3
	bdbOffPageSize   = 12
	bdbInfoSize      = 72 // of the first page: up to what is read of it
	bdbNumbersOfHead = 4  // bytes: the value of key 0, the highest number in use
)

// berkeley is a database that is being read.
type berkeley struct {
	db    *held
	page  int
	pages int
	order binary.ByteOrder
	left  int // bytes of packages that there can be

	this []byte // the page at hand
}

func readBerkeley(db *held, rec *records) error {
	b, err := openBerkeley(db)
	if err != nil {
		return err
	}
	for n := 1; n < b.pages; n++ {
		if err := rec.ended(); err != nil {
			return err
		}
		if err := b.read(n, b.this); err != nil {
			return err
		}
		if kind := b.this[25]; kind != bdbHash && kind != bdbHashUnsorted {
			continue
		}
		if err := b.readPage(b.this, n, rec); err != nil {
			return err
		}
	}
	return nil
}

// openBerkeley reads the first page. The order of bytes is that of the machine
// that wrote it.
func openBerkeley(db *held) (*berkeley, error) {
	var head [bdbInfoSize]byte
	if db.size < bdbInfoSize {
		return nil, errors.New("not a database of Berkeley DB")
	}
	if err := db.copy(head[:], 0); err != nil {
		return nil, err
	}
	b := &berkeley{db: db, left: db.size}
	switch uint32(bdbHashMagic) {
	case binary.LittleEndian.Uint32(head[12:]):
		b.order = binary.LittleEndian
	case binary.BigEndian.Uint32(head[12:]):
		b.order = binary.BigEndian
	default:
		return nil, errors.New("not a hash of Berkeley DB")
	}
	if head[24] != 0 {
		return nil, errors.New("the database is encrypted")
	}
	size := b.order.Uint32(head[20:])
	if size < bdbMinPage || size > bdbMaxPage || size&(size-1) != 0 {
		return nil, fmt.Errorf("pages of %d bytes", size)
	}
	b.page, b.pages = int(size), db.size/int(size)
	b.this = make([]byte, size)
	return b, nil
}

// read fills buf with page n, which there is.
func (b *berkeley) read(n int, buf []byte) error { return b.db.copy(buf, n*b.page) }

// readPage hands over the values of a page. Items are pairs of key and value,
// whose places are listed behind the page's head.
func (b *berkeley) readPage(page []byte, n int, rec *records) error {
	items := int(b.order.Uint16(page[20:]))
	if bdbPageHead+2*items > len(page) {
		return fmt.Errorf("page %d has %d items", n, items)
	}
	for i := 1; i < items; i += 2 {
		at := int(b.order.Uint16(page[bdbPageHead+2*i:]))
		end := int(b.order.Uint16(page[bdbPageHead+2*(i-1):])) // of what stands behind: items grow downwards
		if at >= len(page) {
			return fmt.Errorf("page %d: item %d is behind its end", n, i)
		}
		value := b.db.scatter()
		switch page[at] {
		case bdbKeyData:
			if end <= at || end > len(page) {
				return fmt.Errorf("page %d: item %d is damaged", n, i)
			}
			if err := value.add(n*b.page+at+1, end-at-1); err != nil {
				return fmt.Errorf("page %d: item %d: %w", n, i, err)
			}
		case bdbOffPage:
			if err := b.chain(value, page, at, rec); err != nil {
				rec.damaged(fmt.Errorf("page %d: item %d: %w", n, i, err))
				continue
			}
		default:
			continue // duplicates, which RPM's packages don't have
		}
		if value.size <= bdbNumbersOfHead {
			continue
		}
		if err := rec.take(value, value.size); err != nil {
			return err
		}
	}
	return nil
}

// chain finds where a value lies that is on pages of its own; nothing of one that
// is too long.
func (b *berkeley) chain(value *scattered, page []byte, at int, rec *records) error {
	if at+bdbOffPageSize > len(page) {
		return errors.New("it is cut off")
	}
	next, size := b.order.Uint32(page[at+4:]), b.order.Uint32(page[at+8:])
	// Chains lie apart from each other: all together are no longer than the
	// database, so that circles end.
	if int64(size) > int64(b.left) {
		return fmt.Errorf("%d bytes, more than the database has left", size)
	}
	b.left -= int(size)
	if !rec.fits(int(size)) {
		return nil
	}
	for value.size < int(size) {
		if next == 0 || int64(next) >= int64(b.pages) {
			return errors.New("its pages end too early")
		}
		var head [bdbPageHead]byte
		if err := b.db.copy(head[:], int(next)*b.page); err != nil {
			return err
		}
		if head[25] != bdbOverflow {
			return fmt.Errorf("page %d does not go on with it", next)
		}
		held := int(b.order.Uint16(head[22:]))
		if held == 0 || held > b.page-bdbPageHead || value.size+held > int(size) {
			return fmt.Errorf("page %d holds %d bytes of it", next, held)
		}
		if err := value.add(int(next)*b.page+bdbPageHead, held); err != nil {
			return err
		}
		next = b.order.Uint32(head[16:])
	}
	return nil
}
