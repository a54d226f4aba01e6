package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/signature"
)

// Signer is one party that may vouch for images: a person, a pipeline, a
// service. Whatever it signs with, it counts once; a team counts once for each of
// its members.
type Signer struct {
	Name       string
	At         Position
	Team       bool
	Identities []Identity // any of which it signs with
}

// Identity is one way to know a signer. Which fields are set says which way.
type Identity struct {
	At Position

	Key string // fingerprint of a trusted key

	// Keyless.
	Issuer  Text
	Subject Text
	Claims  map[string]Text
	Root    string   // name of the trusted root that must vouch for it; "": any
	roots   []string // fingerprints of that one's authorities

	// A certificate of a store.
	Store       string
	Name        []Attribute
	Names       []Text // each of which one of its alternative names must match
	Certificate string // fingerprint

	Profile string // ARN of AWS Signer: see CheckProfile; with Store
}

// Form says in a few words by what an identity is known.
func (i *Identity) Form() string {
	switch {
	case i.Key != "":
		return "the key " + i.Key
	case i.Profile != "":
		return "the signing profile " + i.Profile
	case i.Issuer.Form != "":
		form := i.Subject.Form + " of " + i.Issuer.Form
		for _, k := range slices.Sorted(maps.Keys(i.Claims)) {
			form += ", " + k + " " + i.Claims[k].Form
		}
		if i.Root != "" {
			form += ", by the trusted root " + i.Root
		}
		return form
	}
	var parts []string
	for _, a := range i.Name {
		parts = append(parts, a.Type+"="+a.Value)
	}
	for _, n := range i.Names {
		parts = append(parts, n.Form)
	}
	if i.Certificate != "" {
		parts = append(parts, "certificate "+i.Certificate)
	}
	return strings.Join(parts, ",") + " of store " + i.Store
}

// Is reports whether it is this signer that signed.
func (s *Signer) Is(id signature.Identity) bool { return s.Known(id) != nil }

// Known returns by what it is known that this signer signed, nil if it is not.
func (s *Signer) Known(id signature.Identity) *Identity {
	name, err := ParseName(id.Name)
	if err != nil {
		name = nil // odd names are nobody's
	}
	for i := range s.Identities {
		if s.Identities[i].is(id, name) {
			return &s.Identities[i]
		}
	}
	return nil
}

// is holds an identity against what a door has found. Each way of being known
// needs the kind of evidence that belongs to it: a certificate over a trusted
// key is not the key, whose dates were not looked at then.
func (i *Identity) is(id signature.Identity, name []Attribute) bool {
	certificate := id.Certificate != "" || id.Name != "" || len(id.Names) > 0 || id.Root != "" || id.Store != ""
	keyless := id.Issuer != "" || id.Subject != ""
	switch {
	case id.Key == "":
		return false
	case i.Key != "":
		return !certificate && !keyless && id.Profile == "" && id.Key == i.Key
	case i.Issuer.Form != "":
		return (i.Root == "" || slices.Contains(i.roots, id.Root)) && i.Issuer.Matches(id.Issuer) && i.Subject.Matches(id.Subject) && i.claimed(id.Claims)
	case keyless || i.Store == "" || id.Store != i.Store:
		return false
	case i.Profile != "":
		return i.Profile == id.Profile || i.Profile == id.ProfileVersion || i.Profile == id.ProfileAlias
	case id.Profile != "" || id.ProfileVersion != "" || id.ProfileAlias != "":
		return false // the certificate is the service's, whoever asked it to sign
	case len(i.Name) > 0 && !has(name, i.Name):
		return false
	case i.Certificate != "" && i.Certificate != id.Certificate:
		return false
	}
	for _, n := range i.Names {
		if !slices.ContainsFunc(id.Names, n.names) {
			return false
		}
	}
	return len(i.Name) > 0 || len(i.Names) > 0 || i.Certificate != ""
}

func (i *Identity) claimed(claims map[string]string) bool {
	for k, want := range i.Claims {
		if !want.Matches(claims[k]) {
			return false
		}
	}
	return true
}

// Marks are the ways in which somebody can be known again: whoever shares one
// with another signer counts as the same. A key that signs for a short time only
// is no help, but one that comes again under another name tells that both are
// one. With profile, it was by its signing profile that a signer was known: then
// keys and certificates are the service's. Else the profile tells nothing, as
// any authority's certificate can sign any.
func Marks(id signature.Identity, profile bool) []string {
	if profile {
		return []string{"profile " + id.Profile}
	}
	marks := []string{"key " + id.Key}
	if id.Issuer != "" {
		marks = append(marks, fmt.Sprintf("keyless %q %q", id.Issuer, id.Subject))
	}
	if id.Name != "" && id.Issuer == "" {
		marks = append(marks, fmt.Sprintf("name %q %q", id.Store, sortedName(id.Name)))
	}
	return marks
}

