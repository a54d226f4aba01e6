package decide_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust/decide"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

// kept is what a verdict by the stage's policy keeps, as it travels.
func (s *stage) kept() *decide.Verdict {
	s.t.Helper()
	d := s.decider
	d.Facts = true
	v, err := d.Explain(s.t.Context(), decide.Image{Subject: image}, now)
	if err != nil {
		s.t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		s.t.Fatal(err)
	}
	var out decide.Verdict
	if err := json.Unmarshal(b, &out); err != nil {
		s.t.Fatal(err)
	}
	return &out
}

func (s *stage) recall(p *policy.Policy, v *decide.Verdict) decide.Recalled {
	s.t.Helper()
	r, err := decide.Recall(s.t.Context(), p, s.decider.Policy, v, now)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// crowd lists envelopes of all sorts.
func crowd(s *stage) {
	s.put(image, "a", s.by("a"), nil)
	s.put(image, "b", s.by("b"), nil)
	s.put(image, "c", with(s.by("c"), func(x *signature.Signed) { x.At, x.Proof, x.Log = time.Time{}, signature.Unproven, nil }), nil)
	s.put(image, "ended", with(s.by("ended"), func(x *signature.Signed) { x.At = now.Add(-60 * day) }), nil)
	s.put(image, "lost", s.by("lost"), nil)
	s.put(image, "new", s.by("new"), nil)
	s.put(image, "ann", keyless("ann", "1"), nil)
	s.put(image, "bob", keyless("bob", "2"), nil)
	s.put(image, "ops", with(ops("3"), func(x *signature.Signed) { x.Revocation = signature.RevocationSilent }), nil)
	s.put(image, "forged", s.by("d"), signature.Refuse(signature.Forged, "the hash differs"))
	s.put(image, "vuln", attestation(s.by("a"), vuln, scanned(now.Add(-10*day))), nil)
	s.put(image, "review", attestation(keyless("ann", "4"), review, `{"good":true}`), nil)
}

// TestWhatIsRecalledIsWhatWouldBeDecided holds every policy against what was kept
// by every other, and wants what it would say by asking.
func TestWhatIsRecalledIsWhatWouldBeDecided(t *testing.T) {
	rules := []string{
		one, two, anyTwo, ofStaff, oneOfStaff, scan, reviewed,
		`  - {match: "**", require: [{signers: [ops]}]}`,
		`  - {match: "**", require: [{signers: [ops], revocation: soft}]}`,
		`  - {match: "**", require: [{signers: [both]}]}`,
		`  - {match: "**", require: [{signers: [both], time: true}]}`,
		`  - {match: "**", require: [{signers: [build], kinds: [notary]}]}`,
		`  - {match: "**", require: [{signers: [build, ops], sameRepository: true}]}`,
		`  - {match: "**", attestations: [{type: vuln, signers: [build], maxAge: 20d}]}`,
		`  - {match: "**", attestations: [{type: "` + review + `", signers: [staff], condition: "predicate.good"}]}`,
		`  - {match: "**", attestations: [{type: "` + review + `", signers: [staff], condition: "!predicate.good"}]}`,
		`  - {match: "**", deny: "mirror it"}`,
		`  - {match: other.example/**, require: [{signers: [build]}]}`,
		two + exception(image.Digest, "2026-04-01"),
	}
	s := setStage(t, one)
	crowd(s)
	known, allowed, doubted := 0, 0, 0
	for _, from := range rules {
		was := s.read(head + from)
		s.decider.Policy = was
		v := s.kept()
		for _, to := range rules {
			p := s.read(head + to)
			s.decider.Policy = p
			want, err := s.decider.Explain(t.Context(), decide.Image{Subject: image}, now)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decide.Recall(t.Context(), p, was, v, now)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case len(got.Doubts) > 0:
				doubted++
				if got.Verdict.Allowed || len(v.Looked) > 0 {
					t.Errorf("from %s to %s: doubts %q, allowed %v", from, to, got.Doubts, got.Verdict.Allowed)
				}
			default:
				known++
				if diff := cmp.Diff(want, got.Verdict, cmp.FilterPath(inside, cmp.Ignore())); diff != "" {
					t.Errorf("from %s to %s (-want +got):\n%s", from, to, diff)
				}
			}
			if got.Verdict.Allowed {
				allowed++
			}
		}
	}
	t.Logf("%d are known, %d of them allowed; of %d nobody has looked", known, allowed, doubted)
	if allowed == 0 || doubted == 0 {
		t.Error("the policies are no test")
	}
}

