package notation_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	nx509 "github.com/notaryproject/notation-core-go/x509"

	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/notary/notarytest"
)

func bytesReader(b []byte) io.Reader { return bytes.NewReader(b) }

// Whom a signature passes with. What passes there and not here has a reason
// beside it.
const (
	both    = "both"
	neither = "neither"
	there   = "there alone"
	here    = "here alone"
)

func passes(our, their error) string {
	switch {
	case our == nil && their == nil:
		return both
	case our == nil:
		return here
	case their == nil:
		return there
	}
	return neither
}

func raw(t testing.TB, h *notarytest.Holder, covered []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(covered)
	r, s, err := ecdsa.Sign(rand.Reader, h.Key.(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 64)
	r.FillBytes(value[:32])
	s.FillBytes(value[32:])
	return value
}

// doc is a JWS envelope before it is written.
type doc struct {
	head, payload string
	beside        map[string]any
	more          map[string]any
	edit          func(string) string // of the written envelope
}

func (d *doc) seal(t testing.TB, h *notarytest.Holder) []byte {
	t.Helper()
	enc := base64.RawURLEncoding
	covered := enc.EncodeToString([]byte(d.head)) + "." + enc.EncodeToString([]byte(d.payload))
	head, payload, _ := strings.Cut(covered, ".")
	out := map[string]any{"protected": head, "payload": payload, "header": d.beside, "signature": enc.EncodeToString(raw(t, h, []byte(covered)))}
	for k, v := range d.more {
		out[k] = v
	}
	data, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	if d.edit != nil {
		return []byte(d.edit(string(data)))
	}
	return data
}

func newDoc(w *world) *doc {
	s := subject()
	d := &doc{
		head: `{"alg":"ES256","cty":"application/vnd.cncf.notary.payload.v1+json","crit":["io.cncf.notary.signingScheme"],` +
			`"io.cncf.notary.signingScheme":"notary.x509","io.cncf.notary.signingTime":"` + w.now.UTC().Format(time.RFC3339) + `"}`,
		payload: fmt.Sprintf(`{"targetArtifact":{"mediaType":%q,"digest":%q,"size":%d}}`, s.MediaType, s.Digest, s.Size),
		beside:  map[string]any{},
	}
	var chain [][]byte
	for _, c := range w.signer.Chain {
		chain = append(chain, c.Raw)
	}
	d.beside["x5c"] = chain
	return d
}

func TestBothRefuseInJWS(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		name, want, why string
		do              func(d *doc)
	}{
		{"as it should be", both, "", func(*doc) {}},
		{"alg none", neither, "", func(d *doc) { d.head = strings.Replace(d.head, "ES256", "none", 1) }},
		{"alg HS256", neither, "", func(d *doc) { d.head = strings.Replace(d.head, "ES256", "HS256", 1) }},
		{"alg of another key", neither, "", func(d *doc) { d.head = strings.Replace(d.head, "ES256", "PS256", 1) }},
		{"no crit", neither, "", func(d *doc) { d.head = strings.Replace(d.head, `"crit":["io.cncf.notary.signingScheme"],`, "", 1) }},
		{"crit without the scheme", neither, "", func(d *doc) {
			d.head = strings.Replace(d.head, `"crit":["io.cncf.notary.signingScheme"]`, `"x":1,"crit":["x"]`, 1)
		}},
		{"an unknown critical attribute", there, "the specification wants it refused; the library does so only if a plugin is asked for", func(d *doc) {
			d.head = strings.Replace(d.head, `"crit":["io.cncf.notary.signingScheme"]`, `"x":1,"crit":["io.cncf.notary.signingScheme","x"]`, 1)
		}},
		{"an unknown plugin", neither, "", func(d *doc) {
			d.head = strings.Replace(d.head, `"crit":["io.cncf.notary.signingScheme"]`, `"io.cncf.notary.verificationPlugin":"x","crit":["io.cncf.notary.signingScheme","io.cncf.notary.verificationPlugin"]`, 1)
		}},
		{"another scheme", neither, "", func(d *doc) { d.head = strings.Replace(d.head, "notary.x509", "notary.x", 1) }},
		{"no time", neither, "", func(d *doc) { d.head = strings.Replace(d.head, "signingTime", "noTime", 1) }},
		{"another type of payload", neither, "", func(d *doc) { d.head = strings.Replace(d.head, "payload.v1", "payload.v2", 1) }},
		{"another image", neither, "", func(d *doc) { d.payload = strings.Replace(d.payload, "sha256:", "sha256:0", 1) }},
		{"another size", neither, "", func(d *doc) { d.payload = strings.Replace(d.payload, `"size":`, `"size":1`, 1) }},
		{"another media type", neither, "", func(d *doc) { d.payload = strings.Replace(d.payload, "manifest", "index", 1) }},
		{"a negative size", neither, "", func(d *doc) { d.payload = strings.Replace(d.payload, `"size":`, `"size":-`, 1) }},
		{"no chain", neither, "", func(d *doc) { delete(d.beside, "x5c") }},
		{"half a chain", neither, "", func(d *doc) { d.beside["x5c"] = d.beside["x5c"].([][]byte)[:2] }},
		{"a stranger's chain", neither, "", func(d *doc) {
			var chain [][]byte
			for _, c := range newWorld(t).signer.Chain {
				chain = append(chain, c.Raw)
			}
			d.beside["x5c"] = chain
		}},
		{"changed after signing", neither, "", func(d *doc) {
			d.edit = func(s string) string { return strings.Replace(s, `"signature":"`, `"signature":"AAAA`, 1) }
		}},
		{"something behind the envelope", neither, "", func(d *doc) { d.edit = func(s string) string { return s + "{}" } }},

		{"a member twice", there, "the last of two is believed there; another reader believes the first", func(d *doc) {
			d.edit = func(s string) string { return strings.Replace(s, `{`, `{"payload":"e30",`, 1) }
		}},
		{"alg twice", there, "the same", func(d *doc) { d.head = strings.Replace(d.head, `"alg"`, `"alg":"none","alg"`, 1) }},
		{"digest twice", there, "the same", func(d *doc) { d.payload = strings.Replace(d.payload, `"digest"`, `"digest":"sha256:0","digest"`, 1) }},
		{"names in another case", there, "Go's reader of JSON knows no case, JWS does", func(d *doc) { d.payload = strings.Replace(d.payload, `"digest"`, `"DIGEST"`, 1) }},
		{"alg beside what is signed", there, "RFC 7515 wants every name in one place", func(d *doc) { d.beside["alg"] = "none" }},
		{"members of no use", there, "the specification permits none", func(d *doc) { d.more = map[string]any{"x": 1} }},
		{"a second list of signatures", there, "the specification permits one signature", func(d *doc) { d.more = map[string]any{"signatures": []any{}} }},
		{"line ends in base64", there, "Go's decoder skips them, others do not", func(d *doc) {
			d.edit = func(s string) string { return strings.Replace(s, `"signature":"`, `"signature":"\n`, 1) }
		}},
		{"signed next week", there, "nobody signs in the future: the clock of one of the two is wrong", func(d *doc) {
			d.head = strings.Replace(d.head, w.now.UTC().Format(time.RFC3339), w.now.AddDate(0, 0, 7).UTC().Format(time.RFC3339), 1)
		}},
		{"a false time-stamp that is not needed yet", there, "it is not looked at there while the certificate is valid; what is false is false", func(d *doc) {
			token, err := w.stamper.Token([]byte("another signature"))
			if err != nil {
				t.Fatal(err)
			}
			d.beside["io.cncf.notary.timestampSignature"] = token
		}},
		{"2 MiB of agent", there, "limit of 1 MiB", func(d *doc) { d.beside["io.cncf.notary.signingAgent"] = strings.Repeat("x", 2<<20) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDoc(w)
			tc.do(d)
			our, their := judge(t, w.trust(), notary.JWS, d.seal(t, w.signer))
			if got := passes(our, their); got != tc.want {
				t.Errorf("passes %s, want %s (%s)\nhere: %v\nthere: %v", got, tc.want, tc.why, our, their)
			}
			if (tc.why == "") != (tc.want == both || tc.want == neither) {
				t.Errorf("the difference is not explained")
			}
		})
	}
}

