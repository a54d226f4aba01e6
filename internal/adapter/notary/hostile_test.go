package notary_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/notary/notarytest"
	"github.com/castellan-security/castellan/internal/signature"
)

var raw64 = base64.RawURLEncoding

// seal signs a header and a payload as they are, however wrong they are.
func seal(t testing.TB, h *notarytest.Holder, protected, payload string) jws {
	t.Helper()
	covered := raw64.EncodeToString([]byte(protected)) + "." + raw64.EncodeToString([]byte(payload))
	var chain []any
	for _, c := range h.Chain {
		chain = append(chain, base64.StdEncoding.EncodeToString(c.Raw))
	}
	head, body, _ := strings.Cut(covered, ".")
	return jws{
		"protected": head, "payload": body, "signature": raw64.EncodeToString(rawECDSA(t, h, []byte(covered))),
		"header": map[string]any{"x5c": chain},
	}
}

func rawECDSA(t testing.TB, h *notarytest.Holder, covered []byte) []byte {
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

const goodHead = `{"alg":"ES256","cty":"application/vnd.cncf.notary.payload.v1+json","crit":["io.cncf.notary.signingScheme"],` +
	`"io.cncf.notary.signingScheme":"notary.x509","io.cncf.notary.signingTime":"2026-06-01T12:00:00Z"}`

var goodPayload = fmt.Sprintf(`{"targetArtifact":{"mediaType":%q,"digest":%q,"size":%d}}`, image.MediaType, image.Digest, image.Size)

// TestHeadersAndPayloads has envelopes whose signature is true.
func TestHeadersAndPayloads(t *testing.T) {
	w := newWorld(t)
	o := opener(t, w.roots(), notary.Options{})
	head := func(old, new string) string {
		if !strings.Contains(goodHead, old) {
			t.Fatalf("%s is not in the header", old)
		}
		return strings.Replace(goodHead, old, new, 1)
	}
	payload := func(old, new string) string {
		if !strings.Contains(goodPayload, old) {
			t.Fatalf("%s is not in the payload", old)
		}
		return strings.Replace(goodPayload, old, new, 1)
	}
	const crit = `["io.cncf.notary.signingScheme"]`
	many := strings.Builder{}
	for i := range 300 {
		fmt.Fprintf(&many, `"a%d":"",`, i)
	}
	for _, tc := range []struct{ name, head, payload, want string }{
		{"as it should be", goodHead, goodPayload, "good: claimed"},
		{"alg none", head(`"ES256"`, `"none"`), goodPayload, "forbidden"},
		{"alg of a shared secret", head(`"ES256"`, `"HS256"`), goodPayload, "forbidden"},
		{"alg of PKCS 1.5", head(`"ES256"`, `"RS256"`), goodPayload, "forbidden"},
		{"alg of another key", head(`"ES256"`, `"PS256"`), goodPayload, "forged"},
		{"alg unheard of", head(`"ES256"`, `"EdDSA"`), goodPayload, "unsupported"},
		{"alg missing", head(`"alg":"ES256",`, ``), goodPayload, "malformed"},
		{"alg twice", head(`"alg":"ES256"`, `"alg":"none","alg":"ES256"`), goodPayload, "malformed"},
		{"alg in another case too", head(`"alg":"ES256"`, `"alg":"ES256","Alg":"none"`), goodPayload, "malformed"},
		{"alg in another case only", head(`"alg"`, `"ALG"`), goodPayload, "malformed"},
		{"alg by escapes", head(`"alg":"ES256"`, `"alg":"ES256","\u0061lg":"none"`), goodPayload, "malformed"},
		{"crit missing", head(`"crit":`+crit+`,`, ``), goodPayload, "malformed"},
		{"crit empty", head(crit, `[]`), goodPayload, "malformed"},
		{"crit is no list", head(crit, `"io.cncf.notary.signingScheme"`), goodPayload, "malformed"},
		{"crit has something that is not there", head(crit, `["io.cncf.notary.signingScheme","x"]`), goodPayload, "malformed"},
		{"crit has something twice", head(crit, `["io.cncf.notary.signingScheme","io.cncf.notary.signingScheme"]`), goodPayload, "malformed"},
		{"crit has alg", head(crit, `["io.cncf.notary.signingScheme","alg"]`), goodPayload, "malformed"},
		{"crit has what is not known", head(`"crit":`+crit, `"x":1,"crit":["io.cncf.notary.signingScheme","x"]`), goodPayload, "unsupported"},
		{"not known and not critical", head(`"crit":`, `"x":{"y":[1]},"crit":`), goodPayload, "good: claimed"},
		{"expiry that is not critical", head(`"crit":`, `"io.cncf.notary.expiry":"2027-06-01T12:00:00Z","crit":`), goodPayload, "malformed"},
		{"expiry before signing", head(`"crit":`+crit, `"io.cncf.notary.expiry":"2026-05-01T12:00:00Z","crit":["io.cncf.notary.signingScheme","io.cncf.notary.expiry"]`), goodPayload, "malformed"},
		{"expiry that is no time", head(`"crit":`+crit, `"io.cncf.notary.expiry":"never","crit":["io.cncf.notary.signingScheme","io.cncf.notary.expiry"]`), goodPayload, "malformed"},
		{"expiry null", head(`"crit":`+crit, `"io.cncf.notary.expiry":null,"crit":["io.cncf.notary.signingScheme","io.cncf.notary.expiry"]`), goodPayload, "malformed"},
		{"payload not encoded", head(`"crit":`, `"b64":false,"crit":`), goodPayload, "unsupported"},
		{"another scheme", head(`"notary.x509"`, `"notary.tuf"`), goodPayload, "unsupported"},
		{"authority's scheme without its time", head(`"notary.x509"`, `"notary.x509.signingAuthority"`), goodPayload, "malformed"},
		{"authority's time in the plain scheme", head(`"crit":`, `"io.cncf.notary.authenticSigningTime":"2026-06-01T12:00:00Z","crit":`), goodPayload, "malformed"},
		{"no time", head(`,"io.cncf.notary.signingTime":"2026-06-01T12:00:00Z"`, ``), goodPayload, "malformed"},
		{"a time in words", head(`2026-06-01T12:00:00Z`, `yesterday`), goodPayload, "malformed"},
		{"a payload of another type", head(`application/vnd.cncf.notary.payload.v1+json`, `application/vnd.in-toto+json`), goodPayload, "unsupported"},
		{"a header of 300 names", head(`{"alg"`, `{`+many.String()+`"alg"`), goodPayload, "too-large"},
		{"a header that is a list", `[]`, goodPayload, "malformed"},
		{"a header with something behind it", goodHead + `{}`, goodPayload, "malformed"},
		{"nested beyond measure", head(`"crit":`, `"x":`+strings.Repeat("[", 5000)+strings.Repeat("]", 5000)+`,"crit":`), goodPayload, "malformed"},
		{"a plugin", head(`"crit":`+crit, `"io.cncf.notary.verificationPlugin":"com.example","crit":["io.cncf.notary.signingScheme","io.cncf.notary.verificationPlugin"]`), goodPayload, "unsupported"},
		{"a plugin that is not critical", head(`"crit":`, `"io.cncf.notary.verificationPlugin":"com.example","crit":`), goodPayload, "malformed"},
		{"a plugin that is no text", head(`"crit":`+crit, `"io.cncf.notary.verificationPlugin":1,"crit":["io.cncf.notary.signingScheme","io.cncf.notary.verificationPlugin"]`), goodPayload, "malformed"},
		{"a plugin's version alone", head(`"crit":`+crit, `"io.cncf.notary.verificationPluginMinVersion":"1.0.0","crit":["io.cncf.notary.signingScheme","io.cncf.notary.verificationPluginMinVersion"]`), goodPayload, "malformed"},

		{"another image", goodHead, payload(`sha256:73`, `sha256:74`), "other-subject"},
		{"another algorithm of digests", goodHead, payload(`sha256:`, `sha512:`), "other-subject"},
		{"digest in capitals", goodHead, payload(`73c803930ea3ba1e`, `73C803930EA3BA1E`), "other-subject"},
		{"digest twice", goodHead, payload(`"digest"`, `"digest":"sha256:0","digest"`), "malformed"},
		{"digest in another case too", goodHead, payload(`"digest"`, `"Digest":"sha256:0","digest"`), "malformed"},
		{"another size", goodHead, payload(`16724`, `16725`), "other-subject"},
		{"a negative size", goodHead, payload(`16724`, `-16724`), "malformed"},
		{"a broken size", goodHead, payload(`16724`, `16724.5`), "malformed"},
		{"an endless size", goodHead, payload(`16724`, `9999999999999999999`), "malformed"},
		{"a size in words", goodHead, payload(`16724`, `"16724"`), "malformed"},
		{"no size", goodHead, payload(`,"size":16724`, ``), "malformed"},
		{"another media type", goodHead, payload(`manifest.v1`, `index.v1`), "other-subject"},
		{"two targets", goodHead, payload(`{"targetArtifact"`, `{"targetArtifact":{},"targetArtifact"`), "malformed"},
		{"no target", goodHead, `{}`, "malformed"},
		{"no JSON", goodHead, `hello`, "malformed"},
		{"an enormous payload", goodHead, payload(`"digest"`, `"x":"`+strings.Repeat("x", 200<<10)+`","digest"`), "too-large"},
		{"an annotation twice", goodHead, payload(`"digest"`, `"annotations":{"a":"1","a":"2"},"digest"`), "malformed"},
		{"an annotation that is no text", goodHead, payload(`"digest"`, `"annotations":{"a":1},"digest"`), "malformed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := seal(t, w.signer, tc.head, tc.payload).envelope(t, signature.Envelope{MediaType: notary.JWS})
			if got, _ := verdict(t, o, e, july); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// TestTamperedJWS changes envelopes after they were signed.
func TestTamperedJWS(t *testing.T) {
	w := newWorld(t)
	o := opener(t, w.roots(), notary.Options{})
	good := sign(t, w.signer, notary.SignOptions{})
	other := image
	other.Digest = strings.Replace(image.Digest, "73", "74", 1)
	beside := func(j jws, name string, v any) { j["header"].(map[string]any)[name] = v }
	for _, tc := range []struct {
		name string
		do   func(j jws)
		want string
	}{
		{"nothing", func(jws) {}, "good: claimed"},
		{"another image's payload", func(j jws) {
			j["payload"] = raw64.EncodeToString([]byte(strings.Replace(goodPayload, `"size"`, `"x":1,"size"`, 1)))
		}, "forged"},
		{"another header", func(j jws) { j["protected"] = raw64.EncodeToString([]byte(goodHead + " ")) }, "forged"},
		{"no signature", func(j jws) { delete(j, "signature") }, "forged"},
		{"a signature of zeros", func(j jws) { j["signature"] = raw64.EncodeToString(make([]byte, 64)) }, "forged"},
		{"a signature in DER's length", func(j jws) { j["signature"] = raw64.EncodeToString(make([]byte, 70)) }, "forged"},
		{"a padded signature", func(j jws) { j["signature"] = j["signature"].(string) + "==" }, "malformed"},
		{"no payload", func(j jws) { delete(j, "payload") }, "malformed"},
		{"no header", func(j jws) { delete(j, "protected") }, "malformed"},
		{"no certificate", func(j jws) { delete(j, "header") }, "malformed"},
		{"an empty chain", func(j jws) { beside(j, "x5c", []any{}) }, "malformed"},
		{"a chain that is a text", func(j jws) { beside(j, "x5c", "MII") }, "malformed"},
		{"a certificate that is none", func(j jws) { beside(j, "x5c", []any{"aGVsbG8="}) }, "malformed"},
		{"1,000 certificates", func(j jws) {
			chain := j["header"].(map[string]any)["x5c"].([]any)
			for len(chain) < 1000 {
				chain = append(chain, chain[0])
			}
			beside(j, "x5c", chain)
		}, "too-large"},
		{"alg beside what is signed", func(j jws) { beside(j, "alg", "none") }, "malformed"},
		{"scheme beside what is signed", func(j jws) { beside(j, "io.cncf.notary.signingScheme", "notary.x509.signingAuthority") }, "malformed"},
		{"expiry beside what is signed", func(j jws) { beside(j, "io.cncf.notary.Expiry", "2030-01-01T00:00:00Z") }, "malformed"},
		{"something of others beside what is signed", func(j jws) { beside(j, "x", []int{1}) }, "good: claimed"},
		{"two signatures", func(j jws) { j["signatures"] = []any{maps.Clone(j)} }, "unsupported"},
		{"a field of no use", func(j jws) { j["x"] = 1 }, "malformed"},
		{"an enormous agent", func(j jws) { beside(j, "io.cncf.notary.signingAgent", strings.Repeat("x", 2<<20)) }, "too-large"},
		{"line ends within base64", func(j jws) { j["payload"] = "\n" + j["payload"].(string) }, "malformed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j := parts(t, good)
			tc.do(j)
			if got, _ := verdict(t, o, j.envelope(t, good), july); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
	for name, tc := range map[string]struct{ payload, want string }{
		"no bytes":            {"", "malformed"},
		"null":                {"null", "malformed"},
		"a member twice":      {strings.Replace(string(good.Payload), `{`, `{"payload":"",`, 1), "malformed"},
		"in another case too": {strings.Replace(string(good.Payload), `{`, `{"Payload":"",`, 1), "malformed"},
		"cut off":             {string(good.Payload[:len(good.Payload)-1]), "malformed"},
		"one behind another":  {string(good.Payload) + string(good.Payload), "malformed"},
		"compact":             {"a.b.c", "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			e := good
			e.Payload = []byte(tc.payload)
			if got, _ := verdict(t, o, e, july); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
	t.Run("read as the other form", func(t *testing.T) {
		e := good
		e.MediaType = notary.COSE
		if got, _ := verdict(t, o, e, july); got != "malformed" {
			t.Errorf("got %s, want malformed", got)
		}
		e.MediaType = "application/json"
		if got, _ := verdict(t, o, e, july); got != "unsupported" {
			t.Errorf("got %s, want unsupported", got)
		}
	})
	t.Run("a subject without a digest is the caller's fault", func(t *testing.T) {
		if _, err := o.Open(t.Context(), good, signature.Subject{}, july); err == nil || strings.Contains(err.Error(), "other") {
			t.Errorf("got %v, want an error", err)
		}
	})
}

// TestTamperedCOSE has envelopes in CBOR; what holds for both forms is tested with
// JWS.
func TestTamperedCOSE(t *testing.T) {
	w := newWorld(t)
	o := opener(t, w.roots(), notary.Options{})
	chain := [][]byte{w.signer.Chain[0].Raw, w.signer.Chain[1].Raw, w.signer.Chain[2].Raw}
	time1 := cbor.Tag{Number: 1, Content: june.Unix()}
	type fields struct {
		tag             uint64
		head, beside    map[any]any
		payload, header any // header in place of head
		after           []byte
	}
	for _, tc := range []struct {
		name string
		do   func(f *fields)
		want string
	}{
		{"nothing", func(*fields) {}, "good: claimed"},
		{"alg of another key", func(f *fields) { f.head[1] = -37 }, "forged"},
		{"alg unheard of", func(f *fields) { f.head[1] = 99 }, "unsupported"},
		{"alg that is a text", func(f *fields) { f.head[1] = "ES256" }, "unsupported"},
		{"alg missing", func(f *fields) { delete(f.head, 1) }, "malformed"},
		{"alg beside what is signed", func(f *fields) { f.beside[1] = -7 }, "malformed"},
		{"alg only beside what is signed", func(f *fields) { delete(f.head, 1); f.beside[1] = -7 }, "malformed"},
		{"scheme beside what is signed", func(f *fields) { f.beside["io.cncf.notary.signingScheme"] = "notary.x509" }, "malformed"},
		{"content type beside what is signed", func(f *fields) { f.beside[3] = "x" }, "malformed"},
		{"a text that looks like a label", func(f *fields) { f.head["label 1"] = -7 }, "malformed"},
		{"crit missing", func(f *fields) { delete(f.head, 2) }, "malformed"},
		{"crit has a number of COSE's own", func(f *fields) { f.head[2] = []any{"io.cncf.notary.signingScheme", 3} }, "malformed"},
		{"crit has what is not known", func(f *fields) {
			f.head[2], f.head[77] = []any{"io.cncf.notary.signingScheme", 77}, 1
		}, "unsupported"},
		{"content type as a number", func(f *fields) { f.head[3] = 50 }, "malformed"},
		{"a hash envelope", func(f *fields) { f.head[258] = -16 }, "unsupported"},
		{"a time without tag", func(f *fields) { f.head["io.cncf.notary.signingTime"] = june.Unix() }, "malformed"},
		{"a time in words", func(f *fields) {
			f.head["io.cncf.notary.signingTime"] = cbor.Tag{Number: 0, Content: "2026-06-01T12:00:00Z"}
		}, "malformed"},
		{"a time that is no number", func(f *fields) {
			f.head["io.cncf.notary.signingTime"] = cbor.Tag{Number: 1, Content: nan()}
		}, "malformed"},
		{"a time at the end of days", func(f *fields) {
			f.head["io.cncf.notary.signingTime"] = cbor.Tag{Number: 1, Content: uint64(1 << 63)}
		}, "malformed"},
		{"fractions of a second", func(f *fields) {
			f.head["io.cncf.notary.signingTime"] = cbor.Tag{Number: 1, Content: float64(june.Unix()) + 0.5}
		}, "good: claimed"},
		{"certificates that are signed too", func(f *fields) {
			f.head[33] = chain
			delete(f.beside, 33)
		}, "good: claimed"},
		{"certificates that are signed too, and critical", func(f *fields) {
			f.head[33], f.head[2] = chain, []any{"io.cncf.notary.signingScheme", 33}
			delete(f.beside, 33)
		}, "good: claimed"},
		{"certificates that are critical, and not signed", func(f *fields) { f.head[2] = []any{"io.cncf.notary.signingScheme", 33} }, "malformed"},
		{"certificates in both places", func(f *fields) { f.head[33] = chain }, "malformed"},
		{"one certificate without a list", func(f *fields) { f.beside[33] = chain[0] }, "malformed"},
		{"no certificates", func(f *fields) { delete(f.beside, 33) }, "malformed"},
		{"1,000 certificates", func(f *fields) {
			var long [][]byte
			for range 1000 {
				long = append(long, []byte{0})
			}
			f.beside[33] = long
		}, "malformed"},
		{"11 certificates", func(f *fields) {
			f.beside[33] = append(append(append(append([][]byte{}, chain...), chain...), chain...), chain[:2]...)
		}, "too-large"},
		{"a time-stamp that is a text", func(f *fields) { f.beside["io.cncf.notary.timestampSignature"] = "x" }, "malformed"},
		{"a label of bytes", func(f *fields) { f.beside[cbor.ByteString("x")] = 1 }, "malformed"},
		{"no payload", func(f *fields) { f.payload = nil }, "malformed"},
		{"a payload that is a text", func(f *fields) { f.payload = goodPayload }, "malformed"},
		{"many signatures", func(f *fields) { f.tag = 98 }, "malformed"},
		{"a MAC", func(f *fields) { f.tag = 17 }, "malformed"},
		{"a header that is a map", func(f *fields) { f.header = map[any]any{1: -7} }, "malformed"},
		{"an empty header", func(f *fields) { f.header = []byte{} }, "malformed"},
		{"a header with alg twice", func(f *fields) { f.header = []byte{0xa2, 1, 0x26, 1, 0x26} }, "malformed"},
		{"a header without an end", func(f *fields) { f.header = []byte{0xbf, 1, 0x26, 0xff} }, "malformed"},
		{"something behind it", func(f *fields) { f.after = []byte{0} }, "malformed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := fields{
				tag: 18,
				head: map[any]any{
					1: -7, 2: []any{"io.cncf.notary.signingScheme"}, 3: "application/vnd.cncf.notary.payload.v1+json",
					"io.cncf.notary.signingScheme": "notary.x509", "io.cncf.notary.signingTime": time1,
				},
				beside:  map[any]any{33: chain},
				payload: []byte(goodPayload),
			}
			tc.do(&f)
			if f.header == nil {
				f.header = mustCBOR(t, f.head)
			}
			covered := mustCBOR(t, []any{"Signature1", f.header, []byte{}, f.payload})
			e := signature.Envelope{MediaType: notary.COSE}
			e.Payload = append(mustCBOR(t, cbor.Tag{Number: f.tag, Content: []any{f.header, f.beside, f.payload, rawECDSA(t, w.signer, covered)}}), f.after...)
			if got, _ := verdict(t, o, e, july); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
	t.Run("deep", func(t *testing.T) {
		e := signature.Envelope{MediaType: notary.COSE, Payload: []byte(strings.Repeat("\x81", 100000))}
		if got, _ := verdict(t, o, e, july); got != "malformed" {
			t.Errorf("got %s, want malformed", got)
		}
	})
}

func nan() float64 {
	zero := 0.0
	return zero / zero
}

func mustCBOR(t testing.TB, v any) []byte {
	t.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestChains(t *testing.T) {
	w := newWorld(t)
	curve := elliptic.P256()
	roots := w.roots()
	trust := func(h *notarytest.Holder) *notarytest.Holder {
		roots.Stores[0].Certificates = append(roots.Stores[0].Certificates, h.Chain[len(h.Chain)-1])
		return h
	}
	leaf := func(by *notarytest.Holder, edits ...func(*x509.Certificate)) *notarytest.Holder {
		return issue(t, by, notarytest.Signer, "build", key(t, curve), edits...)
	}
	authority := func(by *notarytest.Holder, edits ...func(*x509.Certificate)) *notarytest.Holder {
		return issue(t, by, notarytest.Authority, "CA", key(t, curve), edits...)
	}
	usage := func(u x509.KeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.KeyUsage = u }
	}
	purposes := func(u ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = u }
	}
	extension := func(oid []int, value ...byte) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oid, Value: value})
		}
	}
	ku, bc := []int{2, 5, 29, 15}, []int{2, 5, 29, 19}
	weak, err := notarytest.RSA(1024)
	if err != nil {
		t.Skipf("this Go makes no weak keys: %v", err)
	}
	odd, err := notarytest.RSA(2560)
	if err != nil {
		t.Fatal(err)
	}
	reorder := func(h *notarytest.Holder, order ...int) *notarytest.Holder {
		out := &notarytest.Holder{Key: h.Key}
		for _, i := range order {
			out.Chain = append(out.Chain, h.Chain[i])
		}
		return out
	}
	twin := authority(nil) // another root, with the name of one that is trusted
	cases := []struct {
		name string
		h    *notarytest.Holder
		want string
	}{
		{"three certificates", w.signer, "good: claimed"},
		{"no purpose", leaf(w.ca, purposes()), "good: claimed"},
		{"non-repudiation too", leaf(w.ca, usage(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment)), "good: claimed"},
		{"a signer who is his own root, and in the store", trust(leaf(nil)), "good: claimed"},
		{"a signer who is his own root, and not in the store", leaf(nil), "no-root"},
		{"a root that nobody knows", leaf(authority(nil)), "no-root"},
		{"without its root", reorder(w.signer, 0, 1), "no-root"},
		{"without the authority between", reorder(w.signer, 0, 2), "malformed"},
		{"the root first", reorder(w.signer, 2, 1, 0), "no-root"},
		{"the authority's key, the signer's certificate behind it", reorder(w.signer, 1, 0, 2), "forged"},
		{"the root twice", reorder(w.signer, 0, 1, 2, 2), "malformed"},
		{"one that does not belong there", reorder(w.signer, 0, 1, 0, 2), "forbidden"},
		{"a known root hung above a stranger's", &notarytest.Holder{Key: twin.Key, Chain: append(leaf(twin).Chain[:1:1], w.root.Chain[0])}, "forged"},
		{"by an authority that is none", leaf(leaf(w.ca)), "forbidden"},
		{"by an authority that may not issue", leaf(authority(w.root, usage(x509.KeyUsageCRLSign))), "forbidden"},
		{"by an authority whose usage is not critical", leaf(authority(w.root, usage(0), extension(ku, 3, 2, 2, 4))), "forbidden"},
		{"by an authority whose constraints are not critical", leaf(authority(w.root, func(c *x509.Certificate) { c.BasicConstraintsValid = false }, extension(bc, 0x30, 3, 1, 1, 0xff))), "forbidden"},
		{"an authority below one that permits none", leaf(authority(authority(w.root, func(c *x509.Certificate) { c.MaxPathLenZero = true }))), "forbidden"},
		{"a signer below one that permits no authority", leaf(authority(w.root, func(c *x509.Certificate) { c.MaxPathLenZero = true })), "good: claimed"},
		{"a signer who is an authority", issue(t, w.ca, notarytest.Authority, "build", key(t, curve), usage(x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign)), "forbidden"},
		{"a signer who may encrypt", leaf(w.ca, usage(x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment)), "forbidden"},
		{"a signer without usage", leaf(w.ca, usage(0)), "forbidden"},
		{"a signer whose usage is not critical", leaf(w.ca, usage(0), extension(ku, 3, 2, 7, 0x80)), "forbidden"},
		{"a signer who serves", leaf(w.ca, purposes(x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageServerAuth)), "forbidden"},
		{"a signer who does everything", leaf(w.ca, purposes(x509.ExtKeyUsageAny)), "forbidden"},
		{"a signer who stamps time", leaf(w.ca, purposes(x509.ExtKeyUsageTimeStamping)), "forbidden"},
		{"a weak authority", leaf(issue(t, w.root, notarytest.Authority, "CA", weak, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA256 })), "forbidden"},
		{"a key of an odd size", issue(t, w.ca, notarytest.Signer, "build", odd), "unsupported"},
		{"a weak key", issue(t, w.ca, notarytest.Signer, "build", weak), "forbidden"},
		{"a weak curve", issue(t, w.ca, notarytest.Signer, "build", key(t, elliptic.P224())), "forbidden"},
		{"signed by SHA-1", sha1Signed(t, w), "forbidden"},
		{"an intermediate that had expired", leaf(authority(w.root, func(c *x509.Certificate) { c.NotAfter = june })), "expired"},
		{"an intermediate that is not valid yet", leaf(authority(w.root, func(c *x509.Certificate) { c.NotBefore = july.Add(time.Second) })), "not-yet-valid"},
		{"odd names", leaf(w.ca, func(c *x509.Certificate) {
			c.Subject = pkix.Name{CommonName: "a,O=Acme\x00\u202e" + strings.Repeat("x", 1000)}
		}), "good: claimed"},
		{"an authority of the same name without its signature", &notarytest.Holder{Key: w.signer.Key, Chain: append(w.signer.Chain[:1:1], issue(t, w.root, notarytest.Authority, "Acme builds", key(t, curve)).Chain...)}, "forged"},
	}
	remembers := opener(t, roots, notary.Options{}) // chains that it has seen, the good one first
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			e := seal2(t, tc.h)
			for _, o := range []*notary.Opener{remembers, remembers, opener(t, roots, notary.Options{})} {
				if got, _ := verdict(t, o, e, july); got != tc.want {
					t.Errorf("got %s, want %s", got, tc.want)
				}
			}
		})
	}
	t.Run("the kinds of stores are told apart", func(t *testing.T) {
		o := opener(t, signature.Roots{Stores: []signature.Store{store(signature.StoreAuthority, "a", w.root), store(signature.StoreTSA, "b", w.root)}}, notary.Options{})
		if got, _ := verdict(t, o, sign(t, w.signer, notary.SignOptions{}), july); got != "no-root" {
			t.Errorf("got %s, want no-root", got)
		}
	})
	t.Run("a store may hold an authority below the root", func(t *testing.T) {
		o := opener(t, signature.Roots{Stores: []signature.Store{{Kind: signature.StoreCA, Name: "builds", Certificates: w.ca.Chain[:1]}}}, notary.Options{})
		if got, s := verdict(t, o, sign(t, w.signer, notary.SignOptions{}), july); got != "good: claimed" || s.Identity.Store != "builds" {
			t.Errorf("got %s by %s, want good: claimed by builds", got, s.Identity.Store)
		}
	})
	t.Run("a store may not hold a signer below a root", func(t *testing.T) {
		o := opener(t, signature.Roots{Stores: []signature.Store{{Kind: signature.StoreCA, Name: "x", Certificates: w.signer.Chain[:1]}}}, notary.Options{})
		if got, _ := verdict(t, o, sign(t, w.signer, notary.SignOptions{}), july); got != "no-root" {
			t.Errorf("got %s, want no-root", got)
		}
	})
}

