package sample

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"math"
	"strings"
)

// zipped packs entries as a zip that stores them: deflate may change with Go.
func zipped(entries []entry) ([]byte, error) {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, e := range entries {
		if e.kind == "archive" {
			b, err := zipped(e.inside)
			if err != nil {
				return nil, err
			}
			e.content = b
		}
		f, err := w.CreateHeader(&zip.FileHeader{Name: e.path, Method: zip.Store, Modified: made})
		if err != nil {
			return nil, err
		}
		if _, err := f.Write(e.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// makeProgram makes an ELF program of nothing but what compilers leave in it.
func makeProgram(kind, content string) ([]byte, error) {
	switch kind {
	case "go":
		version, modules, ok := strings.Cut(content, "\n")
		if !ok {
			return nil, errors.New("want Go's version in the first line, then its modules")
		}
		return elf(".go.buildinfo", buildInfo(version, modules)), nil
	case "rust":
		if len(content) > math.MaxUint16 {
			return nil, errors.New("a list of more than 64 KiB")
		}
		return elf(".dep-v0", stored(content)), nil
	}
	return nil, fmt.Errorf("no such kind of program: %q", kind)
}

// stored is a zlib stream of blocks that are not compressed, of at most 64 KiB
// together: the standard library's bytes may change.
func stored(s string) []byte {
	b := []byte{0x78, 0x01, 0x01} // the last block, and the first
	b = binary.LittleEndian.AppendUint16(b, uint16(len(s)))
	b = binary.LittleEndian.AppendUint16(b, ^uint16(len(s)))
	return binary.BigEndian.AppendUint32(append(b, s...), adler32.Checksum([]byte(s)))
}

// buildInfo is build information as Go writes it since 1.18: its strings follow
// the header, and marks stand around the modules.
func buildInfo(version, modules string) []byte {
	const begin = "\x30\x77\xaf\x0c\x92\x74\x08\x02\x41\xe1\xc1\x07\xe6\xd6\x18\xe6"
	const end = "\xf9\x32\x43\x31\x86\x18\x20\x72\x00\x82\x42\x10\x41\x16\xd8\xf2"
	modules = begin + modules + end
	b := append([]byte("\xff Go buildinf:\x08\x02"), make([]byte, 16)...)
	b = append(binary.AppendUvarint(b, uint64(len(version))), version...)
	return append(binary.AppendUvarint(b, uint64(len(modules))), modules...)
}

// elf makes a 64-bit program with one section, which is mapped.
func elf(section string, content []byte) []byte {
	const (
		at, addr           = 0x1000, 0x401000
		program, table     = 0x38, 0x40 // sizes of the headers of segments and sections
		typeProgbits       = 1
		typeStrings        = 3
		readOnly, writable = 4, 3
	)
	le := binary.LittleEndian
	names := "\x00" + section + "\x00.shstrtab\x00"
	namesAt := at + len(content)
	sectionsAt := (namesAt + len(names) + 7) &^ 7
	b := make([]byte, sectionsAt+3*table)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2)    // executable
	le.PutUint16(b[18:], 0x3e) // amd64
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], addr)
	le.PutUint64(b[32:], table) // where segments are listed
	le.PutUint64(b[40:], uint64(sectionsAt))
	for i, v := range []uint16{table, program, 1, table, 3, 2} {
		le.PutUint16(b[52+2*i:], v)
	}
	le.PutUint32(b[64:], 1)
	le.PutUint32(b[68:], readOnly)
	for i, v := range []int{at, addr, addr, len(content), len(content), at} {
		le.PutUint64(b[72+8*i:], uint64(v))
	}
	copy(b[at:], content)
	copy(b[namesAt:], names)
	put := func(i, name, kind, flags, address, offset, size int) {
		h := b[sectionsAt+i*table:]
		le.PutUint32(h, uint32(name))
		le.PutUint32(h[4:], uint32(kind))
		for j, v := range []int{flags, address, offset, size} {
			le.PutUint64(h[8+8*j:], uint64(v))
		}
		le.PutUint64(h[48:], 16)
	}
	put(1, 1, typeProgbits, writable, addr, at, len(content))
	put(2, 2+len(section), typeStrings, 0, 0, namesAt, len(names))
	return b
}
