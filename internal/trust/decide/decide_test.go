package decide_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust/decide"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

const (
	one        = `  - {match: "**", require: [{signers: [build]}]}`
	two        = `  - {match: "**", require: [{signers: [build, quality]}]}`
	anyTwo     = `  - {match: "**", require: [{signers: [build, quality, both, staff, ops], threshold: 2}]}`
	ofStaff    = `  - {match: "**", require: [{signers: [staff], threshold: 2}]}`
	oneOfStaff = `  - {match: "**", require: [{signers: [release, staff]}]}`
	scan       = `  - {match: "**", attestations: [{type: vuln, signers: [build, staff], threshold: 1, maxAge: 7d}]}`
	reviewed   = `  - {match: "**", attestations: [{type: "` + review + `", signers: [build, staff], threshold: 1, maxAge: 7d}]}`
)

func TestVerify(t *testing.T) {
	for _, tc := range []struct {
		name, rules string
		put         func(s *stage)
		allowed     bool
		says        string // somewhere in what is written of it
	}{
		{"nothing", one, func(s *stage) {}, false, "no signature that counts by build"},
		{"signed", one, func(s *stage) { s.put(image, "x", s.by("a"), nil) }, true, "counts for build"},
		{"by a stranger", one, func(s *stage) { s.put(image, "x", s.by("stranger"), nil) }, false, "nobody that the policy knows"},
		{"by another signer", one, func(s *stage) { s.put(image, "x", s.by("b"), nil) }, false, "none of the signers"},
		{"forged", one, func(s *stage) {
			s.put(image, "x", s.by("a"), signature.Refuse(signature.Forged, "the hash differs"))
		}, false, "refused (forged): the hash differs"},
		{"no rule", `  - {match: ghcr.io/other/**, require: [{signers: [build]}]}`, func(s *stage) { s.put(image, "x", s.by("a"), nil) }, false, "no rule"},
		{"denied", `  - {match: "**", deny: "mirror it"}`, func(s *stage) { s.put(image, "x", s.by("a"), nil) }, false, "denies it: mirror it"},
		{"denied and excepted", `  - {match: "**", deny: "mirror it"}` + exception(image.Digest, "2026-04-01"), func(s *stage) {}, false, "denies it"},
		{"excepted", one + exception(image.Digest, "2026-04-01"), func(s *stage) {}, true, "excepted until 2026-04-01"},
		{"excepted without a rule", `  - {match: ghcr.io/other/**, deny: "x"}` + exception(image.Digest, "2026-04-01"), func(s *stage) {}, true, "excepted"},
		{"excepted, but another", one + exception(digest("other"), "2026-04-01"), func(s *stage) {}, false, "no signature"},
		{"excepted until yesterday", one + exception(image.Digest, "2026-02-28"), func(s *stage) {}, false, "an exception ended"},

		{"two", two, func(s *stage) { s.put(image, "x", s.by("a"), nil); s.put(image, "y", s.by("b"), nil) }, true, ""},
		{"one of two", two, func(s *stage) { s.put(image, "x", s.by("a"), nil) }, false, "by quality: 1 of 2 count"},
		{"one twice", two, func(s *stage) { s.put(image, "x", s.by("a"), nil); s.put(image, "y", s.by("a"), nil) }, false, "1 of 2"},
		{"two keys of one signer", anyTwo, func(s *stage) { s.put(image, "x", s.by("c"), nil); s.put(image, "y", s.by("d"), nil) }, false, "1 of 2"},
		{"any two", anyTwo, func(s *stage) { s.put(image, "x", s.by("c"), nil); s.put(image, "y", s.by("b"), nil) }, true, ""},
		{"two of a team", ofStaff, func(s *stage) {
			s.put(image, "x", keyless("ann", "1"), nil)
			s.put(image, "y", keyless("bob", "2"), nil)
		}, true, ""},
		{"one of a team twice, with a key each time", ofStaff, func(s *stage) {
			s.put(image, "x", keyless("ann", "1"), nil)
			s.put(image, "y", keyless("ann", "2"), nil)
		}, false, "1 of 2"},
		{"one of a team under two names with one key", ofStaff, func(s *stage) {
			s.put(image, "x", keyless("ann", "1"), nil)
			s.put(image, "y", keyless("bob", "1"), nil)
		}, false, "1 of 2"},
		{"a team is no substitute for each", oneOfStaff, func(s *stage) {
			s.put(image, "x", keyless("ann", "1"), nil)
			s.put(image, "y", keyless("bob", "2"), nil)
		}, false, "by release"},
		{"each, whoever comes first", oneOfStaff, func(s *stage) {
			s.put(image, "x", keyless("release", "1"), nil)
			s.put(image, "y", keyless("bob", "2"), nil)
		}, true, ""},
		{"one person is not two signers", oneOfStaff, func(s *stage) { s.put(image, "x", keyless("release", "1"), nil) }, false, "1 of 2"},
		{"one certificate renewed", anyTwo, func(s *stage) { s.put(image, "x", ops("1"), nil); s.put(image, "y", ops("2"), nil) }, false, "1 of 2"},
		{"one certificate under two profiles that it wrote itself", `  - {match: "**", require: [{signers: [crew], threshold: 2}]}`, func(s *stage) {
			for _, p := range []string{"1", "2"} {
				s.put(image, p, with(ops("1"), func(x *signature.Signed) { x.Identity.Profile = "arn:" + p }), nil)
			}
		}, false, "none of the signers"},
		{"two profiles of AWS Signer, with one key", `  - {match: "**", require: [{signers: [aws1, aws2]}]}`, func(s *stage) {
			s.put(image, "x", with(ops("1"), profile("one")), nil)
			s.put(image, "y", with(ops("1"), profile("two")), nil)
		}, true, ""},
		{"certificate and key", anyTwo, func(s *stage) { s.put(image, "x", ops("1"), nil); s.put(image, "y", s.by("b"), nil) }, true, ""},

		{"the index is signed", one, func(s *stage) { s.put(index, "x", s.by("a"), nil) }, true, ""},
		{"one signed the index, one the image", two, func(s *stage) { s.put(index, "x", s.by("a"), nil); s.put(image, "y", s.by("b"), nil) }, true, ""},

		{"garbage first", one, func(s *stage) {
			for i := range 50 {
				s.registry.about[image.Digest] = append(s.registry.about[image.Digest], signature.Envelope{Digest: digest(fmt.Sprint(i)), MediaType: bundle, Payload: []byte(fmt.Sprint(i))})
			}
			s.put(image, "good", s.by("a"), nil)
		}, true, ""},
		{"unknown form", one, func(s *stage) {
			s.registry.about[image.Digest] = []signature.Envelope{{Digest: digest("x"), MediaType: "text/plain", Payload: []byte("x")}}
		}, false, "text/plain is no kind of signature"},
		{"a statement about another image", scan, func(s *stage) {
			a := attestation(s.by("a"), vuln, scanned(now))
			a.Statement.Subjects = []string{digest("other")}
			s.put(image, "x", a, nil)
		}, false, "its statement is not about"},
		{"a statement about nothing", scan, func(s *stage) {
			a := attestation(s.by("a"), vuln, scanned(now))
			a.Statement.Subjects = []string{}
			s.put(image, "x", a, nil)
		}, false, "its statement is not about"},
		{"a door that names no key", one, func(s *stage) { s.put(image, "x", signature.Signed{}, nil) }, false, "nothing says by which key"},
		{"a door of another kind", one, func(s *stage) {
			s.opener.says["x"] = func() (signature.Signed, error) {
				return with(s.by("a"), func(x *signature.Signed) { x.Kind = signature.Notary }), nil
			}
			s.registry.about[image.Digest] = []signature.Envelope{{Digest: digest("x"), MediaType: bundle, Payload: []byte("x")}}
		}, false, "was taken for sigstore and opened as notary"},

		{"an attestation is no signature", one, func(s *stage) { s.put(image, "x", attestation(s.by("a"), vuln, scanned(now)), nil) }, false, "no signature that counts"},
		{"a signature as statement", one, func(s *stage) { s.put(image, "x", attestation(s.by("a"), policy.SignPredicate, "{}"), nil) }, true, ""},
		{"a signature is no attestation", scan, func(s *stage) { s.put(image, "x", s.by("a"), nil) }, false, "no attestation vuln that counts"},
		{"another attestation", scan, func(s *stage) { s.put(image, "x", attestation(s.by("a"), review, scanned(now)), nil) }, false, "no attestation vuln"},
		{"an attestation of a stranger", scan, func(s *stage) { s.put(image, "x", attestation(s.by("b"), vuln, scanned(now)), nil) }, false, "none of the signers"},
		{"a scan", scan, func(s *stage) { s.put(image, "x", attestation(s.by("a"), vuln, scanned(now.Add(-day))), nil) }, true, ""},
		{"an old scan", scan, func(s *stage) {
			s.put(image, "x", attestation(with(s.by("a"), signedAt(now.Add(-8*day))), vuln, scanned(now.Add(-8*day))), nil)
		}, false, "at most 7 days old"},
		{"an old scan, stamped anew", scan, func(s *stage) {
			s.put(image, "x", attestation(s.by("a"), vuln, scanned(now.Add(-8*day))), nil)
		}, false, "at most 7 days old"},
		{"an old signature over what claims to be new", scan, func(s *stage) {
			s.put(image, "x", attestation(with(s.by("a"), signedAt(now.Add(-8*day))), vuln, scanned(now)), nil)
		}, false, "at most 7 days old"},
		{"a scan of tomorrow", scan, func(s *stage) { s.put(image, "x", attestation(s.by("a"), vuln, scanned(now.Add(day))), nil) }, false, "in the future"},
		{"a scan whose time is not proven", scan, func(s *stage) {
			s.put(image, "x", attestation(with(s.by("a"), func(x *signature.Signed) { x.Proof = signature.Claimed }), vuln, scanned(now)), nil)
		}, false, "nothing proves when it was made"},
		{"an attestation that says no time, by a key", reviewed, func(s *stage) { s.put(image, "x", attestation(s.by("a"), review, "{}"), nil) }, false, "can be had anew"},
		{"an attestation that says no time, keyless", reviewed, func(s *stage) { s.put(image, "x", attestation(keyless("ann", "1"), review, "{}"), nil) }, true, ""},
		{"an attestation that says no time, keyless for long", reviewed, func(s *stage) {
			s.put(image, "x", attestation(with(keyless("ann", "1"), func(x *signature.Signed) { x.Revocation = signature.NotRevoked }), review, "{}"), nil)
		}, false, "can be had anew"},
		{"a predicate that is no JSON", scan, func(s *stage) { s.put(image, "x", attestation(s.by("a"), vuln, "{"), nil) }, false, "no JSON"},
		{"a condition that holds", condition, func(s *stage) { s.put(image, "x", attestation(s.by("a"), vuln, `{"critical":0}`), nil) }, true, ""},
		{"a condition that doesn't", condition, func(s *stage) { s.put(image, "x", attestation(s.by("a"), vuln, `{"critical":1}`), nil) }, false, "does not hold: predicate.critical == 0"},
		{"a condition on what is not there", condition, func(s *stage) { s.put(image, "x", attestation(s.by("a"), vuln, `{}`), nil) }, false, "can't be evaluated"},
		{"one of two attestations", condition, func(s *stage) {
			s.put(image, "x", attestation(s.by("a"), vuln, `{"critical":1}`), nil)
			s.put(image, "y", attestation(s.by("a"), vuln, `{"critical":0}`), nil)
		}, true, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := setStage(t, tc.rules)
			tc.put(s)
			for name, decided := range map[string]func(context.Context, decide.Image, time.Time) (decide.Verdict, error){"verify": s.decider.Verify, "explain": s.decider.Explain} {
				v, err := decided(t.Context(), decide.Image{Subject: image, Index: &index}, now)
				if err != nil {
					t.Fatal(err)
				}
				if v.Allowed != tc.allowed {
					t.Errorf("%s: got %v: %s\n%s", name, v.Allowed, v.Reason, written(t, v))
				}
				if !strings.Contains(written(t, v), tc.says) {
					t.Errorf("%s: want %q in\n%s", name, tc.says, written(t, v))
				}
				if !v.Until.After(now) || v.Until.After(now.Add(decide.MaxKept)) {
					t.Errorf("%s: holds until %s", name, v.Until)
				}
			}
		})
	}
}

