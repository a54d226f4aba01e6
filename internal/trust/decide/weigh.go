package decide

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

// vote is an envelope that may count for any of some signers of a requirement.
type vote struct {
	c       *Case
	signers []int     // of the requirement
	profile bool      // all of them are known by their signing profile
	until   time.Time // how long it counts; zero: as long as the policy
	signer  int       // the one for which it was counted
}

// tree is a predicate, read once for all requirements, and not kept: somebody may
// list the same megabytes a hundred times.
type tree struct {
	read  bool
	value any
	err   error
}

// weigh finds out for which requirements an opened envelope counts.
func (x *decision) weigh(ctx context.Context, c *Case) {
	if c.State != Good {
		return
	}
	for _, s := range x.Policy.Signers {
		if s.Is(c.signed.Identity) {
			c.Signers = append(c.Signers, s.Name)
		}
	}
	x.tree = tree{}
	for i := range x.rule.Require {
		q := &x.rule.Require[i]
		if !about(q, &c.signed) {
			continue
		}
		v, why, remedy := x.judge(ctx, q, c)
		if why != "" {
			x.misses[i] = append(x.misses[i], Miss{c.Envelope, why, remedy})
			continue
		}
		x.votes[i] = append(x.votes[i], v)
	}
	x.tree = tree{}
	if s := c.signed.Statement; s != nil {
		c.signed.Statement = &signature.Statement{Predicate: s.Predicate, Subjects: s.Subjects}
	}
}

// about reports whether an envelope is of the sort that a requirement is about: a
// signature or a certain attestation. An attestation is no signature: that
// somebody says something of an image doesn't mean that he approves of it.
func about(q *policy.Requirement, s *signature.Signed) bool {
	if q.Predicate == "" {
		return !attests(s)
	}
	return s.Statement != nil && slices.Contains(q.Types, s.Statement.Predicate)
}

// judge returns for which signers an envelope counts, or why it doesn't.
func (x *decision) judge(ctx context.Context, q *policy.Requirement, c *Case) (v vote, why, remedy string) {
	s := &c.signed
	v = vote{c: c, until: earliest(s.Until, s.Expiry)}
	v.profile = true
	for i, who := range q.Signers {
		if by := who.Known(s.Identity); by != nil {
			v.signers = append(v.signers, i)
			v.profile = v.profile && by.Profile != ""
		}
	}
	if len(v.signers) == 0 {
		return v, "it is by " + c.By.String() + ", which is none of the signers", ""
	}
	if why, remedy = x.manner(q, c); why != "" {
		return v, why, remedy
	}
	if k := x.datesOf(s); k != nil {
		until, refusal := lifetime(k, s, x.now)
		if refusal != nil {
			return v, refusal.Error(), refusal.Remedy
		}
		v.until = earliest(v.until, until)
	}
	if q.Predicate == "" || q.MaxAge == 0 && len(q.Conditions) == 0 {
		return v, "", ""
	}
	if c.cut {
		return v, cutWhy, ""
	}
	t := x.predicate(c)
	if t.err != nil {
		return v, clip(t.err.Error()), ""
	}
	if q.MaxAge > 0 {
		var until time.Time
		if until, why, remedy = x.age(q, s, t); why != "" {
			return v, why, remedy
		}
		v.until = earliest(v.until, until)
	}
	why = x.conditions(ctx, q, &v, t)
	return v, why, ""
}

// manner holds how an envelope was made against what a requirement allows.
func (x *decision) manner(q *policy.Requirement, c *Case) (why, remedy string) {
	s := &c.signed
	switch {
	case !q.Allows(s.Kind):
		return fmt.Sprintf("it is of the kind %s, which is not allowed", s.Kind), "add it to kinds, or sign in another form"
	case s.Old && !q.AllowOld:
		return "it is in a form that its makers have given up", "sign again; or say allowOld: true"
	case q.Log && s.Log == nil:
		return "no transparency log holds it", "sign with a log; or leave log out"
	case q.Time && !proven(s):
		return "nothing proves when it was signed", "sign with a time stamp or a transparency log; or leave time out"
	case q.Revocation != policy.Soft && s.Revocation != signature.NoRevocation && s.Revocation != signature.NotRevoked:
		return fmt.Sprintf("whether its certificate was revoked is not known (%s)", s.Revocation),
			"add the authority's current revocation list to roots.revoked; or have who can tell asked, --online-revocation; or say revocation: soft"
	case q.SameRepository:
		return x.sameRepository(s)
	}
	return "", ""
}

