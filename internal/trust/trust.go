// Package trust says who must have vouched for an image before it may run, and
// whether they have: the trust policy, the decision by it, and how to come to a
// first policy.
//
// It checks no signatures itself and asks no registry: doors do, which it knows
// as a Finder and Openers.
//
//	p, err := trust.Load("castellan-trust.yaml")
//	d := trust.Decider{Policy: p, Finder: registry, Openers: …, Cache: trust.NewCache(0)}
//	v, err := d.Verify(ctx, trust.Image{Subject: s}, time.Now())
//	if err != nil || !v.Allowed {
//		// it must not run; trust.WriteText says why
//	}
package trust

import (
	"context"
	"io"
	"time"

	"github.com/castellan-security/castellan/internal/trust/decide"
	"github.com/castellan-security/castellan/internal/trust/draft"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

// What whoever is outside this room knows.
type (
	// Policy is a trust policy; see policy.Policy.
	Policy = policy.Policy
	// Signer is a party that may vouch for images; see policy.Signer.
	Signer = policy.Signer
	// Files is where a policy's files are read from.
	Files = policy.Files
	// Problem is one thing that is wrong with a policy, and where.
	Problem = policy.Problem
	// Decider decides by a policy; see decide.Decider.
	Decider = decide.Decider
	// Finder finds signatures and attestations.
	Finder = decide.Finder
	// Halves is a Finder that looks first where tools put them today.
	Halves = decide.Halves
	// Opener says what is true of them.
	Opener = decide.Opener
	// Image is what is decided on.
	Image = decide.Image
	// Verdict is whether it may run, and why.
	Verdict = decide.Verdict
	// Facts are what was found of an image, kept for another policy; a Fact is what was
	// found of one envelope.
	Facts = decide.Facts
	// Fact is what was found true of an envelope.
	Fact = decide.Fact
	// Recalled is what another policy says of what was found.
	Recalled = decide.Recalled
	// Cache remembers verdicts.
	Cache = decide.Cache
)

// File is what a policy's file is called if nothing else is said.
const File = "castellan-trust.yaml"

// ScanPredicate is the type of attestations of a scan's result.
const ScanPredicate = policy.ScanPredicate

// SignPredicate is the type of statements that are signatures.
const SignPredicate = policy.SignPredicate

// Load reads a policy and the files that it names.
func Load(name string) (*Policy, error) { return policy.Load(name) }

// Read reads a policy; see policy.Read.
func Read(b []byte, name string, files Files) (*Policy, error) { return policy.Read(b, name, files) }

// Folder returns the Files of a folder of the file system.
func Folder(dir string) Files { return policy.Folder(dir) }

// Problems returns what is wrong with a policy by the error of Load or Read.
func Problems(err error) []Problem { return policy.ProblemsOf(err) }

// NewCache returns an empty cache; see decide.NewCache.
func NewCache(limit int) *Cache { return decide.NewCache(limit) }

// Recall holds a policy against what a verdict has kept; see decide.Recall.
func Recall(ctx context.Context, p, was *Policy, v *Verdict, now time.Time) (Recalled, error) {
	return decide.Recall(ctx, p, was, v, now)
}

// WriteText writes a verdict step by step for people.
func WriteText(w io.Writer, v *Verdict) error { return decide.WriteText(w, v) }

// WriteSteps writes the steps of a verdict alone.
func WriteSteps(w io.Writer, v *Verdict) error { return decide.WriteSteps(w, v) }

// What first policies are made of; see package draft.
type (
	// Draft is what a first policy is made of.
	Draft = draft.Options
	// DraftKey is a public key that signs.
	DraftKey = draft.Key
	// DraftKeyless is an identity of an OIDC issuer.
	DraftKeyless = draft.Keyless
	// DraftCertificate is a subject that certificates are issued to.
	DraftCertificate = draft.Certificate
	// DraftFound is what is attached to an image.
	DraftFound = draft.Found
	// DraftSighting is a signature of it, and whose it seems to be.
	DraftSighting = draft.Sighting
	// Imported is a policy made of another tool's, with remarks.
	Imported = draft.Imported
	// Remark is what a person must know of an import.
	Remark = draft.Remark
)

// First writes a first policy, with comments.
func First(o Draft) ([]byte, error) { return draft.First(o) }

// FirstOfSeen writes a first policy for images whose signatures were looked at; see
// draft.Seen.
func FirstOfSeen(o Draft, asked bool, found []DraftFound, at time.Time) ([]byte, error) {
	return draft.Seen(o, asked, found, at)
}

// FromNotation makes a policy of Notation's trust policy; see draft.FromNotation.
func FromNotation(b []byte, folder string) (Imported, error) { return draft.FromNotation(b, folder) }

// FromClusterImagePolicy makes a policy of Sigstore's; see
// draft.FromClusterImagePolicy.
func FromClusterImagePolicy(b []byte) (Imported, error) { return draft.FromClusterImagePolicy(b) }
