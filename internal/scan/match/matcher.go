package match

import (
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/cvss"
	"github.com/castellan-security/castellan/internal/scan/version"
	"github.com/castellan-security/castellan/internal/scan/vulndb"
)

// matcher is one match. What it learns of advisories it keeps, because packages
// of one image meet the same ones again and again.
type matcher struct {
	db       *vulndb.DB
	inv      *inventory.Inventory
	o        Options
	gaps     gaps
	releases map[string][]release
	records  map[vulndb.Number]*record
	names    map[string]string // of a weakness, to its CVE number
	facts    map[string]*facts
	scores   map[string]cvss.Score // by vector; without a version: none
	found    []*found
	chunk    []found // where found points into

	// What is used for one package after another.
	entries vulndb.Entries
	index   int
	last    struct {
		ecosystem string
		releases  []release
	}
	views   []view
	hits    []hit
	groups  grouping
	scratch struct {
		standing []*hit
		scores   []finding.Score
		words    []string
		texts    []*record
	}
	// sameVersions says that the package has the versions of its source.
	sameVersions bool
}

func newMatcher(db *vulndb.DB, inv *inventory.Inventory, o Options) *matcher {
	return &matcher{
		db: db, inv: inv, o: o,
		releases: map[string][]release{}, records: map[vulndb.Number]*record{}, names: map[string]string{},
		facts: map[string]*facts{}, scores: map[string]cvss.Score{},
	}
}

// found is a finding in short: what is shared with other findings is not copied
// before the end, because there may be very many.
type found struct {
	p          *inventory.Package
	index      int // of the package in the inventory
	id         string
	aliases    []string
	state      finding.State
	note       string
	fixed      string
	source     string // the source package in whose version fixed is, if that is not the package's own
	advisories []finding.Statement
	modified   time.Time
	*rated
	inUse    bool
	accepted *finding.Acceptance
	summary  string
	urls     []string
}

// release is an ecosystem of the file in which a package is looked up.
type release struct {
	ecosystem string
	// pro is for Ubuntu's extended maintenance, whose word counts more than the
	// release's own for packages that come from it.
	pro bool
}

// view is a package of the file as seen from one installed package.
type view struct {
	vulndb.Package
	release
	at     vulndb.Position
	source bool // it is about the source package
	binary bool // it is about the binary package, or the package itself
	atBin  vulndb.Position
}

// hit is an entry that holds an installed package.
type hit struct {
	r      *record
	view   int
	status advisory.Status
	rating advisory.Rating
	fix    string
	source bool // fix is a version of the source package, not of the package
	limits *vulndb.Limits
}

// isDistribution says whether a package is of a distribution.
func isDistribution(p *inventory.Package) bool {
	return p.Type == "deb" || p.Type == "apk" || p.Type == "rpm"
}

// match looks one package up and adds its findings.
func (m *matcher) match(index int) error {
	p := &m.inv.Packages[index]
	m.index = index
	if p.OwnedBy != "" {
		return nil // its owner is looked up
	}
	if p.Ecosystem == "" {
		m.gaps.add(NoEcosystem, p)
		return nil
	}
	if isHeaders(p) {
		m.gaps.add(Headers, p)
		return nil
	}
	releases := m.releasesOf(p)
	if len(releases) == 0 {
		m.gaps.add(NotCovered, p)
		return nil
	}
	if p.Version == "" {
		m.gaps.add(NoVersion, p)
	}
	m.look(p, releases)
	if len(m.views) == 0 {
		return nil
	}
	if p.Version != "" && !m.views[0].hasPlace() {
		m.gaps.add(OddVersion, p)
	}
	m.sameVersions = sameVersions(p)
	if err := m.hit(p); err != nil {
		return err
	}
	if len(m.hits) == 0 {
		return nil
	}
	return m.group(p)
}

// isHeaders says whether a package is a kernel's headers and nothing else of it:
// linux-libc-dev, linux-headers-6.1.0-9-common, kernel-headers.
func isHeaders(p *inventory.Package) bool {
	if !isDistribution(p) {
		return false
	}
	source := sourceOf(p).Name
	return (source == "kernel" || source == "linux" || strings.HasPrefix(source, "linux-")) &&
		(p.Name == "linux-libc-dev" || p.Name == "kernel-headers" || strings.HasPrefix(p.Name, "linux-headers"))
}

func (v *view) hasPlace() bool {
	return v.Order() == version.Unordered || v.source && v.at.Ordered() || v.binary && v.atBin.Ordered()
}

// releasesOf returns where in the file a package is looked up.
func (m *matcher) releasesOf(p *inventory.Package) []release {
	const ubuntu = "Ubuntu:"
	if p.Ecosystem == m.last.ecosystem && !strings.HasPrefix(p.Ecosystem, ubuntu) {
		return m.last.releases // packages of a kind come together
	}
	m.last.ecosystem, m.last.releases = p.Ecosystem, m.findReleases(p, ubuntu)
	return m.last.releases
}

func (m *matcher) findReleases(p *inventory.Package, ubuntu string) []release {
	key := p.Ecosystem
	pro := ""
	if rest, ok := strings.CutPrefix(p.Ecosystem, ubuntu); ok && strings.Contains(p.Version, "esm") {
		pro = ubuntu + "Pro:" + strings.TrimPrefix(rest, "Pro:")
		key = pro + "+" + p.Ecosystem
	}
	list, ok := m.releases[key]
	if ok {
		return list
	}
	if pro != "" && slices.Contains(m.db.Releases(pro), pro) {
		list = append(list, release{pro, true})
	}
	for _, e := range m.db.Releases(p.Ecosystem) {
		if e != pro {
			list = append(list, release{e, false})
		}
	}
	m.releases[key] = list
	return list
}

