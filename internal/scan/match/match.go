// Package match finds the vulnerabilities of an inventory: it looks up every
// package in the advisory file, merges what several advisories say of one
// weakness into one finding, and says how grave it is, whose word that is and
// what to do.
//
// A package is looked up by the names and versions that its own ecosystem gives
// it, never by names that resemble it: a distribution's package by its source
// and its binary name in the advisories of that distribution and release; a
// package of a language by its name in the advisories of that language. What
// cannot be looked up is said (see Gap), so that silence means something.
//
// It is not for reading images (see package scan) and not for deciding whether a
// finding fails a gate.
package match

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/vulndb"
)

// Options say what a match takes into account. The zero value hides what needs
// no decision (NotAffected, Withdrawn) and accepts nothing.
type Options struct {
	// All keeps findings that are NotAffected or Withdrawn.
	All bool
	// Brief leaves out summaries and references, which must be decompressed.
	Brief bool
	// Rules accept findings; Statements (VEX) say what the user or a vendor
	// knows about them.
	Rules      []Rule
	Statements []advisory.Exploitability
	// InUse says whether a workload executes or maps files of a package; nil:
	// nothing is known.
	InUse func(*inventory.Package) bool
	// Now decides what has expired; zero: the current time.
	Now time.Time
	// Limit bounds the findings, for inventories that somebody else made: one
	// that comes to more is an error (Exhausted). 0: as many as there are.
	Limit int
}

// Result is what a match found.
type Result struct {
	// Vulnerabilities are in the order in which they deserve attention: in use
	// first, then known to be exploited, then by severity and probability of
	// exploitation; then in the order of the inventory, then by identifier.
	Vulnerabilities []finding.Vulnerability
	// Gaps say of which packages nothing can be said.
	Gaps []Gap
	// Expired are rules that accept nothing any more; Unused met no finding.
	Expired, Unused []Rule
}

// Gap is a reason why packages could not be looked up, and which.
type Gap struct {
	Why       Why    `json:"why"`
	Ecosystem string `json:"ecosystem,omitempty"`
	Packages  int    `json:"packages"`
	// Examples are the first few, with their versions.
	Examples []string `json:"examples"`
}

// Why says why a package could not be looked up.
type Why string

// The reasons.
const (
	NoEcosystem Why = "nobody publishes advisories for packages of this kind that we know of"
	NotCovered  Why = "the advisory database has nothing about this distribution, release or language"
	NoVersion   Why = "the version is not known"
	OddVersion  Why = "the version has no place in the order of its ecosystem"
	// Headers are not looked up, because advisories about a kernel's source are
	// about code that they don't hold; the kernel that runs is another package,
	// or the host's.
	Headers Why = "headers of a kernel hold none of its code"
)

// gapExamples is how many packages a gap names.
const gapExamples = 5

// Match looks up all packages of an inventory. An error means that the database
// is damaged, a rule is no rule, or the context has ended.
func Match(ctx context.Context, db *vulndb.DB, inv *inventory.Inventory, o Options) (Result, error) {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	for i := range o.Rules {
		if err := o.Rules[i].Check(); err != nil {
			return Result{}, fmt.Errorf("match: ignore rule %d: %w", i+1, err)
		}
	}
	m, err := matchAll(ctx, db, inv, o)
	if err != nil {
		return Result{}, fmt.Errorf("match: %w", err)
	}
	r := Result{Gaps: m.gaps.list()}
	if err := m.decide(&r); err != nil {
		return Result{}, fmt.Errorf("match: %w", err)
	}
	return r, nil
}

const (
	// shardSize packages or findings at least are worth a goroutine of their
	// own; one that matches learns of advisories anew.
	shardSize = 4096
	maxShards = 8
)

// shards returns into how many parts n things are split.
func shards(n int) int { return max(1, min(n/shardSize, runtime.GOMAXPROCS(0), maxShards)) }

// inShards does something with all parts of n things at once.
func inShards(n int, do func(shard, from, to int)) {
	var wait sync.WaitGroup
	parts := shards(n)
	for i := range parts {
		wait.Go(func() { do(i, n*i/parts, n*(i+1)/parts) })
	}
	wait.Wait()
}

// matchAll looks up all packages, large inventories on several processors, and
// joins what was found in the order of the inventory.
func matchAll(ctx context.Context, db *vulndb.DB, inv *inventory.Inventory, o Options) (*matcher, error) {
	n := len(inv.Packages)
	ms := make([]*matcher, shards(n))
	errs := make([]error, len(ms))
	inShards(n, func(shard, from, to int) {
		ms[shard] = newMatcher(db, inv, o)
		errs[shard] = ms[shard].matchRange(ctx, from, to)
	})
	m := ms[0]
	for _, other := range ms[1:] {
		m.found = append(m.found, other.found...)
		m.gaps.join(other.gaps)
	}
	return m, errors.Join(errs...)
}

// matchRange looks up the packages from one to before another.
func (m *matcher) matchRange(ctx context.Context, from, to int) error {
	for i := from; i < to; i++ {
		const often = 64 // packages between looks at the context
		if i%often == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := m.match(i); err != nil {
			return fmt.Errorf("package %s: %w", m.inv.Packages[i].FullName(), err)
		}
		if m.o.Limit > 0 && len(m.found) > m.o.Limit {
			return fault.New(fault.Exhausted, "more than %d findings in one inventory", m.o.Limit)
		}
	}
	return nil
}

// decide turns what was found into findings: first what the user says of them,
// then, for those that are left, what there is to read.
func (m *matcher) decide(r *Result) error {
	policy := newPolicy(m.inv, m.o)
	kept := m.found[:0]
	for _, f := range m.found {
		f.inUse = m.o.InUse != nil && m.o.InUse(f.p)
		policy.apply(f)
		if m.o.All || f.state != finding.NotAffected && f.state != finding.Withdrawn {
			kept = append(kept, f)
		}
	}
	if !m.o.Brief {
		if err := m.describe(kept); err != nil {
			return err
		}
	}
	r.Vulnerabilities = make([]finding.Vulnerability, len(kept))
	order := sortFound(kept)
	inShards(len(kept), func(_, from, to int) {
		for i := from; i < to; i++ {
			kept[order[i].at].write(&r.Vulnerabilities[i])
		}
	})
	r.Expired, r.Unused = policy.expired, policy.unused()
	return nil
}

// write writes a finding out.
func (f *found) write(v *finding.Vulnerability) {
	*v = finding.Vulnerability{
		ID: f.id, Aliases: f.aliases, Package: *f.p, Severity: f.severity, SeverityBy: f.by, Scores: f.scores, EPSS: f.epss, KEV: f.kev,
		State: f.state, Note: f.note, Fixed: f.fixed, Summary: f.summary, Weaknesses: f.weaknesses, References: f.urls,
		Advisories: f.advisories, Published: f.published, Modified: f.modified, Accepted: f.accepted, InUse: f.inUse,
	}
	v.Remedy = remedy(v, f.source)
	v.Print()
}
