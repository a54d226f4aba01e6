package rpm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/castellan-security/castellan/internal/scan/analyse"
)

// Tags of a header (rpmtag.h of RPM 4.18); the numbers never change.
const (
	tagName       = 1000
	tagVersion    = 1001
	tagRelease    = 1002
	tagEpoch      = 1003
	tagLicense    = 1014
	tagArch       = 1022
	tagSource     = 1044
	tagDirIndexes = 1116
	tagBaseNames  = 1117
	tagDirNames   = 1118
	tagModule     = 5096
)

// Types of what a tag holds.
const (
	typeInt32  = 4
	typeString = 6
	typeArray  = 8 // of strings
	typeI18N   = 9 // strings, the first is the untranslated one
)

// Limits of a header, the first two RPM's own (HEADER_TAGS_MAX, HEADER_DATA_MAX).
const (
	maxEntries = 65_535
	maxData    = 256 << 20
	maxOwned   = 50_000 // programs and libraries of one package
	// maxFolders bounds the folders of one package, which are held while its files
	// are read; the source of a kernel has 6,000.
	maxFolders = 100_000
	// maxText bounds a text; licences have some hundred bytes, seldom thousands.
	maxText = 64 << 10
)

const (
	lengthsSize = 8 // number of entries, bytes of data
	entrySize   = 16
	// readSize is how much of a list is read at a time, and more than a name has.
	readSize = 4 << 10
)

// span is where the data of a tag lies.
type span struct {
	kind, count uint32
	offset      int64
}

// header is a package's header, read where it lies.
type header struct {
	from io.ReaderAt
	end  int64 // of the data
	tags map[uint32]span
	err  error // the first that a text met
}

var errTruncated = errors.New("header is cut off")

// parseHeader reads the table of a header without its magic, as databases hold
// it: number of entries and bytes, both big endian, then the entries, then the
// data they point into. The header has size bytes.
func parseHeader(from io.ReaderAt, size int) (*header, error) {
	var lengths [lengthsSize]byte
	if size < lengthsSize {
		return nil, errTruncated
	}
	if _, err := from.ReadAt(lengths[:], 0); err != nil {
		return nil, err
	}
	entries, length := binary.BigEndian.Uint32(lengths[:]), binary.BigEndian.Uint32(lengths[4:])
	if entries > maxEntries || length > maxData {
		return nil, fmt.Errorf("header of %d entries and %d bytes", entries, length)
	}
	start := lengthsSize + int(entries)*entrySize
	if size < start+int(length) {
		return nil, errTruncated
	}
	h := &header{from: from, end: int64(start) + int64(length), tags: map[uint32]span{}}
	table := bufio.NewReaderSize(io.NewSectionReader(from, lengthsSize, int64(start-lengthsSize)), readSize)
	for range entries {
		var e [entrySize]byte
		if _, err := io.ReadFull(table, e[:]); err != nil {
			return nil, err
		}
		tag, offset := binary.BigEndian.Uint32(e[:]), binary.BigEndian.Uint32(e[8:])
		if offset >= length { // of a region's own mark, and of damage
			continue
		}
		switch tag {
		case tagName, tagVersion, tagRelease, tagEpoch, tagLicense, tagArch, tagSource, tagDirIndexes, tagBaseNames, tagDirNames, tagModule:
			h.tags[tag] = span{binary.BigEndian.Uint32(e[4:]), binary.BigEndian.Uint32(e[12:]), int64(start) + int64(offset)}
		}
	}
	return h, nil
}

// data reads from where a tag's data begins.
func (h *header) data(s span) *bufio.Reader {
	return bufio.NewReaderSize(io.NewSectionReader(h.from, s.offset, h.end-s.offset), readSize)
}

