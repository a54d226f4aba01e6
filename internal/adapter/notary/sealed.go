package notary

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/signature"
)

// The limits of an envelope. Real ones have 4 to 20 KiB: two to four certificates,
// a time-stamp of 6 KiB, and a payload of 300 bytes.
const (
	maxEnvelope    = 1 << 20   // bytes
	maxPayload     = 128 << 10 // bytes; annotations are all that makes it long
	maxChain       = 10        // certificates: public authorities have three, four with a cross-certificate
	maxCertificate = 64 << 10  // bytes
	maxToken       = 64 << 10  // bytes of a time-stamp
	maxMembers     = 256       // of one object or map
	maxShown       = 120       // bytes of a stranger's text in a message
)

// The names that the signature specification gives to what is signed, and to
// what stands beside it.
const (
	nameScheme   = "io.cncf.notary.signingScheme"
	nameSigned   = "io.cncf.notary.signingTime"
	nameVouched  = "io.cncf.notary.authenticSigningTime"
	nameExpiry   = "io.cncf.notary.expiry"
	nameToken    = "io.cncf.notary.timestampSignature"
	nameAgent    = "io.cncf.notary.signingAgent"
	namePlugin   = "io.cncf.notary.verificationPlugin"
	namePluginAt = "io.cncf.notary.verificationPluginMinVersion"
)

// The schemes.
const (
	schemeX509      = "notary.x509"
	schemeAuthority = "notary.x509.signingAuthority"
)

// typePayload is the only kind of payload.
const typePayload = "application/vnd.cncf.notary.payload.v1+json"

// sealed is what an envelope says, in either form. Nothing of it is believed yet.
type sealed struct {
	header  header
	covered []byte // what the signature is over
	value   []byte // the signature: r and s side by side, or RSA's
	payload []byte
	chain   [][]byte // certificates, the signer's first
	token   []byte   // an RFC 3161 time-stamp; not covered by the signature
}

// header is what is signed beside the payload.
type header struct {
	algorithm   string // as JWS names it
	contentType string
	scheme      string
	signed      time.Time // when the signer says it signed
	vouched     time.Time // when the signing authority says so
	expiry      time.Time
	critical    []string
	others      map[string]attribute
}

// attribute is a signed attribute that the specification leaves to others.
type attribute struct {
	text     string
	isText   bool
	critical bool
}

// check holds the header against the rules that both forms have in common.
func (h *header) check() error {
	if h.contentType != typePayload {
		return signature.Refuse(signature.Unsupported, "the payload's type is %s, want %s", shown(h.contentType), typePayload)
	}
	when, must := h.signed, []string{nameScheme}
	switch h.scheme {
	case schemeX509:
		if !h.vouched.IsZero() {
			return signature.Refuse(signature.Malformed, "%s does not go with the scheme %s", nameVouched, h.scheme)
		}
	case schemeAuthority:
		if !h.signed.IsZero() {
			return signature.Refuse(signature.Malformed, "%s does not go with the scheme %s", nameSigned, h.scheme)
		}
		when, must = h.vouched, append(must, nameVouched)
	default:
		return signature.Refuse(signature.Unsupported, "the signing scheme is %s, want %s or %s", shown(h.scheme), schemeX509, schemeAuthority)
	}
	if when.IsZero() {
		return signature.Refuse(signature.Malformed, "the envelope does not say when it was signed")
	}
	if !h.expiry.IsZero() {
		must = append(must, nameExpiry)
		if !h.expiry.After(when) {
			return signature.Refuse(signature.Malformed, "the signature expires at %s, before it was made at %s", stamp(h.expiry), stamp(when))
		}
	}
	return h.checkCritical(must)
}

// checkCritical marks the attributes that are critical, and refuses a list of them
// that lacks one, has one twice, or has one that is not there.
func (h *header) checkCritical(must []string) error {
	for _, name := range must {
		if !slices.Contains(h.critical, name) {
			return signature.Refuse(signature.Malformed, "%s is not marked critical", name)
		}
	}
	for i, name := range h.critical {
		if slices.Contains(h.critical[:i], name) {
			return signature.Refuse(signature.Malformed, "%s is marked critical twice", shown(name))
		}
		if slices.Contains(must, name) {
			continue
		}
		a, ok := h.others[name]
		if !ok {
			return signature.Refuse(signature.Malformed, "%s is marked critical, and is not there or must not be", shown(name))
		}
		a.critical = true
		h.others[name] = a
	}
	return nil
}

// isOwn says whether a name is one of those that must be signed, so that it may not
// stand beside what is signed.
func isOwn(name string) bool {
	switch strings.ToLower(name) {
	case "alg", "cty", "crit", "b64":
		return true
	}
	for _, own := range []string{nameScheme, nameSigned, nameVouched, nameExpiry, namePlugin, namePluginAt} {
		if strings.EqualFold(own, name) {
			return true
		}
	}
	return false
}

// seen tells names that were there before, in whatever case: readers differ in
// whether they tell "digest" from "Digest", and which of two they believe.
type seen map[string]bool

func (s seen) before(name string) bool {
	key := strings.ToLower(name)
	if s[key] {
		return true
	}
	s[key] = true
	return false
}

// shown quotes a stranger's text for a message.
func shown(text string) string {
	if len(text) > maxShown {
		end := maxShown
		for end > 0 && !utf8.RuneStart(text[end]) {
			end--
		}
		return strconv.QuoteToASCII(text[:end]) + " and more"
	}
	return strconv.QuoteToASCII(text)
}

// stamp writes a time for a message.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// malformed is the refusal of bytes that could not be read.
func malformed(what string, err error) error {
	text := err.Error()
	if len(text) > maxShown {
		text = text[:maxShown] + "…"
	}
	return signature.Refuse(signature.Malformed, "read the envelope's %s: %s", what, strconv.Quote(text))
}
