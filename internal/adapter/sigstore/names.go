package sigstore

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/castellan-security/castellan/internal/signature"
)

// fulcio is the arc of Fulcio's extensions: 1 to 6 are raw text, those from 8 on
// UTF8Strings in DER.
const fulcio = "1.3.6.1.4.1.57264.1."

// claimNames are the claims that Fulcio writes, by the last number of their
// extension. What the older ones say, the newer say too, and win.
func claimNames() map[string]string {
	return map[string]string{
		"2": "trigger", "3": "source-digest", "4": "workflow-name", "5": "workflow-repository", "6": "source-ref",
		"9": "build-signer", "10": "build-signer-digest", "11": "runner-environment", "12": "source-repository",
		"13": "source-digest", "14": "source-ref", "15": "source-repository-identifier", "16": "source-repository-owner",
		"17": "source-repository-owner-identifier", "18": "build-config", "19": "build-config-digest", "20": "trigger",
		"21": "run-invocation", "22": "source-repository-visibility", "23": "deployment-environment", "24": "token-subject",
	}
}

// holder is what a certificate says of its holder.
type holder struct {
	plain  *x509.Certificate // the leaf for the path check, with Fulcio's names handled
	name   string
	names  []string // alternative ones
	likely []string // those that look like what they are, by their kind
	issuer string
	claims map[string]string
}

// read reads the names of the leaf. Text that could deceive whoever reads it is
// refused.
func (c *certificates) read() error {
	plain := *c.leaf
	c.plain = &plain
	var err error
	if c.names, c.likely, err = alternativeNames(c.leaf); err != nil {
		return signature.Refuse(signature.Malformed, "the names of the certificate: %v", err)
	}
	// Names of Fulcio's own kind are not known to the standard library, which
	// then takes all of them for unhandled; here they have been read.
	plain.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(plain.UnhandledCriticalExtensions),
		func(id asn1.ObjectIdentifier) bool { return id.Equal(oid(2, 5, 29, 17)) })
	if c.name, err = distinguished(c.leaf.RawSubject); err != nil {
		return signature.Refuse(signature.Malformed, "the subject of the certificate: %v", err)
	}
	if err := c.readClaims(); err != nil {
		return signature.Refuse(signature.Malformed, "the claims of the certificate: %v", err)
	}
	return nil
}

func (c *certificates) readClaims() error {
	known := claimNames()
	old := map[string]string{}
	for _, e := range c.leaf.Extensions {
		number, is := strings.CutPrefix(e.Id.String(), fulcio)
		if !is || number == "7" {
			continue
		}
		text, isOld, err := claim(number, e.Value)
		if err != nil {
			return err
		}
		name := known[number]
		switch {
		case number == "1" || number == "8":
			if c.issuer != "" && c.issuer != text {
				return errors.New("it names two issuers")
			}
			if text == "" {
				return errors.New("its issuer is empty")
			}
			c.issuer = text
		case name == "":
		case isOld:
			old[name] = text
		default:
			if c.claims == nil {
				c.claims = map[string]string{}
			}
			c.claims[name] = text
		}
	}
	for name, text := range old {
		if c.claims == nil {
			c.claims = map[string]string{}
		}
		if _, newer := c.claims[name]; !newer {
			c.claims[name] = text
		}
	}
	return nil
}

// claim reads an extension of Fulcio's: old ones are the text itself.
func claim(number string, value []byte) (text string, old bool, err error) {
	if len(number) == 1 && number[0] >= '1' && number[0] <= '6' {
		return string(value), true, readable(string(value))
	}
	in := cryptobyte.String(value)
	var s cryptobyte.String
	if !in.ReadASN1(&s, casn1.UTF8String) || !in.Empty() {
		return "", false, errors.New("an extension of Fulcio is not a text in DER")
	}
	return string(s), false, readable(string(s))
}

// readable refuses text that is not what it looks like.
func readable(s string) error {
	if len(s) > maxText {
		return errors.New("a text is too long")
	}
	if !utf8.ValidString(s) {
		return errors.New("a text is not UTF-8")
	}
	for _, r := range s {
		if !unicode.IsGraphic(r) || unicode.Is(unicode.Cf, r) || r == utf8.RuneError {
			return errors.New("a text has characters that are not seen, or turn the direction of writing")
		}
	}
	return nil
}

