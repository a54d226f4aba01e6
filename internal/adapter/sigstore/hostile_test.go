package sigstore_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/adapter/sigstore/standin"
	"github.com/castellan-security/castellan/internal/signature"
)

// names is a subjectAltName extension as somebody hostile writes it.
func names(t testing.TB, all ...asn1.RawValue) pkix.Extension {
	t.Helper()
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: must(asn1.Marshal(all))(t)}
}

func uri(s string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(s)}
}

func email(s string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: []byte(s)}
}

// userName is a name of Fulcio's own kind.
func userName(t testing.TB, s string) asn1.RawValue {
	t.Helper()
	id := must(asn1.Marshal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 7}))(t)
	text := must(asn1.MarshalWithParams(s, "utf8"))(t)
	value := must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: text}))(t)
	return asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: append(id, value...)}
}

func fulcioText(t testing.TB, n int, s string) pkix.Extension {
	t.Helper()
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, n}, Value: must(asn1.MarshalWithParams(s, "utf8"))(t)}
}

func fulcioRaw(n int, s string) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, n}, Value: []byte(s)}
}

const opens signature.Reason = ""

func TestKeylessTricks(t *testing.T) {
	s, other, image := start(t), start(t), subjectOf("image")
	long := time.Now().Add(-48 * time.Hour)
	otherKey := must(ecdsa.GenerateKey(newKey(t, "P-256").(*ecdsa.PrivateKey).Curve, cryptoRand()))(t)
	for _, tc := range []struct {
		name string
		edit func(*recipe)
		want signature.Reason
	}{
		{"as it should be", func(*recipe) {}, opens},
		{"logged as in-toto", func(r *recipe) { r.body = intotoBody }, opens},
		{"second log and time stamp", func(r *recipe) { r.log, r.log2, r.stamp = false, true, &standin.Stamp{} }, opens},
		{"second log, DSSE entry", func(r *recipe) { r.log, r.log2, r.stamp, r.body = false, true, &standin.Stamp{}, dsseBody2 }, opens},
		{"time stamp without certificates", func(r *recipe) { r.log, r.log2, r.stamp = false, true, &standin.Stamp{Bare: true} }, opens},
		{"old claims only", func(r *recipe) {
			r.holder.Old, r.holder.Claims = true, map[string]string{"2": "push", "5": "acme/shop"}
		}, opens},
		{"its issuer in the chain", func(r *recipe) { r.above = []*x509.Certificate{s.Issuer} }, opens},
		{"a user name", func(r *recipe) {
			r.holder.Subject, r.holder.Extra = "", []pkix.Extension{names(t, userName(t, "ann!example.org"))}
		}, opens},

		{"signed with another key", func(r *recipe) { r.signWith = otherKey }, signature.Forged},
		{"no promise of a certificate log", func(r *recipe) { r.holder.NoPromise = true }, signature.NoLog},
		{"false promise of a certificate log", func(r *recipe) { r.holder.FalseLog = true }, signature.NoLog},
		{"certificate for servers", func(r *recipe) { r.holder.ServerUsage = true }, signature.NoRoot},
		{"certificate of an authority", func(r *recipe) { r.holder.CA = true }, signature.Forbidden},
		{"weak key", func(r *recipe) { r.key = newKey(t, "P-224") }, signature.Forbidden},
		{"signed after the certificate ended", func(r *recipe) { r.holder.From = long }, signature.Expired},
		{"signed before the certificate began", func(r *recipe) { r.logTime = long }, signature.NotYet},
		{"signed in the time to come", func(r *recipe) {
			r.holder.From, r.logTime = time.Now().Add(time.Hour), time.Now().Add(time.Hour+time.Minute)
		}, signature.NotYet},
		{"authority not trusted yet", func(r *recipe) {
			r.holder.From, r.logTime = long.AddDate(-3, 0, 0), long.AddDate(-3, 0, 0).Add(time.Minute)
		}, signature.NoLog},
		{"chain of eight others", func(r *recipe) {
			for range 8 {
				r.above = append(r.above, s.Issuer)
			}
		}, signature.TooLarge},
		{"chain of a thousand", func(r *recipe) {
			for range 1000 {
				r.above = append(r.above, s.Issuer)
			}
		}, signature.TooLarge},

		{"no log entry", func(r *recipe) { r.log = false }, signature.NoLog},
		{"no log entry but a time stamp", func(r *recipe) { r.log, r.stamp = false, &standin.Stamp{} }, signature.NoLog},
		{"a log that says no time", func(r *recipe) { r.log, r.log2 = false, true }, signature.NoTime},
		{"entry of another signature", func(r *recipe) {
			r.body = func(rec record) []byte { rec.signature = append([]byte{}, rec.signature[1:]...); return dsseBody(rec) }
		}, signature.NoLog},
		{"entry of another payload", func(r *recipe) {
			r.body = func(rec record) []byte { rec.payload = []byte("{}"); return dsseBody(rec) }
		}, signature.NoLog},
		{"entry of another certificate", func(r *recipe) {
			r.body = func(rec record) []byte { rec.verifier = pemText("CERTIFICATE", s.Issuer.Raw); return dsseBody(rec) }
		}, signature.NoLog},
		{"entry of the key without its certificate", func(r *recipe) {
			r.body = func(rec record) []byte { rec.verifier = pemText("PUBLIC KEY", rec.spki); return dsseBody(rec) }
		}, signature.NoLog},
		{"in-toto entry of another signature", func(r *recipe) {
			r.body = func(rec record) []byte { rec.signature = rec.signature[1:]; return intotoBody(rec) }
		}, signature.NoLog},
		{"second log, another digest", func(r *recipe) {
			r.log, r.log2, r.stamp = false, true, &standin.Stamp{}
			r.body = func(rec record) []byte { rec.message = []byte("x"); return recordBody2(rec) }
		}, signature.NoLog},
		{"second log, another certificate", func(r *recipe) {
			r.log, r.log2, r.stamp = false, true, &standin.Stamp{}
			r.body = func(rec record) []byte { rec.certificate = s.Issuer.Raw; return recordBody2(rec) }
		}, signature.NoLog},
		{"entry of a kind nobody knows", func(r *recipe) {
			r.body = func(record) []byte { return []byte(`{"kind":"jar","apiVersion":"0.0.1","spec":{}}`) }
		}, signature.Unsupported},
		{"entry that says two things", func(r *recipe) {
			r.body = func(rec record) []byte {
				return bytes.Replace(dsseBody(rec), []byte(`"kind"`), []byte(`"spec":{},"kind"`), 1)
			}
		}, signature.Malformed},
		{"entry called another kind", func(r *recipe) { r.entry = func(e *standin.Entry) { e.Kind = "intoto" } }, signature.Malformed},
		{"the same entry twice", func(r *recipe) { r.twice = true }, signature.Malformed},
		{"promise of another time", func(r *recipe) { r.entry = func(e *standin.Entry) { e.Time -= 3 } }, signature.NoLog},
		{"promise of another index", func(r *recipe) { r.entry = func(e *standin.Entry) { e.Index++ } }, signature.NoLog},
		{"promise of another log", func(r *recipe) {
			r.entry = func(e *standin.Entry) { e.Promise = must(other.Log1.SignPromise(*e))(t) }
		}, signature.NoLog},
		{"without the promise there is no time", func(r *recipe) { r.entry = func(e *standin.Entry) { e.Promise = nil } }, signature.NoTime},
		{"log that nobody knows", func(r *recipe) { r.entry = func(e *standin.Entry) { e.LogID = other.Log1.ID() } }, signature.NoLog},
		{"checkpoint of another log", func(r *recipe) {
			r.entry = func(e *standin.Entry) { e.Checkpoint = must(other.Log1.Note(e.Size, e.Root))(t) }
		}, signature.NoLog},
		{"checkpoint of another size", func(r *recipe) { r.entry = func(e *standin.Entry) { e.Size++ } }, signature.NoLog},
		{"checkpoint of another root", func(r *recipe) { r.entry = func(e *standin.Entry) { e.Root = bytes.Repeat([]byte{1}, 32) } }, signature.NoLog},
		{"proof at another place", func(r *recipe) { r.entry = func(e *standin.Entry) { e.ProofIndex ^= 1 } }, signature.NoLog},
		{"proof with a hash too many", func(r *recipe) { r.entry = func(e *standin.Entry) { e.Hashes = append(e.Hashes, e.Root) } }, signature.NoLog},
		{"proof beyond the tree", func(r *recipe) { r.entry = func(e *standin.Entry) { e.ProofIndex = e.Size } }, signature.NoLog},
		{"proof with a hundred hashes", func(r *recipe) {
			r.entry = func(e *standin.Entry) {
				for range 100 {
					e.Hashes = append(e.Hashes, e.Root)
				}
			}
		}, signature.TooLarge},

		{"time stamp over another signature", func(r *recipe) { r.stamp = &standin.Stamp{Over: []byte("other")} }, signature.Forged},
		{"time stamp over another signature, second log", func(r *recipe) { r.log, r.log2, r.stamp = false, true, &standin.Stamp{Over: []byte("other")} }, signature.Forged},
		{"time stamp of nobody known", func(r *recipe) {
			r.log, r.log2, r.stamp = false, true, &standin.Stamp{Leaf: other.TSALeaf, Key: otherKey}
		}, signature.NoTime},
		{"time stamp with a false signature", func(r *recipe) { r.stamp = &standin.Stamp{Leaf: s.TSALeaf, Key: otherKey} }, signature.Forged},
		{"time stamp that is none", func(r *recipe) { r.stamp = &standin.Stamp{Kind: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}} }, signature.Malformed},
		{"time stamp from before the certificate", func(r *recipe) { r.stamp = &standin.Stamp{At: long} }, signature.NotYet},
		{"time stamp from after the certificate, beside a log in time", func(r *recipe) {
			r.holder.From, r.logTime, r.stamp = long, long.Add(time.Minute), &standin.Stamp{}
		}, signature.Expired},

		{"two names", func(r *recipe) {
			r.holder.Subject, r.holder.Extra = "", []pkix.Extension{names(t, uri("https://a"), email("a@b.c"))}
		}, signature.Malformed},
		{"no name", func(r *recipe) { r.holder.Subject = "" }, signature.Malformed},
		{"a name that nobody knows", func(r *recipe) {
			r.holder.Subject, r.holder.Extra = "", []pkix.Extension{names(t, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 8, Bytes: []byte{1}})}
		}, signature.Malformed},
		{"a name with a zero byte", func(r *recipe) {
			r.holder.Subject, r.holder.Extra = "", []pkix.Extension{names(t, email("ann@example.org\x00.evil.org"))}
		}, signature.Malformed},
		{"a user name written backwards", func(r *recipe) {
			r.holder.Subject, r.holder.Extra = "", []pkix.Extension{names(t, userName(t, "ann\u202egro.elpmaxe"))}
		}, signature.Malformed},
		{"two issuers", func(r *recipe) {
			r.holder.Issuer, r.holder.Extra = "", []pkix.Extension{fulcioRaw(1, "https://a"), fulcioText(t, 8, "https://b")}
		}, signature.Malformed},
		{"issuer that is not in DER", func(r *recipe) { r.holder.Issuer, r.holder.Extra = "", []pkix.Extension{fulcioRaw(8, "https://a")} }, signature.Malformed},
		{"issuer with something behind it", func(r *recipe) {
			e := fulcioText(t, 8, "https://a")
			e.Value = append(e.Value, 0)
			r.holder.Issuer, r.holder.Extra = "", []pkix.Extension{e}
		}, signature.Malformed},
		{"issuer that hides something", func(r *recipe) {
			r.holder.Issuer, r.holder.Extra = "", []pkix.Extension{fulcioRaw(1, "https://a\u200b")}
		}, signature.Malformed},
		{"claim that is too long", func(r *recipe) { r.holder.Claims = map[string]string{"12": strings.Repeat("x", 5000)} }, signature.Malformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := keylessRecipe()
			tc.edit(&r)
			e := s.forge(t, image, r)
			got, err := open(s.opener(t, standin.All()), e, image)
			if tc.want == opens {
				if err != nil || got.Identity.Issuer != issuer {
					t.Fatalf("Open() = %+v, %v, want it to open", got.Identity, err)
				}
				return
			}
			wantRefusal(t, err, tc.want)
		})
	}
}

