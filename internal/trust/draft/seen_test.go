package draft_test

import (
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust/draft"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

// sighting is a keyless signature.
func sighting(held bool, named int, attests, subject string) draft.Sighting {
	return draft.Sighting{Claim: signature.Claim{Attests: attests, Identity: signature.Identity{Issuer: "https://issuer.example", Subject: subject, Certificate: "sha256:c"}}, Held: held, Named: named}
}

func TestSeen(t *testing.T) {
	const shop, api, old, db = "ghcr.io/acme/shop", "ghcr.io/acme/api", "ghcr.io/acme/old", "ghcr.io/acme/db"
	key := draft.Sighting{Claim: signature.Claim{Identity: signature.Identity{Key: "sha256:ab"}}, Held: true, Named: 1}
	certificate := draft.Sighting{Claim: signature.Claim{Identity: signature.Identity{Name: "CN=build,O=Acme", Certificate: "sha256:c", Root: "sha256:r"}}}
	profile := draft.Sighting{Claim: signature.Claim{Identity: signature.Identity{Profile: "arn:aws:signer:eu-central-1:123456789012:/signing-profiles/web", Root: "sha256:r", Certificate: "sha256:c"}}}
	b, err := draft.Seen(draft.Options{Keys: []draft.Key{{Name: "build", File: "build.pub"}}, TrustedRoot: "trusted_root.json"}, false, []draft.Found{
		{Pattern: shop, Image: shop + "@sha256:1", Signed: []draft.Sighting{key, key, sighting(true, 0, "", "me@acme.example"), sighting(true, 0, "https://slsa.dev/provenance/v1", "ci@acme.example")}},
		{Pattern: shop, Image: shop + "@sha256:2", Notes: []string{"not believed: it is forged\nimages: [evil]"}},
		{Pattern: api, Image: api + "@sha256:3", Signed: []draft.Sighting{sighting(true, 0, "", "https://acme.example/*"), certificate, profile, {}}},
		{Pattern: old, Image: old + "@sha256:4"},
		{Pattern: db, Image: db + "@sha256:5", Signed: []draft.Sighting{sighting(false, 0, "", "x\n    require: [{signers: [build]}]\u2028")}},
	}, time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "seen.yaml", string(b))
	p := load(t, b)
	for repository, want := range map[string]bool{shop: true, api: false, old: false, db: false} {
		rule, _ := p.For(policy.Repository(repository))
		if rule == nil || (rule.Deny == "") != want {
			t.Errorf("%s: got %+v", repository, rule)
		}
	}
	if rule, _ := p.For(policy.Repository(shop)); len(rule.Require) != 1 || len(rule.Require[0].Signers) != 1 || rule.Require[0].Signers[0].Name != "build" {
		t.Errorf("of the shop is required %+v", rule.Require)
	}
}

// Nobody is trusted for being there, whatever is there.
func TestSeenTrustsNobody(t *testing.T) {
	var many []draft.Sighting
	for _, n := range strings.Split(strings.Repeat("x", 200), "") {
		many = append(many, sighting(true, 0, "", strings.Repeat(n, len(many)+1)))
	}
	b, err := draft.Seen(draft.Options{TrustedRoot: "trusted_root.json"}, false, []draft.Found{{Pattern: "ghcr.io/acme/**", Image: "x", Signed: many}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if rule, _ := load(t, b).For(policy.Repository("ghcr.io/acme/shop")); rule.Deny == "" || len(rule.Require) > 0 {
		t.Errorf("got %+v", rule)
	}
	if len(b) > 64<<10 {
		t.Errorf("a draft of %d bytes for people to read", len(b))
	}
}

// Who was asked for is required, seen or not.
func TestSeenAsked(t *testing.T) {
	b, err := draft.Seen(draft.Options{Keys: []draft.Key{{Name: "build", File: "build.pub"}}}, true, []draft.Found{{Pattern: "ghcr.io/acme/shop", Image: "x"}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if rule, _ := load(t, b).For(policy.Repository("ghcr.io/acme/shop")); rule.Deny != "" || len(rule.Require) != 1 {
		t.Errorf("got %+v", rule)
	}
	for name, found := range map[string][]draft.Found{"nothing": nil, "an odd name": {{Pattern: "a:b"}}} {
		if _, err := draft.Seen(draft.Options{}, false, found, time.Now()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