const condition = `  - {match: "**", attestations: [{type: vuln, signers: [build], condition: "predicate.critical == 0"}]}`

func exception(digest, expires string) string {
	return "\nexceptions:\n  - {digest: \"" + digest + "\", reason: migration, expires: " + expires + "}\n"
}

func profile(name string) func(*signature.Signed) {
	return func(s *signature.Signed) {
		s.Identity.Store, s.Identity.Profile = "aws", "arn:aws:signer:eu-central-1:123456789012:/signing-profiles/"+name
	}
}

func signedAt(at time.Time) func(*signature.Signed) {
	return func(s *signature.Signed) { s.At = at; s.Log = &signature.LogEntry{At: at} }
}

func written(t *testing.T, v decide.Verdict) string {
	t.Helper()
	var b strings.Builder
	if err := decide.WriteText(&b, &v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// How signatures were made, against what a requirement allows.
func TestManner(t *testing.T) {
	require := func(s string) string { return `  - {match: "**", require: [{signers: [build], ` + s + `}]}` }
	certificate := func(s string) string { return `  - {match: "**", require: [{signers: [ops]` + s + `}]}` }
	unproven := func(s *signature.Signed) { s.Proof = signature.Claimed; s.Log = nil }
	for _, tc := range []struct {
		name, rules string
		signed      func(s *stage) signature.Signed
		allowed     bool
		says        string
	}{
		{"weaker kind", require("kinds: notary"), func(s *stage) signature.Signed { return s.by("a") }, false, ""},
		{"old form", require("log: false"), func(s *stage) signature.Signed { return with(s.by("a"), func(x *signature.Signed) { x.Old = true }) }, false, "given up"},
		{"old form allowed", require("allowOld: true"), func(s *stage) signature.Signed { return with(s.by("a"), func(x *signature.Signed) { x.Old = true }) }, true, ""},
		{"no log", require("log: true"), func(s *stage) signature.Signed { return with(s.by("a"), func(x *signature.Signed) { x.Log = nil }) }, false, "no transparency log"},
		{"no time", require("time: true"), func(s *stage) signature.Signed { return with(s.by("a"), unproven) }, false, "nothing proves when"},
		{"time", require("time: true"), func(s *stage) signature.Signed { return s.by("a") }, true, ""},
		{"another repository", require("sameRepository: true"), func(s *stage) signature.Signed {
			return with(s.by("a"), func(x *signature.Signed) { x.Reference = "ghcr.io/acme/other:1" })
		}, false, "signed as ghcr.io/acme/other:1"},
		{"no repository", require("sameRepository: true"), func(s *stage) signature.Signed { return s.by("a") }, false, "did not write for which"},
		{"same repository", require("sameRepository: true"), func(s *stage) signature.Signed {
			return with(s.by("a"), func(x *signature.Signed) { x.Reference = "GHCR.io/acme/shop:1@sha256:00" })
		}, true, ""},
		{"another repository, not asked", require("log: true"), func(s *stage) signature.Signed {
			return with(s.by("a"), func(x *signature.Signed) { x.Reference = "ghcr.io/acme/other:1" })
		}, true, ""},

		{"revocation known", certificate(""), func(*stage) signature.Signed { return ops("1") }, true, ""},
		{"revocation silent", certificate(""), func(*stage) signature.Signed {
			return with(ops("1"), func(x *signature.Signed) { x.Revocation = signature.RevocationSilent })
		}, false, "is not known (unknown)"},
		{"revocation stale", certificate(""), func(*stage) signature.Signed {
			return with(ops("1"), func(x *signature.Signed) { x.Revocation = signature.RevocationStale })
		}, false, "is not known (stale)"},
		{"revocation soft", certificate(", revocation: soft"), func(*stage) signature.Signed {
			return with(ops("1"), func(x *signature.Signed) { x.Revocation = signature.RevocationSilent })
		}, true, ""},

		{"from the future", require("log: true"), func(s *stage) signature.Signed { return with(s.by("a"), signedAt(now.Add(time.Hour))) }, false, "in the future"},
		{"from the future by the log", require("log: true"), func(s *stage) signature.Signed {
			return with(s.by("a"), func(x *signature.Signed) { x.Log = &signature.LogEntry{At: now.Add(time.Hour)} })
		}, false, "in the future"},
		{"a little ahead", require("log: true"), func(s *stage) signature.Signed { return with(s.by("a"), signedAt(now.Add(time.Minute))) }, true, ""},
		{"expired", require("log: true"), func(s *stage) signature.Signed {
			return with(s.by("a"), func(x *signature.Signed) { x.Expiry = now })
		}, false, "wanted it to be believed until"},
		{"vouched for until now", require("log: true"), func(s *stage) signature.Signed {
			return with(s.by("a"), func(x *signature.Signed) { x.Until = now })
		}, false, "what vouches for it ended"},

		{"ended key, before", one, func(s *stage) signature.Signed { return with(s.by("ended"), signedAt(now.Add(-60*day))) }, true, ""},
		{"ended key, after", one, func(s *stage) signature.Signed { return s.by("ended") }, false, "is no longer used since"},
		{"ended key, claims before", one, func(s *stage) signature.Signed {
			return with(with(s.by("ended"), signedAt(now.Add(-60*day))), unproven)
		}, false, "nothing proves that it was signed before"},
		{"lost key, before", one, func(s *stage) signature.Signed { return with(s.by("lost"), signedAt(now.Add(-60*day))) }, true, ""},
		{"lost key, after", one, func(s *stage) signature.Signed { return s.by("lost") }, false, "is lost since"},
		{"key that is not used yet", one, func(s *stage) signature.Signed { return s.by("new") }, false, "is used from"},
		{"lost key in a certificate", certificate(""), func(s *stage) signature.Signed { return with(certified(s, "lost"), unproven) }, false, "is lost since"},
		{"lost key in a certificate, its signer claims before", certificate(""), func(s *stage) signature.Signed {
			return with(certified(s, "lost"), func(x *signature.Signed) { x.At, x.Proof = now.Add(-60*day), signature.Claimed })
		}, false, "is lost since"},
		{"lost key in a certificate, stamped after", certificate(""), func(s *stage) signature.Signed {
			return with(certified(s, "lost"), func(x *signature.Signed) { x.Proof = signature.Timestamped })
		}, false, "is lost since"},
		{"lost key in a certificate, stamped before", certificate(""), func(s *stage) signature.Signed {
			return with(certified(s, "lost"), func(x *signature.Signed) { x.At, x.Proof = now.Add(-60*day), signature.Timestamped })
		}, true, ""},
		{"ended key in a certificate", certificate(""), func(s *stage) signature.Signed { return certified(s, "ended") }, true, ""},
		{"trusted key in a certificate", one, func(s *stage) signature.Signed { return certified(s, "a") }, false, "none of the signers"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := setStage(t, tc.rules)
			s.put(image, "x", tc.signed(s), nil)
			v, err := s.decider.Explain(t.Context(), decide.Image{Subject: image}, now)
			if err != nil {
				t.Fatal(err)
			}
			if v.Allowed != tc.allowed || !strings.Contains(written(t, v), tc.says) {
				t.Errorf("got %v, want %q\n%s", v.Allowed, tc.says, written(t, v))
			}
		})
	}
}

// certified is a signature with a certificate over a key of the policy.
func certified(s *stage, key string) signature.Signed {
	return with(ops("1"), func(x *signature.Signed) { x.Identity.Key = s.by(key).Identity.Key })
}

func TestManyEnvelopes(t *testing.T) {
	s := setStage(t, one)
	for i := range 10_000 {
		s.registry.about[image.Digest] = append(s.registry.about[image.Digest], signature.Envelope{Digest: digest(fmt.Sprint(i)), MediaType: bundle, Payload: fmt.Append(nil, i)})
	}
	s.put(image, "the good one comes last", s.by("a"), nil)
	v, err := s.decider.Verify(t.Context(), decide.Image{Subject: image}, now)
	if err != nil {
		t.Fatal(err)
	}
	if v.Allowed || len(s.opener.opened) != decide.MaxOpened {
		t.Errorf("got %v with %d opened", v.Allowed, len(s.opener.opened))
	}
	l := v.Looked[0]
	if l.Found != 10_001 || l.Unlisted != 9_001 || l.Unopened != 900 || !l.Beyond {
		t.Errorf("got %+v", l)
	}
	if !strings.Contains(written(t, v), "9001 more were not looked at") || !strings.Contains(v.Remedy, "remove signatures") {
		t.Errorf("nobody is told:\n%s", written(t, v)[:500])
	}
}

func TestEnoughIsEnough(t *testing.T) {
	s := setStage(t, one)
	for i := range 20 {
		s.put(image, strings.Repeat("x", i+1), s.by("a"), nil)
	}
	v, err := s.decider.Verify(t.Context(), decide.Image{Subject: image, Index: &index}, now)
	if err != nil || !v.Allowed {
		t.Fatal(v.Reason, err)
	}
	if n := len(s.opener.opened); n > 4 {
		t.Errorf("%d were opened", n)
	}
	if !strings.Contains(written(t, v), "16 more were not opened: what was there is enough") {
		t.Errorf("got\n%s", written(t, v))
	}
	if _, err := s.decider.Explain(t.Context(), decide.Image{Subject: image, Index: &index}, now); err != nil || len(s.opener.opened) != 24 {
		t.Errorf("explain opened %d, %v", len(s.opener.opened)-4, err)
	}
}

// halves is a registry in which some envelopes are where older tools put them.
type halves struct {
	*registry
	old   []signature.Envelope
	asked []string
	err   error
}

func (h *halves) CurrentEnvelopes(ctx context.Context, s signature.Subject) ([]signature.Envelope, error) {
	h.asked = append(h.asked, "current")
	return h.registry.Envelopes(ctx, s)
}

func (h *halves) OldEnvelopes(context.Context, signature.Subject) ([]signature.Envelope, error) {
	h.asked = append(h.asked, "old")
	return h.old, h.err
}

func (h *halves) Envelopes(ctx context.Context, s signature.Subject) ([]signature.Envelope, error) {
	h.asked = append(h.asked, "all")
	found, err := h.registry.Envelopes(ctx, s)
	return append(found, h.old...), errors.Join(err, h.err)
}

// Forms that nobody takes are looked for only to say why an image is denied.
func TestOldFormsAreLookedForLast(t *testing.T) {
	gone := func(s *signature.Signed) { s.Old = true }
	allowing := `  - {match: "**", require: [{signers: [build], allowOld: true}]}`
	for _, tc := range []struct {
		name, rules  string
		current, old bool
		index        bool
		err          error
		allowed      bool
		says, asked  string
	}{
		{"enough", one, true, true, false, nil, true, "counts for build", "current"},
		{"not enough", one, false, true, false, nil, false, "given up", "current old"},
		{"nothing", one, false, false, false, nil, false, "no signature that counts", "current old"},
		{"nothing, with an index", one, false, false, true, nil, false, "no signature that counts", "current current old old"},
		{"enough, and old forms can't be had", one, true, false, false, errors.New("away"), true, "counts for build", "current"},
		{"not enough, and old forms can't be had", one, false, false, false, errors.New("away"), false, "could not be decided", "current old"},
		{"allowed", allowing, false, true, false, nil, true, "counts for build", "all"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := setStage(t, tc.rules)
			h := &halves{registry: &s.registry, err: tc.err}
			s.decider.Finder = h
			s.put(image, "x", s.by("a"), nil)
			s.put(image, "y", with(s.by("a"), gone), nil)
			both := s.registry.about[image.Digest]
			if s.registry.about[image.Digest] = nil; tc.current {
				s.registry.about[image.Digest] = both[:1]
			}
			if tc.old {
				h.old = both[1:]
			}
			about := decide.Image{Subject: image}
			if tc.index {
				about.Index = &index
			}
			v, err := s.decider.Verify(t.Context(), about, now)
			if (err != nil) != strings.Contains(tc.says, "could not") || v.Allowed != tc.allowed || !strings.Contains(written(t, v), tc.says) {
				t.Errorf("got %v, %v, want %q\n%s", v.Allowed, err, tc.says, written(t, v))
			}
			if got := strings.Join(h.asked, " "); got != tc.asked {
				t.Errorf("asked for %s, want %s", got, tc.asked)
			}
			h.asked = nil
			if _, err := s.decider.Explain(t.Context(), about, now); (err != nil) != (tc.err != nil) || !strings.HasPrefix(strings.Join(h.asked, " "), "all") {
				t.Errorf("explain asked for %v, %v", h.asked, err)
			}
		})
	}
}

