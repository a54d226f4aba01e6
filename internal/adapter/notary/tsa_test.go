package notary_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/notaryproject/tspclient-go"

	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/notary/notarytest"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
)

func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// restamp puts another time-stamp over an envelope's signature.
func restamp(t testing.TB, e signature.Envelope, by *notarytest.TSA) signature.Envelope {
	t.Helper()
	j := parts(t, e)
	value, err := base64.RawURLEncoding.DecodeString(j["signature"].(string))
	if err != nil {
		t.Fatal(err)
	}
	token, err := by.Token(value)
	if err != nil {
		t.Fatal(err)
	}
	return withToken(t, e, token)
}

func withToken(t testing.TB, e signature.Envelope, token []byte) signature.Envelope {
	t.Helper()
	j := parts(t, e)
	j["header"].(map[string]any)["io.cncf.notary.timestampSignature"] = base64.StdEncoding.EncodeToString(token)
	return j.envelope(t, e)
}

func TestTimeStampsThatAreNot(t *testing.T) {
	w := newWorld(t)
	plain := sign(t, w.signer, notary.SignOptions{})
	long := func(c *x509.Certificate) { c.NotAfter = c.NotAfter.AddDate(10, 0, 0) }
	edited := func(edit func(*tspclient.TSTInfo)) *notarytest.TSA {
		s := *w.stamper
		s.Edit = edit
		return &s
	}
	by := func(h *notarytest.Holder) *notarytest.TSA {
		s := *w.stamper
		s.By = h
		return &s
	}
	other, err := w.stamper.Token([]byte("another signature"))
	if err != nil {
		t.Fatal(err)
	}
	true1, err := w.stamper.Token([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	broken := append([]byte(nil), true1...)
	broken[len(broken)-1] ^= 1
	short := func(c *x509.Certificate) { c.NotAfter = june.AddDate(0, 0, -1) }
	strangerRoot := issue(t, nil, notarytest.Authority, "Stranger", key(t, elliptic.P256()), long)
	for _, tc := range []struct {
		name string
		e    signature.Envelope
		want string
	}{
		{"replayed from another signature", withToken(t, plain, other), "forged"},
		{"no token", withToken(t, plain, []byte("no token")), "malformed"},
		{"a token with something behind it", withToken(t, plain, append(other, 0)), "malformed"},
		{"an enormous token", withToken(t, plain, make([]byte, 65<<10)), "too-large"},
		{"a stranger's", restamp(t, plain, by(issue(t, strangerRoot, notarytest.Stamper, "Time", key(t, elliptic.P256()), long))), "no-time"},
		{"by a certificate that signs code", restamp(t, plain, by(issue(t, w.tsaRoot, notarytest.Signer, "Time", key(t, elliptic.P256()), long))), "forged"},
		{"by a certificate that does more than stamp", restamp(t, plain, by(issue(t, w.tsaRoot, notarytest.Stamper, "Time", key(t, elliptic.P256()), long, func(c *x509.Certificate) {
			c.ExtraExtensions[0].Value = mustDER(t, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}, {1, 3, 6, 1, 5, 5, 7, 3, 3}})
		}))), "forged"},
		{"by a certificate whose purpose is not critical", restamp(t, plain, by(issue(t, w.tsaRoot, notarytest.Stamper, "Time", key(t, elliptic.P256()), long, func(c *x509.Certificate) {
			c.ExtraExtensions[0].Critical = false
		}))), "forged"},
		{"by a certificate that had expired", restamp(t, plain, by(issue(t, w.tsaRoot, notarytest.Stamper, "Time", key(t, elliptic.P256()), short))), "expired"},
		{"over another message", restamp(t, plain, edited(func(i *tspclient.TSTInfo) { i.MessageImprint.HashedMessage[0] ^= 1 })), "forged"},
		{"of another version", restamp(t, plain, edited(func(i *tspclient.TSTInfo) { i.Version = 2 })), "forged"},
		{"as exact as a lifetime", restamp(t, plain, edited(func(i *tspclient.TSTInfo) { i.Accuracy.Seconds = 1 << 40 })), "malformed"},
		{"exact to less than nothing", restamp(t, plain, edited(func(i *tspclient.TSTInfo) { i.Accuracy.Seconds = -5 })), "malformed"},
		{"with a critical extension", restamp(t, plain, edited(func(i *tspclient.TSTInfo) {
			i.Extensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		})), "unsupported"},
		{"so inexact that the certificate may have ended", restamp(t, plain, edited(func(i *tspclient.TSTInfo) {
			i.GenTime, i.Accuracy.Seconds = notarytest.Valid.To.Add(-time.Minute), 3600
		})), "expired"},
		{"a true one", restamp(t, plain, w.stamper), "good: timestamp"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, _ := verdict(t, opener(t, w.roots(), notary.Options{}), tc.e, next)
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func mustDER(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestSignAsksForATimeStamp(t *testing.T) {
	w := newWorld(t)
	late := *w.stamper
	late.Clock = func() time.Time { return next }
	for _, tc := range []struct {
		name    string
		url     string
		roots   []*x509.Certificate
		timeout time.Duration
		want    string // in the error; "" is none
		kind    fault.Kind
	}{
		{"one that answers", serve(t, w.stamper), w.tsaRoot.Chain, time.Minute, "", fault.Unknown},
		{"no root", serve(t, w.stamper), nil, time.Minute, "no root vouches", fault.Invalid},
		{"a stranger's root", serve(t, w.stamper), w.root.Chain, time.Minute, "no trusted authority", fault.Unknown},
		{"a file", "file:///etc/passwd", w.tsaRoot.Chain, time.Minute, "no http or https url without a user", fault.Invalid},
		{"a password in the URL", "http://a:b@127.0.0.1", w.tsaRoot.Chain, time.Minute, "no http or https url without a user", fault.Invalid},
		{"a page", serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("hello"))
		})), w.tsaRoot.Chain, time.Minute, "content type", fault.Unavailable},
		{"an endless answer", serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", tspclient.MediaTypeTimestampReply)
			for chunk := strings.Repeat("x", 1<<16); ; {
				if _, err := w.Write([]byte(chunk)); err != nil {
					return
				}
			}
		})), w.tsaRoot.Chain, time.Minute, "large", fault.Unavailable},
		{"no answer", serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err == nil {
				<-r.Context().Done()
			}
		})), w.tsaRoot.Chain, 50 * time.Millisecond, "deadline", fault.Unavailable},
		{"redirects for ever", serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/", http.StatusTemporaryRedirect)
		})), w.tsaRoot.Chain, time.Minute, "redirects", fault.Unavailable},
		{"one whose clock is wrong", serve(t, &late), w.tsaRoot.Chain, time.Minute, "had expired", fault.Unknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client := &http.Client{Timeout: tc.timeout}
			if tc.timeout == time.Minute {
				client = nil
			}
			_, err := notary.Sign(t.Context(), w.signer.Key, w.signer.Chain, image,
				notary.SignOptions{At: june, TSA: &notary.TSA{URL: tc.url, Roots: tc.roots, Client: client}})
			got := ""
			if err != nil {
				got = err.Error()
			}
			if tc.want == "" && err != nil || tc.want != "" && !strings.Contains(strings.ToLower(got), tc.want) {
				t.Errorf("got %q, want %q in it", got, tc.want)
			}
			if k := fault.Of(err); k != tc.kind {
				t.Errorf("got kind %s, want %s", k, tc.kind)
			}
		})
	}
}
