// Package decide holds the signatures and attestations of an image against a
// trust policy and says whether it may run, with every step that led there.
//
// It knows neither registries nor cryptography: a Finder finds envelopes, an
// Opener says what is true of one. What it adds is the order in which they are
// asked, the bounds of that, and the counting. All that a policy can demand is
// that something is there, never that something is missing: who can hide
// signatures can only make an image be denied, and the first signatures that
// are enough are enough.
package decide

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

// Limits of one decision. A registry is written to by others: their number of
// signatures must not be our work.
const (
	MaxListed  = 1000             // envelopes of one subject that are looked at
	MaxOpened  = 100              // and of those that are opened
	MaxPayload = 32 << 20         // bytes of one
	maxSpent   = 10 * time.Second // on all conditions together
	openAtOnce = 4                // in flight; checking a signature is work for the processor, and reading its time for nobody else

	// MaxSkew is how far the clocks of signers may be ahead of this one.
	MaxSkew = 5 * time.Minute
	// MaxKept is how long an image is allowed without asking again, at most: long
	// enough for a fleet's restarts, short enough that a change that nobody could
	// foresee is seen the same day.
	MaxKept = 6 * time.Hour
	// DenialKept is how long a denial is remembered: a signature may come at any
	// moment.
	DenialKept = 10 * time.Second
	// nowKept is how long an answer holds that depends on the clock in a way only
	// the policy's author knows.
	nowKept = time.Minute
)

// Finder finds what is said about an image.
type Finder interface {
	// Envelopes returns the signatures and attestations of a subject, nothing if
	// there are none. An error means that it could not find out, or, if it has a
	// method OnlyRefused() bool, that envelopes are missing among those that come
	// with it: false, because some could not be had; true, because all others were
	// looked at and are none.
	Envelopes(ctx context.Context, s signature.Subject) ([]signature.Envelope, error)
}

// Halves is a Finder that can look for envelopes in two steps: first in the places
// where tools put them today, then in those of forms that their makers have given up.
// Where no requirement takes such forms, the second step is only done to say why an
// image is denied.
type Halves interface {
	// CurrentEnvelopes and OldEnvelopes return together what Envelopes does.
	CurrentEnvelopes(ctx context.Context, s signature.Subject) ([]signature.Envelope, error)
	OldEnvelopes(ctx context.Context, s signature.Subject) ([]signature.Envelope, error)
}

// Opener opens envelopes of one kind.
type Opener interface {
	// Open returns what is true of an envelope, which must be about the subject,
	// as of a time. The error is a *signature.Refusal if the envelope is false;
	// any other error means that it could not find out.
	Open(ctx context.Context, e signature.Envelope, s signature.Subject, at time.Time) (signature.Signed, error)
}

// Image is what is to be decided on.
type Image struct {
	// Subject is the manifest that runs, or the index if nobody has chosen a
	// platform yet.
	Subject signature.Subject

	// Index is the index that names the manifest: what is signed of it is signed
	// of the manifest too, as the digest of the one is part of the other. The
	// caller has read the index, checked its digest, and seen the manifest's in
	// it. Nil if there is none. The contrary doesn't hold: a manifest's signature
	// says nothing of an index.
	Index *signature.Subject
}

// Decider decides by one policy. Its fields are set once; many may use it at the
// same time.
type Decider struct {
	Policy  *policy.Policy
	Finder  Finder
	Openers map[signature.Kind]Opener
	Cache   *Cache // may be nil
	// Facts has verdicts keep what was found, for Recall. It needs a cache of its own.
	Facts bool
}

// Verify says whether an image may run, as soon as that is clear. An error means
// that it could not be decided, which is no leave to run: then the Verdict
// denies, and says how far it came. Verdicts may be shared and must not be
// changed.
func (d *Decider) Verify(ctx context.Context, image Image, now time.Time) (Verdict, error) {
	if d.Cache == nil || d.Policy == nil {
		return d.decide(ctx, image, now, false)
	}
	return d.Cache.get(ctx, d.key(image), now, func() (Verdict, error) { return d.decide(ctx, image, now, false) })
}