// TestRootsAreClosed: the log and the authority of one trusted root do not make up
// for what is missing in another.
func TestRootsAreClosed(t *testing.T) {
	a, b, image := start(t), start(t), subjectOf("image")
	r := keylessRecipe()
	r.log = false
	e := a.forge(t, image, r) // a's certificate
	// b vouches with its own log and authority for the same signature.
	var doc m
	if err := json.Unmarshal(e.Payload, &doc); err != nil {
		t.Fatal(err)
	}
	roots := signature.Roots{Sigstore: [][]byte{a.TrustedRoot(a.url, standin.All()), b.TrustedRoot(b.url, standin.All())}}
	_, err := open(opener(t, roots), e, image)
	wantRefusal(t, err, signature.NoLog)
	sig := must(decode(doc["dsseEnvelope"].(m)["signatures"].([]any)[0].(m)["sig"]))(t)
	e = edit(t, e, m{"rfc3161Timestamps": []m{{"signedTimestamp": must(b.NewStamp(standin.Stamp{Over: sig}))(t)}}}, "verificationMaterial", "timestampVerificationData")
	roots.Sigstore[0] = a.TrustedRoot(a.url, standin.Parts{Fulcio: true, CT: true})
	_, err = open(opener(t, roots), e, image)
	wantRefusal(t, err, signature.NoTime)
}

