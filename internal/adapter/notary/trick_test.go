package notary_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/signature"
)

// TestSpellingsOfCBOR has headers that two readers of CBOR could read differently:
// keys of one value in two spellings, and of kinds that look like a label's.
func TestSpellingsOfCBOR(t *testing.T) {
	w := newWorld(t)
	o := opener(t, w.roots(), notary.Options{})
	raw := func(v any) []byte {
		b, err := cbor.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var chain [][]byte
	for _, c := range w.signer.Chain {
		chain = append(chain, c.Raw)
	}
	good := [][2][]byte{
		{{1}, raw(-7)}, {{2}, raw([]string{"io.cncf.notary.signingScheme"})}, {{3}, raw("application/vnd.cncf.notary.payload.v1+json")},
		{raw("io.cncf.notary.signingScheme"), raw("notary.x509")},
		{raw("io.cncf.notary.signingTime"), raw(cbor.Tag{Number: 1, Content: june.Unix()})},
	}
	with := func(more ...[2][]byte) [][2][]byte { return append(good[:len(good):len(good)], more...) }
	without := func(n int, more ...[2][]byte) [][2][]byte {
		return append(append(good[:n:n], good[n+1:]...), more...)
	}
	beside := [][2][]byte{{raw(33), raw(chain)}}
	for _, tc := range []struct {
		name         string
		head, beside [][2][]byte
		want         string
	}{
		{"as it should be", good, beside, "good: claimed"},
		{"alg's label in two bytes", without(0, [2][]byte{{0x18, 1}, raw(-7)}), beside, "good: claimed"},
		{"alg twice, once in two bytes", with([2][]byte{{0x18, 1}, raw(-37)}), beside, "malformed"},
		{"alg twice, once in nine bytes", with([2][]byte{{0x1b, 0, 0, 0, 0, 0, 0, 0, 1}, raw(-37)}), beside, "malformed"},
		{"alg as a half number", with([2][]byte{{0xf9, 0x3c, 0}, raw(-37)}), beside, "malformed"},
		{"alg as a large number", with([2][]byte{{0xc2, 0x41, 1}, raw(-37)}), beside, "malformed"},
		{"a label that is nothing", with([2][]byte{{0xf6}, raw(1)}), beside, "malformed"},
		{"a label that is true", with([2][]byte{{0xf5}, raw(1)}), beside, "malformed"},
		{"a label that is a list", with([2][]byte{{0x81, 1}, raw(1)}), beside, "malformed"},
		{"a label with a tag", with([2][]byte{{0xc1, 1}, raw(1)}), beside, "malformed"},
		{"the scheme twice", with([2][]byte{raw("io.cncf.notary.signingScheme"), raw("notary.x509.signingAuthority")}), beside, "malformed"},
		{"the scheme in another case too", with([2][]byte{raw("IO.cncf.notary.signingScheme"), raw("notary.x509.signingAuthority")}), beside, "malformed"},
		{"the scheme in bytes", with([2][]byte{raw([]byte("io.cncf.notary.signingScheme")), raw("x")}), beside, "malformed"},
		{"a text that is no UTF-8", with([2][]byte{{0x61, 0xff}, raw(1)}), beside, "malformed"},
		{"the expiry beside what is signed, in another case", good, append(beside[:1:1], [2][]byte{raw("io.cncf.notary.EXPIRY"), raw(cbor.Tag{Number: 1, Content: next.Unix()})}), "malformed"},
		{"the critical list beside what is signed", good, append(beside[:1:1], [2][]byte{{2}, raw([]string{"x"})}), "malformed"},
		{"the certificates twice", good, append(beside[:1:1], [2][]byte{{0x19, 0, 33}, raw(chain)}), "malformed"},
		{"the time-stamp twice", good, append(beside[:1:1], [2][]byte{raw("io.cncf.notary.timestampSignature"), raw([]byte{1})}, [2][]byte{raw("io.cncf.notary.timestampSignature"), raw([]byte{2})}), "malformed"},
		{"a time-stamp that is signed", with([2][]byte{raw("io.cncf.notary.timestampSignature"), raw([]byte{1})}), beside, "good: claimed"},
		{"a content type of a MIME table", without(2, [2][]byte{{3}, raw(50)}), beside, "malformed"},
		{"a number that is critical and not known", without(1, [2][]byte{{2}, raw([]any{"io.cncf.notary.signingScheme", -70000})}, [2][]byte{raw(-70000), raw(1)}), beside, "unsupported"},
		{"a list of critical ones in one", without(1, [2][]byte{{2}, raw([]any{[]any{"io.cncf.notary.signingScheme"}})}), beside, "malformed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			table := func(pairs [][2][]byte) []byte {
				b := []byte{0xb8, byte(len(pairs))}
				for _, p := range pairs {
					b = append(append(b, p[0]...), p[1]...)
				}
				return b
			}
			head, payload := table(tc.head), []byte(goodPayload)
			covered := raw([]any{"Signature1", head, []byte{}, payload})
			e := signature.Envelope{MediaType: notary.COSE, Payload: raw(cbor.Tag{Number: 18, Content: []any{
				head, cbor.RawMessage(table(tc.beside)), payload, rawECDSA(t, w.signer, covered),
			}})}
			if got, _ := verdict(t, o, e, july); got != tc.want {
				t.Errorf("Open() = %s, want %s", got, tc.want)
			}
		})
	}
}

