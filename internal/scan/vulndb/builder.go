package vulndb

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/fault"
)

// Options are how a file is built.
type Options struct {
	// Generation counts the files that replace each other; Built is written
	// into the file. The same feeds and options make the same bytes.
	Generation uint64
	Built      time.Time
	// Details is how many bytes of an advisory's details are kept, at most
	// maxDetails. They are most of what feeds publish and little of what is asked
	// for, so 0, none, is the default.
	Details int
	// Dir is where what does not fit memory is put meanwhile; empty: where the
	// system puts such files.
	Dir string
	// Run is how many bytes are sorted in memory at a time; 0: 64 MiB.
	Run int
}

// Builder compiles advisories into a file, whatever their number: it holds
// little more than their names in memory.
type Builder struct {
	o       Options
	dir     string
	sources map[string]*Source
	// advisories are sorted by source, package and identifier, so that what
	// is asked for together lies together; affected by ecosystem and package.
	advisories, affected sorter
	seen                 map[[16]byte]seen
	count                uint32
	dropped              map[uint32]bool // replaced by a newer one of the same name
	kev                  map[string]advisory.Exploited
	epss                 []advisory.Probability
	epssDate             time.Time
	scratch              struct{ key, value []byte }
	written              bool
}

// seen is an advisory that has been added.
type seen struct {
	number   uint32
	modified int64
	digest   [8]byte
}

// NewBuilder starts a file. Close removes what it needed on the way.
func NewBuilder(o Options) (*Builder, error) {
	dir, err := os.MkdirTemp(o.Dir, "castellan-db-*")
	if err != nil {
		return nil, fmt.Errorf("build advisory database: %w", err)
	}
	if o.Run == 0 {
		o.Run = defaultRun
	}
	return &Builder{
		o: o, dir: dir, sources: map[string]*Source{}, seen: map[[16]byte]seen{}, dropped: map[uint32]bool{},
		kev:        map[string]advisory.Exploited{},
		advisories: sorter{dir: dir, runSize: o.Run}, affected: sorter{dir: dir, runSize: o.Run},
	}, nil
}

// Close removes the builder's files. The file that it wrote stays.
func (b *Builder) Close() error {
	return errors.Join(b.advisories.close(), b.affected.close(), os.RemoveAll(b.dir))
}

// AddAll adds a feed. An error in it of kind fault.Invalid is about one advisory
// and is noted in the source; any other ends it.
func (b *Builder) AddAll(ctx context.Context, s Source, feed iter.Seq2[advisory.Advisory, error]) error {
	if err := b.begin(s); err != nil {
		return err
	}
	for a, err := range feed {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			a.Source = s.Name
			err = b.Add(a)
		}
		if fault.Is(err, fault.Invalid) {
			b.note(s.Name, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("add feed %s: %w", s.Name, err)
		}
	}
	return nil
}

// begin declares a source; a file has each once.
func (b *Builder) begin(s Source) error {
	switch {
	case s.Name == "" || len(s.Name) > maxText:
		return fault.New(fault.Invalid, "a source needs a name of at most %d bytes", maxText)
	case b.sources[s.Name] != nil:
		return fault.New(fault.Conflict, "source %q is in the file already", s.Name)
	case len(b.sources) >= maxSources:
		return fault.New(fault.Exhausted, "more than %d sources", maxSources)
	}
	s.Fetched = s.Fetched.UTC().Truncate(time.Second)
	s.Advisories, s.Withdrawn, s.Newest = 0, 0, time.Time{}
	b.sources[s.Name] = &s
	return nil
}

// maxProblems are kept of a source, so that a broken feed does not fill the file
// with complaints.
const maxProblems = 20

// note adds a problem to a source. Of many the first of the alphabet are kept, so
// that the order in which a feed is read doesn't matter.
func (b *Builder) note(source string, err error) {
	s := b.sources[source]
	s.Unusable++
	text := clip(err.Error(), maxText)
	i, found := slices.BinarySearch(s.Problems, text)
	if !found && i < maxProblems {
		s.Problems = slices.Insert(s.Problems, i, text)
		s.Problems = s.Problems[:min(len(s.Problems), maxProblems)]
	}
}

// Add adds one advisory, whose source AddAll or Keep has declared. Of two with
// the same source and identifier the one that was changed last counts. What
// cannot be used of it is noted in the source.
func (b *Builder) Add(a advisory.Advisory) error {
	if b.sources[a.Source] == nil {
		return fault.New(fault.Conflict, "advisory %s: source %q is not declared", a.ID, a.Source)
	}
	if err := b.clean(&a); err != nil {
		return err
	}
	first := slices.MinFunc(append(a.Affected, advisory.Affected{Ecosystem: noEcosystem}), func(x, y advisory.Affected) int {
		return cmp.Or(cmp.Compare(x.Ecosystem, y.Ecosystem), cmp.Compare(x.Package, y.Package))
	})
	number, err := b.addRecord(&a, first)
	if err != nil {
		return err
	}
	for i := range a.Affected {
		if err := b.addAffected(number, &a.Affected[i]); err != nil {
			return err
		}
	}
	return nil
}

