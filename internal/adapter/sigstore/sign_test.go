package sigstore_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/adapter/sigstore/standin"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
)

func TestABundleIsWhatCosignWrites(t *testing.T) {
	s := signer(t, sigstore.SignerOptions{Key: newKey(t, "P-256")})
	image := subjectOf("image")
	e := must(s.Attest(context.Background(), image, "https://example.org/p", []byte(`{}`)))(t)
	if e.ArtifactType != "application/vnd.dev.sigstore.bundle.v0.3+json" || e.MediaType != e.ArtifactType {
		t.Errorf("types = %q, %q", e.ArtifactType, e.MediaType)
	}
	want := map[string]string{"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": "https://example.org/p"}
	if diff := cmp.Diff(want, e.Annotations); diff != "" {
		t.Errorf("Annotations (-want +got):\n%s", diff)
	}
	payload := must(decode(field(t, e, "dsseEnvelope", "payload")))(t)
	var statement any
	if err := json.Unmarshal(payload, &statement); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(any(map[string]any{
		"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://example.org/p", "predicate": map[string]any{},
		"subject": []any{map[string]any{"name": image.Repository, "digest": map[string]any{"sha256": strings.TrimPrefix(image.Digest, "sha256:")}}},
	}), statement); diff != "" {
		t.Errorf("statement (-want +got):\n%s", diff)
	}
}

func TestSignersThatCannotSign(t *testing.T) {
	key, a := newKey(t, "P-256"), newAuthority(t)
	services := sigstore.Services{Fulcio: "https://fulcio.example.org"}
	for name, o := range map[string]sigstore.SignerOptions{
		"nothing to sign with":       {},
		"key and token":              {Key: key, Token: "x"},
		"token without a Fulcio":     {Token: "x"},
		"token without log and time": {Token: "x", Services: services},
		"certificate of another key": {Key: key, Chain: []*x509.Certificate{a.leaf}},
		"a token in the clear":       {Token: "x", Services: sigstore.Services{Fulcio: "http://fulcio.example.org", Stamps: []string{"http://tsa.example.org"}}},
		"a service without a scheme": {Key: key, Services: sigstore.Services{Stamps: []string{"tsa.example.org"}}},
		"a log of a third version":   {Key: key, Services: sigstore.Services{Logs: []sigstore.LogURL{{URL: "https://rekor.example.org", Version: 3}}}},
	} {
		if _, err := sigstore.NewSigner(o); err == nil {
			t.Errorf("%s: NewSigner() makes a signer", name)
		}
	}
	s := signer(t, sigstore.SignerOptions{Key: key})
	ctx := context.Background()
	for name, sign := range map[string]func() (signature.Envelope, error){
		"a tag": func() (signature.Envelope, error) { return s.Sign(ctx, signature.Subject{Digest: "latest"}, nil) },
		"a tag, old": func() (signature.Envelope, error) {
			return s.SignOld(ctx, signature.Subject{Digest: "latest", Repository: "x"}, nil)
		},
		"no repository, old": func() (signature.Envelope, error) {
			return s.SignOld(ctx, signature.Subject{Digest: subjectOf("x").Digest}, nil)
		},
		"a predicate that is none": func() (signature.Envelope, error) { return s.Attest(ctx, subjectOf("x"), "a:b", []byte(`{`)) },
		"a predicate and more": func() (signature.Envelope, error) {
			return s.Attest(ctx, subjectOf("x"), "a:b", []byte(`1,"subject":[]`))
		},
		"a predicate with two names": func() (signature.Envelope, error) {
			return s.Attest(ctx, subjectOf("x"), "a:b", []byte(`{"a":1,"a":2}`))
		},
		"a type that is no URI": func() (signature.Envelope, error) { return s.Attest(ctx, subjectOf("x"), "sbom", []byte(`{}`)) },
	} {
		if e, err := sign(); err == nil {
			t.Errorf("%s: signed: %s", name, e.Payload)
		}
	}
}

// liar answers with another signature than was asked for.
type liar struct{ crypto.Signer }

func (l liar) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	other := append([]byte{}, digest...)
	other[0] ^= 1
	return l.Signer.Sign(r, other, o)
}

func TestWhatWasSignedIsChecked(t *testing.T) {
	ctx, image := context.Background(), subjectOf("image")
	if _, err := signer(t, sigstore.SignerOptions{Key: liar{newKey(t, "P-256")}}).Sign(ctx, image, nil); err == nil {
		t.Error("a key's false signature is handed over")
	}
	s, other := start(t), start(t)
	mixed := s.services(t, standin.All())
	mixed.Logs[0].URL = other.url + "/rekor2"
	o := signer(t, sigstore.SignerOptions{Token: s.token(t, builder), Services: mixed, Check: s.opener(t, standin.All())})
	_, err := o.Sign(ctx, image, nil)
	wantRefusal(t, err, signature.NoLog)
}