// Two steps open no more than one.
func TestManyEnvelopesInHalves(t *testing.T) {
	s := setStage(t, one)
	var many []signature.Envelope
	for i := range 1600 {
		many = append(many, signature.Envelope{Digest: digest(fmt.Sprint(i)), MediaType: bundle, Payload: fmt.Append(nil, i)})
	}
	s.registry.about[image.Digest] = many[:800]
	s.decider.Finder = &halves{registry: &s.registry, old: many[800:]}
	v, err := s.decider.Verify(t.Context(), decide.Image{Subject: image}, now)
	if err != nil {
		t.Fatal(err)
	}
	l := v.Looked[0]
	if len(v.Looked) != 1 || l.Found != 1600 || l.Unlisted != 600 || l.Unopened != 900 || !l.Beyond || len(s.opener.opened) != decide.MaxOpened {
		t.Errorf("got %+v with %d opened", v.Looked, len(s.opener.opened))
	}
}

// An envelope that was refused is not opened again under another digest, and one
// that only pretends to be the same is.
func TestDuplicates(t *testing.T) {
	s := setStage(t, one)
	s.put(image, "x", s.by("a"), nil)
	tries := 0
	s.opener.says["x"] = func() (signature.Signed, error) {
		if tries++; tries == 1 {
			return signature.Signed{}, signature.Refuse(signature.Forged, "no")
		}
		return with(s.by("a"), func(x *signature.Signed) { x.Kind = signature.Sigstore }), nil
	}
	again := s.registry.about[image.Digest][0]
	again.Digest = digest("another name")
	s.registry.about[image.Digest] = append(s.registry.about[image.Digest], again, again)
	if v, err := s.decider.Explain(t.Context(), decide.Image{Subject: image}, now); err != nil || v.Allowed || tries != 1 {
		t.Errorf("a second try: got %v, %v, %d tries", v.Allowed, err, tries)
	}

	s = setStage(t, one)
	s.put(image, "x", s.by("a"), nil)
	garbage := s.registry.about[image.Digest][0]
	garbage.Payload = []byte("y")
	s.registry.about[image.Digest] = append([]signature.Envelope{garbage}, s.registry.about[image.Digest]...)
	if v, err := s.decider.Verify(t.Context(), decide.Image{Subject: image}, now); err != nil || !v.Allowed {
		t.Errorf("garbage under the digest of a signature hides it: %v, %v", v.Reason, err)
	}
}

