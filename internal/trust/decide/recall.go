package decide

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

// Recalled is what a policy says of an image as far as that can be known without
// looking at it anew.
type Recalled struct {
	Verdict Verdict
	// Doubts are why a denial is none yet: what was found before does not suffice,
	// and the image must be verified anew. An image that is allowed has none: what
	// else there may be can't take that back.
	Doubts []string
}

// maxDoubts bounds how many are told.
const maxDoubts = 10

// Recall holds a policy against what a verdict has kept (Decider.Facts) of an
// image. Was is the policy of that verdict, nil if it is not known any more. It
// asks nobody and does no cryptography. An error means that there is no answer,
// also when ctx ends.
func Recall(ctx context.Context, p, was *policy.Policy, v *Verdict, now time.Time) (Recalled, error) {
	image := Image{Subject: signature.Subject{Repository: v.Repository, Digest: v.Digest}}
	if v.Index != "" {
		image.Index = &signature.Subject{Repository: v.Repository, Digest: v.Index}
	}
	d := Decider{Policy: p, Finder: noFinder{}}
	out := Verdict{Digest: v.Digest, At: now, Until: now, Looked: []Looked{}, Signatures: []Case{}, Requirements: []Outcome{}, Steps: []Step{}}
	m := memory{was: was, from: v, decision: &decision{Decider: &d, Image: image, now: now, all: true, out: &out, seen: map[string]*Case{}, opened: map[string]int{}}}
	if err := m.prepare(); err != nil {
		return Recalled{}, err
	}
	if !m.settled() {
		if err := m.remember(ctx); err != nil {
			return Recalled{}, err
		}
		m.conclude()
		m.uncut()
	}
	out.Steps = steps(&out)
	if out.Allowed {
		m.doubts = nil
	}
	return Recalled{Verdict: out, Doubts: m.doubts}, nil
}

// noFinder stands for a registry that must not be asked.
type noFinder struct{}

func (noFinder) Envelopes(context.Context, signature.Subject) ([]signature.Envelope, error) {
	return nil, errors.New("no registry is asked")
}

// memory is a decision by what was kept.
type memory struct {
	*decision
	was          *policy.Policy
	from         *Verdict
	keys, others bool // see policy.Moved
	doubts       []string
}

func (m *memory) doubt(format string, args ...any) {
	text := clip(fmt.Sprintf(format, args...))
	if len(m.doubts) < maxDoubts && !slices.Contains(m.doubts, text) {
		m.doubts = append(m.doubts, text)
	}
}

// remember weighs all that was kept.
func (m *memory) remember(ctx context.Context) error {
	n := len(m.rule.Require)
	m.votes, m.met, m.misses = make([][]vote, n), make([][]vote, n), make([][]Miss, n)
	facts := m.from.Facts
	switch {
	case m.was == nil || m.was.Digest != m.from.Policy:
		m.doubt("it was verified by a policy that is not in force any more")
		return nil
	case facts == nil || facts.Form != factsForm || len(facts.Opened) != len(m.from.Signatures):
		m.doubt("what was found of it was not kept, or by another version of Castellan")
		return nil
	}
	m.keys, m.others = m.Policy.Moved(m.was)
	for _, s := range m.subjects() {
		m.takeOver(s)
		for i := range m.from.Signatures {
			if m.from.Signatures[i].Subject != s.Digest {
				continue
			}
			c := m.envelope(&m.from.Signatures[i], facts.Opened[i], s)
			m.cases = append(m.cases, c)
			m.weigh(ctx, c)
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("trust: hold a policy against %s: %w", m.name(), err)
			}
			if len(m.cases)%openAtOnce == 0 {
				m.count() // as often as when they are opened, so that the same ones count
			}
		}
		m.count()
	}
	return nil
}

// takeOver takes over how far somebody has looked.
func (m *memory) takeOver(s signature.Subject) {
	for _, l := range m.from.Looked {
		if l.Digest != s.Digest {
			continue
		}
		m.out.Looked = append(m.out.Looked, l)
		if l.Unlisted+l.Unopened > 0 {
			m.doubt("%d of its signatures and attestations were not opened", l.Unlisted+l.Unopened)
		}
		return
	}
	m.doubt("nobody has looked for signatures of %s: the policy in force needs none", s.Digest)
}

// envelope is an envelope as the policy sees it.
func (m *memory) envelope(was *Case, f *Fact, s signature.Subject) *Case {
	c := &Case{Envelope: clip(was.Envelope), Subject: s.Digest, Way: was.Way, Kind: was.Kind}
	switch {
	case f == nil && was.State == Refused:
		c.refuse(&signature.Refusal{Reason: was.Reason, Detail: was.Detail, Remedy: was.Remedy})
		if (m.keys || m.others) && !lasting(was.Reason) {
			m.doubt("%s was refused (%s), and must be held against the changed roots", c.Envelope, c.Reason)
		}
	case f == nil:
		m.unknown(c, "what was found of it was too much to be kept, or could not be found out")
	case m.others:
		m.unknown(c, "it must be held against the changed roots")
	case !f.Signed.Until.IsZero() && !m.now.Before(f.Signed.Until):
		m.unknown(c, "what vouched for it held until "+f.Signed.Until.UTC().Format(time.RFC3339))
	case bare(&f.Signed) && m.Policy.Key(f.Signed.Identity.Key) == nil:
		c.refuse(signature.Refuse(signature.NoRoot, "it is by key %s, which the policy does not have", f.Signed.Identity.Key))
	default:
		signed := f.Signed
		c.cut = f.Cut
		c.learn(signed, m.sound(c, s, &signed))
	}
	return c
}

// unknown is what becomes of an envelope of which too little is known.
func (m *memory) unknown(c *Case, why string) {
	c.State, c.Detail, c.err = Unknown, clip(why), fault.New(fault.Unavailable, "%s", why)
	m.doubt("%s: %s", c.Envelope, why)
}

// lasting reports whether an envelope is refused for what it is, whatever the
// policy.
func lasting(r signature.Reason) bool {
	switch r {
	case signature.Malformed, signature.TooLarge, signature.Unsupported, signature.Forbidden, signature.OtherSubject:
		return true
	}
	return false
}

// uncut doubts denials for want of a predicate that was not kept.
func (m *memory) uncut() {
	for _, misses := range m.misses {
		for _, miss := range misses {
			if miss.Why == cutWhy {
				m.doubt("%s: %s", miss.Envelope, cutWhy)
			}
		}
	}
}
