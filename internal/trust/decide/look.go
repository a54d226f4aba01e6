package decide

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust/policy"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// candidate is an envelope that may be worth opening.
type candidate struct {
	signature.Envelope
	c *Case
}

// partial is the error of a Finder that comes with some of the envelopes. They
// are good to use; nothing may be concluded from what is not among them, unless
// all that is missing was looked at and refused.
type partial interface {
	error
	OnlyRefused() bool
}

// look finds the envelopes of a subject and opens them, those that cost least
// first, until everything is met.
func (x *decision) look(ctx context.Context, s signature.Subject, by find) error {
	found, err := by(ctx, s)
	var some partial
	if err != nil && (!errors.As(err, &some) || ctx.Err() != nil) {
		return fmt.Errorf("look for signatures of %s: %w", s.Digest, err)
	}
	l := x.looked(s)
	listed, opened := max(MaxListed-l.Found, 0), MaxOpened-x.opened[s.Digest]
	l.Found += len(found)
	if some != nil {
		l.Missing = clip(strings.TrimPrefix(l.Missing+"; "+err.Error(), "; "))
		if !some.OnlyRefused() {
			x.missing = append(x.missing, fmt.Errorf("look for signatures of %s: %w", s.Digest, err))
		}
	}
	if len(found) > listed {
		l.Unlisted, l.Beyond = l.Unlisted+len(found)-listed, true
		found = found[:listed]
	}
	queue := x.candidates(s, found)
	if len(queue) > opened {
		l.Unopened, l.Beyond = l.Unopened+len(queue)-opened, true
		queue = queue[:opened]
	}
	for len(queue) > 0 && (x.all || !x.enough()) {
		n := min(openAtOnce, len(queue))
		x.open(ctx, s, queue[:n])
		x.opened[s.Digest] += n
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, q := range queue[:n] {
			x.weigh(ctx, q.c)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		x.count()
		queue = queue[n:]
	}
	l.Unopened += len(queue)
	return nil
}

// looked is where it is noted what was looked at of a subject.
func (x *decision) looked(s signature.Subject) *Looked {
	if at := slices.IndexFunc(x.out.Looked, func(l Looked) bool { return l.Digest == s.Digest }); at >= 0 {
		return &x.out.Looked[at]
	}
	x.out.Looked = append(x.out.Looked, Looked{Digest: s.Digest, Index: x.Index != nil && s.Digest == x.Index.Digest && s.Digest != x.Subject.Digest})
	return &x.out.Looked[len(x.out.Looked)-1]
}

// candidates are the envelopes that can count, in the order in which to open
// them. Each is looked at once, however often and under whatever name it is
// listed, so that nobody gets a second chance.
func (x *decision) candidates(s signature.Subject, found []signature.Envelope) []candidate {
	var queue []candidate
	for _, e := range found {
		c := &Case{Envelope: clip(e.Digest), Subject: s.Digest, Way: e.Way, Kind: kindOf(e)}
		id := content(s, e)
		if x.seen[id] != nil {
			continue
		}
		x.seen[id] = c
		switch {
		case c.Kind == "":
			c.refuse(signature.Refuse(signature.Unsupported, "%s is no kind of signature that is known", clip(mediaType(e))))
		case len(e.Payload) > MaxPayload:
			c.refuse(signature.Refuse(signature.TooLarge, "%d bytes, and at most %d are read", len(e.Payload), MaxPayload))
		case x.Openers[c.Kind] == nil:
			c.refuse(signature.Refuse(signature.Unsupported, "signatures of the kind %s are not opened here", c.Kind))
		case !x.wanted(c.Kind) && !x.all:
			continue // nobody asks for it
		default:
			queue = append(queue, candidate{e, c})
			continue
		}
		x.cases = append(x.cases, c)
	}
	slices.SortStableFunc(queue, func(a, b candidate) int { return len(a.Payload) - len(b.Payload) })
	return queue
}

func (x *decision) wanted(k signature.Kind) bool {
	return slices.ContainsFunc(x.rule.Require, func(r policy.Requirement) bool { return r.Allows(k) })
}

// open opens a few at once.
func (x *decision) open(ctx context.Context, s signature.Subject, batch []candidate) {
	var wait sync.WaitGroup
	for _, q := range batch {
		x.cases = append(x.cases, q.c)
		wait.Go(func() {
			signed, err := x.Openers[q.c.Kind].Open(ctx, q.Envelope, s, x.now)
			if err == nil {
				if x.Facts {
					q.c.fact = factOf(signed)
				}
				err = x.sound(q.c, s, &signed)
			}
			q.c.learn(signed, err)
		})
	}
	wait.Wait()
}

// learn takes over what a door has found.
func (c *Case) learn(s signature.Signed, err error) {
	var refusal *signature.Refusal
	switch {
	case errors.As(err, &refusal):
		c.refuse(refusal)
		return
	case err != nil:
		c.State, c.Detail, c.err = Unknown, clip(err.Error()), err
		return
	}
	c.State, c.signed = Good, s
	c.By = &Who{
		Key: clip(s.Identity.Key), Certificate: clip(s.Identity.Name), Store: clip(s.Identity.Store),
		Issuer: clip(s.Identity.Issuer), Subject: clip(s.Identity.Subject), Profile: clip(s.Identity.Profile),
	}
	c.Proof, c.Revocation, c.Old = s.Proof, s.Revocation, s.Old
	if !s.At.IsZero() {
		c.Time = &s.At
	}
	if s.Log != nil {
		c.Log = &s.Log.Index
	}
	if attests(&s) {
		c.Predicate = clip(s.Statement.Predicate)
	}
}

func (c *Case) refuse(r *signature.Refusal) {
	c.State, c.Reason, c.Detail, c.Remedy = Refused, r.Reason, clip(r.Error()), clip(r.Remedy)
}

// maxShown bounds one text of a stranger in a verdict, in bytes: verdicts are
// kept.
const maxShown = 1000

func clip(s string) string { return untrusted.Clip(s, maxShown) }

// attests reports whether something is said of the image, other than that it is
// signed.
func attests(s *signature.Signed) bool {
	return s.Statement != nil && s.Statement.Predicate != policy.SignPredicate
}

// sound looks again at what must not be wrong whatever a door says, and at what
// only the policy knows.
func (x *decision) sound(c *Case, s signature.Subject, signed *signature.Signed) error {
	ahead := x.now.Add(MaxSkew)
	switch {
	case signed.Kind != c.Kind:
		return signature.Refuse(signature.Malformed, "it was taken for %s and opened as %s", c.Kind, signed.Kind)
	case signed.Identity.Key == "":
		return signature.Refuse(signature.Malformed, "nothing says by which key it was signed")
	case signed.At.After(ahead), signed.Log != nil && signed.Log.At.After(ahead):
		r := signature.Refuse(signature.NotYet, "it was signed at %s, which is in the future", signed.At.Format(time.RFC3339))
		r.Remedy = "set this machine's clock, or that of whoever signed"
		return r
	case !signed.Expiry.IsZero() && !x.now.Before(signed.Expiry):
		return signature.Refuse(signature.Expired, "its signer wanted it to be believed until %s", signed.Expiry.Format(time.RFC3339))
	case !signed.Until.IsZero() && !x.now.Before(signed.Until):
		return signature.Refuse(signature.Expired, "what vouches for it ended at %s", signed.Until.Format(time.RFC3339))
	case signed.Statement != nil && !slices.Contains(signed.Statement.Subjects, s.Digest):
		return signature.Refuse(signature.OtherSubject, "its statement is not about %s", s.Digest)
	}
	if k := x.datesOf(signed); k != nil {
		if _, refusal := lifetime(k, signed, x.now); refusal != nil {
			return refusal
		}
	}
	return nil
}

// datesOf returns the trusted key by whose dates a signature is held, nil if there
// is none. Of a certificate over such a key they say nothing but that it was lost:
// who has it since can use both.
func (x *decision) datesOf(s *signature.Signed) *signature.Key {
	k := x.Policy.Key(s.Identity.Key)
	switch {
	case k == nil, bare(s):
		return k
	case k.Lost.IsZero():
		return nil
	}
	return &signature.Key{Name: k.Name, Lost: k.Lost}
}

func bare(s *signature.Signed) bool { return s.Identity.Certificate == "" && s.Identity.Issuer == "" }

// proven reports whether somebody else than the signer says when it was signed.
func proven(s *signature.Signed) bool {
	return !s.At.IsZero() && (s.Proof == signature.Authority || s.Proof == signature.Timestamped || s.Proof == signature.Logged)
}

// lifetime checks a signature against the dates of its key, and says when the
// answer may change; zero: never.
func lifetime(k *signature.Key, s *signature.Signed, now time.Time) (until time.Time, _ *signature.Refusal) {
	end, why := k.NotAfter, "is no longer used since"
	if !k.Lost.IsZero() && (end.IsZero() || k.Lost.Before(end)) {
		end, why = k.Lost, "is lost since"
	}
	begin := k.NotBefore
	switch day := end.Format(time.RFC3339); {
	case now.Before(begin), proven(s) && s.At.Before(begin):
		return until, signature.Refuse(signature.NotYet, "key %s is used from %s on, and it was signed before", k.Name, begin.Format(time.RFC3339))
	case end.IsZero():
		return until, nil
	case proven(s) && s.At.Before(end):
		return until, nil
	case proven(s):
		return until, signature.Refuse(signature.Expired, "key %s %s %s, and it was signed at %s", k.Name, why, day, s.At.Format(time.RFC3339))
	case !now.Before(end):
		r := signature.Refuse(signature.NoTime, "key %s %s %s, and nothing proves that it was signed before", k.Name, why, day)
		r.Remedy = "sign again with the new key; a time stamp or a transparency log proves when a signature was made"
		return until, r
	}
	return end, nil
}

// content names an envelope by all that a door can see of it.
func content(s signature.Subject, e signature.Envelope) string {
	h := sha256.New()
	put := func(b string) { chunk(h, []byte(b)) }
	put(s.Digest)
	put(e.ArtifactType)
	put(e.MediaType)
	put(string(e.Way))
	for _, k := range slices.Sorted(maps.Keys(e.Annotations)) {
		put(k)
		put(e.Annotations[k])
	}
	chunk(h, e.Payload)
	return string(h.Sum(nil))
}

func chunk(h hash.Hash, b []byte) {
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(len(b)))
	h.Write(size[:])
	h.Write(b)
}