func TestUndecided(t *testing.T) {
	away := fault.New(fault.Unavailable, "the registry is away")
	for _, tc := range []struct {
		name string
		set  func(s *stage)
		want string
	}{
		{"registry", func(s *stage) { s.registry.err = away }, "the registry is away"},
		{"door", func(s *stage) { s.put(image, "x", s.by("a"), errors.New("no answer")) }, "no answer"},
		{"registry that is too slow", func(s *stage) { s.registry.err = context.DeadlineExceeded }, "deadline exceeded"},
		{"plain error of the registry", func(s *stage) { s.registry.err = errors.New("broken") }, "broken"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := setStage(t, one)
			s.decider.Cache = decide.NewCache(0)
			tc.set(s)
			v, err := s.decider.Verify(t.Context(), decide.Image{Subject: image}, now)
			if err == nil || v.Allowed || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, %v", v.Allowed, err)
			}
			if !fault.Is(err, fault.Unavailable) {
				t.Errorf("%v is %s", err, fault.Of(err))
			}
			if s.decider.Cache.Len() != 0 {
				t.Error("an error is remembered")
			}
			// What is enough without the missing answer is enough.
			if s.registry.err == nil {
				s.put(image, "a good one", s.by("a"), nil)
				if v, err := s.decider.Verify(t.Context(), decide.Image{Subject: image}, now); err != nil || !v.Allowed {
					t.Errorf("got %v, %v", v.Allowed, err)
				}
			}
		})
	}
	t.Run("given up", func(t *testing.T) {
		s := setStage(t, one)
		ctx, cancel := context.WithCancel(t.Context())
		s.registry.hook = func(int) { cancel() }
		s.put(image, "x", s.by("a"), nil)
		if v, err := s.decider.Verify(ctx, decide.Image{Subject: image}, now); !errors.Is(err, context.Canceled) || v.Allowed {
			t.Errorf("got %v, %v", v.Allowed, err)
		}
	})
	for name, i := range map[string]decide.Image{
		"tag":            {Subject: signature.Subject{Repository: "ghcr.io/a/b", Digest: "latest"}},
		"odd repository": {Subject: signature.Subject{Repository: "ghcr.io/a/../b", Digest: image.Digest}},
		"odd index":      {Subject: image, Index: &signature.Subject{Digest: "sha256:00"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := setStage(t, one)
			if v, err := s.decider.Verify(t.Context(), i, now); !fault.Is(err, fault.Invalid) || v.Allowed {
				t.Errorf("got %v, %v", v.Allowed, err)
			}
		})
	}
}

