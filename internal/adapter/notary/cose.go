package notary

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/castellan-security/castellan/internal/signature"
)

// COSE is the media type of envelopes in CBOR (RFC 9052, COSE_Sign1).
const COSE = "application/cose"

// The labels that COSE numbers instead of naming them.
const (
	labelAlg     = 1
	labelCrit    = 2
	labelCty     = 3
	labelX5Chain = 33 // x5chain, RFC 9360
	labelHashed  = 258
	tagSign1     = 18
	tagTime      = 1
)

// majors of CBOR (RFC 8949, 3.1).
const (
	majorUint  = 0
	majorNint  = 1
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5
	majorTag   = 6
	majorFloat = 7
)

// reader returns how CBOR is read: nothing twice, nothing of unknown length,
// nothing deep.
func reader() (cbor.DecMode, error) {
	return cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		MaxNestedLevels:  8, // a tag, an array, a map, an array; attributes of others a few more
		MaxArrayElements: maxMembers,
		MaxMapPairs:      maxMembers,
	}.DecMode()
}

// readCOSE reads a tagged COSE_Sign1.
func readCOSE(dec cbor.DecMode, data []byte) (*sealed, error) {
	if err := dec.Wellformed(data); err != nil {
		return nil, malformed("CBOR", err)
	}
	content, ok := tagged(dec, data, tagSign1)
	if !ok {
		return nil, signature.Refuse(signature.Malformed, "the envelope is no COSE_Sign1 with its tag")
	}
	var parts []cbor.RawMessage
	if major(content) != majorArray || dec.Unmarshal(content, &parts) != nil || len(parts) != 4 {
		return nil, signature.Refuse(signature.Malformed, "the envelope does not have the four parts of a COSE_Sign1")
	}
	protected, ok1 := bytesOf(dec, parts[0])
	payload, ok2 := bytesOf(dec, parts[2])
	value, ok3 := bytesOf(dec, parts[3])
	if !ok1 || !ok2 || !ok3 {
		return nil, signature.Refuse(signature.Malformed, "the envelope's header, payload and signature must be byte strings within it")
	}
	s := sealed{payload: payload, value: value, covered: sigStructure(protected, payload)}
	head, err := labels(dec, protected, "protected header")
	if err != nil {
		return nil, err
	}
	beside, err := labels(dec, parts[1], "unprotected header")
	if err != nil {
		return nil, err
	}
	for name := range beside {
		if _, both := head[name]; both || isOwn(name) || name == label(labelAlg) || name == label(labelCrit) || name == label(labelCty) {
			return nil, signature.Refuse(signature.Malformed, "%s stands beside what is signed", shown(name))
		}
	}
	if err := s.readBeside(dec, head, beside); err != nil {
		return nil, err
	}
	return &s, s.header.readCBOR(dec, head)
}

// readBeside reads the certificates, which may be signed as well, and the
// time-stamp.
func (s *sealed) readBeside(dec cbor.DecMode, head, beside map[string]cbor.RawMessage) error {
	raw, ok := beside[label(labelX5Chain)]
	if !ok {
		raw = head[label(labelX5Chain)]
	}
	if raw != nil {
		var certs []cbor.RawMessage
		if major(raw) != majorArray || dec.Unmarshal(raw, &certs) != nil {
			return signature.Refuse(signature.Malformed, "the certificates are no list")
		}
		if len(certs) > maxChain {
			return signature.Refuse(signature.TooLarge, "the envelope has %d certificates, at most %d are read", len(certs), maxChain)
		}
		for _, c := range certs {
			der, ok := bytesOf(dec, c)
			if !ok {
				return signature.Refuse(signature.Malformed, "a certificate is no byte string")
			}
			s.chain = append(s.chain, der)
		}
	}
	if raw, ok := beside[nameToken]; ok {
		if s.token, ok = bytesOf(dec, raw); !ok {
			return signature.Refuse(signature.Malformed, "the time-stamp is no byte string")
		}
	}
	return nil
}

func (h *header) readCBOR(dec cbor.DecMode, head map[string]cbor.RawMessage) error {
	if _, hashed := head[label(labelHashed)]; hashed {
		return signature.Refuse(signature.Unsupported, "the payload is only the digest of one (COSE Hash Envelope)")
	}
	h.others = map[string]attribute{}
	for name, raw := range head {
		var err error
		ok := true
		switch name {
		case label(labelAlg):
			h.algorithm = algorithmName(dec, raw)
		case label(labelCty):
			h.contentType, ok = textOf(dec, raw)
		case label(labelCrit):
			err = h.readLabels(dec, raw, head)
		case label(labelX5Chain): // read already
		case nameScheme:
			h.scheme, ok = textOf(dec, raw)
		case nameSigned:
			h.signed, err = timeOf(dec, name, raw)
		case nameVouched:
			h.vouched, err = timeOf(dec, name, raw)
		case nameExpiry:
			h.expiry, err = timeOf(dec, name, raw)
		default:
			var a attribute
			a.text, a.isText = textOf(dec, raw)
			h.others[name] = a
		}
		if err != nil {
			return err
		}
		if !ok {
			return signature.Refuse(signature.Malformed, "%s is no text", shown(name))
		}
	}
	return nil
}

