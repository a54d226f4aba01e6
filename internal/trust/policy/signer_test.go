package policy_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

func TestSignerIs(t *testing.T) {
	files := world(t)
	p, err := policy.Read([]byte(strings.Replace(whole, "  lambda:\n", "  host: {certificate: {store: acme, names: '*.acme.example'}}\n  lambda:\n", 1)), "p.yaml", files)
	if err != nil {
		t.Fatal(err)
	}
	who := map[string]*policy.Signer{}
	for _, s := range p.Signers {
		who[s.Name] = s
	}
	build := who["build"].Identities[0].Key
	release := signature.Identity{
		Key: "sha256:11", Certificate: "sha256:22", Issuer: "https://token.actions.githubusercontent.com",
		Subject: "https://github.com/acme/web/.github/workflows/release.yml@refs/tags/v1", Claims: map[string]string{"trigger": "push"},
	}
	changed := func(id signature.Identity, change func(*signature.Identity)) signature.Identity {
		change(&id)
		return id
	}
	ops := signature.Identity{Key: "sha256:33", Certificate: "sha256:44", Store: "acme", Name: `O=Acme\, Inc.,C=DE,CN=ops`, Names: []string{"x.example", "me@acme.example"}}
	lambda := signature.Identity{Key: "sha256:55", Certificate: "sha256:66", Store: "aws", Name: "CN=AWS Signer", Profile: "arn:aws:signer:eu-central-1:123456789012:/signing-profiles/lambda"}
	for _, tc := range []struct {
		name, signer string
		id           signature.Identity
		want         bool
	}{
		{"key", "build", signature.Identity{Key: build}, true},
		{"another key", "quality", signature.Identity{Key: build}, false},
		{"no key", "build", signature.Identity{}, false},
		{"certificate over the key", "build", signature.Identity{Key: build, Certificate: "sha256:99", Name: "CN=x", Store: "acme"}, false},
		{"keyless with the key", "build", signature.Identity{Key: build, Issuer: "https://x.example", Subject: "x"}, false},
		{"keyless", "release", release, true},
		{"keyless of another issuer", "release", changed(release, func(i *signature.Identity) { i.Issuer += ".evil.example" }), false},
		{"keyless with another claim", "release", changed(release, func(i *signature.Identity) { i.Claims = map[string]string{"trigger": "pull_request"} }), false},
		{"keyless without the claim", "release", changed(release, func(i *signature.Identity) { i.Claims = nil }), false},
		{"keyless of another branch", "release", changed(release, func(i *signature.Identity) { i.Subject = strings.Replace(i.Subject, "tags", "heads", 1) }), false},
		{"only a name like it", "release", signature.Identity{Key: "sha256:11", Store: "acme", Names: []string{release.Subject}, Name: "CN=x"}, false},
		{"certificate", "ops", ops, true},
		{"certificate of another store", "ops", changed(ops, func(i *signature.Identity) { i.Store = "aws" }), false},
		{"certificate with another part", "ops", changed(ops, func(i *signature.Identity) { i.Name = "O=Acme,CN=ops" }), false},
		{"certificate with two names", "ops", changed(ops, func(i *signature.Identity) { i.Name += ",CN=evil" }), false},
		{"certificate with an odd name", "ops", changed(ops, func(i *signature.Identity) { i.Name = `CN=ops+O=Acme\, Inc.` }), false},
		{"certificate with another part in hexadecimal", "ops", changed(ops, func(i *signature.Identity) { i.Name += ",1.2.840.113549.1.9.1=#160101" }), true},
		{"certificate with a name in hexadecimal", "ops", changed(ops, func(i *signature.Identity) { i.Name = `O=Acme\, Inc.,CN=#0c036f7073` }), false},
		{"certificate without the address", "ops", changed(ops, func(i *signature.Identity) { i.Names = nil }), false},
		{"certificate with a URI like the address", "ops", changed(ops, func(i *signature.Identity) { i.Names = []string{"ftp://me@acme.example"} }), false},
		{"certificate with an address like the host", "host", changed(ops, func(i *signature.Identity) { i.Names = []string{"me@build.acme.example"} }), false},
		{"certificate with the host", "host", changed(ops, func(i *signature.Identity) { i.Names = []string{"build.acme.example"} }), true},
		{"keyless with such a name", "ops", changed(ops, func(i *signature.Identity) { i.Issuer = "https://x.example" }), false},
		{"profile", "lambda", lambda, true},
		{"profile of another store", "lambda", changed(lambda, func(i *signature.Identity) { i.Store = "acme" }), false},
		{"a version of the profile", "lambda", changed(lambda, func(i *signature.Identity) { i.ProfileVersion = i.Profile + "/v1" }), true},
		{"the version that is meant", "pinned", changed(lambda, func(i *signature.Identity) { i.ProfileVersion = i.Profile + "/v1" }), true},
		{"another version", "pinned", changed(lambda, func(i *signature.Identity) { i.ProfileVersion = i.Profile + "/v2" }), false},
		{"no version", "pinned", lambda, false},
		{"certificate of a service that signs for whoever asks", "ops", changed(ops, func(i *signature.Identity) { i.Profile = lambda.Profile }), false},
		{"the same under a version alone", "ops", changed(ops, func(i *signature.Identity) { i.ProfileVersion = lambda.Profile + "/v1" }), false},
		{"an alias that is meant", "alias", changed(lambda, func(i *signature.Identity) { i.ProfileAlias = "arn:aws:signer:::/aliases/ecr" }), true},
		{"another alias", "alias", changed(lambda, func(i *signature.Identity) { i.ProfileAlias = "arn:aws:signer:::/aliases/ecr2" }), false},
		{"no alias", "alias", lambda, false},
		{"an alias of another store", "alias", changed(lambda, func(i *signature.Identity) { i.Store, i.ProfileAlias = "acme", "arn:aws:signer:::/aliases/ecr" }), false},
		{"a profile that is held under an alias", "aliased", changed(lambda, func(i *signature.Identity) {
			i.Profile = "arn:aws:signer:eu-central-1:123456789012:/aliased-signing-profiles/ecr"
		}), true},
		{"another profile", "lambda", changed(lambda, func(i *signature.Identity) { i.Profile += "x" }), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := who[tc.signer].Is(tc.id); got != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// TestClaimThatIsNotThere demands a claim by patterns that nothing would match,
// too.
func TestClaimThatIsNotThere(t *testing.T) {
	for _, claim := range []string{`"**"`, `"*"`, `{regexp: "(protected)?"}`} {
		p, err := policy.Read([]byte(base+`signers: {s: {keyless: {issuer: "https://x.example", subject: me@acme.example, claims: {deployment-environment: `+claim+`}}}}`), "p.yaml", world(t))
		if err != nil {
			t.Fatal(err)
		}
		id := signature.Identity{Key: "sha256:11", Issuer: "https://x.example", Subject: "me@acme.example"}
		if p.Signers[0].Is(id) {
			t.Errorf("%s: met by a certificate without the claim", claim)
		}
		id.Claims = map[string]string{"deployment-environment": "protected"}
		if !p.Signers[0].Is(id) {
			t.Errorf("%s: not met by a certificate with the claim", claim)
		}
	}
}

// TestKeylessOfOneTrustedRoot has a private Fulcio claim an issuer of the public
// one.
func TestKeylessOfOneTrustedRoot(t *testing.T) {
	p, err := policy.Read([]byte(two+`signers:
  release: {keyless: {root: public, issuer: "https://x.example", subject: me@acme.example}}
`), "p.yaml", world(t))
	if err != nil {
		t.Fatal(err)
	}
	hash := func(der ...byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(der)) }
	id := signature.Identity{Key: "sha256:11", Certificate: "sha256:22", Issuer: "https://x.example", Subject: "me@acme.example"}
	for _, tc := range []struct {
		name, root string
		want       bool
	}{
		{"its own", hash(0, 0, 1), true},
		{"the other one", hash(0, 0, 2), false},
		{"what is only an intermediate of it", hash(0, 0, 0), false},
		{"none", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id.Root = tc.root
			if got := p.Signers[0].Is(id); got != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
	if got, want := p.Signers[0].Identities[0].Form(), "me@acme.example of https://x.example, by the trusted root public"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// condition returns a policy's only condition.
func condition(t *testing.T, text string) *policy.Condition {
	t.Helper()
	p, err := policy.Read([]byte(base+"signers: {s: {key: a}}\nimages:\n  - match: '**'\n    attestations:\n      - type: vuln\n        signers: s\n        condition: |\n          "+text+"\n"), "p.yaml", world(t))
	if err != nil {
		t.Fatal(err)
	}
	return p.Rules[0].Require[0].Conditions[0]
}

func TestCondition(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name, text, body string
		want             bool
		err              string
	}{
		{"true", `predicate.n == 3`, `{"n":3}`, true, ""},
		{"false", `predicate.n == 4`, `{"n":3}`, false, ""},
		{"missing", `predicate.m == 3`, `{"n":3}`, false, "no such key"},
		{"has", `!has(predicate.m) && size(predicate.list) == 2`, `{"list":[1,"x"]}`, true, ""},
		{"list", `predicate.v.all(x, x.severity != "CRITICAL")`, `{"v":[{"severity":"LOW"},{"severity":"CRITICAL"}]}`, false, ""},
		{"time", `timestamp(predicate.at) > now - duration("24h")`, `{"at":"2026-02-28T12:00:00Z"}`, true, ""},
		{"old", `timestamp(predicate.at) > now - duration("24h")`, `{"at":"2026-02-27T12:00:00Z"}`, false, ""},
		{"signer", `signer.name == "s" && signer.claims["x"] == "y" && signer.proof == "log" && statement.predicateType == "t" && statement.digest == "d"`, `{}`, true, ""},
		{"no truth", `predicate.n`, `{"n":3}`, false, "neither true nor false"},
		{"bomb", `predicate.l.all(a, predicate.l.all(b, predicate.l.all(c, predicate.l.all(d, a + b + c + d >= 0))))`, `{"l":[` + strings.Repeat("1,", 500) + `1]}`, false, "o"}, // the cost limit or the time, whichever comes first
		{"growing text", `predicate.l.map(a, predicate.l.map(b, predicate.l.map(c, string(a) + string(b) + string(c)))).size() < 0`, `{"l":[` + strings.Repeat("1,", 500) + `1]}`, false, "o"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &signature.Statement{Predicate: "t", Body: []byte(tc.body)}
			predicate, err := policy.Predicate(s)
			if err != nil {
				t.Fatal(err)
			}
			about := policy.About{Statement: s, Signer: "s", Digest: "d", Now: now, Signed: &signature.Signed{Proof: signature.Logged, Identity: signature.Identity{Claims: map[string]string{"x": "y"}}}}
			begin := time.Now()
			got, err := condition(t, tc.text).Holds(t.Context(), about, predicate)
			if got != tc.want || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("got %v, %v, want %v, %q", got, err, tc.want, tc.err)
			}
			if d := time.Since(begin); d > 5*time.Second {
				t.Errorf("took %s", d)
			}
		})
	}
}

func TestConditionWhoseCallerGoesAway(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	about := policy.About{Statement: &signature.Statement{}, Signed: &signature.Signed{}}
	if _, err := condition(t, "predicate.n == 1").Holds(ctx, about, map[string]any{"n": 1.0}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestConditionThatDependsOnTheClock(t *testing.T) {
	if !condition(t, `now > timestamp("2026-01-01T00:00:00Z")`).UsesNow || condition(t, `predicate.now == "now"`).UsesNow {
		t.Error("what depends on the clock is not told from what doesn't")
	}
}

func TestPredicateIsBounded(t *testing.T) {
	for _, body := range []string{strings.Repeat("[", 20_000), "{", "", strings.Repeat(" ", 17<<20)} {
		if _, err := policy.Predicate(&signature.Statement{Body: []byte(body)}); err == nil {
			t.Errorf("%.10q…: want an error", body)
		}
	}
}