// inside are fields that don't travel, and the order of what was listed.
func inside(p cmp.Path) bool {
	f, ok := p.Last().(cmp.StructField)
	return ok && strings.ToLower(f.Name()[:1]) == f.Name()[:1]
}

func TestRecallDoubtsWhatItCannotKnow(t *testing.T) {
	const byNew = `  - {match: "**", require: [{signers: [quality]}]}`
	big := `{"metadata":{"scanFinishedOn":"` + now.Format(time.RFC3339) + `"},"x":"` + strings.Repeat("x", decide.MaxFactPredicate) + `"}`
	changed := func(old, new string) func(string) string {
		return func(text string) string {
			if !strings.Contains(text, old) {
				panic(old)
			}
			return strings.Replace(text, old, new, 1)
		}
	}
	for _, tc := range []struct {
		name   string
		put    func(s *stage)
		change func(text string) string // head and one
		spoil  func(v *decide.Verdict)
		state  string // allowed, denied, or a doubt
	}{
		{"a key more, and nothing was refused", func(s *stage) {}, changed("    b: b\n", "    b: b\n    g: new2\n"), nil, "denied"},
		{"a key more, and something was refused", func(s *stage) {
			s.put(image, "x", s.by("new2"), signature.Refuse(signature.NoRoot, "a key that is not known"))
		}, changed("    b: b\n", "    b: b\n    g: new2\n"), nil, "must be held against the changed roots"},
		{"a key more, and something is broken", func(s *stage) {
			s.put(image, "x", s.by("new2"), signature.Refuse(signature.Malformed, "no JSON"))
		}, changed("    b: b\n", "    b: b\n    g: new2\n"), nil, "denied"},
		{"a key more, and what there is is enough", func(s *stage) { s.put(image, "x", s.by("a"), nil) }, changed("    b: b\n", "    b: b\n    g: new2\n"), nil, "allowed"},
		{"the key is gone", func(s *stage) { s.put(image, "x", s.by("a"), nil) }, func(text string) string {
			return changed("[a, ended", "[ended")(changed("    a: a\n", "")(text))
		}, nil, "denied"},
		{"the key's time is over", func(s *stage) { s.put(image, "x", s.by("a"), nil) }, changed("    a: a\n", "    a: {file: a, notAfter: 2026-02-01}\n"), nil, "denied"},
		{"the key's time begins earlier", func(s *stage) {
			s.put(image, "x", s.by("new"), signature.Refuse(signature.NotYet, "not before"))
		}, changed("notBefore: 2026-04-01", "notBefore: 2026-01-01"), nil, "must be held against the changed roots"},
		{"another store", func(s *stage) { s.put(image, "x", s.by("a"), nil) }, changed("acme: {kind: ca", "acme: {kind: signingAuthority"), nil, "must be held against the changed roots"},
		{"another store, and no signature", func(s *stage) {}, changed("acme: {kind: ca", "acme: {kind: signingAuthority"), nil, "denied"},
		{"a large predicate", func(s *stage) { s.put(image, "x", attestation(s.by("a"), vuln, big), nil) }, changed(one, scan), nil, "too large to be kept"},
		{"a large predicate of which nothing is asked", func(s *stage) { s.put(image, "x", attestation(s.by("a"), vuln, big), nil) },
			changed(one, `  - {match: "**", attestations: [{type: vuln, signers: [build]}]}`), nil, "allowed"},
		{"many predicates", func(s *stage) {
			for i := range 20 {
				s.put(image, fmt.Sprint(i), attestation(s.by("a"), vuln, scanned(now.Add(-30*day))+strings.Repeat(" ", decide.MaxFactPredicate-200)), nil)
			}
			s.put(image, "last", attestation(s.by("a"), vuln, scanned(now)+strings.Repeat(" ", decide.MaxFactPredicate-200)), nil)
		}, changed(one, scan), nil, "too large to be kept"},
		{"odd names of a megabyte", func(s *stage) {
			s.put(image, "x", with(s.by("b"), func(x *signature.Signed) { x.Identity.Names = []string{strings.Repeat("n", 1<<20)} }), nil)
		}, changed(one, byNew), nil, "too much to be kept"},
		{"what held until now", func(s *stage) {
			s.put(image, "x", with(s.by("b"), func(x *signature.Signed) { x.Until = now.Add(time.Hour) }), nil)
		}, changed(one, byNew), func(v *decide.Verdict) { v.Facts.Opened[0].Signed.Until = now }, "held until"},
		{"nothing kept", func(s *stage) { s.put(image, "x", s.by("a"), nil) }, nil, func(v *decide.Verdict) { v.Facts = nil }, "was not kept"},
		{"another form", func(s *stage) { s.put(image, "x", s.by("a"), nil) }, nil, func(v *decide.Verdict) { v.Facts.Form++ }, "was not kept"},
		{"too few facts", func(s *stage) { s.put(image, "x", s.by("a"), nil) }, nil, func(v *decide.Verdict) { v.Facts.Opened = nil }, "was not kept"},
		{"by another policy", func(s *stage) { s.put(image, "x", s.by("a"), nil) }, nil, func(v *decide.Verdict) { v.Policy = digest("z") }, "not in force"},
		{"never looked at", func(s *stage) {}, nil, func(v *decide.Verdict) { *v = decide.Verdict{Repository: v.Repository, Digest: v.Digest} }, "not in force"},
		{"never looked at, and denied by rule", func(s *stage) {}, changed(one, `  - {match: "**", deny: "mirror it"}`),
			func(v *decide.Verdict) { *v = decide.Verdict{Repository: v.Repository, Digest: v.Digest} }, "denied"},
		{"not opened", func(s *stage) {}, nil, func(v *decide.Verdict) { v.Looked[0].Unopened = 3 }, "3 of its signatures"},
		{"a fact of another image", func(s *stage) { s.put(image, "x", attestation(s.by("a"), vuln, `{}`), nil) }, changed(one, scan),
			func(v *decide.Verdict) { v.Facts.Opened[0].Signed.Statement.Subjects = []string{digest("other")} }, "denied"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := setStage(t, one)
			s.keys["new2"], s.prints["new2"] = newKey(t)
			tc.put(s)
			v := s.kept()
			if tc.spoil != nil {
				tc.spoil(v)
			}
			text := head + one
			if tc.change != nil {
				text = tc.change(text)
			}
			r := s.recall(s.read(text), v)
			state := strings.Join(r.Doubts, "; ")
			switch {
			case r.Verdict.Allowed && len(r.Doubts) == 0:
				state = "allowed"
			case len(r.Doubts) == 0:
				state = "denied"
			}
			if !strings.Contains(state, tc.state) || r.Verdict.Allowed != (tc.state == "allowed") {
				t.Errorf("got %s (%s), want %s", state, r.Verdict.Reason, tc.state)
			}
		})
	}
}