func TestBothRefuseInCOSE(t *testing.T) {
	w := newWorld(t)
	var chain [][]byte
	for _, c := range w.signer.Chain {
		chain = append(chain, c.Raw)
	}
	for _, tc := range []struct {
		name, want, why string
		do              func(head, beside map[any]any)
	}{
		{"as it should be", both, "", func(_, _ map[any]any) {}},
		{"alg of another key", neither, "", func(head, _ map[any]any) { head[1] = -37 }},
		{"alg unheard of", neither, "", func(head, _ map[any]any) { head[1] = 5 }},
		{"no crit", neither, "", func(head, _ map[any]any) { delete(head, 2) }},
		{"an unknown critical label", there, "as with JWS", func(head, _ map[any]any) {
			head[2], head[77] = []any{"io.cncf.notary.signingScheme", 77}, 1
		}},
		{"a time without a tag", neither, "", func(head, _ map[any]any) { head["io.cncf.notary.signingTime"] = w.now.Unix() }},
		{"no chain", neither, "", func(_, beside map[any]any) { delete(beside, 33) }},
		{"one certificate without a list", neither, "", func(_, beside map[any]any) { beside[33] = chain[0] }},
		{"content type as a number", neither, "", func(head, _ map[any]any) { head[3] = 50 }},
		{"alg beside what is signed too", there, "RFC 9052 wants every label in one place", func(_, beside map[any]any) { beside[1] = -7 }},
		{"certificates that are signed", here, "the specification permits it, the library does not read it", func(head, beside map[any]any) {
			head[33] = chain
			delete(beside, 33)
		}},
		{"the scheme beside what is signed", there, "what must be signed must not stand elsewhere", func(_, beside map[any]any) { beside["io.cncf.notary.signingScheme"] = "notary.x509" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			head := map[any]any{
				1: -7, 2: []any{"io.cncf.notary.signingScheme"}, 3: "application/vnd.cncf.notary.payload.v1+json",
				"io.cncf.notary.signingScheme": "notary.x509", "io.cncf.notary.signingTime": cbor.Tag{Number: 1, Content: w.now.Unix()},
			}
			beside := map[any]any{33: chain}
			tc.do(head, beside)
			protected, payload := encode(t, head), []byte(newDoc(w).payload)
			value := raw(t, w.signer, encode(t, []any{"Signature1", protected, []byte{}, payload}))
			data := encode(t, cbor.Tag{Number: 18, Content: []any{protected, beside, payload, value}})
			our, their := judge(t, w.trust(), notary.COSE, data)
			if got := passes(our, their); got != tc.want {
				t.Errorf("passes %s, want %s (%s)\nhere: %v\nthere: %v", got, tc.want, tc.why, our, their)
			}
			if (tc.why == "") != (tc.want == both || tc.want == neither) {
				t.Errorf("the difference is not explained")
			}
		})
	}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	b, err := mode.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestChains compares with the library's rules for certificates.
func TestChains(t *testing.T) {
	w := newWorld(t)
	usage := func(u x509.KeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.KeyUsage = u }
	}
	purpose := func(u ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = u }
	}
	ext := func(oid []int, value ...byte) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oid, Value: value})
		}
	}
	leaf := func(by *notarytest.Holder, edits ...func(*x509.Certificate)) *notarytest.Holder {
		return issue(t, by, notarytest.Signer, "build", ec(t), edits...)
	}
	authority := func(by *notarytest.Holder, edits ...func(*x509.Certificate)) *notarytest.Holder {
		return issue(t, by, notarytest.Authority, "CA", ec(t), edits...)
	}
	ku, bc := []int{2, 5, 29, 15}, []int{2, 5, 29, 19}
	for _, tc := range []struct {
		name string
		h    *notarytest.Holder
		want string
		why  string
	}{
		{"three", w.signer, both, ""},
		{"its own root", leaf(nil), both, ""},
		{"no purpose", leaf(w.ca, purpose()), both, ""},
		{"non-repudiation too", leaf(w.ca, usage(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment)), both, ""},
		{"five", leaf(authority(authority(w.ca))), both, ""},
		{"no root", &notarytest.Holder{Key: w.signer.Key, Chain: w.signer.Chain[:2]}, neither, ""},
		{"the authority missing", &notarytest.Holder{Key: w.signer.Key, Chain: []*x509.Certificate{w.signer.Chain[0], w.signer.Chain[2]}}, neither, ""},
		{"the root twice", &notarytest.Holder{Key: w.signer.Key, Chain: append(w.signer.Chain[:3:3], w.signer.Chain[2])}, neither, ""},
		{"by a signer", leaf(leaf(w.ca)), neither, ""},
		{"too long a path", leaf(authority(authority(w.root, func(c *x509.Certificate) { c.MaxPathLenZero = true }))), neither, ""},
		{"an authority that may not issue", leaf(authority(w.root, usage(x509.KeyUsageCRLSign))), neither, ""},
		{"an authority whose usage is not critical", leaf(authority(w.root, usage(0), ext(ku, 3, 2, 2, 4))), neither, ""},
		{"a signer that may encrypt", leaf(w.ca, usage(x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment)), neither, ""},
		{"a signer without usage", leaf(w.ca, usage(0)), neither, ""},
		{"a signer whose usage is not critical", leaf(w.ca, usage(0), ext(ku, 3, 2, 7, 0x80)), neither, ""},
		{"a signer that serves", leaf(w.ca, purpose(x509.ExtKeyUsageServerAuth)), neither, ""},
		{"a signer that stamps", leaf(w.ca, purpose(x509.ExtKeyUsageTimeStamping)), neither, ""},
		{"an authority that signs", issue(t, w.ca, notarytest.Authority, "build", ec(t), usage(x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign)), neither, ""},
		{"expired", leaf(w.ca, about(-48*time.Hour, -time.Hour)), neither, ""},
		{"not valid yet", leaf(w.ca, about(time.Hour, 2*time.Hour)), neither, ""},
		{"an authority that has expired", leaf(authority(w.root, about(-48*time.Hour, -time.Hour))), neither, ""},

		{"a signer that does everything", leaf(w.ca, purpose(x509.ExtKeyUsageAny)), there, "the specification forbids anyExtendedKeyUsage, the library forgot it"},
		{"an authority whose constraints are not critical", leaf(authority(w.root, func(c *x509.Certificate) { c.BasicConstraintsValid = false }, ext(bc, 0x30, 3, 1, 1, 0xff))), there, "the specification wants them critical, the library's message too, its check not"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDoc(w)
			var chain [][]byte
			for _, c := range tc.h.Chain {
				chain = append(chain, c.Raw)
			}
			d.beside["x5c"] = chain
			s := w.trust()
			s.ca = append(s.ca[:1:1], rootOf(tc.h))
			our, their := judge(t, s, notary.JWS, d.seal(t, tc.h))
			if got := passes(our, their); got != tc.want {
				t.Errorf("passes %s, want %s (%s)\nhere: %v\nthere: %v", got, tc.want, tc.why, our, their)
			}
			if rules := nx509.ValidateCodeSigningCertChain(tc.h.Chain, nil); rules != nil && our == nil {
				t.Errorf("the library's rules say %v, and it passes here", rules)
			}
		})
	}
}

