package feeds

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/flate"
)

// zipArchive reads a zip (APPNOTE.TXT 6.3) whose directory is gone through entry
// by entry: archive/zip holds it in memory, 300 bytes a file, which for npm's
// half a million documents is more than everything else together.
type zipArchive struct {
	r      io.ReaderAt
	size   int64 // of the file
	start  int64 // of the directory
	length int64
	pool   sync.Pool    // of decompressors, which have 40 KB of tables each
	left   atomic.Int64 // bytes that it may still unpack to
}

// zipped is one file in a zip, as the directory has it.
type zipped struct {
	name           string
	method         uint16
	sum            uint32
	packed, length uint64
	offset         int64
}

const (
	directoryEnd   = 0x06054b50
	directoryEnd64 = 0x06064b50
	locator64      = 0x07064b50
	directoryFile  = 0x02014b50
	localFile      = 0x04034b50

	endLength       = 22
	locatorLength   = 20
	end64Length     = 56
	directoryLength = 46
	localLength     = 30

	methodStore, methodDeflate = 0, 8
)

var errNoZip = errors.New("not a whole zip")

// openZip finds the directory at the end of a zip.
func openZip(r io.ReaderAt, size int64) (*zipArchive, error) {
	z := &zipArchive{r: r, size: size}
	z.left.Store(maxUnpacked)
	const longestComment = 1<<16 - 1
	tail := make([]byte, min(size, endLength+longestComment))
	if _, err := r.ReadAt(tail, size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	for i := len(tail) - endLength; i >= 0; i-- {
		end := tail[i:]
		if binary.LittleEndian.Uint32(end) != directoryEnd || int(binary.LittleEndian.Uint16(end[20:])) > len(end)-endLength {
			continue
		}
		at := size - int64(len(tail)-i)
		z.length, z.start = int64(binary.LittleEndian.Uint32(end[12:])), int64(binary.LittleEndian.Uint32(end[16:]))
		if err := z.large(at); err != nil {
			return nil, err
		}
		if z.start < 0 || z.length < 0 || z.start > size || z.length > size-z.start {
			return nil, fmt.Errorf("%w: its directory is outside", errNoZip)
		}
		return z, nil
	}
	return nil, fmt.Errorf("%w: it has no directory", errNoZip)
}

// large reads the place of a directory that does not fit into 32 bits.
func (z *zipArchive) large(end int64) error {
	if end < locatorLength {
		return nil
	}
	var locator [locatorLength]byte
	if _, err := z.r.ReadAt(locator[:], end-locatorLength); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(locator[:]) != locator64 {
		return nil
	}
	at := int64(binary.LittleEndian.Uint64(locator[8:]))
	if at < 0 || at > z.size-end64Length {
		return fmt.Errorf("%w: the end of its directory is outside", errNoZip)
	}
	var large [end64Length]byte
	if _, err := z.r.ReadAt(large[:], at); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(large[:]) != directoryEnd64 {
		return fmt.Errorf("%w: its directory has no end", errNoZip)
	}
	z.length, z.start = int64(binary.LittleEndian.Uint64(large[40:])), int64(binary.LittleEndian.Uint64(large[48:]))
	return nil
}

// files calls do for every file, in the order of the directory, until it returns
// false.
func (z *zipArchive) files(do func(zipped) bool) error {
	r := bufio.NewReaderSize(io.NewSectionReader(z.r, z.start, z.length), 1<<16)
	var head [directoryLength]byte
	var rest []byte
	for n := 0; ; n++ {
		if _, err := io.ReadFull(r, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%w: its directory is cut off: %w", errNoZip, err)
		}
		if binary.LittleEndian.Uint32(head[:]) != directoryFile {
			return fmt.Errorf("%w: its directory is damaged after %d files", errNoZip, n)
		}
		if n == maxFiles {
			return tooMany("files", maxFiles)
		}
		names, extras, comments := int(binary.LittleEndian.Uint16(head[28:])), int(binary.LittleEndian.Uint16(head[30:])), int(binary.LittleEndian.Uint16(head[32:]))
		if need := names + extras + comments; cap(rest) < need {
			rest = make([]byte, need)
		}
		rest = rest[:names+extras+comments]
		if _, err := io.ReadFull(r, rest); err != nil {
			return fmt.Errorf("%w: its directory is cut off: %w", errNoZip, err)
		}
		f := zipped{
			name: string(rest[:names]), method: binary.LittleEndian.Uint16(head[10:]), sum: binary.LittleEndian.Uint32(head[16:]),
			packed: uint64(binary.LittleEndian.Uint32(head[20:])), length: uint64(binary.LittleEndian.Uint32(head[24:])),
			offset: int64(binary.LittleEndian.Uint32(head[42:])),
		}
		f.large(rest[names : names+extras])
		if !do(f) {
			return nil
		}
	}
}

// large takes from the extra fields what does not fit into 32 bits.
func (f *zipped) large(extra []byte) {
	const zip64, none = 1, 1<<32 - 1
	for len(extra) >= 4 {
		tag, size := binary.LittleEndian.Uint16(extra), int(binary.LittleEndian.Uint16(extra[2:]))
		if extra = extra[4:]; size > len(extra) {
			return
		}
		field := extra[:size]
		extra = extra[size:]
		if tag != zip64 {
			continue
		}
		offset := uint64(f.offset)
		for _, v := range []*uint64{&f.length, &f.packed, &offset} {
			if *v == none && len(field) >= 8 {
				*v = binary.LittleEndian.Uint64(field)
				field = field[8:]
			}
		}
		f.offset = int64(offset)
		return
	}
}

// read unpacks a file of at most limit bytes into buf, and checks that it is what
// the directory says.
func (z *zipArchive) read(f zipped, buf []byte, limit int64) ([]byte, error) {
	if f.length > uint64(limit) {
		return nil, tooLarge(limit)
	}
	if z.left.Load() <= 0 {
		return nil, fmt.Errorf("the archive unpacks to more than %d bytes", int64(maxUnpacked))
	}
	packed, err := z.open(f)
	if err != nil {
		return nil, err
	}
	var data []byte
	switch f.method {
	case methodStore:
		data, err = readAll(packed, limit, buf)
	case methodDeflate:
		inflate := z.inflater(packed)
		data, err = readAll(inflate, limit, buf)
		z.pool.Put(inflate)
	default:
		return nil, fmt.Errorf("it is compressed by method %d", f.method)
	}
	z.left.Add(-int64(len(data)))
	switch {
	case err != nil:
		return data, err
	case uint64(len(data)) != f.length:
		return data, fmt.Errorf("it has %d bytes, the directory says %d", len(data), f.length)
	case crc32.ChecksumIEEE(data) != f.sum:
		return data, errors.New("its checksum is wrong")
	}
	return data, nil
}

// open finds the bytes of a file, which follow its local header.
func (z *zipArchive) open(f zipped) (io.Reader, error) {
	var local [localLength]byte
	if f.offset < 0 || f.offset > z.size-localLength {
		return nil, errors.New("it is outside of the archive")
	}
	if _, err := z.r.ReadAt(local[:], f.offset); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(local[:]) != localFile {
		return nil, errors.New("it is not where the directory says")
	}
	start := f.offset + localLength + int64(binary.LittleEndian.Uint16(local[26:])) + int64(binary.LittleEndian.Uint16(local[28:]))
	if start > z.size || f.packed > uint64(z.size-start) {
		return nil, errors.New("it reaches out of the archive")
	}
	return io.NewSectionReader(z.r, start, int64(f.packed)), nil
}

// inflater returns a decompressor for r; the caller puts it back into the pool.
func (z *zipArchive) inflater(r io.Reader) io.Reader {
	if f, ok := z.pool.Get().(io.Reader); ok {
		if err := f.(flate.Resetter).Reset(r, nil); err == nil { // flate documents that its readers are Resetters
			return f
		}
	}
	return flate.NewReader(r)
}

// randomAccess returns f for reading anywhere. A file that cannot do that is read
// into memory.
func randomAccess(f io.Reader, size int64) (io.ReaderAt, int64, error) {
	if at, ok := f.(io.ReaderAt); ok {
		return at, size, nil
	}
	data, err := readAll(f, maxFile, nil)
	return bytes.NewReader(data), int64(len(data)), err
}