// readLabels reads which labels are critical. The numbers 0 to 8 are COSE's own,
// which everybody must know, and do not belong there.
func (h *header) readLabels(dec cbor.DecMode, raw cbor.RawMessage, head map[string]cbor.RawMessage) error {
	var list []any
	if major(raw) != majorArray || dec.Unmarshal(raw, &list) != nil {
		return signature.Refuse(signature.Malformed, "the list of critical labels is no list")
	}
	for _, l := range list {
		name, ok := labelOf(l)
		if !ok {
			return signature.Refuse(signature.Malformed, "a critical label is neither a number nor a text")
		}
		if _, there := head[name]; there && name == label(labelX5Chain) {
			continue // known, and read
		}
		h.critical = append(h.critical, name)
	}
	return nil
}

// labels reads a map of header parameters. Numbers become "label N".
func labels(dec cbor.DecMode, data []byte, what string) (map[string]cbor.RawMessage, error) {
	if major(data) != majorMap {
		return nil, signature.Refuse(signature.Malformed, "the envelope's %s is no map", what)
	}
	var in map[any]cbor.RawMessage
	if err := dec.Unmarshal(data, &in); err != nil {
		return nil, malformed(what, err)
	}
	out, names := make(map[string]cbor.RawMessage, len(in)), seen{}
	for k, v := range in {
		name, ok := labelOf(k)
		if !ok {
			return nil, signature.Refuse(signature.Malformed, "a label of the envelope's %s is neither a number nor a text", what)
		}
		if names.before(name) {
			return nil, signature.Refuse(signature.Malformed, "%s is there twice", shown(name))
		}
		out[name] = v
	}
	return out, nil
}

func label(n int) string { return fmt.Sprintf("label %d", n) }

func labelOf(k any) (string, bool) {
	switch k := k.(type) {
	case uint64:
		return fmt.Sprintf("label %d", k), true
	case int64:
		return fmt.Sprintf("label %d", k), true
	case string:
		return k, !strings.HasPrefix(k, "label ") // else a text could pass for a number
	}
	return "", false
}

// sigStructure writes what is signed of a COSE_Sign1 without external data
// (RFC 9052, 4.4).
func sigStructure(protected, payload []byte) []byte {
	const context = "Signature1"
	b := make([]byte, 0, len(protected)+len(payload)+40)
	b = append(b, majorArray<<5|4)
	b = append(appendHead(b, majorText, len(context)), context...)
	b = append(appendHead(b, majorBytes, len(protected)), protected...)
	b = appendHead(b, majorBytes, 0)
	return append(appendHead(b, majorBytes, len(payload)), payload...)
}

// appendHead appends the head of a string of n bytes, as short as it can be.
func appendHead(b []byte, major byte, n int) []byte {
	switch {
	case n < 24:
		return append(b, major<<5|byte(n))
	case n <= math.MaxUint8:
		return append(b, major<<5|24, byte(n))
	case n <= math.MaxUint16:
		return append(b, major<<5|25, byte(n>>8), byte(n))
	default:
		return append(b, major<<5|26, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
}

func major(raw []byte) byte {
	if len(raw) == 0 {
		return 255
	}
	return raw[0] >> 5
}

func bytesOf(dec cbor.DecMode, raw []byte) ([]byte, bool) {
	var b []byte
	return b, major(raw) == majorBytes && dec.Unmarshal(raw, &b) == nil
}

func textOf(dec cbor.DecMode, raw []byte) (string, bool) {
	var s string
	ok := major(raw) == majorText && dec.Unmarshal(raw, &s) == nil
	return s, ok
}

func tagged(dec cbor.DecMode, raw []byte, number uint64) ([]byte, bool) {
	var t cbor.RawTag
	if major(raw) != majorTag || dec.Unmarshal(raw, &t) != nil {
		return nil, false
	}
	return t.Content, t.Number == number
}

// timeOf reads a time: seconds since 1970, tagged as such.
func timeOf(dec cbor.DecMode, name string, raw []byte) (time.Time, error) {
	content, ok := tagged(dec, raw, tagTime)
	var seconds float64
	if m := major(content); !ok || m != majorUint && m != majorNint && m != majorFloat || dec.Unmarshal(content, &seconds) != nil {
		return time.Time{}, signature.Refuse(signature.Malformed, "%s is no time", name)
	}
	const last = 253402300799 // the end of the year 9999; what has more digits is no time of signing
	if !(seconds > 0 && seconds <= last) {
		return time.Time{}, signature.Refuse(signature.Malformed, "%s is %g seconds since 1970, which is no time", name, seconds)
	}
	whole, frac := math.Modf(seconds)
	return time.Unix(int64(whole), int64(frac*1e9)).UTC(), nil
}

// algorithmName returns what JWS calls the algorithm, or something that nobody
// knows.
func algorithmName(dec cbor.DecMode, raw []byte) string {
	var n int64
	if m := major(raw); m != majorUint && m != majorNint || dec.Unmarshal(raw, &n) != nil {
		return "no number"
	}
	for _, a := range algorithms {
		if a.cose == n {
			return a.name
		}
	}
	return fmt.Sprintf("COSE %d", n)
}
