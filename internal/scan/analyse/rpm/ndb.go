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
)

func readNDB(db []byte, header func([]byte) error) error {
	if len(db) < ndbFirstSlot || binary.LittleEndian.Uint32(db) != ndbMagic {
		return errors.New("not a database of the form ndb")
	}
	pages := int64(binary.LittleEndian.Uint32(db[12:]))
	if pages*ndbPage > int64(len(db)) {
		return fmt.Errorf("%d pages of slots in %d bytes", pages, len(db))
	}
	// Packages lie apart from each other; who names one place a thousand times
	// would have more read than there is.
	left := len(db)
	for at := ndbFirstSlot; at < int(pages)*ndbPage; at += ndbSlotSize {
		slot := db[at:]
		if binary.LittleEndian.Uint32(slot) != ndbSlot {
			return fmt.Errorf("slot at %d is damaged", at)
		}
		pkg, block := binary.LittleEndian.Uint32(slot[4:]), binary.LittleEndian.Uint32(slot[8:])
		if pkg == 0 {
			continue
		}
		blob, err := ndbAt(db, int64(block)*ndbBlock, pkg)
		if err != nil {
			return err
		}
		if left -= len(blob); left < 0 {
			return errors.New("packages lie over each other")
		}
		if err := header(blob); err != nil {
			return err
		}
	}
	return nil
}

// ndbAt returns the package that lies at a place.
func ndbAt(db []byte, at int64, pkg uint32) ([]byte, error) {
	const head = 16
	if at+head > int64(len(db)) {
		return nil, fmt.Errorf("package %d is behind the end", pkg)
	}
	b := db[at:]
	if binary.LittleEndian.Uint32(b) != ndbBlob || binary.LittleEndian.Uint32(b[4:]) != pkg {
		return nil, fmt.Errorf("package %d is damaged", pkg)
	}
	size := int64(binary.LittleEndian.Uint32(b[12:]))
	if head+size > int64(len(b)) {
		return nil, fmt.Errorf("package %d is cut off", pkg)
	}
	return b[head : head+size], nil
}