// seal2 signs with whatever key, without the checks of Sign.
func seal2(t testing.TB, h *notarytest.Holder) signature.Envelope {
	t.Helper()
	e := signature.Envelope{MediaType: notary.JWS}
	if k, ok := h.Key.(*ecdsa.PrivateKey); ok && k.Curve == elliptic.P256() {
		return seal(t, h, goodHead, goodPayload).envelope(t, e)
	}
	fake := &notarytest.Holder{Key: key(t, elliptic.P256()), Chain: h.Chain}
	return seal(t, fake, goodHead, goodPayload).envelope(t, e)
}

// sha1Signed is a signer's certificate whose algorithm was changed to SHA-1. Go
// makes none, and refuses the algorithm before it looks at the signature.
func sha1Signed(t testing.TB, w *world) *notarytest.Holder {
	t.Helper()
	k, err := notarytest.RSA(2048)
	if err != nil {
		t.Fatal(err)
	}
	ca := issue(t, w.root, notarytest.Authority, "RSA CA", k)
	h := issue(t, ca, notarytest.Signer, "build", w.signer.Key)
	old, weak := "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05"
	cert, err := x509.ParseCertificate([]byte(strings.ReplaceAll(string(h.Chain[0].Raw), old, weak)))
	if err != nil {
		t.Fatal(err)
	}
	h.Chain[0] = cert
	return h
}

func TestErrorsAreShort(t *testing.T) {
	w := newWorld(t)
	o := opener(t, w.roots(), notary.Options{})
	long := strings.Repeat("\x1b[2J\u202e", 10000)
	quoted, err := json.Marshal(long)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []signature.Envelope{
		{MediaType: long},
		{MediaType: notary.JWS, Payload: []byte(`{` + string(quoted) + `:1}`)},
		{MediaType: notary.JWS, Payload: []byte(long)},
		seal(t, w.signer, strings.Replace(goodHead, `"notary.x509"`, string(quoted), 1), goodPayload).envelope(t, signature.Envelope{MediaType: notary.JWS}),
		seal(t, w.signer, goodHead, strings.Replace(goodPayload, image.Digest, strings.Trim(string(quoted), `"`), 1)).envelope(t, signature.Envelope{MediaType: notary.JWS}),
	} {
		_, err := o.Open(t.Context(), e, image, july)
		if err == nil || len(err.Error()) > 700 || strings.ContainsAny(err.Error(), "\x1b\u202e") {
			t.Errorf("got %q, want something short and printable", err)
		}
	}
}
