package vulndb

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/scan/version"
)

// Write compiles all that was added into the file at path, once. The file appears
// whole or not at all, and what was there stays until then; who has the old one
// open goes on reading it.
func (b *Builder) Write(ctx context.Context, path string) (err error) {
	if b.written {
		return fault.New(fault.Conflict, "write advisory database: a builder writes one file")
	}
	b.written = true
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write advisory database: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write advisory database: %w", err), f.Close(), os.Remove(f.Name()))
		}
	}()
	if err := b.write(ctx, f); err != nil {
		return err
	}
	return replaceBy(f, path)
}

// replaceBy makes a temporary file durable and puts it where path is.
func replaceBy(f *os.File, path string) error {
	const readable = 0o644
	if err := f.Chmod(readable); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync() // or the new name may not survive a crash
}

// writing is a file that is being written.
type writing struct {
	w       *bufio.Writer
	at      uint64
	sum     hash.Hash
	header  header
	strings stringTable
	slots   []slot
	names   []nameSlot
}

type slot struct {
	hash uint64
	at   uint32
}

type nameSlot struct {
	hash   uint32
	number Number
}

// write writes all sections behind a header that it fills in at last.
func (b *Builder) write(ctx context.Context, f *os.File) error {
	w := &writing{w: bufio.NewWriterSize(f, 1<<20), at: headerSize}
	w.header.generation, w.header.built = b.o.Generation, b.o.Built.Unix()
	if _, err := f.Seek(headerSize, io.SeekStart); err != nil {
		return err
	}
	numbers, err := b.writeAdvisories(ctx, w)
	if err != nil {
		return err
	}
	if err := b.writePackages(ctx, w, numbers); err != nil {
		return err
	}
	kev := slices.Collect(maps.Values(b.kev))
	if err := errors.Join(
		w.whole(sectionTable, compileTable(w.slots)),
		w.whole(sectionNames, compileNames(w.names)),
		w.whole(sectionStrings, w.strings.data),
		w.whole(sectionKEV, appendExploited(kev)),
		w.whole(sectionEPSS, appendProbabilities(b.epss, b.epssDate)),
		b.writeSources(w),
		w.w.Flush(),
	); err != nil {
		return err
	}
	if len(w.strings.data) > 1<<32-1 {
		return fault.New(fault.Exhausted, "%d bytes of names and versions", len(w.strings.data))
	}
	w.header.size = w.at
	_, err = f.WriteAt(w.header.append(nil), 0)
	return err
}

func (w *writing) begin(section int) {
	w.header.sections[section].offset = w.at
	w.sum = sha256.New()
}

func (w *writing) Write(p []byte) (int, error) {
	w.sum.Write(p)
	w.at += uint64(len(p))
	return w.w.Write(p)
}

// end closes a section. Those that are pointed into with 32 bits must not grow
// beyond them.
func (w *writing) end(section int) error {
	s := &w.header.sections[section]
	s.size = w.at - s.offset
	s.digest = [sha256.Size]byte(w.sum.Sum(nil))
	if section != sectionBlocks && s.size > 1<<32-1 {
		return fault.New(fault.Exhausted, "section %d has %d bytes", section, s.size)
	}
	return nil
}

// whole writes a section that is in memory.
func (w *writing) whole(section int, p []byte) error {
	w.begin(section)
	if _, err := w.Write(p); err != nil {
		return err
	}
	return w.end(section)
}

// writeAdvisories writes records, texts and what leads to them. It returns the
// numbers of advisories in the file by those in which they were added.
func (b *Builder) writeAdvisories(ctx context.Context, w *writing) (_ []Number, err error) {
	texts, err := newTextWriter(b.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, texts.close()) }()
	numbers := make([]Number, b.count)
	ids := b.sourceNumbers()
	var index, record []byte
	count := Number(0)
	w.begin(sectionRecords)
	start := w.at
	for p, err := range b.advisories.sorted() {
		if err = cmp.Or(err, ctx.Err()); err != nil {
			return nil, err
		}
		added := binary.LittleEndian.Uint32(p.value)
		if b.dropped[added] {
			numbers[added] = droppedNumber
			continue
		}
		name, _, _ := bytes.Cut(p.key, []byte{0})
		a, text, ok := unspoolAdvisory(p.value[4:])
		if !ok {
			return nil, errors.New("what was spooled is damaged")
		}
		numbers[added] = count
		s := b.sources[string(name)]
		s.Advisories++
		if !a.Withdrawn.IsZero() {
			s.Withdrawn++
		}
		if a.Modified.After(s.Newest) {
			s.Newest = a.Modified
		}
		index = binary.LittleEndian.AppendUint32(index, uint32(w.at-start))
		record = w.strings.appendRecord(record[:0], ids[string(name)], &a)
		block, offset, err := texts.add(text)
		if err != nil {
			return nil, err
		}
		record = binary.AppendUvarint(binary.AppendUvarint(record, uint64(block)), uint64(offset))
		if _, err := w.Write(record); err != nil {
			return nil, err
		}
		w.names = append(w.names, nameSlot{hashName(a.ID), count})
		for _, alias := range a.Aliases {
			w.names = append(w.names, nameSlot{hashName(alias), count})
		}
		count++
	}
	if err := errors.Join(w.end(sectionRecords), w.whole(sectionIndex, index)); err != nil {
		return nil, err
	}
	return numbers, texts.copyTo(w)
}

