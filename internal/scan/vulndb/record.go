package vulndb

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/advisory"
)

// Number is what an advisory is called within one file.
type Number uint32

// A record is what is needed of an advisory to judge a package:
//
//	source (number), identifier
//	published, modified, withdrawn: seconds since 1970, one higher than they
//	  are, 0: not known; modified as the difference to published
//	rating
//	aliases, upstream: counted
//	scores: counted; vector (reference), by (reference, one higher, 0: nobody)
//	weaknesses: counted; the number of a CWE times two, or a reference times
//	  two and one
//	where its texts are: block (one higher, 0: none), offset within

// Record is an advisory without its texts and without what it is about.
type Record struct {
	ID         string
	Source     string
	Aliases    []string
	Upstream   []string
	Published  time.Time
	Modified   time.Time
	Withdrawn  time.Time
	Rating     advisory.Rating
	Scores     []advisory.Score
	Weaknesses []string

	// block is one higher than it is; 0: there are no texts.
	block, offset uint32
}

// Described says whether there are any texts.
func (r Record) Described() bool { return r.block != 0 }

// Advisories returns how many the file has. They are numbered from 0.
func (db *DB) Advisories() int { return len(db.section(sectionIndex)) / 4 }

// Record reads the record of an advisory.
func (db *DB) Record(n Number) (Record, error) {
	c, ok := db.recordAt(n)
	if !ok {
		return Record{}, damaged("advisory %d is not in it", n)
	}
	source := c.u32()
	r := Record{ID: string(c.bytes())}
	if source < uint32(len(db.sources)) {
		r.Source = db.sources[source].Name
	}
	published := c.varint()
	modified := published + c.varint()
	r.Published, r.Modified, r.Withdrawn = moment(published), moment(modified), moment(c.varint())
	r.Rating = advisory.Rating(c.byte())
	r.Aliases, r.Upstream = c.strings(maxNames), c.strings(maxNames)
	r.Scores = db.readScores(&c)
	for range c.upTo(maxWeaknesses) {
		r.Weaknesses = append(r.Weaknesses, db.weakness(c.u32()))
	}
	r.block, r.offset = c.u32(), c.u32()
	if c.bad || r.Rating > advisory.Critical {
		return Record{}, damaged("the record of advisory %d", n)
	}
	return r, nil
}

func (db *DB) recordAt(n Number) (cursor, bool) {
	index, records := db.section(sectionIndex), db.section(sectionRecords)
	if uint64(n) >= uint64(len(index)/4) {
		return cursor{}, false
	}
	at := binary.LittleEndian.Uint32(index[4*n:])
	if uint64(at) >= uint64(len(records)) {
		return cursor{}, false
	}
	return cursor{b: records[at:]}, true
}

const weaknessPrefix = "CWE-"

func (db *DB) weakness(v uint32) string {
	if v&1 != 0 {
		return string(db.text(v >> 1))
	}
	return weaknessPrefix + strconv.Itoa(int(v>>1))
}

// weaknessNumber returns the number of a CWE, if it is written as the number
// would be.
func weaknessNumber(w string) (uint32, bool) {
	digits, ok := strings.CutPrefix(w, weaknessPrefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 24)
	return uint32(n), err == nil && strconv.FormatUint(n, 10) == digits
}

// lastMoment is the end of the year 9999: what is later cannot be written in RFC
// 3339, nor as JSON.
const lastMoment = 253402300799

// moment turns stored time into time; 0 is none.
func moment(seconds int64) time.Time {
	if seconds <= 0 || seconds > lastMoment {
		return time.Time{}
	}
	return time.Unix(seconds-1, 0).UTC()
}

func storedMoment(t time.Time) int64 {
	s := t.Unix() + 1
	if s <= 0 || s > lastMoment {
		return 0
	}
	return s
}

// stringTable gives each string a place in the file.
type stringTable struct {
	refs map[string]uint32
	data []byte
}

func (s *stringTable) ref(v string) uint32 {
	if ref, ok := s.refs[v]; ok {
		return ref
	}
	if s.refs == nil {
		s.refs = map[string]uint32{}
	}
	ref := uint32(len(s.data))
	s.refs[v] = ref
	s.data = appendString(s.data, v)
	return ref
}

func (s *stringTable) appendOptional(b []byte, v string) []byte {
	if v == "" {
		return append(b, 0)
	}
	return binary.AppendUvarint(b, uint64(s.ref(v))+1)
}

func (s *stringTable) appendScores(b []byte, scores []advisory.Score) []byte {
	b = binary.AppendUvarint(b, uint64(len(scores)))
	for _, score := range scores {
		b = binary.AppendUvarint(b, uint64(s.ref(score.Vector)))
		b = s.appendOptional(b, score.By)
	}
	return b
}

// appendRecord writes a record, all but where its texts are.
func (s *stringTable) appendRecord(b []byte, source uint32, a *advisory.Advisory) []byte {
	b = binary.AppendUvarint(b, uint64(source))
	b = appendString(b, a.ID)
	published := storedMoment(a.Published)
	b = binary.AppendVarint(b, published)
	b = binary.AppendVarint(b, storedMoment(a.Modified)-published)
	b = binary.AppendVarint(b, storedMoment(a.Withdrawn))
	b = append(b, byte(a.Rating))
	b = appendStrings(b, a.Aliases)
	b = appendStrings(b, a.Upstream)
	b = s.appendScores(b, a.Scores)
	b = binary.AppendUvarint(b, uint64(len(a.Weaknesses)))
	for _, w := range a.Weaknesses {
		if n, ok := weaknessNumber(w); ok {
			b = binary.AppendUvarint(b, uint64(n)<<1)
			continue
		}
		b = binary.AppendUvarint(b, uint64(s.ref(w))<<1|1)
	}
	return b
}
