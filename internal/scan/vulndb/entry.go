package vulndb

import (
	"encoding/binary"

	"github.com/castellan-security/castellan/internal/advisory"
)

// An entry is what one advisory says about one package:
//
//	advisory, as the difference to the one before
//	flags: Of (2 bits), Status (3), rated, more, plain
//	the rating, if rated
//	if more: note, repository (references, one higher than they are, 0: none),
//	  architectures and scores, counted
//	if plain: one range; else ranges, counted, and versions, counted, each as
//	  the difference to the one before
//
// A range is two numbers: where it begins, one higher than it is, 0: from the
// first; and where it ends, times two, plus one if the end is in it, all one
// higher than it is, 0: without end.
const (
	flagOf     = 0x03
	flagStatus = 0x1C
	flagRated  = 0x20
	flagMore   = 0x40
	flagPlain  = 0x80

	statusShift = 2
)

// Entry is what one advisory says about one package.
type Entry struct {
	Advisory Number
	Of       advisory.Of
	Status   advisory.Status
	Rating   advisory.Rating // for this package; Unrated: as the advisory

	more   []byte
	spans  []span
	listed []int // versions by their numbers
	p      *Package
}

// Entries goes through the entries of a package. It can be used for one package
// after another and keeps its memory.
type Entries struct {
	Entry
	p    Package
	c    cursor
	left int
}

// Of starts with the entries of a package.
func (e *Entries) Of(p Package) {
	e.p, e.c, e.left = p, cursor{b: p.entries}, p.count
	e.Entry.p = &e.p
	e.Advisory = 0
}

// Next reads the next entry into e.Entry, which stands until the next call. After
// the last, or where the file is damaged (see Err), it returns false.
func (e *Entries) Next() bool {
	if e.left == 0 || e.c.bad {
		return false
	}
	e.left--
	c := &e.c
	e.Advisory += Number(c.u32())
	flags := c.byte()
	e.Entry.Of = advisory.Of(flags & flagOf)
	e.Status = advisory.Status(flags & flagStatus >> statusShift)
	e.Rating = advisory.Unrated
	if flags&flagRated != 0 {
		e.Rating = advisory.Rating(c.byte())
	}
	if e.Entry.Of > advisory.OfBinary || e.Status > advisory.UnderInvestigation || e.Rating > advisory.Critical {
		c.fail()
	}
	e.more = nil
	if flags&flagMore != 0 {
		e.more = c.bytes()
	}
	e.spans, e.listed = e.spans[:0], e.listed[:0]
	if flags&flagPlain != 0 {
		e.spans = append(e.spans, readSpan(c))
		return !c.bad
	}
	for range c.upTo(maxRanges) {
		e.spans = append(e.spans, readSpan(c))
	}
	at := 0
	for range c.upTo(maxListed) {
		at += int(c.u32())
		e.listed = append(e.listed, at)
	}
	return !c.bad
}

// Err says whether the entries ended before their end.
func (e *Entries) Err() error {
	if e.c.bad {
		return damaged("the entries of a package")
	}
	return nil
}

func readSpan(c *cursor) span {
	from, to := c.u32(), c.u32()
	s := span{from: int(from) - 1, to: -1}
	if to > 0 {
		s.to, s.last = int(to-1)>>1, (to-1)&1 != 0
	}
	return s
}

func appendSpan(b []byte, s span) []byte {
	b = binary.AppendUvarint(b, uint64(s.from+1))
	if s.to < 0 {
		return append(b, 0)
	}
	end := uint64(s.to) << 1
	if s.last {
		end++
	}
	return binary.AppendUvarint(b, end+1)
}

// Holds says whether a version is within a range or listed.
func (e *Entry) Holds(at Position) bool {
	for _, s := range e.spans {
		if s.holds(at) {
			return true
		}
	}
	for _, i := range e.listed {
		if at.twice == 2*i {
			return true
		}
	}
	return false
}

// Fix returns the lowest version above a position at which the entry says that
// the weakness is fixed and where it does not hold again, or "".
func (e *Entry) Fix(at Position) string {
	best := -1
	for _, s := range e.spans {
		if s.to < 0 || s.last || at.loose || 2*s.to <= at.twice || best >= 0 && s.to >= best {
			continue
		}
		if !e.Holds(Position{twice: 2 * s.to}) {
			best = s.to
		}
	}
	return e.p.version(best)
}

// version returns the i-th version, or "" if there is none.
func (p *Package) version(i int) string {
	if i < 0 || i >= len(p.versions)/4 {
		return ""
	}
	return string(p.db.text(p.versionRef(i)))
}

// Limits is what an entry is limited to, and what else it says.
type Limits struct {
	Arches     []string
	Repository string
	Note       string
	Scores     []advisory.Score
}

// Limited says whether Limits may return anything.
func (e *Entry) Limited() bool { return e.more != nil }

// Limits reads what few entries have.
func (e *Entry) Limits() (Limits, error) {
	if e.more == nil {
		return Limits{}, nil
	}
	db := e.p.db
	c := cursor{b: e.more}
	l := Limits{Note: db.optional(&c), Repository: db.optional(&c)}
	for range c.upTo(maxArches) {
		l.Arches = append(l.Arches, string(db.text(c.u32())))
	}
	l.Scores = db.readScores(&c)
	if c.bad {
		return Limits{}, damaged("an entry of a package")
	}
	return l, nil
}

// optional reads a reference to a string that may be missing.
func (db *DB) optional(c *cursor) string {
	ref := c.u32()
	if ref == 0 {
		return ""
	}
	return string(db.text(ref - 1))
}

func (db *DB) readScores(c *cursor) (scores []advisory.Score) {
	for range c.upTo(maxScores) {
		scores = append(scores, advisory.Score{Vector: string(db.text(c.u32())), By: db.optional(c)})
	}
	return scores
}

// affected returns the entry as its feed said it, but for listed versions that
// its ranges hold and for other spellings of the same version.
func (e *Entry) affected(ecosystem, name string) (advisory.Affected, error) {
	a := advisory.Affected{Ecosystem: ecosystem, Package: name, Of: e.Of, Status: e.Status, Rating: e.Rating}
	for _, s := range e.spans {
		r := advisory.Range{Introduced: e.p.version(s.from)}
		if s.last {
			r.Last = e.p.version(s.to)
		} else {
			r.Fixed = e.p.version(s.to)
		}
		a.Ranges = append(a.Ranges, r)
	}
	for _, i := range e.listed {
		a.Versions = append(a.Versions, e.p.version(i))
	}
	l, err := e.Limits()
	a.Arches, a.Repository, a.Note, a.Scores = l.Arches, l.Repository, l.Note, l.Scores
	return a, err
}