func TestTheSameIsSignedTwice(t *testing.T) {
	s, image, key := start(t), subjectOf("image"), newKey(t, "Ed25519")
	parts := standin.Parts{Log1: true}
	o := s.opener(t, parts, signature.Key{Name: "release", Public: key.Public()})
	k := signer(t, sigstore.SignerOptions{Key: key, Services: s.services(t, parts), Check: o})
	var first int64
	for i := range 2 {
		got := must(open(o, must(k.Sign(context.Background(), image, nil))(t), image))(t)
		if got.Log == nil || i > 0 && got.Log.Index != first {
			t.Fatalf("%d. Log = %+v, want the entry %d", i+1, got.Log, first)
		}
		first = got.Log.Index
	}
}

func TestTheOldFormInALog(t *testing.T) {
	s, image, parts := start(t), subjectOf("image"), standin.Parts{Log1: true, TSA: true}
	for _, kind := range []string{"P-256", "P-384", "P-521", "RSA-2048"} {
		key := newKey(t, kind)
		o := s.opener(t, parts, signature.Key{Name: "release", Public: key.Public()})
		k := signer(t, sigstore.SignerOptions{Key: key, Services: s.services(t, parts), Check: o})
		got := must(open(o, must(k.SignOld(context.Background(), image, nil))(t), image))(t)
		if got.Log == nil || got.Proof == signature.Unproven {
			t.Errorf("%s: Open() = log %v, proof %q", kind, got.Log, got.Proof)
		}
	}
	for name, o := range map[string]sigstore.SignerOptions{
		"Ed25519":      {Key: newKey(t, "Ed25519"), Services: s.services(t, parts)},
		"second log":   {Key: newKey(t, "P-256"), Services: s.services(t, standin.Parts{Log2: true})},
		"two services": {Key: newKey(t, "P-256"), Services: sigstore.Services{Stamps: []string{s.url + "/tsa", s.url + "/tsa"}}},
	} {
		if _, err := signer(t, o).SignOld(context.Background(), image, nil); err == nil {
			t.Errorf("%s: SignOld() signs", name)
		}
	}
}

func TestServicesThatFail(t *testing.T) {
	ctx, image := context.Background(), subjectOf("image")
	for _, tc := range []struct {
		name   string
		answer func(w http.ResponseWriter)
		asked  int
		kind   fault.Kind
	}{
		{"overloaded", func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, 3, fault.Unavailable},
		{"too many requests", func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) }, 3, fault.Exhausted},
		{"denied", func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) }, 1, fault.Denied},
		{"there, but nowhere", func(w http.ResponseWriter) { w.Header().Set("Location", "/../x"); w.WriteHeader(http.StatusConflict) }, 1, fault.Conflict},
		{"redirect", func(w http.ResponseWriter) {
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, 1, fault.Invalid},
		{"endless", func(w http.ResponseWriter) {
			for range 5 << 10 {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		}, 1, fault.Unknown},
		{"no JSON", func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>")) }, 1, fault.Unknown},
		{"empty object", func(w http.ResponseWriter) { _, _ = w.Write([]byte("{}")) }, 1, fault.Unknown},
		{"two entries", func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"a":{},"b":{}}`)) }, 1, fault.Unknown},
		{"an entry without anything", func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"a":{}}`)) }, 1, fault.Unknown},
	} {
		for path, services := range map[string]func(string) sigstore.SignerOptions{
			"fulcio": func(u string) sigstore.SignerOptions {
				s := start(t)
				return sigstore.SignerOptions{Token: s.token(t, builder), Services: sigstore.Services{Fulcio: u, Stamps: []string{u}}}
			},
			"log 1": func(u string) sigstore.SignerOptions {
				return sigstore.SignerOptions{Key: newKey(t, "P-256"), Services: sigstore.Services{Logs: []sigstore.LogURL{{URL: u, Version: 1}}}}
			},
			"log 2": func(u string) sigstore.SignerOptions {
				return sigstore.SignerOptions{Key: newKey(t, "P-256"), Services: sigstore.Services{Logs: []sigstore.LogURL{{URL: u, Version: 2}}}}
			},
			"time stamp": func(u string) sigstore.SignerOptions {
				return sigstore.SignerOptions{Key: newKey(t, "P-256"), Services: sigstore.Services{Stamps: []string{u}}}
			},
		} {
			t.Run(tc.name+", "+path, func(t *testing.T) {
				asked := 0
				srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { asked++; tc.answer(w) }))
				defer srv.Close()
				_, err := signer(t, services(srv.URL)).WithoutPauses().Sign(ctx, image, nil)
				if err == nil {
					t.Fatal("Sign() signed")
				}
				if asked != tc.asked || fault.Of(err) != tc.kind {
					t.Errorf("Sign() = %v (%v) after %d requests, want %v after %d", err, fault.Of(err), asked, tc.kind, tc.asked)
				}
			})
		}
	}
}

