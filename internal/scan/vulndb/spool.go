package vulndb

import (
	"encoding/binary"

	"github.com/castellan-security/castellan/internal/advisory"
)

// What a builder spools is in the file's own encoding, but with strings in place,
// because where they will be is not known yet.

func spoolAdvisory(b []byte, a *advisory.Advisory) []byte {
	b = appendString(b, a.ID)
	for _, t := range []int64{storedMoment(a.Published), storedMoment(a.Modified), storedMoment(a.Withdrawn)} {
		b = binary.AppendVarint(b, t)
	}
	b = append(b, byte(a.Rating))
	b = appendStrings(b, a.Aliases)
	b = appendStrings(b, a.Upstream)
	b = spoolScores(b, a.Scores)
	b = appendStrings(b, a.Weaknesses)
	return appendTexts(b, a)
}

// unspoolAdvisory returns the advisory and, as they are stored, its texts.
func unspoolAdvisory(b []byte) (a advisory.Advisory, texts []byte, ok bool) {
	c := cursor{b: b}
	a.ID = string(c.bytes())
	a.Published, a.Modified, a.Withdrawn = moment(c.varint()), moment(c.varint()), moment(c.varint())
	a.Rating = advisory.Rating(c.byte())
	a.Aliases, a.Upstream = c.strings(maxNames), c.strings(maxNames)
	a.Scores = unspoolScores(&c)
	a.Weaknesses = c.strings(maxWeaknesses)
	return a, c.b, !c.bad
}

func spoolScores(b []byte, scores []advisory.Score) []byte {
	b = binary.AppendUvarint(b, uint64(len(scores)))
	for _, s := range scores {
		b = appendString(b, s.Vector)
		b = appendString(b, s.By)
	}
	return b
}

func unspoolScores(c *cursor) (scores []advisory.Score) {
	for range c.upTo(maxScores) {
		scores = append(scores, advisory.Score{Vector: string(c.bytes()), By: string(c.bytes())})
	}
	return scores
}

func spoolAffected(b []byte, a *advisory.Affected) []byte {
	b = append(b, byte(a.Of), byte(a.Status), byte(a.Rating))
	b = appendString(b, a.Note)
	b = appendString(b, a.Repository)
	b = appendStrings(b, a.Arches)
	b = spoolScores(b, a.Scores)
	b = binary.AppendUvarint(b, uint64(len(a.Ranges)))
	for _, r := range a.Ranges {
		b = appendString(b, r.Introduced)
		b = appendString(b, r.Fixed)
		b = appendString(b, r.Last)
	}
	return appendStrings(b, a.Versions)
}

func unspoolAffected(b []byte) (a advisory.Affected, ok bool) {
	c := cursor{b: b}
	a.Of, a.Status, a.Rating = advisory.Of(c.byte()), advisory.Status(c.byte()), advisory.Rating(c.byte())
	a.Note, a.Repository = string(c.bytes()), string(c.bytes())
	a.Arches = c.strings(maxArches)
	a.Scores = unspoolScores(&c)
	for range c.upTo(maxRanges) {
		a.Ranges = append(a.Ranges, advisory.Range{Introduced: string(c.bytes()), Fixed: string(c.bytes()), Last: string(c.bytes())})
	}
	a.Versions = c.strings(maxListed)
	return a, !c.bad
}
