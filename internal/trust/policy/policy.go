// Package policy reads trust policies: which signers must have vouched for
// which images, how, and what their attestations must say. It compiles
// everything when it reads (patterns, expressions, keys), so that a policy that
// loads can be decided by, and one that can't be meant is refused with its line.
//
// It reads the files that a policy names and nothing else, and checks no
// signature: deciding is package decide's, cryptography is the doors'.
package policy

import (
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
)

// Limits of a policy. People write policies: what is beyond is a mistake or an
// attack, and each bounds what reading or deciding may cost.
const (
	MaxBytes      = 1 << 20 // of the policy itself
	MaxRules      = 500
	MaxPatterns   = 1000 // of all rules; each is compared with each when the policy is read
	MaxSigners    = 1000
	MaxIdentities = 100 // of one signer
	MaxRequire    = 50  // requirements of one rule
	MaxFrom       = 100 // signers of one requirement
	MaxKeys       = 1000
	MaxStores     = 100
	MaxExceptions = 5000
	MaxPredicates = 100
	MaxText       = 1000    // bytes of one name, pattern or value
	MaxFile       = 4 << 20 // bytes of one file of keys or certificates
	MaxCRL        = 32 << 20
	MaxFiles      = 2000 // named by one policy, files in folders counted each
	MaxProblems   = 50   // told at once
)

// Policy is a trust policy that was read and compiled. It never changes, so
// that many may decide by it at once. The zero value trusts nobody: it denies.
type Policy struct {
	File        string // as it was named; for people
	Digest      string // "sha256:HEX" of its text
	RootsDigest string // "sha256:HEX" of all that it read besides: keys, certificates, lists
	Signers     []*Signer
	Rules       []*Rule
	Exceptions  []Exception

	roots  signature.Roots
	keys   map[string]*signature.Key // by fingerprint
	ranked []ranked                  // the patterns of all rules, the most specific first
	// narrower are, for a pattern, patterns of other rules that are part of it: the
	// first ones of many.
	narrower map[*Pattern][]ranked
}

// ranked is a pattern with its rule.
type ranked struct {
	pattern *Pattern
	rule    *Rule
}

// Rule says what images of some repositories need.
type Rule struct {
	Name     string
	At       Position
	Patterns []*Pattern
	Deny     string        // why they are never allowed; "" if they may be
	Require  []Requirement // that must all hold; never empty unless Deny is set
}

// Level is how sure a policy wants to be that a certificate was not revoked.
type Level string

// The levels.
const (
	Strict Level = "strict" // somebody whose word still counts must have said so
	Soft   Level = "soft"   // it is enough that nobody says the contrary
)

// Requirement is one thing that must hold: that enough of some signers have
// signed the image or, if it has a predicate, attested something of it.
type Requirement struct {
	At             Position
	Signers        []*Signer
	Threshold      int
	Each           bool             // each of the signers, not so many of them: a team counts once
	Kinds          []signature.Kind // allowed; empty: all
	Log            bool             // a transparency log must hold it
	Time           bool             // the time of signing must be proven
	Revocation     Level
	AllowOld       bool // forms that their makers have given up are allowed
	SameRepository bool // the signer must have named the image's own repository

	// Of attestations.
	Predicate  string   // as the policy writes it; "" for signatures
	Types      []string // the URIs it stands for
	MaxAge     time.Duration
	Conditions []*Condition
}

// Exception lets one image through without signatures, for a while.
type Exception struct {
	At      Position
	Digest  string
	Match   *Pattern // nil: in any repository
	Reason  string
	Expires time.Time
}

// Roots returns what signatures are held against.
func (p *Policy) Roots() signature.Roots { return p.roots }

// Key returns the trusted key with that fingerprint, nil if there is none.
func (p *Policy) Key(fingerprint string) *signature.Key { return p.keys[fingerprint] }

// For returns the rule for a repository and the pattern by which it was chosen:
// the most specific of those that match. Nil, nil if none does.
func (p *Policy) For(r Repository) (*Rule, *Pattern) {
	for _, k := range p.ranked {
		if k.pattern.Matches(r) {
			return k.rule, k.pattern
		}
	}
	return nil, nil
}

// Excepted returns the exception for one of the digests, nil if there is none or
// none is in force.
func (p *Policy) Excepted(r Repository, digests []string, now time.Time) *Exception {
	for i := range p.Exceptions {
		e := &p.Exceptions[i]
		if slices.Contains(digests, e.Digest) && now.Before(e.Expires) && (e.Match == nil || e.Match.Matches(r)) {
			return e
		}
	}
	return nil
}

// Lapsed returns an exception for one of the digests that is over, nil if there
// is none: for telling people why what worked yesterday doesn't today.
func (p *Policy) Lapsed(digests []string, now time.Time) *Exception {
	for i := range p.Exceptions {
		if e := &p.Exceptions[i]; slices.Contains(digests, e.Digest) && !now.Before(e.Expires) {
			return e
		}
	}
	return nil
}

// Allows reports whether signatures of a kind may satisfy a requirement.
func (r *Requirement) Allows(k signature.Kind) bool {
	return len(r.Kinds) == 0 || slices.Contains(r.Kinds, k)
}
