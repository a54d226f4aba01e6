package vulndb

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/advisory"
)

// exploited is the section of KEV: how many entries, where each begins (32 bits
// each), then the entries, sorted by CVE.
type exploited struct {
	b []byte
	n int
}

func readExploited(b []byte) (exploited, error) {
	if len(b) < 4 {
		return exploited{}, damaged("its list of exploited vulnerabilities")
	}
	n := binary.LittleEndian.Uint32(b)
	if uint64(n)*4 > uint64(len(b)-4) {
		return exploited{}, damaged("its list of exploited vulnerabilities")
	}
	return exploited{b, int(n)}, nil
}

// entry reads the i-th entry; one that is damaged has no CVE.
func (e exploited) entry(i int) (cve []byte, rest cursor) {
	at := binary.LittleEndian.Uint32(e.b[4+4*i:])
	if uint64(at) >= uint64(len(e.b)) {
		return nil, cursor{bad: true}
	}
	c := cursor{b: e.b[at:]}
	cve = c.bytes()
	return cve, c
}

// Exploited returns the entry of a CVE in the catalogue of known exploited
// vulnerabilities, or nil.
func (db *DB) Exploited(cve string) *advisory.Exploited {
	i := sort.Search(db.kev.n, func(i int) bool {
		at, _ := db.kev.entry(i)
		return string(at) >= cve
	})
	if i == db.kev.n {
		return nil
	}
	x := db.kev.read(i)
	if x.CVE != cve {
		return nil
	}
	return &x
}

func (e exploited) read(i int) advisory.Exploited {
	cve, c := e.entry(i)
	x := advisory.Exploited{CVE: string(cve), Name: string(c.bytes()), Action: string(c.bytes())}
	x.Added, x.Due = moment(c.varint()), moment(c.varint())
	x.Ransomware = c.byte() != 0
	if c.bad {
		return advisory.Exploited{}
	}
	return x
}

func appendExploited(list []advisory.Exploited) []byte {
	slices.SortFunc(list, func(a, b advisory.Exploited) int { return cmp.Compare(a.CVE, b.CVE) })
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(list)))
	b = append(b, make([]byte, 4*len(list))...)
	for i, x := range list {
		binary.LittleEndian.PutUint32(b[4+4*i:], uint32(len(b)))
		b = appendString(b, x.CVE)
		b = appendString(b, x.Name)
		b = appendString(b, x.Action)
		b = binary.AppendVarint(b, storedMoment(x.Added))
		b = binary.AppendVarint(b, storedMoment(x.Due))
		if x.Ransomware {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	return b
}

// probabilities is the section of EPSS: the date (64 bits), then for each CVE
// its number (see cveNumber), EPSS and percentile, sorted by the number.
type probabilities struct {
	b    []byte
	n    int
	date time.Time
}

const (
	probabilityHead = 8
	probabilitySize = 16
)

func readProbabilities(b []byte) (probabilities, error) {
	if len(b) < probabilityHead {
		return probabilities{}, damaged("its list of probabilities")
	}
	return probabilities{b[probabilityHead:], (len(b) - probabilityHead) / probabilitySize,
		moment(int64(binary.LittleEndian.Uint64(b)))}, nil
}

// cveNumber turns CVE-2023-0286 into a number that orders like it, if it is
// written as CVE numbers are.
func cveNumber(cve string) (uint64, bool) {
	rest, ok := strings.CutPrefix(cve, "CVE-")
	if !ok || len(rest) < 9 || rest[4] != '-' {
		return 0, false
	}
	year, err := strconv.ParseUint(rest[:4], 10, 16)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(rest[5:], 10, 40)
	return year<<40 | n, err == nil
}

func (p probabilities) at(i int) uint64 { return binary.LittleEndian.Uint64(p.b[i*probabilitySize:]) }

func appendProbabilities(list []advisory.Probability, date time.Time) []byte {
	type numbered struct {
		n uint64
		p advisory.Probability
	}
	var all []numbered
	for _, p := range list {
		if n, ok := cveNumber(p.CVE); ok {
			all = append(all, numbered{n, p})
		}
	}
	slices.SortStableFunc(all, func(a, b numbered) int { return cmp.Compare(a.n, b.n) })
	all = slices.CompactFunc(all, func(a, b numbered) bool { return a.n == b.n })
	b := binary.LittleEndian.AppendUint64(nil, uint64(storedMoment(date)))
	for _, x := range all {
		b = binary.LittleEndian.AppendUint64(b, x.n)
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x.p.EPSS))
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x.p.Percentile))
	}
	return b
}

// Probability returns how likely a CVE is to be exploited, or nil.
func (db *DB) Probability(cve string) *advisory.Probability {
	n, ok := cveNumber(cve)
	if !ok {
		return nil
	}
	i := sort.Search(db.epss.n, func(i int) bool { return db.epss.at(i) >= n })
	if i == db.epss.n || db.epss.at(i) != n {
		return nil
	}
	x := db.epss.read(i)
	x.CVE = cve
	return &x
}

func (p probabilities) read(i int) advisory.Probability {
	b := p.b[i*probabilitySize:]
	n := binary.LittleEndian.Uint64(b)
	digits := strconv.FormatUint(n&(1<<40-1), 10)
	return advisory.Probability{
		CVE:        "CVE-" + strconv.FormatUint(n>>40, 10) + "-" + strings.Repeat("0", max(0, 4-len(digits))) + digits,
		EPSS:       fraction(binary.LittleEndian.Uint32(b[8:])),
		Percentile: fraction(binary.LittleEndian.Uint32(b[12:])),
		Date:       p.date,
	}
}

// fraction returns a number from 0 to 1, whatever the bits.
func fraction(bits uint32) float32 {
	f := math.Float32frombits(bits)
	if f >= 0 && f <= 1 {
		return f
	}
	return 0
}
