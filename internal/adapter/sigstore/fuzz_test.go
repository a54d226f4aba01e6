package sigstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/adapter/sigstore/standin"
	"github.com/castellan-security/castellan/internal/signature"
)

// check opens what was made up: it opens or is refused, and what opens is about
// the image and by somebody known.
func check(t *testing.T, o *sigstore.Opener, e signature.Envelope, image signature.Subject) {
	t.Helper()
	got, err := open(o, e, image)
	var r *signature.Refusal
	if err != nil && (!errors.As(err, &r) || r.Reason == "" || r.Detail == "") {
		t.Fatalf("Open() = %v, want a refusal that says why", err)
	}
	if err == nil && (got.Identity.Key == "" || got.Kind != signature.Sigstore) {
		t.Fatalf("Open() = %+v", got)
	}
}

func FuzzBundle(f *testing.F) {
	s, image, key := start(f), subjectOf("image"), newKey(f, "P-256")
	o := s.opener(f, standin.All(), signature.Key{Name: "release", Public: key.Public()})
	for _, r := range []recipe{
		{key: key, keyed: true}, keylessRecipe(),
		{holder: keylessRecipe().holder, log2: true, stamp: &standin.Stamp{}, above: nil},
		{key: key, keyed: true, log: true, stamp: &standin.Stamp{Bare: true}},
	} {
		f.Add(s.forge(f, image, r).Payload)
	}
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle+json;version=0.1","messageSignature":{}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		check(t, o, signature.Envelope{MediaType: sigstore.BundleMediaType, Payload: doc}, image)
		check(t, o, signature.Envelope{Payload: doc}, image)
	})
}

func FuzzOldForm(f *testing.F) {
	ctx, s, image, key := context.Background(), start(f), subjectOf("image"), newKey(f, "P-256")
	parts := standin.Parts{Fulcio: true, CT: true, Log1: true, TSA: true}
	o := s.opener(f, parts, signature.Key{Name: "release", Public: key.Public()})
	add := func(e signature.Envelope) {
		f.Add(e.MediaType == sigstore.DSSEMediaType, e.Payload, must(json.Marshal(e.Annotations))(f))
	}
	add(must(s.keyless(f, parts).SignOld(ctx, image, nil))(f))
	add(must(s.keyless(f, parts).AttestOld(ctx, image, "a:b", []byte("{}")))(f))
	add(must(signer(f, sigstore.SignerOptions{Key: key}).SignOld(ctx, image, map[string]string{"a": "b"}))(f))
	f.Fuzz(func(t *testing.T, dsse bool, payload, notes []byte) {
		e := signature.Envelope{MediaType: sigstore.SimpleMediaType, Payload: payload}
		if dsse {
			e.MediaType = sigstore.DSSEMediaType
		}
		if json.Unmarshal(notes, &e.Annotations) != nil {
			return
		}
		check(t, o, e, image)
	})
}

// FuzzSigned has signed what is made up with a known key: the statement and the
// payload are read only then.
func FuzzSigned(f *testing.F) {
	s, image, key := start(f), subjectOf("image"), newKey(f, "P-256")
	o := s.opener(f, standin.All(), signature.Key{Name: "release", Public: key.Public()})
	f.Add(statementAbout(image))
	f.Add(`{"_type":"https://in-toto.io/Statement/v0.1","subject":[{"name":"x","digest":{"sha256":"00"},"annotations":{"a":1}}],"predicate":[1,2,{"a":null}]}`)
	f.Fuzz(func(t *testing.T, statement string) {
		if statement == "" {
			return
		}
		check(t, o, s.forge(t, image, recipe{key: key, keyed: true, statement: statement}), image)
	})
}

func FuzzTimeStamp(f *testing.F) {
	s, image, key := start(f), subjectOf("image"), newKey(f, "P-256")
	o := s.opener(f, standin.All(), signature.Key{Name: "release", Public: key.Public()})
	good := s.forge(f, image, recipe{key: key, keyed: true, stamp: &standin.Stamp{}})
	f.Add(must(decode(field(f, good, "verificationMaterial", "timestampVerificationData", "rfc3161Timestamps", 0, "signedTimestamp")))(f))
	f.Fuzz(func(t *testing.T, stamp []byte) {
		check(t, o, edit(t, good, []m{{"signedTimestamp": stamp}}, "verificationMaterial", "timestampVerificationData", "rfc3161Timestamps"), image)
	})
}

func FuzzCertificate(f *testing.F) {
	s, image := start(f), subjectOf("image")
	o := s.opener(f, standin.All())
	good := s.forge(f, image, keylessRecipe())
	f.Add(must(decode(field(f, good, "verificationMaterial", "certificate", "rawBytes")))(f))
	f.Fuzz(func(t *testing.T, der []byte) {
		check(t, o, edit(t, good, der, "verificationMaterial", "certificate", "rawBytes"), image)
	})
}

func FuzzTrustedRoot(f *testing.F) {
	s := start(f)
	f.Add(s.TrustedRoot(s.url, standin.All()))
	f.Add(s.SigningConfig(s.url, standin.All()))
	f.Fuzz(func(t *testing.T, doc []byte) {
		_, _ = sigstore.New(signature.Roots{Sigstore: [][]byte{doc}, Revoked: [][]byte{doc}}, sigstore.Options{}) // must not panic
		_, _ = sigstore.ReadServices(doc, time.Now())
	})
}