func TestTokens(t *testing.T) {
	s := start(t)
	enc := base64.RawURLEncoding
	token := func(claims string) string { return "e30." + enc.EncodeToString([]byte(claims)) + ".AAAA" }
	for name, tok := range map[string]string{
		"none":               "x",
		"two parts":          "e30.e30",
		"no JSON":            "e30." + enc.EncodeToString([]byte("x")) + ".AA",
		"nobody":             token(`{"iss":"x"}`),
		"address unverified": token(`{"email":"a@b.c","email_verified":false}`),
		"not of this issuer": token(`{"sub":"https://example.org"}`),
		"large":              token(`{"sub":"` + strings.Repeat("x", 40<<10) + `"}`),
	} {
		o := signer(t, sigstore.SignerOptions{Token: tok, Services: s.services(t, standin.All())})
		if _, err := o.Sign(context.Background(), subjectOf("image"), nil); err == nil || strings.Contains(err.Error(), tok) {
			t.Errorf("%s: Sign() = %v, want an error that does not show the token", name, err)
		}
	}
	parts := standin.Parts{Fulcio: true, CT: true, Log1: true}
	mail := signer(t, sigstore.SignerOptions{Token: s.token(t, "ann@example.org"), Services: s.services(t, parts), Check: s.opener(t, parts)})
	e := must(mail.Sign(context.Background(), subjectOf("image"), nil))(t)
	if got := must(open(s.opener(t, parts), e, subjectOf("image")))(t); got.Identity.Subject != "ann@example.org" {
		t.Errorf("Subject = %q", got.Identity.Subject)
	}
}

func TestAmbientToken(t *testing.T) {
	var asked, secret string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, secret = r.URL.RawQuery, r.Header.Get("Authorization")
		_, _ = w.Write([]byte(`{"count":1,"value":"from-github"}`))
	}))
	defer srv.Close()
	for _, tc := range []struct {
		name string
		env  map[string]string
		want string
	}{
		{"none", nil, ""},
		{"GitLab, CodeBuild", map[string]string{"SIGSTORE_ID_TOKEN": " from-gitlab\n"}, "from-gitlab"},
		{"GitHub", map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": srv.URL + "/?a=b", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "s3"}, "from-github"},
		{"GitHub without the permission", map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": srv.URL}, ""},
	} {
		got, err := sigstore.AmbientToken(context.Background(), func(k string) string { return tc.env[k] }, nil)
		if err != nil || got != tc.want {
			t.Errorf("%s: AmbientToken() = %q, %v, want %q", tc.name, got, err, tc.want)
		}
	}
	if asked != "a=b&audience=sigstore" || secret != "Bearer s3" {
		t.Errorf("asked with %q, %q", asked, secret)
	}
}

func TestReadServices(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const head = `{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json",`
	valid := `"validFor":{"start":"2025-01-01T00:00:00Z"}`
	for _, tc := range []struct {
		name, doc string
		want      sigstore.Services
		wrong     bool
	}{
		{name: "the newest log of one operator", doc: head + `"caUrls":[{"url":"https://a","majorApiVersion":1,` + valid + `}],"rekorTlogUrls":[{"url":"https://r1","majorApiVersion":1,"operator":"x",` + valid + `},{"url":"https://r2","majorApiVersion":2,"operator":"x",` + valid + `}],"rekorTlogConfig":{"selector":"ALL"}}`,
			want: sigstore.Services{Fulcio: "https://a", Logs: []sigstore.LogURL{{URL: "https://r2", Version: 2}}}},
		{name: "two of two operators", doc: head + `"tsaUrls":[{"url":"https://t1","majorApiVersion":1,"operator":"x",` + valid + `},{"url":"https://t2","majorApiVersion":1,"operator":"y",` + valid + `}],"tsaConfig":{"selector":"EXACT","count":2}}`,
			want: sigstore.Services{Stamps: []string{"https://t1", "https://t2"}}},
		{name: "not valid any more", doc: head + `"caUrls":[{"url":"https://a","majorApiVersion":1,"validFor":{"start":"2024-01-01T00:00:00Z","end":"2025-01-01T00:00:00Z"}}]}`},
		{name: "of a version to come", doc: head + `"caUrls":[{"url":"https://a","majorApiVersion":9,` + valid + `}]}`},
		{name: "no address", doc: head + `"caUrls":[{"url":"ftp://a","majorApiVersion":1,` + valid + `}]}`, wrong: true},
		{name: "another document", doc: `{"mediaType":"x"}`, wrong: true},
		{name: "no JSON", doc: `x`, wrong: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := sigstore.ReadServices([]byte(tc.doc), at)
			if (err != nil) != tc.wrong {
				t.Fatalf("ReadServices() = %v, want wrong: %v", err, tc.wrong)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" && !tc.wrong {
				t.Errorf("ReadServices() (-want +got):\n%s", diff)
			}
		})
	}
}
