package draft

import (
	"cmp"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

// Options are what a first policy is made of.
type Options struct {
	Images       []string // patterns; the same signers are required of all
	Keys         []Key
	Keyless      []Keyless
	Certificates []Certificate
	TrustedRoot  string // file of Sigstore's trusted root; needed for Keyless
}

// Key is a public key that signs.
type Key struct {
	Name string // "" for the file's
	File string // relative to the policy
	PEM  string // the key itself, instead of a file
	KMS  string // its ARN, if it is one of AWS KMS

	Signer   string    // whose it is; keys of one are one signer. "": its own name's
	NotAfter time.Time // from when on it signs nothing more; zero: not known yet
}

// Keyless is an identity of an OIDC issuer.
type Keyless struct{ Name, Issuer, Subject string }

// Certificate is a subject that certificates of a store are issued to; or, with a
// Profile, a signing profile of AWS Signer, whose root the store has.
type Certificate struct{ Name, File, Subject, Profile string }

// First writes a first policy. What it says is checked as far as that is
// possible without reading the files.
func First(o Options) ([]byte, error) {
	if len(o.Keys)+len(o.Keyless)+len(o.Certificates) == 0 {
		return nil, fault.New(fault.Invalid, "nobody is named who may sign").With("name a public key, an issuer and subject, or a certificate's subject: there is no any-signer mode; castellan trust init --look IMAGE shows who has signed already")
	}
	if len(o.Images) == 0 {
		return nil, fault.New(fault.Invalid, "no images are named").With(`name registry/path, with * and **, as "123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/**"`)
	}
	if len(o.Keyless) > 0 && o.TrustedRoot == "" {
		return nil, needsRoot()
	}
	for _, i := range o.Images {
		if _, err := policy.ParsePattern(i); err != nil {
			return nil, fault.New(fault.Invalid, "%w", err)
		}
	}
	s := newSheet("Who must have signed which images. docs/trust.md explains every field;",
		"castellan trust explain IMAGE shows how an image is decided on.")
	var who []string // once each
	for _, name := range s.named(o) {
		if !slices.Contains(who, name) {
			who = append(who, name)
		}
	}
	r := rule{match: o.Images, require: []demand{{fields: []field{{"signers", list(who)}}}}}
	if len(who) > 1 {
		r.require[0].comments = []string{"All of them must have signed; with threshold: 1, one of them is enough."}
	}
	r.require[0].fields = append(r.require[0].fields, field{"revocation", "strict # soft accepts certificates of which nobody knows whether they were revoked"})
	s.rules = []rule{r}
	b := s.text()
	b = append(b, `
    # What must be attested besides, and how old it may be:
    # attestations:
    #   - type: slsaprovenance1
    #     signers: `+list(who)+`
    #   - type: vuln
    #     signers: `+list(who)+`
    #     maxAge: 7d
    #     condition: predicate.scanner.result.all(r, r.severity != "CRITICAL")

# Single images that may run unsigned for a while:
# exceptions:
#   - digest: sha256:…
#     reason: why, and who said so
#     expires: 2026-12-31
`...)
	return b, nil
}

// fileKeys adds keys and their signers, and returns what the signer of each is called.
func (s *sheet) fileKeys(all []Key) []string {
	var order []string
	keys := map[string][]string{} // by signer
	who := make([]string, len(all))
	for i, k := range all {
		name := s.fileKey(k)
		who[i] = cmp.Or(k.Signer, name)
		if keys[who[i]] == nil {
			order = append(order, who[i])
		}
		keys[who[i]] = append(keys[who[i]], name)
	}
	called := map[string]string{}
	for _, signer := range order {
		line := "key: " + list(keys[signer])
		if len(keys[signer]) == 1 {
			line = "key: " + quote(keys[signer][0])
		}
		called[signer] = s.signer(signer, nil, line)
	}
	for i := range who {
		who[i] = called[who[i]]
	}
	return who
}

// fileKey adds a key.
func (s *sheet) fileKey(k Key) string {
	lines := []string{"file: " + quote(k.File)}
	if k.PEM != "" {
		lines = block("pem", k.PEM)
	}
	if k.KMS != "" {
		lines = append(lines, "kms: "+quote(k.KMS))
	}
	until := "# notAfter: 2027-12-31   # from when on it signs nothing more; name the next key early"
	if !k.NotAfter.IsZero() {
		until = "notAfter: " + k.NotAfter.UTC().Format(time.RFC3339) + " # it was replaced: what it signed is good until then"
	}
	lines = append(lines, until, "# lost: 2026-01-31       # since when somebody else may have it")
	return s.key(cmp.Or(k.Name, stem(k.File)), nil, lines...)
}

func stem(file string) string {
	name := path.Base(filepath.ToSlash(file))
	return strings.TrimSuffix(name, path.Ext(name))
}
