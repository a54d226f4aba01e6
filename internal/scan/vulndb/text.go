package vulndb

import (
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/advisory"
)

// Texts are what people read of an advisory. Those of advisories that stand next
// to each other are compressed together.
type Texts struct {
	Summary    string
	Details    string
	References []advisory.Reference
	Related    []string
}

// TextReader reads texts and keeps the last block, so that it is cheap to read
// them in the order of their numbers. It is for one goroutine.
type TextReader struct {
	db     *DB
	block  uint32
	loaded bool
	data   []byte
}

// Texts returns a reader of texts.
func (db *DB) Texts() *TextReader { return &TextReader{db: db} }

// Read returns the texts of an advisory.
func (t *TextReader) Read(r Record) (Texts, error) {
	if !r.Described() {
		return Texts{}, nil
	}
	if block := r.block - 1; !t.loaded || t.block != block {
		if err := t.load(block); err != nil {
			return Texts{}, err
		}
	}
	if uint64(r.offset) > uint64(len(t.data)) {
		return Texts{}, damaged("the texts of %s", r.ID)
	}
	c := cursor{b: t.data[r.offset:]}
	x := Texts{Summary: string(c.bytes()), Details: string(c.bytes())}
	for range c.upTo(maxReferences) {
		kind, url := c.bytes(), c.bytes()
		x.References = append(x.References, advisory.Reference{Kind: string(kind), URL: string(url)})
	}
	x.Related = c.strings(maxNames)
	if c.bad {
		return Texts{}, damaged("the texts of %s", r.ID)
	}
	return x, nil
}

func (t *TextReader) load(block uint32) error {
	t.loaded = false
	index, blocks := t.db.section(sectionBlockIndex), t.db.section(sectionBlocks)
	if uint64(block)+2 > uint64(len(index)/8) {
		return damaged("text block %d is not in it", block)
	}
	from := binary.LittleEndian.Uint64(index[8*block:])
	to := binary.LittleEndian.Uint64(index[8*(block+1):])
	if from > to || to > uint64(len(blocks)) {
		return damaged("text block %d is not within it", block)
	}
	decoder, err := t.db.texts()
	if err != nil {
		return err
	}
	data, err := decoder.DecodeAll(blocks[from:to], t.data[:0])
	if err != nil {
		return damaged("text block %d: %v", block, err)
	}
	t.data, t.block, t.loaded = data, block, true
	return nil
}

func newDecoder() (*zstd.Decoder, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxBlock),
		zstd.WithDecoderMaxWindow(maxBlock), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("read texts of advisories: %w", err)
	}
	return d, nil
}

// noTexts is what appendTexts writes of an advisory that has none.
var noTexts = string(appendTexts(nil, &advisory.Advisory{}))

func appendTexts(b []byte, a *advisory.Advisory) []byte {
	b = appendString(b, a.Summary)
	b = appendString(b, a.Details)
	b = binary.AppendUvarint(b, uint64(len(a.References)))
	for _, r := range a.References {
		b = appendString(b, r.Kind)
		b = appendString(b, r.URL)
	}
	return appendStrings(b, a.Related)
}