func TestStatementTricks(t *testing.T) {
	s, image := start(t), subjectOf("image")
	digest := strings.TrimPrefix(image.Digest, "sha256:")
	const p = `"predicateType":"https://example.org/p","predicate":{}`
	key := newKey(t, "P-256")
	o := s.opener(t, standin.All(), signature.Key{Name: "release", Public: key.Public()})
	for _, tc := range []struct {
		name, statement string
		want            signature.Reason
	}{
		{"v0.1", `{"_type":"https://in-toto.io/Statement/v0.1","subject":[{"name":"x","digest":{"sha256":"` + digest + `"}}],` + p + `}`, opens},
		{"among others", `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"00"}},{"digest":{"sha512":"1","sha256":"` + digest + `"}}],` + p + `}`, opens},
		{"other subject", `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + strings.Repeat("0", 64) + `"}}],` + p + `}`, signature.OtherSubject},
		{"no subject", `{"_type":"https://in-toto.io/Statement/v1","subject":[],` + p + `}`, signature.OtherSubject},
		{"subject in another hash", `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha512":"` + digest + `"}}],` + p + `}`, signature.OtherSubject},
		{"subject in capitals", `{"_type":"https://in-toto.io/Statement/v1","Subject":[{"digest":{"sha256":"` + digest + `"}}],` + p + `}`, signature.OtherSubject},
		{"subject cut short", `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + digest[:60] + `"}}],` + p + `}`, signature.OtherSubject},
		{"two lists of subjects", `{"_type":"https://in-toto.io/Statement/v1","subject":[],"subject":[{"digest":{"sha256":"` + digest + `"}}],` + p + `}`, signature.Malformed},
		{"two digests", `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"00","sha256":"` + digest + `"}}],` + p + `}`, signature.Malformed},
		{"a name twice in the predicate", `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + digest + `"}}],"predicateType":"https://example.org/p","predicate":{"a":{"verdict":"fail","verdict":"pass"}}}`, signature.Malformed},
		{"something behind it", `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + digest + `"}}],` + p + `}{}`, signature.Malformed},
		{"no predicate type", `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + digest + `"}}]}`, signature.Malformed},
		{"type that nobody knows", `{"_type":"https://in-toto.io/Statement/v7","subject":[{"digest":{"sha256":"` + digest + `"}}],` + p + `}`, signature.Unsupported},
		{"no object", `[]`, signature.Malformed},
		{"five thousand subjects", `{"_type":"https://in-toto.io/Statement/v1","subject":[` + strings.Repeat(`{},`, 5000) + `{"digest":{"sha256":"` + digest + `"}}],` + p + `}`, signature.TooLarge},
		{"nested without end", `{"predicate":` + strings.Repeat(`[`, 5000) + strings.Repeat(`]`, 5000) + `}`, signature.Malformed},
		{"not UTF-8", "{\"_type\":\"\xff\"}", signature.Malformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := open(o, s.forge(t, image, recipe{key: key, keyed: true, statement: tc.statement}), image)
			if tc.want == opens {
				if err != nil {
					t.Fatalf("Open() = %v, want it to open", err)
				}
				return
			}
			wantRefusal(t, err, tc.want)
		})
	}
	_, err := open(o, s.forge(t, image, recipe{key: key, keyed: true, payloadType: "text/plain"}), image)
	wantRefusal(t, err, signature.Unsupported)
}

func TestBundleTricks(t *testing.T) {
	s, image, key := start(t), subjectOf("image"), newKey(t, "P-256")
	o := s.opener(t, standin.All(), signature.Key{Name: "release", Public: key.Public()})
	good := s.forge(t, image, recipe{key: key, keyed: true, log: true})
	must(open(o, good, image))(t)
	text := func(old, new string) func() signature.Envelope {
		return func() signature.Envelope {
			e := good
			e.Payload = []byte(strings.Replace(string(good.Payload), old, new, 1))
			if bytes.Equal(e.Payload, good.Payload) {
				t.Fatalf("the bundle has no %q", old)
			}
			return e
		}
	}
	change := func(value any, path ...any) func() signature.Envelope {
		return func() signature.Envelope { return edit(t, good, value, path...) }
	}
	raw := func(media, payload string) func() signature.Envelope {
		return func() signature.Envelope { return signature.Envelope{MediaType: media, Payload: []byte(payload)} }
	}
	for _, tc := range []struct {
		name string
		make func() signature.Envelope
		want signature.Reason
	}{
		{"version 0.2", change("application/vnd.dev.sigstore.bundle+json;version=0.2", "mediaType"), opens},
		{"version 0.1", change("application/vnd.dev.sigstore.bundle+json;version=0.1", "mediaType"), opens},
		{"hint of nobody", change("nobody", "verificationMaterial", "publicKey", "hint"), opens},
		{"version 0.9", change("application/vnd.dev.sigstore.bundle.v0.9+json", "mediaType"), signature.Unsupported},
		{"version with more behind it", change("application/vnd.dev.sigstore.bundle.v0.3+json;x=1", "mediaType"), signature.Unsupported},
		{"version 0.2 without a proof", func() signature.Envelope {
			return edit(t, change(nil, "verificationMaterial", "tlogEntries", 0, "inclusionProof")(), "application/vnd.dev.sigstore.bundle+json;version=0.2", "mediaType")
		}, signature.NoLog},
		{"version 0.1 without a promise", func() signature.Envelope {
			return edit(t, change(nil, "verificationMaterial", "tlogEntries", 0, "inclusionPromise")(), "application/vnd.dev.sigstore.bundle+json;version=0.1", "mediaType")
		}, signature.NoLog},
		{"a name twice", text(`"mediaType"`, `"mediaType":"x","mediaType"`), signature.Malformed},
		{"a name twice, once escaped", text(`"mediaType"`, `"\u006dediaType":"x","mediaType"`), signature.Malformed},
		{"something behind it", func() signature.Envelope { e := good; e.Payload = append(bytes.Clone(e.Payload), "{}"...); return e }, signature.Malformed},
		{"a field nobody knows", change(1, "unknown"), signature.Malformed},
		{"a field nobody knows, inside", change(1, "verificationMaterial", "unknown"), signature.Malformed},
		{"two contents", change(m{"signature": "AA=="}, "messageSignature"), signature.Malformed},
		{"no content", change(nil, "dsseEnvelope"), signature.Malformed},
		{"no material", change(nil, "verificationMaterial"), signature.Malformed},
		{"key and certificate", change(m{"rawBytes": s.Issuer.Raw}, "verificationMaterial", "certificate"), signature.Malformed},
		{"two signatures", change([]m{{"sig": "AAAA"}, {"sig": "AAAA"}}, "dsseEnvelope", "signatures"), signature.Malformed},
		{"a thousand signatures", change(make([]m, 1000), "dsseEnvelope", "signatures"), signature.TooLarge},
		{"no signature", change([]m{}, "dsseEnvelope", "signatures"), signature.Malformed},
		{"empty signature", change("", "dsseEnvelope", "signatures", 0, "sig"), signature.Malformed},
		{"long signature", change(strings.Repeat("A", 8000), "dsseEnvelope", "signatures", 0, "sig"), signature.TooLarge},
		{"signature of other bytes", change("AAAA", "dsseEnvelope", "signatures", 0, "sig"), signature.Forged},
		{"payload changed", change("e30=", "dsseEnvelope", "payload"), signature.Forged},
		{"type of the payload changed", change("application/vnd.in-toto+JSON", "dsseEnvelope", "payloadType"), signature.Forged},
		{"line break in base64", change("e3\n0=", "dsseEnvelope", "payload"), signature.Malformed},
		{"a hundred log entries", change(make([]m, 100), "verificationMaterial", "tlogEntries"), signature.TooLarge},
		{"a hundred time stamps", change(m{"rfc3161Timestamps": make([]m, 100)}, "verificationMaterial", "timestampVerificationData"), signature.TooLarge},
		{"a time stamp of zeros", change(m{"rfc3161Timestamps": []m{{"signedTimestamp": "AAAA"}}}, "verificationMaterial", "timestampVerificationData"), signature.Malformed},
		{"negative index", change("-1", "verificationMaterial", "tlogEntries", 0, "logIndex"), signature.Malformed},
		{"index with a zero in front", change("01", "verificationMaterial", "tlogEntries", 0, "logIndex"), signature.Malformed},
		{"index beyond 64 bits", change("18446744073709551616", "verificationMaterial", "tlogEntries", 0, "logIndex"), signature.Malformed},
		{"certificate of zeros", func() signature.Envelope {
			return edit(t, change(nil, "verificationMaterial", "publicKey")(), m{"rawBytes": "AAAA"}, "verificationMaterial", "certificate")
		}, signature.Malformed},
		{"no JSON", raw(sigstore.BundleMediaType, "no"), signature.Malformed},
		{"empty", raw(sigstore.BundleMediaType, ""), signature.Malformed},
		{"a list", raw(sigstore.BundleMediaType, "[]"), signature.Malformed},
		{"too large", raw(sigstore.BundleMediaType, strings.Repeat(" ", sigstore.MaxPayload+1)), signature.TooLarge},
		{"a million values", raw(sigstore.BundleMediaType, `{"a":[`+strings.Repeat("0,", 1<<20)+`0]}`), signature.TooLarge},
		{"nested without end", raw(sigstore.BundleMediaType, strings.Repeat(`{"a":`, 1<<20)), signature.Malformed},
		{"media type of another", raw("application/jose+json", "{}"), signature.Unsupported},
		{"a file of nothing", raw("", "{}"), signature.Unsupported},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := open(o, tc.make(), image)
			if tc.want == opens {
				if err != nil {
					t.Fatalf("Open() = %v, want it to open", err)
				}
				return
			}
			wantRefusal(t, err, tc.want)
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := o.Open(ctx, good, image, time.Now()); err != context.Canceled {
		t.Errorf("Open() after cancel = %v", err)
	}
	for _, digest := range []string{"", "sha512:00", "sha256:00", strings.ToUpper(image.Digest), "sha256:" + strings.ToUpper(image.Digest[7:])} {
		_, err := open(o, good, signature.Subject{Digest: digest})
		wantRefusal(t, err, signature.Unsupported)
	}
}