// alternativeNames reads e-mail addresses, URIs, DNS names, IP addresses and
// Fulcio's user names, as they stand in the certificate. Likely are those that don't
// read like names of another kind: name constraints on the one say nothing of the
// other.
func alternativeNames(c *x509.Certificate) (all, likely []string, err error) {
	var value []byte
	for _, e := range c.Extensions {
		if e.Id.Equal(oid(2, 5, 29, 17)) {
			value = e.Value
		}
	}
	if value == nil {
		return nil, nil, nil
	}
	in := cryptobyte.String(value)
	var list cryptobyte.String
	if !in.ReadASN1(&list, casn1.SEQUENCE) || !in.Empty() {
		return nil, nil, errors.New("they can't be read")
	}
	for !list.Empty() {
		var v cryptobyte.String
		var tag casn1.Tag
		if !list.ReadAnyASN1(&v, &tag) {
			return nil, nil, errors.New("they can't be read")
		}
		name, err := generalName(v, tag)
		if err != nil {
			return nil, nil, err
		}
		if len(all) == maxNames {
			return nil, nil, errors.New("there are too many")
		}
		all = append(all, name)
		if formOf(tag) == signature.FormOf(name) {
			likely = append(likely, name)
		}
	}
	return all, likely, nil
}

// formOf is how names of a kind look; "" for Fulcio's own kind, of which name
// constraints know nothing.
func formOf(tag casn1.Tag) signature.NameForm {
	switch tag {
	case casn1.Tag(1).ContextSpecific():
		return signature.FormMail
	case casn1.Tag(2).ContextSpecific():
		return signature.FormHost
	case casn1.Tag(6).ContextSpecific():
		return signature.FormURI
	case casn1.Tag(7).ContextSpecific():
		return signature.FormIP
	}
	return ""
}

func generalName(v cryptobyte.String, tag casn1.Tag) (string, error) {
	switch tag {
	case casn1.Tag(1).ContextSpecific(), casn1.Tag(2).ContextSpecific(), casn1.Tag(6).ContextSpecific():
		s := string(v)
		if strings.IndexFunc(s, func(r rune) bool { return r > unicode.MaxASCII }) >= 0 || s == "" {
			return "", errors.New("one is empty, or not ASCII")
		}
		return s, readable(s)
	case casn1.Tag(7).ContextSpecific():
		if len(v) != net.IPv4len && len(v) != net.IPv6len {
			return "", errors.New("one is no IP address")
		}
		return net.IP(v).String(), nil
	case tagged(0):
		var id asn1.ObjectIdentifier
		var outer, s cryptobyte.String
		if v.ReadASN1ObjectIdentifier(&id) && id.String() == fulcio+"7" &&
			v.ReadASN1(&outer, tagged(0)) && v.Empty() && outer.ReadASN1(&s, casn1.UTF8String) && outer.Empty() && len(s) > 0 {
			return string(s), readable(string(s))
		}
	}
	return "", errors.New("one is of a kind that is not known")
}

// distinguished writes a subject as RFC 4514 does, but in the certificate's order.
func distinguished(raw []byte) (string, error) {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &rdns); err != nil || len(rest) > 0 {
		return "", errors.New("it can't be read")
	}
	parts := make([]string, len(rdns))
	for i, r := range rdns {
		parts[i] = pkix.RDNSequence{r}.String()
	}
	s := strings.Join(parts, ",")
	return s, readable(s)
}

// display is who the certificate says it is, for messages.
func (c *certificates) display() string {
	if len(c.names) > 0 {
		return strings.Join(c.names, ", ")
	}
	return c.name
}

func (c *certificates) signer() signerKey {
	return signerKey{public: c.leaf.PublicKey, spki: c.leaf.RawSubjectPublicKeyInfo, certificate: c.leaf.Raw}
}

// identify says who signed. With several names none of them is the subject: a
// policy must not be able to pick the one that it likes.
func (c *certificates) identify(s *signature.Signed) error {
	key, _, err := fingerprint(c.leaf.PublicKey) // not as the certificate spells it: the same key is one
	if err != nil {
		return signature.Refuse(signature.Unsupported, "the key of the certificate: %v", err)
	}
	s.Identity = signature.Identity{
		Key:         key,
		Name:        c.name,
		Names:       c.names,
		Certificate: hashName(c.leaf.Raw),
		Issuer:      c.issuer,
		Claims:      c.claims,
	}
	if c.issuer == "" {
		s.Identity.Names = c.likely
		return nil
	}
	if len(c.names) != 1 {
		return signature.Refuse(signature.Malformed, "a keyless certificate names %d holders, want one", len(c.names))
	}
	s.Identity.Subject = c.names[0]
	return nil
}