// text returns the string of a tag, "" if there is none.
func (h *header) text(tag uint32) string {
	s, ok := h.tags[tag]
	if !ok || s.kind != typeString && s.kind != typeArray && s.kind != typeI18N {
		return ""
	}
	const most = 256 // texts have, nearly all of them
	for size := int64(most); ; size *= maxText / most {
		b := make([]byte, min(size, h.end-s.offset))
		if _, err := h.from.ReadAt(b, s.offset); err != nil {
			h.err = errors.Join(h.err, err)
			return ""
		}
		if i := bytes.IndexByte(b, 0); i >= 0 {
			return string(b[:i])
		}
		if int64(len(b)) < size {
			return string(b) // the last one, which nothing ends
		}
		if size == maxText {
			h.err = errors.Join(h.err, fmt.Errorf("tag %d: a text of more than %d bytes", tag, maxText))
			return ""
		}
	}
}

// number returns the first number of a tag, 0 if there is none.
func (h *header) number(tag uint32) uint32 {
	s, ok := h.tags[tag]
	if !ok || s.kind != typeInt32 || h.end-s.offset < 4 {
		return 0
	}
	var b [4]byte
	if _, err := h.from.ReadAt(b[:], s.offset); err != nil {
		h.err = errors.Join(h.err, err)
	}
	return binary.BigEndian.Uint32(b[:])
}

// list returns where the strings of a tag lie; none if it has none.
func (h *header) list(tag uint32) (span, error) {
	s, ok := h.tags[tag]
	if !ok || s.kind != typeArray && s.kind != typeString {
		return span{}, nil
	}
	// Each takes a byte at least.
	if int64(s.count) > h.end-s.offset {
		return span{}, fmt.Errorf("tag %d: %d strings in %d bytes", tag, s.count, h.end-s.offset)
	}
	return s, nil
}

// next reads a string of a list, valid until the next one. One that is too long
// to be a name is cut.
func next(r *bufio.Reader) ([]byte, error) {
	b, err := r.ReadSlice(0)
	if err == nil {
		return b[:len(b)-1], nil
	}
	if !errors.Is(err, bufio.ErrBufferFull) {
		return nil, cutOff(err)
	}
	long := slices.Clone(b)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = r.ReadSlice(0)
	}
	return long, cutOff(err)
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return errTruncated
	}
	return err
}

// folders reads the folders in which the package has files.
func (h *header) folders() ([]string, error) {
	s, err := h.list(tagDirNames)
	if err != nil {
		return nil, err
	}
	if s.count > maxFolders {
		return nil, fmt.Errorf("files in %d folders, and at most %d are read", s.count, maxFolders)
	}
	var out []string
	held := 0
	r := h.data(s)
	for range s.count {
		name, err := next(r)
		if err != nil {
			return nil, err
		}
		if held += len(name); held > maxHeader {
			return nil, errTruncated
		}
		out = append(out, string(name))
	}
	return out, nil
}

// files returns the programs and libraries that the package owns, sorted.
func (h *header) files() ([]string, error) {
	list, err := h.list(tagBaseNames)
	if err != nil || list.count == 0 {
		return nil, err
	}
	folders, err := h.folders()
	if err != nil {
		return nil, err
	}
	at := h.tags[tagDirIndexes]
	if at.kind != typeInt32 || h.end-at.offset < 4*int64(list.count) {
		return nil, errTruncated
	}
	var out []string
	names, indexes := h.data(list), h.data(at)
	for i := range list.count {
		name, err := next(names)
		if err != nil {
			return nil, err
		}
		var index [4]byte
		if _, err := io.ReadFull(indexes, index[:]); err != nil {
			return nil, cutOff(err)
		}
		n := binary.BigEndian.Uint32(index[:])
		if int64(n) >= int64(len(folders)) {
			return nil, fmt.Errorf("file %d is in folder %d of %d", i, n, len(folders))
		}
		if len(folders[n])+len(name) > analyse.MaxPath {
			continue
		}
		file := folders[n] + string(name)
		if !analyse.Keeps(file) {
			continue
		}
		if len(out) == maxOwned {
			return nil, fmt.Errorf("more than %d programs and libraries", maxOwned)
		}
		out = append(out, file)
	}
	slices.Sort(out)
	return out, nil
}