// partly is the error of a Finder that found some.
type partly struct{ refused bool }

func (p partly) Error() string     { return "two could not be read" }
func (p partly) OnlyRefused() bool { return p.refused }

func TestIncompleteAnswers(t *testing.T) {
	for _, tc := range []struct {
		name             string
		refused, signed  bool
		allowed, decided bool
	}{
		{"what came is enough", false, true, true, true},
		{"what came is not enough", false, false, false, false},
		{"what is missing was refused", true, false, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := setStage(t, one)
			s.registry.err = fmt.Errorf("find: %w", partly{tc.refused})
			if tc.signed {
				s.put(image, "x", s.by("a"), nil)
			}
			v, err := s.decider.Verify(t.Context(), decide.Image{Subject: image}, now)
			if v.Allowed != tc.allowed || (err == nil) != tc.decided {
				t.Errorf("got %v, %v", v.Allowed, err)
			}
			if !strings.Contains(written(t, v), "two could not be read") {
				t.Errorf("nobody is told:\n%s", written(t, v))
			}
		})
	}
}

// A manifest's signature says nothing of the index.
func TestASignatureOfTheManifestDoesNotCoverTheIndex(t *testing.T) {
	s := setStage(t, one)
	s.put(image, "x", s.by("a"), nil)
	if v, err := s.decider.Verify(t.Context(), decide.Image{Subject: index}, now); err != nil || v.Allowed {
		t.Errorf("got %v, %v", v.Allowed, err)
	}
}

