package vulndb

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/fault"
)

// Keep copies feeds out of an existing file, so that only those that changed need
// to be read again. A name that the file does not have is an error.
func (b *Builder) Keep(ctx context.Context, old *DB, names ...string) error {
	kept := map[string]bool{}
	for _, name := range names {
		s, ok := old.Source(name)
		if !ok {
			return fault.New(fault.NotFound, "the advisory database has no source %q", name)
		}
		if err := b.begin(s); err != nil {
			return err
		}
		switch s.Kind {
		case KindExploited:
			b.keepExploited(old, b.sources[name])
		case KindProbabilities:
			b.keepProbabilities(old, b.sources[name])
		default:
			kept[name] = true
		}
	}
	if len(kept) == 0 {
		return nil
	}
	if err := b.keepAdvisories(ctx, old, kept); err != nil {
		return fmt.Errorf("keep advisories: %w", err)
	}
	return nil
}

func (b *Builder) keepExploited(old *DB, s *Source) {
	for i := range old.kev.n {
		if x := old.kev.read(i); x.CVE != "" {
			b.kev[x.CVE] = x
			s.Advisories++
		}
	}
}

func (b *Builder) keepProbabilities(old *DB, s *Source) {
	for i := range old.epss.n {
		b.epss = append(b.epss, old.epss.read(i))
	}
	b.epssDate = old.epss.date
	s.Advisories, s.Newest = old.epss.n, old.epss.date
}

// notKept stands for an advisory of a source that is not kept.
const notKept = ^uint32(0)

// keepAdvisories goes through all blocks twice: the records come first, and where
// a record belongs depends on the first package that it is about.
func (b *Builder) keepAdvisories(ctx context.Context, old *DB, kept map[string]bool) error {
	const none = ^uint32(0)
	first := make([]uint32, old.Advisories()) // where the block of the first package is
	for i := range first {
		first[i] = none
	}
	for at, blk := range old.blocks() {
		var e Entries
		for e.Of(blk.Package); e.Next(); {
			if int(e.Advisory) < len(first) && first[e.Advisory] == none {
				first[e.Advisory] = at
			}
		}
		if err := e.Err(); err != nil {
			return err
		}
	}
	numbers, err := b.keepRecords(ctx, old, kept, first)
	if err != nil {
		return err
	}
	for _, blk := range old.blocks() {
		var e Entries
		for e.Of(blk.Package); e.Next(); {
			if int(e.Advisory) >= len(numbers) || numbers[e.Advisory] == notKept {
				continue
			}
			a, err := e.affected(old.names[blk.ecosystem], string(blk.name))
			if err != nil {
				return err
			}
			if err := b.addAffected(numbers[e.Advisory], &a); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// keepRecords adds the records and texts of the sources that are kept, and returns
// the numbers under which they were added.
func (b *Builder) keepRecords(ctx context.Context, old *DB, kept map[string]bool, first []uint32) ([]uint32, error) {
	numbers := make([]uint32, len(first))
	texts := old.Texts()
	for n := range numbers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r, err := old.Record(Number(n))
		if err != nil {
			return nil, err
		}
		numbers[n] = notKept
		if !kept[r.Source] {
			continue
		}
		t, err := texts.Read(r)
		if err != nil {
			return nil, err
		}
		a := whole(r, t)
		about := advisory.Affected{Ecosystem: noEcosystem}
		if blk, ok := old.blockAt(first[n]); ok {
			about = advisory.Affected{Ecosystem: old.names[blk.ecosystem], Package: string(blk.name)}
		}
		if numbers[n], err = b.addRecord(&a, about); err != nil {
			return nil, err
		}
	}
	return numbers, nil
}

// whole joins a record and its texts.
func whole(r Record, t Texts) advisory.Advisory {
	return advisory.Advisory{
		ID: r.ID, Source: r.Source, Aliases: r.Aliases, Upstream: r.Upstream, Related: t.Related,
		Published: r.Published, Modified: r.Modified, Withdrawn: r.Withdrawn,
		Rating: r.Rating, Scores: r.Scores, Weaknesses: r.Weaknesses,
		Summary: t.Summary, Details: t.Details, References: t.References,
	}
}

// blocks goes through the blocks of all packages, in the order of ecosystem and
// name. It ends where the file is damaged.
func (db *DB) blocks() iter.Seq2[uint32, block] {
	return func(yield func(uint32, block) bool) {
		s := db.section(sectionPackages)
		for at := 0; at < len(s); {
			size, n := binary.Uvarint(s[at:])
			if n <= 0 || size > uint64(len(s)-at-n) {
				return
			}
			if blk, ok := db.blockAt(uint32(at)); !ok || !yield(uint32(at), blk) {
				return
			}
			at += n + int(size)
		}
	}
}