// TestWhereCertificatesStand has the chain, and what tells where to get one, in places
// where other readers of JWS look.
func TestWhereCertificatesStand(t *testing.T) {
	w, stranger := newWorld(t), newWorld(t)
	o := opener(t, w.roots(), notary.Options{})
	x5c := func(of *world) string {
		text := ""
		for _, c := range of.signer.Chain {
			text += fmt.Sprintf(",%q", base64.StdEncoding.EncodeToString(c.Raw))
		}
		return `"x5c":[` + text[1:] + `]`
	}
	head := func(more string) string { return goodHead[:1] + more + "," + goodHead[1:] }
	for _, tc := range []struct {
		name, head, payload string
		do                  func(jws)
		want                string
	}{
		{"signed only", head(x5c(w)), goodPayload, func(j jws) { delete(j["header"].(map[string]any), "x5c") }, "malformed"},
		{"signed, and beside it", head(x5c(w)), goodPayload, func(jws) {}, "malformed"},
		{"another's signed", head(x5c(stranger)), goodPayload, func(jws) {}, "malformed"},
		{"signed in another case", head(`"X5C":["AAAA"]`), goodPayload, func(jws) {}, "malformed"},
		{"beside it in another case too", goodHead, goodPayload, func(j jws) { j["header"].(map[string]any)["X5C"] = []any{"AAAA"} }, "malformed"},
		{"an address of a chain", head(`"x5u":"https://evil.example/chain.pem"`), goodPayload, func(jws) {}, "good: claimed"},
		{"a key of its own", head(`"jwk":{"kty":"EC"}`), goodPayload, func(jws) {}, "good: claimed"},
		{"a key of its own that is critical", goodHead[:1] + `"jwk":{"kty":"EC"},` + strings.Replace(goodHead[1:], `["io`, `["jwk","io`, 1), goodPayload, func(jws) {}, "unsupported"},
		{"a time-stamp that is signed and beside it", head(`"io.cncf.notary.timestampSignature":"AAAA"`), goodPayload, func(j jws) {
			j["header"].(map[string]any)["io.cncf.notary.timestampSignature"] = "AAAA"
		}, "malformed"},
		{"targets in a list", goodHead, `{"targetArtifact":[` + goodPayload[len(`{"targetArtifact":`):len(goodPayload)-1] + `]}`, func(jws) {}, "malformed"},
		{"a target within a target", goodHead, strings.Replace(goodPayload, `"digest"`, `"targetArtifact":{"digest":"sha256:0"},"digest"`, 1), func(jws) {}, "good: claimed"},
		{"a size with an exponent", goodHead, strings.Replace(goodPayload, `16724`, `1.6724e4`, 1), func(jws) {}, "malformed"},
		{"a digest that ends in a zero byte", goodHead, strings.Replace(goodPayload, `c333"`, `c333\u0000"`, 1), func(jws) {}, "other-subject"},
		{"a header that is null", `null`, goodPayload, func(jws) {}, "malformed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j := seal(t, w.signer, tc.head, tc.payload)
			tc.do(j)
			if got, _ := verdict(t, o, j.envelope(t, signature.Envelope{MediaType: notary.JWS}), july); got != tc.want {
				t.Errorf("Open() = %s, want %s", got, tc.want)
			}
		})
	}
}