// TestFactsAreBounded lists as much as a registry can.
func TestFactsAreBounded(t *testing.T) {
	s := setStage(t, one)
	for i := range decide.MaxOpened {
		name := fmt.Sprint(i)
		s.put(image, name, attestation(with(keyless("ann", name), func(x *signature.Signed) {
			x.Identity.Claims = map[string]string{"source-ref": strings.Repeat("r", 2000)}
		}), review, `"`+strings.Repeat("<", decide.MaxFactPredicate-2)+`"`), nil)
	}
	v := s.kept()
	b, err := json.Marshal(v.Facts)
	if err != nil || len(b) > decide.MaxFacts+decide.MaxOpened*8 || len(v.Facts.Opened) != decide.MaxOpened {
		t.Errorf("got %d bytes of facts for %d envelopes, %v", len(b), len(v.Facts.Opened), err)
	}
}

// TestFactsTravelWhole fills each field of what a door can say.
func TestFactsTravelWhole(t *testing.T) {
	var want decide.Fact
	fill(t, reflect.ValueOf(&want).Elem())
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got decide.Fact
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after a journey (-want +got):\n%s", diff)
	}
}

func fill(t *testing.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("text <é>")
	case reflect.Int64:
		v.SetInt(1 << 60)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(0xff)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0))
		fill(t, v.Index(1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, k)
		fill(t, e)
		v.SetMapIndex(k, e)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(now.Add(123456789)))
			return
		}
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	default:
		t.Fatalf("no value for %s", v.Type())
	}
}

// FuzzRecall holds a policy against verdicts that anybody may have written.
func FuzzRecall(f *testing.F) {
	s := setStage(f, two)
	crowd(s)
	b, err := json.Marshal(s.kept())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"repository":"a/b","facts":{"form":1,"opened":[null,{}]},"signatures":[{},{}]}`))
	rules := []*policy.Policy{s.read(head + anyTwo), s.read(head + scan), s.read(head + strings.Replace(reviewed, "maxAge: 7d", `condition: "predicate.good"`, 1))}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v decide.Verdict
		if json.Unmarshal(b, &v) != nil {
			return
		}
		for _, p := range rules {
			r, err := decide.Recall(t.Context(), p, s.decider.Policy, &v, now)
			if err == nil && r.Verdict.Allowed && (v.Facts == nil || v.Policy != s.decider.Policy.Digest) {
				t.Error("it is allowed by nothing")
			}
		}
	})
}