// sortedName is a name whatever the order of its parts.
func sortedName(s string) string {
	name, err := ParseName(s)
	if err != nil {
		return s
	}
	slices.SortFunc(name, func(a, b Attribute) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Value, b.Value))
	})
	return fmt.Sprint(name)
}

// strangers are identities that anybody can get for the asking. A signer that
// one of them fits is anybody.
func strangers() []signature.Identity {
	const who = "a-stranger-9f41"
	var out []signature.Identity
	for _, subject := range []string{
		"https://github.com/" + who + "/" + who + "/.github/workflows/" + who + ".yml@refs/heads/main",
		"https://github.com/" + who + "/" + who + "/.github/workflows/release.yml@refs/tags/v1.0.0",
		"https://github.com/" + who + "/" + who + "/.github/workflows/release.yaml@refs/heads/main",
		"https://github.com/" + who + "/" + who + "/.github/workflows/build.yml@refs/heads/main",
		"https://gitlab.com/" + who + "/" + who + "//.gitlab-ci.yml@refs/heads/main",
		"https://gitlab.com/" + who + "/" + who + "/" + who + "//.gitlab-ci.yml@refs/tags/v1.0.0",
		"https://" + who + ".invalid/" + who, "spiffe://" + who + ".invalid/" + who,
		who + "@gmail.com", who + "@googlemail.com", who + "@outlook.com", who + "@hotmail.com", who + "@yahoo.com", who + "@icloud.com",
		who + "@proton.me", who + "@" + who + ".invalid", who + "@users.noreply.github.com", who + "." + who + ".invalid",
		who, "repo:" + who + "/" + who + ":ref:refs/heads/main",
	} {
		home := "https://github.com/" + who
		if strings.HasPrefix(subject, "https://gitlab.com/") {
			home = "https://gitlab.com/" + who
		}
		out = append(out, signature.Identity{Key: "sha256:00", Subject: subject, Names: []string{subject}, Claims: strangersClaims(home, who)})
	}
	return out
}

// strangersClaims is what a stranger's pipeline says of itself, as far as strangers
// can't say it as they like: what is missing they can.
func strangersClaims(home, who string) map[string]string {
	zeros := strings.Repeat("0", 40)
	return map[string]string{
		"source-repository-owner": home, "source-repository": home + "/" + who, "build-signer": home + "/" + who, "build-config": home + "/" + who,
		"source-repository-identifier": "9410941", "source-repository-owner-identifier": "9410941", "workflow-repository": who + "/" + who,
		"source-digest": zeros, "build-signer-digest": zeros, "build-config-digest": zeros,
		"run-invocation": home + "/" + who + "/actions/runs/1/attempts/1", "token-subject": "repo:" + who + "/" + who + ":ref:refs/heads/main",
	}
}

// claims are the names of what Fulcio writes into certificates, as doors report
// them.
func claims() []string {
	return []string{
		"build-config", "build-config-digest", "build-signer", "build-signer-digest", "deployment-environment", "run-invocation",
		"runner-environment", "source-digest", "source-ref", "source-repository", "source-repository-identifier", "source-repository-owner",
		"source-repository-owner-identifier", "source-repository-visibility", "token-subject", "trigger", "workflow-name", "workflow-repository",
	}
}

// open returns an identity of a stranger that fits, "" if none does.
func (i *Identity) open() string {
	if i.Issuer.Form == "" && len(i.Names) == 0 {
		return ""
	}
	if i.Issuer.Form != "" && i.Issuer.Matches("https://issuer.a-stranger-9f41.invalid") {
		return "anybody who runs an issuer"
	}
	for _, s := range strangers() {
		if i.fitsStranger(s) {
			return s.Subject
		}
	}
	return ""
}

// fitsStranger leaves out what binds nobody: claims whose value everybody can
// choose.
func (i *Identity) fitsStranger(s signature.Identity) bool {
	if i.Issuer.Form == "" {
		return len(i.Name) == 0 && i.Certificate == "" && !slices.ContainsFunc(i.Names, func(t Text) bool { return !t.Matches(s.Subject) })
	}
	if !i.Subject.Matches(s.Subject) {
		return false
	}
	for k, want := range i.Claims {
		if v, binds := s.Claims[k]; binds && !want.Matches(v) {
			return false
		}
	}
	return true
}
