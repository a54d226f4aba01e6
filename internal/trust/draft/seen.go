package draft

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust/policy"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const (
	// maxToldImages and maxToldSigners bound the comments of one rule: people are
	// to read them.
	maxToldImages  = 20
	maxToldSigners = 20
	// maxTold bounds a stranger's name in a comment, and maxExact one that a policy
	// takes over as it stands.
	maxTold  = 300
	maxExact = 500
)

// Found is what is attached to one image.
type Found struct {
	Pattern string // of its repository
	Image   string // with its digest, for people
	Signed  []Sighting
	Notes   []string // what could not be believed or read, and why
}

// Sighting is a signature or an attestation that was found, and whose it seems to
// be.
type Sighting struct {
	signature.Claim
	Held  bool // by the roots that were given; else it is only claimed
	Named int  // whose it is of those who were named: their place among all keys, keyless and certificates, from 1; 0: nobody's
}

// Seen writes a first policy for images whose signatures were looked at. What is
// merely there is not trusted: only those who were named are required, each where he
// has signed, or everywhere if a person asked for him. Others are written down as
// comments for a person to decide on, and until then the images that only they have
// signed are denied, as are those that nobody has signed.
func Seen(o Options, asked bool, found []Found, at time.Time) ([]byte, error) {
	if len(found) == 0 {
		return nil, fault.New(fault.Invalid, "no images were looked at")
	}
	if len(o.Keyless) > 0 && o.TrustedRoot == "" {
		return nil, needsRoot()
	}
	s := newSheet("Drafted from the signatures that were found on "+at.UTC().Format(time.DateOnly)+". Whoever may push to a repository can",
		"attach signatures to its images: that one is there is no reason to trust it. Read who",
		"was seen, and decide. docs/trust.md explains every field; castellan trust explain IMAGE",
		"shows how an image is decided on.")
	who := s.named(o)
	var patterns []string
	of := map[string][]Found{}
	for _, f := range found {
		if _, err := policy.ParsePattern(f.Pattern); err != nil {
			return nil, fault.New(fault.Invalid, "%w", err)
		}
		if of[f.Pattern] == nil {
			patterns = append(patterns, f.Pattern)
		}
		of[f.Pattern] = append(of[f.Pattern], f)
	}
	for _, p := range patterns {
		s.rules = append(s.rules, s.seenRule(p, of[p], who, asked))
	}
	return s.text(), nil
}

// seenRule is the rule for the images of one repository.
func (s *sheet) seenRule(pattern string, found []Found, who []string, asked bool) rule {
	r := rule{match: []string{pattern}, comments: tellImages(found)}
	var required []string
	for _, name := range who {
		if asked && !slices.Contains(required, name) {
			required = append(required, name)
		}
	}
	var others []Sighting
	seen := map[string]bool{}
	for _, f := range found {
		for _, g := range f.Signed {
			switch {
			case g.Named > 0 && g.Attests == "" && !slices.Contains(required, who[g.Named-1]):
				required = append(required, who[g.Named-1])
			case g.Named == 0 && !seen[g.form()]:
				seen[g.form()] = true
				others = append(others, g)
			}
		}
	}
	var undecided []string
	for i, g := range others {
		if i == maxToldSigners {
			r.comments = append(r.comments, fmt.Sprintf("and %d more who were seen", len(others)-i))
			break
		}
		if name := s.seenSigner(g); name != "" {
			undecided = append(undecided, name)
			continue
		}
		r.comments = append(r.comments, "To decide on "+clip(g.form())+": "+g.remedy())
	}
	if len(required) > 0 {
		r.require = []demand{{fields: []field{{"signers", list(required)}}}}
		if len(required) > 1 {
			r.require[0].comments = []string{"All of them must have signed; with threshold: 1, one of them is enough."}
		}
		if len(undecided) > 0 {
			r.after = []string{"Seen too, and not decided on: " + strings.Join(undecided, ", ") + "."}
		}
		return r
	}
	r.deny = "nobody has decided yet who must sign these images"
	if len(undecided) > 0 {
		r.after = []string{
			"If " + strings.Join(undecided, ", ") + " is who must sign, take the line with deny away, and the # here:",
			"require:", "  - signers: " + list(undecided),
		}
	}
	return r
}

