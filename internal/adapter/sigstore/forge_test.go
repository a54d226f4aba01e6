package sigstore_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/adapter/sigstore/standin"
	"github.com/castellan-security/castellan/internal/signature"
)

// recipe makes a bundle with everything in it that a Signer would never make.
type recipe struct {
	key         crypto.Signer // of the certificate; nil makes one on P-256
	signWith    crypto.Signer // instead of key
	holder      standin.Holder
	statement   string // "" is a bare signature's
	payloadType string
	above       []*x509.Certificate
	keyed       bool // without a certificate

	log, log2 bool
	logTime   time.Time
	body      func(record) []byte // of the log entry, instead of a true one
	entry     func(*standin.Entry)
	twice     bool

	stamp *standin.Stamp
}

// record is what a log entry is made of.
type record struct {
	payload, message, signature []byte
	verifier                    string // PEM
	certificate, spki           []byte
}

type m = map[string]any

// statement is an in-toto statement with parts of one's own.
func statementAbout(s signature.Subject) string {
	return fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`,
		strings.TrimPrefix(s.Digest, "sha256:"))
}

// keylessRecipe is one that opens.
func keylessRecipe() recipe {
	return recipe{holder: standin.Holder{Issuer: issuer, Subject: builder}, log: true}
}

func (r running) forge(t testing.TB, image signature.Subject, o recipe) signature.Envelope {
	t.Helper()
	if o.key == nil {
		o.key = newKey(t, "P-256")
	}
	if o.signWith == nil {
		o.signWith = o.key
	}
	if o.statement == "" {
		o.statement = statementAbout(image)
	}
	if o.payloadType == "" {
		o.payloadType = "application/vnd.in-toto+json"
	}
	payload := []byte(o.statement)
	message := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(o.payloadType), o.payloadType, len(payload), payload)
	digest := sha256.Sum256(message)
	sig := must(o.signWith.Sign(rand.Reader, digest[:], crypto.SHA256))(t)
	spki := must(x509.MarshalPKIXPublicKey(o.key.Public()))(t)
	rec := record{payload: payload, message: message, signature: sig, spki: spki}
	material := m{}
	if o.keyed {
		id := sha256.Sum256(spki)
		material["publicKey"] = m{"hint": base64.StdEncoding.EncodeToString(id[:])}
		rec.verifier = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
	} else {
		c := must(r.Certify(o.key.Public(), o.holder))(t)
		rec.certificate = c.Raw
		rec.verifier = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
		material["certificate"] = m{"rawBytes": c.Raw}
		if o.above != nil {
			delete(material, "certificate")
			chain := []m{{"rawBytes": c.Raw}}
			for _, a := range o.above {
				chain = append(chain, m{"rawBytes": a.Raw})
			}
			material["x509CertificateChain"] = m{"certificates": chain}
		}
	}
	if entries := r.entries(t, o, rec); entries != nil {
		material["tlogEntries"] = entries
	}
	if o.stamp != nil {
		stamp := *o.stamp
		if stamp.Over == nil {
			stamp.Over = sig
		}
		material["timestampVerificationData"] = m{"rfc3161Timestamps": []m{{"signedTimestamp": must(r.NewStamp(stamp))(t)}}}
	}
	doc := must(json.Marshal(m{
		"mediaType": sigstore.BundleMediaType, "verificationMaterial": material,
		"dsseEnvelope": m{"payload": payload, "payloadType": o.payloadType, "signatures": []m{{"sig": sig}}},
	}))(t)
	return signature.Envelope{MediaType: sigstore.BundleMediaType, Payload: doc, Way: signature.ByReferrer}
}

func (r running) entries(t testing.TB, o recipe, rec record) []m {
	t.Helper()
	if o.logTime.IsZero() {
		o.logTime = time.Now()
	}
	var all []m
	for _, each := range []struct {
		on   bool
		log  *standin.Log
		body func(record) []byte
	}{{o.log, r.Log1, dsseBody}, {o.log2, r.Log2, recordBody2}} {
		if !each.on {
			continue
		}
		body := each.body
		if o.body != nil {
			body = o.body
		}
		e := must(each.log.Add(body(rec), o.logTime))(t)
		if o.entry != nil {
			o.entry(&e)
		}
		all = append(all, e.Bundle())
		if o.twice {
			all = append(all, e.Bundle())
		}
	}
	return all
}

func hexHash(b []byte) m {
	h := sha256.Sum256(b)
	return m{"algorithm": "sha256", "value": hex.EncodeToString(h[:])}
}

func marshal(v any) []byte {
	doc, err := json.Marshal(v)
	if err != nil {
		panic(err) // of maps of strings
	}
	return doc
}

func dsseBody(r record) []byte {
	return marshal(m{"apiVersion": "0.0.1", "kind": "dsse", "spec": m{
		"envelopeHash": hexHash(r.message), "payloadHash": hexHash(r.payload),
		"signatures": []m{{"signature": r.signature, "verifier": []byte(r.verifier)}},
	}})
}

func intotoBody(r record) []byte {
	return marshal(m{"apiVersion": "0.0.2", "kind": "intoto", "spec": m{"content": m{
		"envelope": m{"payloadType": "application/vnd.in-toto+json", "signatures": []m{{"publicKey": []byte(r.verifier), "sig": []byte(base64.StdEncoding.EncodeToString(r.signature))}}},
		"hash":     hexHash(r.message), "payloadHash": hexHash(r.payload),
	}}})
}

func verifier2(r record) m {
	v := m{"keyDetails": "PKIX_ECDSA_P256_SHA_256", "publicKey": m{"rawBytes": r.spki}}
	if r.certificate != nil {
		delete(v, "publicKey")
		v["x509Certificate"] = m{"rawBytes": r.certificate}
	}
	return v
}

func recordBody2(r record) []byte {
	h := sha256.Sum256(r.message)
	return marshal(m{"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": m{"hashedRekordV002": m{
		"data": m{"algorithm": "SHA2_256", "digest": h[:]}, "signature": m{"content": r.signature, "verifier": verifier2(r)},
	}}})
}

func dsseBody2(r record) []byte {
	h := sha256.Sum256(r.payload)
	return marshal(m{"apiVersion": "0.0.2", "kind": "dsse", "spec": m{"dsseV002": m{
		"payloadHash": m{"algorithm": "SHA2_256", "digest": h[:]}, "signatures": []m{{"content": r.signature, "verifier": verifier2(r)}},
	}}})
}
