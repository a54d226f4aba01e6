package notary

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/pull"
	"github.com/castellan-security/castellan/internal/signature"
)

// JWS is the media type of envelopes in JSON (RFC 7515, flattened).
const JWS = "application/jose+json"

// readJWS reads an envelope in the flattened JSON form, which is the only one that
// the specification permits. It is stricter than readers of JWS are as a rule: a
// name that is there twice, in whatever case, or that does not belong there, could
// be read differently by the next program.
func readJWS(data []byte) (*sealed, error) {
	var (
		r                          pull.Reader
		s                          sealed
		payload, protected, sigval string
	)
	r.Reset(data)
	beside := seen{}
	err := members(&r, func(name string) error {
		switch name {
		case "payload":
			payload = r.Text()
		case "protected":
			protected = r.Text()
		case "signature":
			sigval = r.Text()
		case "header":
			return s.readUnprotected(&r, beside)
		case "signatures":
			return signature.Refuse(signature.Unsupported, "the envelope is made for several signatures; the Notary Project permits one")
		default:
			return signature.Refuse(signature.Malformed, "%s does not belong into an envelope", shown(name))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := r.End(); err != nil {
		return nil, malformed("JSON", err)
	}
	s.covered = []byte(protected + "." + payload)
	if s.payload, err = unbase64(base64.RawURLEncoding, "payload", payload); err != nil {
		return nil, err
	}
	if s.value, err = unbase64(base64.RawURLEncoding, "signature", sigval); err != nil {
		return nil, err
	}
	head, err := unbase64(base64.RawURLEncoding, "protected header", protected)
	if err != nil {
		return nil, err
	}
	return &s, s.header.readJSON(head, beside)
}

// readUnprotected reads what stands beside what is signed. names takes the names
// that are there.
func (s *sealed) readUnprotected(r *pull.Reader, names seen) error {
	return members(r, func(name string) error {
		names.before(name)
		if isOwn(name) {
			return signature.Refuse(signature.Malformed, "%s stands beside what is signed", shown(name))
		}
		switch name {
		case "x5c":
			return s.readX5C(r)
		case nameToken:
			var err error
			s.token, err = unbase64(base64.StdEncoding, "time-stamp", r.Text())
			return err
		default:
			r.Skip()
			return nil
		}
	})
}

func (s *sealed) readX5C(r *pull.Reader) error {
	if !r.Array() {
		return nil
	}
	for r.Next() {
		if len(s.chain) == maxChain {
			return signature.Refuse(signature.TooLarge, "the envelope has more than %d certificates", maxChain)
		}
		cert, err := unbase64(base64.StdEncoding, "certificate", r.Text())
		if err != nil {
			return err
		}
		s.chain = append(s.chain, cert)
	}
	return nil
}

// readJSON reads the protected header. beside has the names that stand in the
// unprotected one: RFC 7515 wants none to be in both.
func (h *header) readJSON(data []byte, beside seen) error {
	var r pull.Reader
	r.Reset(data)
	h.others = map[string]attribute{}
	err := members(&r, func(name string) error {
		if beside[strings.ToLower(name)] {
			return signature.Refuse(signature.Malformed, "%s is signed, and stands beside what is signed", shown(name))
		}
		var err error
		switch name {
		case "alg":
			h.algorithm = r.Text()
		case "cty":
			h.contentType = r.Text()
		case "crit":
			return h.readCrit(&r)
		case "b64":
			return signature.Refuse(signature.Unsupported, "the payload is not encoded (RFC 7797), which the Notary Project does not know")
		case nameScheme:
			h.scheme = r.Text()
		case nameSigned:
			h.signed, err = readTime(name, r.Text())
		case nameVouched:
			h.vouched, err = readTime(name, r.Text())
		case nameExpiry:
			h.expiry, err = readTime(name, r.Text())
		default:
			if isOwn(name) && name != namePlugin && name != namePluginAt {
				return signature.Refuse(signature.Malformed, "%s is written in another case than the specification's", shown(name))
			}
			var a attribute
			if a.isText = r.Kind() == pull.String; a.isText {
				a.text = r.Text()
			} else {
				r.Skip()
			}
			h.others[name] = a
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := r.End(); err != nil {
		return malformed("protected header", err)
	}
	return nil
}

func (h *header) readCrit(r *pull.Reader) error {
	if !r.Array() {
		return nil
	}
	for r.Next() {
		if len(h.critical) == maxMembers {
			return signature.Refuse(signature.TooLarge, "more than %d attributes are marked critical", maxMembers)
		}
		h.critical = append(h.critical, r.Text())
	}
	return nil
}

// members goes through an object and calls each for every member, which each must
// read or skip. A name that is there twice is refused.
func members(r *pull.Reader, each func(name string) error) error {
	if !r.Object() {
		r.Fail(fmt.Errorf("want an object"))
		return malformed("JSON", r.Err())
	}
	names := seen{}
	for r.Next() {
		name := r.Name()
		if names.before(name) {
			return signature.Refuse(signature.Malformed, "%s is there twice", shown(name))
		}
		if len(names) > maxMembers {
			return signature.Refuse(signature.TooLarge, "an object has more than %d members", maxMembers)
		}
		if err := each(name); err != nil {
			return err
		}
	}
	if err := r.Err(); err != nil {
		return malformed("JSON", err)
	}
	return nil
}

// readTime reads RFC 3339, as the specification writes times in JSON.
func readTime(name, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.IsZero() {
		return time.Time{}, signature.Refuse(signature.Malformed, "%s is %s, want a time like 2026-01-02T15:04:05Z", name, shown(text))
	}
	return t, nil
}

// unbase64 decodes strictly: Go's decoder skips line ends, and others do not.
func unbase64(enc *base64.Encoding, what, text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, signature.Refuse(signature.Malformed, "the envelope's %s has line ends within its base64", what)
	}
	b, err := enc.Strict().DecodeString(text)
	if err != nil {
		return nil, malformed(what, err)
	}
	return b, nil
}