// Explain is Verify without what is remembered, and it opens everything, so that
// a person sees all that is there.
func (d *Decider) Explain(ctx context.Context, image Image, now time.Time) (Verdict, error) {
	return d.decide(ctx, image, now, true)
}

// decision is one decision on its way.
type decision struct {
	*Decider
	Image
	now  time.Time
	all  bool // open everything
	repo policy.Repository
	rule *policy.Rule
	out  *Verdict

	votes   [][]vote // by requirement
	met     [][]vote // by requirement, those that were chosen; nil if not met
	misses  [][]Miss // by requirement
	cases   []*Case
	missing []error          // answers of the Finder that were not whole
	seen    map[string]*Case // by content
	opened  map[string]int   // by subject
	tree    tree             // the predicate of what is being weighed
	spent   time.Duration    // on conditions
}

// errUndecided is of decisions that failed for want of an answer.
var errUndecided = errors.New("could not be decided")

func (d *Decider) decide(ctx context.Context, image Image, now time.Time, all bool) (Verdict, error) {
	out := Verdict{Digest: image.Subject.Digest, At: now, Until: now, Looked: []Looked{}, Signatures: []Case{}, Requirements: []Outcome{}, Steps: []Step{}}
	x := &decision{Decider: d, Image: image, now: now, all: all, out: &out, seen: map[string]*Case{}, opened: map[string]int{}}
	if err := x.prepare(); err != nil {
		out.Reason = err.Error()
		return out, err
	}
	var err error
	if !x.settled() {
		err = x.gather(ctx)
		x.conclude()
		if err == nil && !out.Allowed {
			err = x.unanswered()
		}
		if err != nil {
			out.Allowed, out.Until = false, now
			out.Reason, out.Remedy = "it could not be decided: "+err.Error(), "nothing was allowed; try again when the registry answers"
			err = undecided(ctx, x.name(), err)
		}
	}
	out.Steps = steps(&out)
	return out, err
}

// gather looks at one subject after the other until everything is met.
func (x *decision) gather(ctx context.Context) error {
	n := len(x.rule.Require)
	x.votes, x.met, x.misses = make([][]vote, n), make([][]vote, n), make([][]Miss, n)
	for _, find := range x.finds() {
		for _, s := range x.subjects() {
			if err := x.look(ctx, s, find); err != nil {
				return err
			}
			if x.enough() && !x.all {
				return nil
			}
		}
	}
	return nil
}

// find is a way to find envelopes.
type find func(context.Context, signature.Subject) ([]signature.Envelope, error)

// finds are the ways to find envelopes, one after the other.
func (x *decision) finds() []find {
	h, can := x.Finder.(Halves)
	if !can || x.all || slices.ContainsFunc(x.rule.Require, func(q policy.Requirement) bool { return q.AllowOld }) {
		return []find{x.Finder.Envelopes}
	}
	return []find{h.CurrentEnvelopes, h.OldEnvelopes}
}

// undecided keeps the kind of a cause that has one, and of a caller that went
// away that it did.
func undecided(ctx context.Context, name string, err error) error {
	err = fmt.Errorf("trust: %s %w: %w", name, errUndecided, err)
	if fault.Of(err) != fault.Unknown || ctx.Err() != nil {
		return err
	}
	return fault.New(fault.Unavailable, "%w", err).With("nothing was allowed; try again when the registry answers")
}

