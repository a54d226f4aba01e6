package rpm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// RPM's own simple database (lib/backend/ndb/rpmpkg.c): a header, pages of slots
// that say where packages lie, and the packages. All numbers are little endian.
const (
	ndbMagic     = 'R' | 'p'<<8 | 'm'<<16 | 'P'<<24
	ndbSlot      = 'S' | 'l'<<8 | 'o'<<16 | 't'<<24
	ndbBlob      = 'B' | 'l'<<8 | 'b'<<16 | 'S'<<24
	ndbPage      = 4096
	ndbBlock     = 16
	ndbSlotSize  = 16
	ndbFirstSlot = 32 // behind the header
	ndbBlobHead  = 16
)

func readNDB(db *held, rec *records) error {
	var head [ndbFirstSlot]byte
	if db.size < ndbFirstSlot {
		return errors.New("not a database of the form ndb")
	}
	if err := db.copy(head[:], 0); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(head[:]) != ndbMagic {
		return errors.New("not a database of the form ndb")
	}
	pages := int64(binary.LittleEndian.Uint32(head[12:]))
	if pages*ndbPage > int64(db.size) {
		return fmt.Errorf("%d pages of slots in %d bytes", pages, db.size)
	}
	// Packages lie apart from each other; who names one place a thousand times
	// would have more read than there is.
	left := db.size
	var page [ndbPage]byte
	for at := ndbFirstSlot; at < int(pages)*ndbPage; at += ndbSlotSize {
		if at == ndbFirstSlot || at%ndbPage == 0 {
			if err := rec.ended(); err != nil {
				return err
			}
			if err := db.copy(page[:], at/ndbPage*ndbPage); err != nil {
				return err
			}
		}
		slot := page[at%ndbPage:]
		if binary.LittleEndian.Uint32(slot) != ndbSlot {
			return fmt.Errorf("slot at %d is damaged", at)
		}
		pkg, block := binary.LittleEndian.Uint32(slot[4:]), binary.LittleEndian.Uint32(slot[8:])
		if pkg == 0 {
			continue
		}
		start, size, err := ndbAt(db, int64(block)*ndbBlock, pkg)
		if err != nil {
			rec.damaged(err)
			continue
		}
		if left -= size; left < 0 {
			return errors.New("packages lie over each other")
		}
		if !rec.fits(size) {
			continue
		}
		blob := db.scatter()
		if err := blob.add(start, size); err != nil {
			return err
		}
		if err := rec.take(blob, size); err != nil {
			return err
		}
	}
	return nil
}

// ndbAt returns where the package that lies at a place begins, and how long it
// is.
func ndbAt(db *held, at int64, pkg uint32) (start, size int, err error) {
	var head [ndbBlobHead]byte
	if at+ndbBlobHead > int64(db.size) {
		return 0, 0, fmt.Errorf("package %d is behind the end", pkg)
	}
	if err := db.copy(head[:], int(at)); err != nil {
		return 0, 0, err
	}
	if binary.LittleEndian.Uint32(head[:]) != ndbBlob || binary.LittleEndian.Uint32(head[4:]) != pkg {
		return 0, 0, fmt.Errorf("package %d is damaged", pkg)
	}
	length := int64(binary.LittleEndian.Uint32(head[12:]))
	if at+ndbBlobHead+length > int64(db.size) {
		return 0, 0, fmt.Errorf("package %d is cut off", pkg)
	}
	return int(at) + ndbBlobHead, int(length), nil
}