// four opens only when three others do, and counts how many do at once.
type four struct {
	mu         sync.Mutex
	busy, most int
	here       chan struct{}
}

func (f *four) Open(ctx context.Context, _ signature.Envelope, _ signature.Subject, _ time.Time) (signature.Signed, error) {
	f.mu.Lock()
	f.busy++
	f.most = max(f.most, f.busy)
	if f.busy == 4 {
		close(f.here)
		f.here = make(chan struct{})
		f.busy = 0
		f.mu.Unlock()
		return signature.Signed{}, signature.Refuse(signature.Forged, "no")
	}
	here := f.here
	f.mu.Unlock()
	select {
	case <-here:
		return signature.Signed{}, signature.Refuse(signature.Forged, "no")
	case <-ctx.Done():
		return signature.Signed{}, ctx.Err()
	}
}

func TestFourAreOpenedAtOnce(t *testing.T) {
	s := setStage(t, one)
	for i := range 12 {
		s.put(image, strings.Repeat("x", i+1), s.by("a"), nil)
	}
	door := &four{here: make(chan struct{})}
	s.decider.Openers[signature.Sigstore] = door
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if v, err := s.decider.Verify(ctx, decide.Image{Subject: image}, now); err != nil || v.Allowed || door.most != 4 {
		t.Errorf("got %v, %v, %d at once", v.Allowed, err, door.most)
	}
}
