package learn

import (
	"math/bits"
	"slices"
	"sort"
	"time"

	"github.com/castellan-security/castellan/internal/profile"
)

// mark is what an observation rests on. Marks are added in any order with the same
// result: every field is a least, a greatest, a sum or a set.
type mark struct {
	First    int64    `json:"f"` // Unix nanoseconds
	Last     int64    `json:"l"`
	Count    uint64   `json:"n"`
	Hosts    uint64   `json:"h,omitempty"` // bits: places in the learner's hosts
	Versions uint32   `json:"v,omitempty"` // bits: places in the learner's versions
	Sample   string   `json:"s,omitempty"` // the first by the alphabet
	Programs []string `json:"p,omitempty"` // the first maxPrograms by the alphabet, sorted
}

// maxPrograms bounds the programs named for one entry: more say only that anybody
// does it.
const maxPrograms = 16

// add adds another mark.
func (m *mark) add(o *mark) {
	if o.Count == 0 {
		return // nothing was seen
	}
	if m.Count == 0 {
		programs := m.Programs
		*m = *o
		m.Programs = slices.Clone(o.Programs)
		for _, p := range programs {
			m.Programs = least(m.Programs, p, maxPrograms)
		}
		return
	}
	m.First, m.Last = min(m.First, o.First), max(m.Last, o.Last)
	m.Count += o.Count
	m.Hosts |= o.Hosts
	m.Versions |= o.Versions
	if o.Sample != "" && (m.Sample == "" || o.Sample < m.Sample) {
		m.Sample = o.Sample
	}
	for _, p := range o.Programs {
		m.Programs = least(m.Programs, p, maxPrograms)
	}
}

// least puts s into a sorted set that keeps the n smallest.
func least(set []string, s string, n int) []string {
	if s == "" {
		return set
	}
	i := sort.SearchStrings(set, s)
	if i < len(set) && set[i] == s || i == n {
		return set
	}
	set = slices.Insert(set, i, s)
	return set[:min(len(set), n)]
}

// version is an image of which something was learned.
type version struct {
	Digest    string `json:"digest"`
	Reference string `json:"reference,omitempty"`
	First     int64  `json:"first"`
	Last      int64  `json:"last"`
}

// Bounds of what is kept of hosts and versions. Evidence has a bit for each.
const (
	maxHosts    = 64
	maxVersions = 32
)

// host returns the bit of a host; none for those beyond maxHosts.
func (l *Learner) host(name string) uint64 {
	if name == l.lastHost && name != "" {
		return l.lastHostBit
	}
	i := slices.Index(l.hosts, name)
	if i < 0 {
		if name == "" || len(l.hosts) == maxHosts {
			return 0
		}
		i = len(l.hosts)
		l.hosts = append(l.hosts, name)
	}
	l.lastHost, l.lastHostBit = name, 1<<i
	return l.lastHostBit
}

// versionBit returns the bit of a version and remembers when it was seen. The one
// that was not seen for longest makes room.
func (l *Learner) versionBit(digest, reference string, first, last int64) uint32 {
	if digest == "" {
		return 0
	}
	i := slices.IndexFunc(l.versions, func(v version) bool { return v.Digest == digest })
	if i < 0 {
		if len(l.versions) < maxVersions {
			i = len(l.versions)
			l.versions = append(l.versions, version{Digest: digest, Reference: reference, First: first, Last: last})
			return 1 << i
		}
		for j, v := range l.versions {
			if i < 0 || v.Last < l.versions[i].Last {
				i = j
			}
		}
		l.forgetVersion(i)
		l.versions[i] = version{Digest: digest, Reference: reference, First: first, Last: last}
		return 1 << i
	}
	v := &l.versions[i]
	if last >= v.Last && reference != "" {
		v.Reference = reference
	}
	v.First, v.Last = min(v.First, first), max(v.Last, last)
	return 1 << i
}

// forgetVersion takes a version's bit from all evidence.
func (l *Learner) forgetVersion(i int) {
	l.each(func(m *mark) { m.Versions &^= 1 << i })
}

// order returns the places of the versions, the oldest first.
func (l *Learner) order() []int {
	out := make([]int, len(l.versions))
	for i := range out {
		out[i] = i
	}
	slices.SortFunc(out, func(a, b int) int {
		va, vb := l.versions[a], l.versions[b]
		switch {
		case va.First != vb.First:
			return compareInt(va.First, vb.First)
		case va.Digest < vb.Digest:
			return -1
		}
		return 1
	})
	return out
}

func compareInt(a, b int64) int {
	if a < b {
		return -1
	}
	return 1
}

// evidence is a mark as a profile has it. order is that of the versions.
func (l *Learner) evidence(m *mark, order []int, entry string) profile.Evidence {
	e := profile.Evidence{Source: profile.Learned, First: at(m.First), Last: at(m.Last), Count: m.Count}
	for h := m.Hosts; h != 0; h &= h - 1 {
		e.Hosts = append(e.Hosts, l.hosts[bits.TrailingZeros64(h)])
	}
	slices.Sort(e.Hosts)
	e.Hosts = e.Hosts[:min(len(e.Hosts), profile.MaxHosts)]
	for _, i := range order {
		if m.Versions&(1<<i) == 0 {
			continue
		}
		if e.Version == "" {
			e.Version = l.versions[i].Digest
		}
		e.Latest = l.versions[i].Digest
	}
	if entry != "" && m.Sample != entry {
		e.Sample = m.Sample
	}
	return e
}

func at(ns int64) time.Time { return time.Unix(0, ns).UTC() }