// seenSigner adds a signer for whom the roots vouch that it is he, and returns his
// name; "" if they don't, or if it only attests.
func (s *sheet) seenSigner(g Sighting) string {
	if !g.Held || g.Identity.Issuer == "" || g.Attests != "" || len(g.Identity.Issuer)+len(g.Identity.Subject) > maxExact {
		return ""
	}
	lines := []string{"keyless:", "  issuer: {exact: " + quote(g.Identity.Issuer) + "}", "  subject: {exact: " + quote(g.Identity.Subject) + "}"}
	return s.signer("seen", []string{"Seen, and not decided on. Is it who builds these images, and can nobody else have that name?",
		`Without exact, "*" in a subject is any letters but "/": for all tags of a release, say.`}, lines...)
}

// tellImages says of images who was seen to have signed them.
func tellImages(found []Found) []string {
	var out []string
	for i, f := range found {
		if i == maxToldImages {
			out = append(out, fmt.Sprintf("and %d more images", len(found)-i))
			break
		}
		out = append(out, clip(f.Image))
		signed := false
		told := map[string]bool{}
		for _, g := range f.Signed {
			line := "signed by "
			if g.Attests != "" {
				line = g.Attests + " attested by "
			} else {
				signed = true
			}
			line += g.form()
			if !g.Held {
				line += ", which is only claimed: nothing that was given vouches for it"
			}
			if !told[line] && len(told) < maxToldSigners {
				out = append(out, "  "+clip(line))
			}
			told[line] = true
		}
		if !signed {
			out = append(out, "  nobody was found to have signed it")
		}
		for n, note := range f.Notes {
			if n == maxToldSigners {
				break
			}
			out = append(out, "  "+clip(note))
		}
	}
	return out
}

// form says in a few words who it seems to be.
func (g Sighting) form() string {
	i := g.Identity
	switch {
	case i.Profile != "":
		return "the signing profile " + i.Profile + g.below()
	case i.Issuer != "":
		return i.Subject + " of " + i.Issuer
	case i.Certificate != "":
		return "the certificate " + i.Name + g.below()
	case i.Key != "":
		return "the key " + i.Key
	}
	return "a key of which nothing is said"
}

// below names the root of a chain.
func (g Sighting) below() string {
	if g.Identity.Root == "" {
		return ""
	}
	return " below the root " + g.Identity.Root
}

// Who says in a few words who a sighting seems to be.
func (g Sighting) Who() string { return g.form() }

// remedy says how somebody becomes known whom nothing vouches for. It repeats
// nothing that a stranger wrote: people copy commands.
func (g Sighting) remedy() string {
	i := g.Identity
	switch {
	case i.Profile != "":
		return "get AWS Signer's root, compare its fingerprint (docs/trust-notary.md), and look again with --trust-store FILE --signer-profile ARN"
	case i.Issuer != "" && g.Held:
		return "name it as a signer by hand if it is to be one: keyless, with issuer and subject"
	case i.Issuer != "":
		return "look again with --trusted-root FILE, the trusted root of the Sigstore that certified it"
	case i.Certificate != "":
		return "get the root's certificate from its owner, compare its fingerprint, and look again with --trust-store FILE --certificate-subject SUBJECT"
	}
	return "get the public key from whoever signs, and look again with --key FILE.pub"
}

// clip is a stranger's text on one line of bounded length.
func clip(s string) string {
	return untrusted.Text(untrusted.Clip(s, maxTold))
}

func needsRoot() error {
	return fault.New(fault.Invalid, "keyless signatures need a trusted root of Sigstore").With("name the file trusted_root.json; nothing is fetched to verify")
}

// named adds those who were named, and returns what they are called: the keys, the
// keyless, then the certificates.
func (s *sheet) named(o Options) []string {
	who := s.fileKeys(o.Keys)
	if o.TrustedRoot != "" {
		s.sigstore = []string{o.TrustedRoot}
	}
	for _, k := range o.Keyless {
		who = append(who, s.signer(cmp.Or(k.Name, "pipeline"), []string{`In a subject, "*" is any letters but "/".`},
			"keyless:", "  issuer: "+quote(k.Issuer), "  subject: "+quote(k.Subject)))
	}
	for _, c := range o.Certificates {
		name := s.free("store", stem(c.File))
		kind := signature.StoreCA
		if c.Profile != "" {
			kind = signature.StoreAuthority
		}
		s.stores = append(s.stores, entry{name, nil, []string{"kind: " + string(kind), "file: " + quote(c.File)}})
		if c.Profile != "" {
			who = append(who, s.signer(cmp.Or(c.Name, "aws-signer"), nil, "awsSigner:", "  store: "+name, "  profile: "+quote(c.Profile)))
			continue
		}
		who = append(who, s.signer(cmp.Or(c.Name, "certificate"), nil,
			"certificate:", "  store: "+name, "  subject: "+quote(c.Subject)))
	}
	return who
}