// kindOf tells an envelope's kind by what its payload is said to be, which is
// what a door will read; by the rest only if that says nothing. "" is nothing
// that is known.
func kindOf(e signature.Envelope) signature.Kind {
	for _, m := range []string{e.MediaType, e.ArtifactType} {
		switch m = strings.ToLower(m); {
		case m == "application/jose+json", m == "application/cose", m == "application/vnd.cncf.notary.signature":
			return signature.Notary
		case strings.HasPrefix(m, "application/vnd.dev.sigstore.bundle"), strings.HasPrefix(m, "application/vnd.dev.cosign."),
			m == "application/vnd.dsse.envelope.v1+json":
			return signature.Sigstore
		}
	}
	if e.Way == signature.ByCosignTag {
		return signature.Sigstore
	}
	if e.Way != signature.ByFile || e.MediaType != "" {
		return ""
	}
	switch p := bytes.TrimSpace(e.Payload); {
	case len(p) > 0 && p[0] == 0xd2: // COSE_Sign1, tagged
		return signature.Notary
	case bytes.HasPrefix(p, []byte("{")) && bytes.Contains(p, []byte(`"protected"`)):
		return signature.Notary
	case bytes.HasPrefix(p, []byte("{")):
		return signature.Sigstore
	}
	return ""
}

func mediaType(e signature.Envelope) string {
	if e.MediaType != "" {
		return e.MediaType
	}
	if e.ArtifactType != "" {
		return e.ArtifactType
	}
	return "what has no media type"
}