// sourceNumbers numbers the sources by their names.
func (b *Builder) sourceNumbers() map[string]uint32 {
	ids := map[string]uint32{}
	for i, name := range slices.Sorted(maps.Keys(b.sources)) {
		ids[name] = uint32(i)
	}
	return ids
}

// writeSources comes after the advisories, because they are counted on the way.
func (b *Builder) writeSources(w *writing) error {
	list := make([]*Source, 0, len(b.sources))
	for _, name := range slices.Sorted(maps.Keys(b.sources)) {
		list = append(list, b.sources[name])
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return w.whole(sectionSources, text)
}

// writePackages writes the blocks of all packages and the ecosystems.
func (b *Builder) writePackages(ctx context.Context, w *writing, numbers []Number) error {
	c := blockCompiler{strings: &w.strings, numbers: numbers}
	var ecosystems []string
	var key []byte
	w.begin(sectionPackages)
	start := w.at
	flush := func() error {
		ecosystem, name, _ := bytes.Cut(key, []byte{0})
		if len(c.entries) == 0 {
			return nil
		}
		if n := len(ecosystems); n == 0 || ecosystems[n-1] != string(ecosystem) {
			ecosystems = append(ecosystems, string(ecosystem))
		}
		id := uint32(len(ecosystems) - 1)
		block := c.block(id, version.OrderOf(string(ecosystem)), string(name))
		w.slots = append(w.slots, slot{hashPackage(id, name), uint32(w.at - start)})
		_, err := w.Write(block)
		return err
	}
	for p, err := range b.affected.sorted() {
		if err = cmp.Or(err, ctx.Err()); err != nil {
			return err
		}
		if !bytes.Equal(p.key, key) {
			if err := flush(); err != nil {
				return err
			}
			key = append(key[:0], p.key...)
		}
		if err := c.add(p.value); err != nil {
			return err
		}
	}
	if err := errors.Join(flush(), w.end(sectionPackages)); err != nil {
		return err
	}
	if len(ecosystems) > maxEcosystems {
		return fault.New(fault.Exhausted, "%d ecosystems, at most %d", len(ecosystems), maxEcosystems)
	}
	return w.whole(sectionEcosystems, appendStrings(nil, ecosystems))
}

// compileTable makes the table that leads from packages to blocks.
func compileTable(slots []slot) []byte {
	n := uint32(1)
	for uint64(n)*3 < uint64(len(slots))*4 {
		n <<= 1
	}
	for {
		b := make([]byte, tableHead+uint64(n)*slotSize)
		longest := uint32(0)
		for _, s := range slots {
			probe := uint32(0)
			at := b[tableHead+uint64(uint32(s.hash)&(n-1))*slotSize:]
			for binary.LittleEndian.Uint32(at[4:]) != 0 {
				probe++
				at = b[tableHead+uint64((uint32(s.hash)+probe)&(n-1))*slotSize:]
			}
			longest = max(longest, probe+1)
			binary.LittleEndian.PutUint32(at, uint32(s.hash>>32))
			binary.LittleEndian.PutUint32(at[4:], s.at+1)
		}
		if longest <= maxProbe {
			binary.LittleEndian.PutUint32(b, n)
			binary.LittleEndian.PutUint32(b[4:], longest)
			binary.LittleEndian.PutUint32(b[8:], uint32(len(slots)))
			return b
		}
		n <<= 1
	}
}

func compileNames(names []nameSlot) []byte {
	slices.SortFunc(names, func(a, b nameSlot) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.number, b.number))
	})
	names = slices.Compact(names)
	b := make([]byte, 0, len(names)*nameSize)
	for _, n := range names {
		b = binary.LittleEndian.AppendUint32(b, n.hash)
		b = binary.LittleEndian.AppendUint32(b, uint32(n.number))
	}
	return b
}