// noEcosystem sorts after every ecosystem: what is about no package comes last.
const noEcosystem = "\xff"

// addRecord spools an advisory without what it is about.
func (b *Builder) addRecord(a *advisory.Advisory, first advisory.Affected) (uint32, error) {
	if b.count >= maxAdvisories {
		return 0, fault.New(fault.Exhausted, "more than %d advisories", maxAdvisories)
	}
	number := b.count
	b.count++
	key := b.scratch.key[:0]
	for _, part := range []string{a.Source, first.Ecosystem, first.Package, a.ID} {
		key = append(append(key, part...), 0)
	}
	value := binary.LittleEndian.AppendUint32(b.scratch.value[:0], number)
	value = spoolAdvisory(value, a)
	b.scratch.key, b.scratch.value = key, value
	b.replace(a, number, value[4:])
	return number, b.advisories.add(key, value)
}

// replace drops the older one of two advisories with the same name; of two that
// are of the same time the one with the higher digest stays, whatever the order.
func (b *Builder) replace(a *advisory.Advisory, number uint32, content []byte) {
	h := sha256.Sum256([]byte(a.Source + "\x00" + a.ID))
	sum := sha256.Sum256(content)
	mine := seen{number, storedMoment(a.Modified), [8]byte(sum[:])}
	name := [16]byte(h[:])
	other, ok := b.seen[name]
	if ok && cmp.Or(cmp.Compare(other.modified, mine.modified), slices.Compare(other.digest[:], mine.digest[:])) > 0 {
		b.dropped[number] = true
		return
	}
	if ok {
		b.dropped[other.number] = true
	}
	b.seen[name] = mine
}

// addAffected spools what an advisory says about one package.
func (b *Builder) addAffected(number uint32, a *advisory.Affected) error {
	key := append(append(append(b.scratch.key[:0], a.Ecosystem...), 0), a.Package...)
	value := binary.LittleEndian.AppendUint32(b.scratch.value[:0], number)
	value = spoolAffected(value, a)
	b.scratch.key, b.scratch.value = key, value
	return b.affected.add(key, value)
}

// AddExploited adds a catalogue of exploited vulnerabilities.
func (b *Builder) AddExploited(s Source, list []advisory.Exploited) error {
	s.Kind = KindExploited
	if err := b.begin(s); err != nil {
		return err
	}
	for _, x := range list {
		if x.CVE == "" || len(x.CVE) > maxText {
			b.note(s.Name, fault.New(fault.Invalid, "entry %q without a CVE number", clip(x.Name, maxShown)))
			continue
		}
		x.Name, x.Action = clip(x.Name, maxSummary), clip(x.Action, maxSummary)
		b.kev[x.CVE] = x
	}
	src := b.sources[s.Name]
	src.Advisories = len(list) - src.Unusable
	return nil
}

// AddProbabilities adds the probabilities of a day.
func (b *Builder) AddProbabilities(s Source, date time.Time, list iter.Seq2[advisory.Probability, error]) error {
	s.Kind = KindProbabilities
	if err := b.begin(s); err != nil {
		return err
	}
	src := b.sources[s.Name]
	for p, err := range list {
		if _, ok := cveNumber(p.CVE); err == nil && !(ok && p.EPSS >= 0 && p.EPSS <= 1 && p.Percentile >= 0 && p.Percentile <= 1) {
			err = fault.New(fault.Invalid, "%q is no CVE with a probability", clip(p.CVE, maxShown))
		}
		if fault.Is(err, fault.Invalid) {
			b.note(s.Name, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("add feed %s: %w", s.Name, err)
		}
		b.epss = append(b.epss, p)
		src.Advisories++
	}
	b.epssDate, src.Newest = date, date.UTC().Truncate(time.Second)
	return nil
}

// clip shortens text to at most limit bytes, at a blank if one is near, and
// never within a character.
func clip(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= limit {
		return s
	}
	const dots = "…"
	cut := limit - len(dots)
	for cut > 0 && s[cut]&0xC0 == 0x80 {
		cut--
	}
	if i := strings.LastIndexByte(s[:cut], ' '); i > cut/2 {
		cut = i
	}
	return s[:cut] + dots
}
