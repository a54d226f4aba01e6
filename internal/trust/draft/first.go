package draft

import (
	"cmp"
	"path"
	"path/filepath"
	"strings"

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
	KMS  string // its ARN, if it is one of AWS KMS
}

// Keyless is an identity of an OIDC issuer.
type Keyless struct{ Name, Issuer, Subject string }

// Certificate is a subject that certificates of a store are issued to.
type Certificate struct{ Name, File, Subject string }

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
	who := s.named(o)
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

// fileKey adds a key and its signer.
func (s *sheet) fileKey(k Key) string {
	lines := []string{"file: " + quote(k.File)}
	if k.KMS != "" {
		lines = append(lines, "kms: "+quote(k.KMS))
	}
	lines = append(lines, "# notAfter: 2027-12-31   # from when on it signs nothing more; name the next key early", "# lost: 2026-01-31       # since when somebody else may have it")
	name := s.key(cmp.Or(k.Name, stem(k.File)), nil, lines...)
	return s.signer(name, nil, "key: "+quote(name))
}

func stem(file string) string {
	name := path.Base(filepath.ToSlash(file))
	return strings.TrimSuffix(name, path.Ext(name))
}