// prepare checks what was asked, and finds the rule.
func (x *decision) prepare() error {
	var err error
	if x.repo, err = policy.ParseRepository(x.Subject.Repository); err != nil {
		return fault.New(fault.Invalid, "trust: %w", err)
	}
	for _, s := range x.subjects() {
		if !wellFormed(s.Digest) {
			return fault.New(fault.Invalid, "trust: %q is no digest", s.Digest).With("resolve the tag first: what is verified is a digest")
		}
	}
	if x.Policy == nil || x.Finder == nil {
		return fault.New(fault.Invalid, "trust: there is no policy, or nothing that finds signatures")
	}
	if x.now.IsZero() {
		return fault.New(fault.Invalid, "trust: no time to decide at")
	}
	x.out.Repository, x.out.PolicyFile = string(x.repo), x.Policy.File
	x.out.Policy, x.out.Roots = x.Policy.Digest, x.Policy.RootsDigest
	if x.Index != nil {
		x.out.Index = x.Index.Digest
	}
	var by *policy.Pattern
	if x.rule, by = x.Policy.For(x.repo); x.rule != nil {
		x.out.Rule = &Chosen{Name: x.rule.Name, Pattern: by.Text, Line: x.rule.At.Line}
	}
	return nil
}

// subjects are what signatures may be about, the index first: that is what people
// sign when they sign a tag.
func (x *decision) subjects() []signature.Subject {
	if x.Index == nil || x.Index.Digest == x.Subject.Digest {
		return []signature.Subject{x.Subject}
	}
	return []signature.Subject{*x.Index, x.Subject}
}

func (x *decision) name() string {
	name := string(x.repo)
	if name == "" {
		name = "the image"
	}
	return name + "@" + x.Subject.Digest
}

func wellFormed(digest string) bool {
	algorithm, sum, ok := strings.Cut(digest, ":")
	n := map[string]int{"sha256": 64, "sha512": 128}[algorithm]
	return ok && n > 0 && len(sum) == n && strings.Trim(sum, "0123456789abcdef") == ""
}

// settled decides what needs no signatures: rules that deny, images without a
// rule, exceptions. A rule that denies is stronger than an exception: somebody
// said never.
func (x *decision) settled() bool {
	if x.rule != nil && x.rule.Deny != "" {
		x.deny("rule "+x.out.Rule.String()+" denies it: "+x.rule.Deny, "use another image, or change the rule")
		return true
	}
	var digests []string
	for _, s := range x.subjects() {
		digests = append(digests, s.Digest)
	}
	if e := x.Policy.Excepted(x.repo, digests, x.now); e != nil {
		x.out.Exception = &Excepted{Digest: e.Digest, Reason: e.Reason, Expires: e.Expires, Line: e.At.Line}
		x.out.Allowed = true
		x.out.Reason = fmt.Sprintf("it is excepted until %s: %s", e.Expires.Format(time.RFC3339), e.Reason)
		x.keep(e.Expires)
		return true
	}
	if e := x.Policy.Lapsed(digests, x.now); e != nil {
		x.out.Lapsed = &Excepted{Digest: e.Digest, Reason: e.Reason, Expires: e.Expires, Line: e.At.Line}
	}
	if x.rule == nil {
		x.deny("no rule of the policy matches it, and what no rule matches is denied", "add a rule to images that matches it and says who must have signed it")
		return true
	}
	return false
}

func (x *decision) deny(reason, remedy string) {
	x.out.Reason, x.out.Remedy = reason, remedy
	x.out.Until = x.now.Add(DenialKept)
}

// keep sets until when an answer may be relied on: the earliest of what it rests
// on, those that are zero left out.
func (x *decision) keep(ends ...time.Time) {
	x.out.Until = x.now.Add(MaxKept)
	for _, e := range ends {
		if !e.IsZero() && e.Before(x.out.Until) {
			x.out.Until = e
		}
	}
}

// enough reports whether everything is met.
func (x *decision) enough() bool {
	for _, m := range x.met {
		if m == nil {
			return false
		}
	}
	return true
}

// unanswered returns why some envelopes could not be found or opened, nil if all
// were.
func (x *decision) unanswered() error {
	if len(x.missing) > 0 {
		return x.missing[0]
	}
	for _, c := range x.cases {
		if c.State == Unknown {
			return fmt.Errorf("open %s: %w", c.Envelope, c.err)
		}
	}
	return nil
}