// TestTimeStamps has certificates that have expired, so that all hangs on the
// time-stamp.
func TestTimeStamps(t *testing.T) {
	w := newWorld(t)
	past := about(-3*time.Hour, -time.Hour)
	root := issue(t, nil, notarytest.Authority, "Old root", ec(t), past)
	w.signer = issue(t, root, notarytest.Signer, "build", ec(t), past)
	w.root = root
	at := func(ago time.Duration) *notarytest.TSA {
		return &notarytest.TSA{By: w.tsa, Clock: func() time.Time { return time.Now().Add(-ago) }}
	}
	strangerRoot := issue(t, nil, notarytest.Authority, "Time root", ec(t))
	for _, tc := range []struct {
		name string
		by   *notarytest.TSA // nil: none
		tsa  bool            // whether there is a store of the kind tsa
		want string
	}{
		{"no time-stamp", nil, true, neither},
		{"while it was valid", at(2 * time.Hour), true, both},
		{"after it had expired", at(30 * time.Minute), true, neither},
		{"before it was valid", at(4 * time.Hour), true, neither},
		{"in its last second, which the accuracy makes uncertain", &notarytest.TSA{By: w.tsa, Clock: func() time.Time { return w.signer.Chain[0].NotAfter }}, true, neither},
		{"nobody vouches", at(2 * time.Hour), false, neither},
		{"a stranger", &notarytest.TSA{By: issue(t, strangerRoot, notarytest.Stamper, "Time", ec(t)), Clock: at(2 * time.Hour).Clock}, true, neither},
		{"a signer of code", &notarytest.TSA{By: issue(t, w.tsaRoot, notarytest.Signer, "Time", ec(t)), Clock: at(2 * time.Hour).Clock}, true, neither},
		{"an authority that had expired", &notarytest.TSA{By: issue(t, w.tsaRoot, notarytest.Stamper, "Time", ec(t), about(-48*time.Hour, -24*time.Hour)), Clock: at(2 * time.Hour).Clock}, true, neither},
		{"an authority that has expired since", &notarytest.TSA{By: issue(t, w.tsaRoot, notarytest.Stamper, "Time", ec(t), about(-48*time.Hour, -time.Hour)), Clock: at(2 * time.Hour).Clock}, true, both},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDoc(w)
			d.head = strings.Replace(d.head, w.now.UTC().Format(time.RFC3339), w.now.Add(-2*time.Hour).UTC().Format(time.RFC3339), 1)
			data := d.seal(t, w.signer)
			if tc.by != nil {
				data = stamped(t, data, tc.by)
			}
			s := w.trust()
			if !tc.tsa {
				s.tsa = nil
			}
			our, their := judge(t, s, notary.JWS, data)
			if got := passes(our, their); got != tc.want {
				t.Errorf("passes %s, want %s\nhere: %v\nthere: %v", got, tc.want, our, their)
			}
		})
	}
}

func stamped(t testing.TB, data []byte, by *notarytest.TSA) []byte {
	t.Helper()
	var e map[string]any
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatal(err)
	}
	value, err := base64.RawURLEncoding.DecodeString(e["signature"].(string))
	if err != nil {
		t.Fatal(err)
	}
	token, err := by.Token(value)
	if err != nil {
		t.Fatal(err)
	}
	e["header"].(map[string]any)["io.cncf.notary.timestampSignature"] = token
	out, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
