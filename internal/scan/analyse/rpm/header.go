package rpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
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

// Limits of a header, RPM's own (HEADER_TAGS_MAX, HEADER_DATA_MAX).
const (
	maxEntries = 65_535
	maxData    = 256 << 20
	maxOwned   = 50_000 // programs and libraries of one package
)

const (
	lengthsSize = 8 // number of entries, bytes of data
	entrySize   = 16
)

// span is where the data of a tag lies.
type span struct {
	kind, count uint32
	data        []byte // from its beginning to the end of all data
}

// header is the part of a package's header that is of interest.
type header map[uint32]span

var errTruncated = errors.New("header is cut off")

// parseHeader reads a header without its magic, as databases hold it: number of
// entries and bytes, both big endian, then the entries, then the data they point
// into.
func parseHeader(b []byte) (header, error) {
	if len(b) < lengthsSize {
		return nil, errTruncated
	}
	entries, size := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	if entries > maxEntries || size > maxData {
		return nil, fmt.Errorf("header of %d entries and %d bytes", entries, size)
	}
	start := lengthsSize + int(entries)*entrySize
	if len(b) < start+int(size) {
		return nil, errTruncated
	}
	data := b[start : start+int(size)]
	h := header{}
	for at := lengthsSize; at < start; at += entrySize {
		tag, offset := binary.BigEndian.Uint32(b[at:]), binary.BigEndian.Uint32(b[at+8:])
		if offset >= size { // of a region's own mark, and of damage
			continue
		}
		switch tag {
		case tagName, tagVersion, tagRelease, tagEpoch, tagLicense, tagArch, tagSource, tagDirIndexes, tagBaseNames, tagDirNames, tagModule:
			h[tag] = span{binary.BigEndian.Uint32(b[at+4:]), binary.BigEndian.Uint32(b[at+12:]), data[offset:]}
		}
	}
	return h, nil
}

// text returns the string of a tag, "" if there is none.
func (h header) text(tag uint32) string {
	s, ok := h[tag]
	if !ok || s.kind != typeString && s.kind != typeArray && s.kind != typeI18N {
		return ""
	}
	return cutString(s.data)
}

// number returns the first number of a tag, 0 if there is none.
func (h header) number(tag uint32) uint32 {
	s, ok := h[tag]
	if !ok || s.kind != typeInt32 || len(s.data) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(s.data)
}

// strings returns the strings of a tag.
func (h header) strings(tag uint32) ([][]byte, error) {
	s, ok := h[tag]
	if !ok || s.kind != typeArray && s.kind != typeString {
		return nil, nil
	}
	// Each takes a byte at least: who says more lies, and nothing is reserved
	// for it.
	if int64(s.count) > int64(len(s.data)) {
		return nil, fmt.Errorf("tag %d: %d strings in %d bytes", tag, s.count, len(s.data))
	}
	out := make([][]byte, 0, s.count)
	rest := s.data
	for range s.count {
		end := bytes.IndexByte(rest, 0)
		if end < 0 {
			return nil, errTruncated
		}
		out = append(out, rest[:end])
		rest = rest[end+1:]
	}
	return out, nil
}

// files returns the programs and libraries that the package owns, sorted.
func (h header) files() ([]string, error) {
	names, err := h.strings(tagBaseNames)
	if err != nil {
		return nil, err
	}
	folders, err := h.strings(tagDirNames)
	if err != nil {
		return nil, err
	}
	indexes := h[tagDirIndexes]
	if len(names) > 0 && (indexes.kind != typeInt32 || len(indexes.data) < 4*len(names)) {
		return nil, errTruncated
	}
	var out []string
	for i, name := range names {
		n := binary.BigEndian.Uint32(indexes.data[4*i:])
		if int64(n) >= int64(len(folders)) {
			return nil, fmt.Errorf("file %d is in folder %d of %d", i, n, len(folders))
		}
		if len(folders[n])+len(name) > analyse.MaxPath {
			continue
		}
		file := string(folders[n]) + string(name)
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