// sameRepository checks the image's name as the signer wrote it.
func (x *decision) sameRepository(s *signature.Signed) (why, remedy string) {
	if s.Reference == "" {
		return "its signer did not write for which repository it is", "leave sameRepository out: the digest says already what was signed"
	}
	name, _, _ := strings.Cut(s.Reference, "@")
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name = name[:colon]
	}
	if r, err := policy.ParseRepository(name); err != nil || r != x.repo || r == "" {
		return "it was signed as " + clip(s.Reference), "sign it in this repository; or leave sameRepository out"
	}
	return "", ""
}

// cutWhy is why an attestation does not count of which the predicate was not kept.
const cutWhy = "what it says was too large to be kept"

func (x *decision) predicate(c *Case) tree {
	if !x.tree.read {
		x.tree.read = true
		x.tree.value, x.tree.err = policy.Predicate(c.signed.Statement)
	}
	return x.tree
}

// age checks how old an attestation is, and says when it becomes too old.
//
// A time stamp and a log prove that a signature is not younger than they say.
// They are not signed by the signer, and whoever finds an old attestation can
// have it stamped anew. What binds is the time that the signer has signed (in the
// predicate), a certificate that lived for minutes, or an authority that signs
// the time itself. The oldest of all counts: neither a new stamp on an old scan
// nor a new signature over one makes it younger.
func (x *decision) age(q *policy.Requirement, s *signature.Signed, t tree) (until time.Time, why, remedy string) {
	if !proven(s) {
		return until, "nothing proves when it was made, and it has a maximal age", "attest with a time stamp or a transparency log"
	}
	oldest := s.At
	said, found := moment(t.value, policy.Moments(s.Statement.Predicate))
	switch {
	case found && said.After(x.now.Add(MaxSkew)):
		return until, "it says that it was made at " + said.Format(time.RFC3339) + ", which is in the future", "set the clock of whoever made it"
	case found && said.Before(oldest):
		oldest = said
	case !found && !binding(s):
		return until, "its content does not say when it was made, and what proves its time can be had anew for an old one",
			"attest keyless; or leave maxAge out and compare a time of the predicate with now in condition"
	}
	if until = oldest.Add(q.MaxAge); !x.now.Before(until) {
		return until, fmt.Sprintf("it is of %s, and may be at most %s old", oldest.Format(time.RFC3339), policy.Span(q.MaxAge)), "attest anew"
	}
	return until, "", ""
}

// binding reports whether the proven time of a signature can't be had anew for an
// old one: its certificate lived for minutes, or an authority signed the time.
func binding(s *signature.Signed) bool {
	short := s.Identity.Issuer != "" && s.Revocation == signature.NoRevocation
	return short || s.Proof == signature.Authority
}

// moment returns the first of some places in a predicate that holds a time.
func moment(v any, paths [][]string) (time.Time, bool) {
	for _, path := range paths {
		at := v
		for _, name := range path {
			m, ok := at.(map[string]any)
			if !ok {
				break
			}
			at = m[name]
		}
		if s, ok := at.(string); ok {
			if t, err := time.Parse(time.RFC3339, s); err == nil {
				return t, true
			}
		}
	}
	return time.Time{}, false
}

// conditions leaves of a vote the signers for whom all conditions hold.
func (x *decision) conditions(ctx context.Context, q *policy.Requirement, v *vote, t tree) (why string) {
	if x.spent > maxSpent {
		return fmt.Sprintf("conditions on other attestations took longer than %s already", maxSpent)
	}
	defer func(begin time.Time) { x.spent += time.Since(begin) }(time.Now())
	var left []int
	for _, i := range v.signers {
		holds := true
		for _, c := range q.Conditions {
			ok, err := c.Holds(ctx, policy.About{
				Statement: v.c.signed.Statement, Signer: q.Signers[i].Name, Signed: &v.c.signed, Digest: v.c.Subject, Now: x.now,
			}, t.value)
			if c.UsesNow {
				v.until = earliest(v.until, x.now.Add(nowKept))
			}
			if err != nil {
				why = clip(fmt.Sprintf("the condition in line %d can't be evaluated: %v", c.At.Line, err))
			} else if !ok {
				why = fmt.Sprintf("the condition in line %d does not hold: %s", c.At.Line, c.Text)
			}
			if holds = ok && err == nil; !holds {
				break
			}
		}
		if holds {
			left = append(left, i)
		}
	}
	if v.signers = left; len(left) > 0 {
		return ""
	}
	return why
}

// earliest returns the earlier of two times, either of which may be zero for
// never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