// next returns a place for a finding. They come in chunks, so that there is
// neither an allocation for each nor one that grows and grows.
func (m *matcher) next() *found {
	const size = 256
	if len(m.chunk) == 0 {
		m.chunk = make([]found, size)
	}
	f := &m.chunk[0]
	m.chunk = m.chunk[1:]
	return f
}

// look collects what the file has about a package, under its own name and, for
// a distribution's, under that of its source.
func (m *matcher) look(p *inventory.Package, releases []release) {
	m.views = m.views[:0]
	if !isDistribution(p) {
		name, at := advisory.Normalize(p.Ecosystem, p.FullName()), p.Version
		if p.Type == "bitnami" {
			at = withoutRevision(at)
		}
		for _, r := range releases {
			if found, ok := m.db.Lookup(r.ecosystem, name); ok {
				m.views = append(m.views, view{Package: found, release: r, binary: true, atBin: found.Position(at)})
			}
		}
		return
	}
	source := sourceOf(p)
	for _, r := range releases {
		if found, ok := m.db.Lookup(r.ecosystem, source.Name); ok {
			v := view{Package: found, release: r, source: true, at: found.Position(source.Version)}
			if source.Name == p.Name {
				v.binary, v.atBin = true, v.at
				if source.Version != p.Version {
					v.atBin = found.Position(p.Version)
				}
			}
			m.views = append(m.views, v)
		}
		if source.Name == p.Name {
			continue
		}
		if found, ok := m.db.Lookup(r.ecosystem, p.Name); ok {
			m.views = append(m.views, view{Package: found, release: r, binary: true, atBin: found.Position(p.Version)})
		}
	}
}

// withoutRevision is the version of the application in one of Bitnami's, who count
// behind a dash how often they built it: 17.2.0-8. Advisories don't, and by
// semantic versioning it would be a prerelease of 17.2.0.
func withoutRevision(v string) string {
	before, revision, ok := strings.Cut(v, "-")
	if !ok || strings.Trim(revision, "0123456789") != "" {
		return v
	}
	return before
}

// sourceOf returns what a distribution's package was built from.
func sourceOf(p *inventory.Package) inventory.Source {
	s := p.Source
	if s.Name == "" {
		s.Name = p.Name
	}
	if s.Version == "" {
		s.Version = p.Version
	}
	return s
}

// hit collects the entries that hold the package.
func (m *matcher) hit(p *inventory.Package) error {
	m.hits = m.hits[:0]
	for i := range m.views {
		v := &m.views[i]
		e := &m.entries
		for e.Of(v.Package); e.Next(); {
			at, ok := v.position(&e.Entry)
			if !ok || !e.Holds(at) {
				continue
			}
			limits, ok, err := m.within(p, v, &e.Entry)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			fix := e.Fix(at)
			if !sameStream(v.Order(), p, fix) {
				continue
			}
			r, err := m.spokenOf(e.Advisory, isDistribution(p))
			if err != nil {
				return err
			}
			if !r.Withdrawn.IsZero() && !m.o.All {
				continue
			}
			m.hits = append(m.hits, hit{r: r, view: i, status: e.Status, rating: e.Rating, fix: fix,
				source: m.inSourceTerms(&e.Entry), limits: limits})
		}
		if err := e.Err(); err != nil {
			return err
		}
	}
	return nil
}

// position returns where the version that an entry speaks of stands, if the entry
// speaks of the package at all.
func (v *view) position(e *vulndb.Entry) (vulndb.Position, bool) {
	if e.Of == advisory.OfSource {
		return v.at, v.source
	}
	return v.atBin, v.binary
}

// within says whether a package is among those to which an entry is limited.
func (m *matcher) within(p *inventory.Package, v *view, e *vulndb.Entry) (*vulndb.Limits, bool, error) {
	if !e.Limited() {
		return nil, true, nil
	}
	l, err := e.Limits()
	if err != nil {
		return nil, false, err
	}
	if len(l.Arches) > 0 && p.Arch != "" && !slices.Contains(l.Arches, p.Arch) {
		return nil, false, nil
	}
	if l.Repository == "" || l.Repository == p.Repository {
		return &l, true, nil
	}
	if p.Repository != "" {
		return nil, false, nil
	}
	ok, err := onlyInRepositories(v)
	return &l, ok, err
}

// onlyInRepositories says whether all that is known about a package is limited to
// repositories. Then one of which the repository is not known, as Amazon Linux
// does not note it, can only be from one of them; otherwise it is taken to be
// from the distribution itself, whose versions are older and would be held by
// everything.
func onlyInRepositories(v *view) (bool, error) {
	var e vulndb.Entries
	for e.Of(v.Package); e.Next(); {
		l, err := e.Limits()
		if err != nil {
			return false, err
		}
		if l.Repository == "" {
			return false, nil
		}
	}
	return true, e.Err()
}

// sameStream keeps packages of a module stream and others apart: a fix in a
// stream (nodejs-18.19.0-1.module+el9…) says nothing about what is not from one.
func sameStream(o version.Order, p *inventory.Package, fix string) bool {
	const mark = ".module"
	return o != version.RPM || fix == "" || strings.Contains(fix, mark) == strings.Contains(p.Version, mark)
}
