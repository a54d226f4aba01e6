package sigstore_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/adapter/sigstore/standin"
	"github.com/castellan-security/castellan/internal/signature"
)

// TestEntryOfAnotherSignature is CVE-2022-23649 and CVE-2026-22703 (GHSA-whqx-f9j3-ch6m) of
// cosign: a true log entry beside a signature that was never logged.
func TestEntryOfAnotherSignature(t *testing.T) {
	s, key, logged, other := start(t), newKey(t, "P-256"), subjectOf("logged"), subjectOf("other")
	o := s.opener(t, standin.All(), signature.Key{Name: "release", Public: key.Public()})
	good := s.forge(t, logged, recipe{key: key, keyed: true, log: true})
	if _, err := open(o, good, logged); err != nil {
		t.Fatal(err)
	}
	unlogged := s.forge(t, other, recipe{key: key, keyed: true})
	entries := field(t, good, "verificationMaterial", "tlogEntries")
	_, err := open(o, edit(t, unlogged, entries, "verificationMaterial", "tlogEntries"), other)
	wantRefusal(t, err, signature.NoLog)
	// Signed again, the same statement is another signature.
	again := s.forge(t, logged, recipe{key: key, keyed: true})
	_, err = open(o, edit(t, again, entries, "verificationMaterial", "tlogEntries"), logged)
	wantRefusal(t, err, signature.NoLog)
}

// TestOneLogIsOne is GHSA-9vcr-p3rj-q5q6 of sigstore-go: a threshold of logs that one
// log reaches alone, by two entries or by two ids.
func TestOneLogIsOne(t *testing.T) {
	s, image := start(t), subjectOf("image")
	var root m
	if err := json.Unmarshal(s.TrustedRoot(s.url, standin.Parts{Fulcio: true, CT: true, Log1: true}), &root); err != nil {
		t.Fatal(err)
	}
	again := m{}
	for k, v := range root["tlogs"].([]any)[0].(m) {
		again[k] = v
	}
	id := []byte(strings.Repeat("2", 32))
	again["logId"] = m{"keyId": id}
	root["tlogs"] = append(root["tlogs"].([]any), again)
	o, err := sigstore.New(signature.Roots{Sigstore: [][]byte{marshal(root)}}, sigstore.Options{Logs: 2})
	if err != nil {
		t.Fatal(err)
	}
	var kept standin.Entry
	r := keylessRecipe()
	r.entry = func(e *standin.Entry) { kept = *e }
	e := s.forge(t, image, r)
	entries := field(t, e, "verificationMaterial", "tlogEntries").([]any)
	later := must(s.Log1.Add(kept.Body, time.Now()))(t)
	_, err = open(o, edit(t, e, []any{entries[0], later.Bundle()}, "verificationMaterial", "tlogEntries"), image)
	wantRefusal(t, err, signature.NoLog)
	later.LogID = id
	later.Promise = must(s.Log1.SignPromise(later))(t)
	_, err = open(o, edit(t, e, []any{entries[0], later.Bundle()}, "verificationMaterial", "tlogEntries"), image)
	wantRefusal(t, err, signature.NoLog)
}

// TestBagOfCertificates is CVE-2026-39984 of Sigstore's time-stamping authority: rules
// that are held against another certificate of the bag than the one that signed.
func TestBagOfCertificates(t *testing.T) {
	s, image := start(t), subjectOf("image")
	o := s.opener(t, standin.All())
	mine := must(ecdsa.GenerateKey(newKey(t, "P-256").(*ecdsa.PrivateKey).Curve, rand.Reader))(t)
	coder := must(s.Certify(mine.Public(), standin.Holder{Issuer: issuer, Subject: builder}))(t)
	namesake := &x509.Certificate{
		SerialNumber: s.TSALeaf.SerialNumber, Subject: s.TSALeaf.Subject, NotBefore: s.TSALeaf.NotBefore, NotAfter: s.TSALeaf.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, SubjectKeyId: s.TSALeaf.SubjectKeyId,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: must(asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}}))(t)}},
	}
	double := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, namesake, &x509.Certificate{Subject: s.TSARoot.Subject}, mine.Public(), mine))(t)))(t)
	for _, tc := range []struct {
		name  string
		stamp standin.Stamp
		want  signature.Reason
	}{
		{"a stranger's before the authority's", standin.Stamp{Bag: [][]byte{coder.Raw}}, opens},
		{"signed by the stranger, the authority's beside it", standin.Stamp{Leaf: coder, Key: mine, Bag: [][]byte{s.TSALeaf.Raw}}, signature.NoTime},
		{"signed by the stranger, who names the authority's", standin.Stamp{Leaf: s.TSALeaf, Key: mine, Bag: [][]byte{coder.Raw}}, signature.Forged},
		{"signed by a namesake", standin.Stamp{Leaf: double, Key: mine, Bag: [][]byte{s.TSALeaf.Raw}}, signature.NoTime},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := keylessRecipe()
			r.log, r.log2, r.stamp = false, true, &tc.stamp
			_, err := open(o, s.forge(t, image, r), image)
			wantOutcome(t, err, tc.want)
		})
	}
}

// TestAuthorityOfTimeThatRetired is a finding against sigstore-rust (TOB-SIGSTORE-11): a
// stamp of an authority that retired, in the time of the one that followed.
func TestAuthorityOfTimeThatRetired(t *testing.T) {
	s, successor, image := start(t), start(t), subjectOf("image")
	root := func(end time.Time) []byte {
		var doc, next m
		for text, to := range map[*m][]byte{&doc: s.TrustedRoot(s.url, standin.All()), &next: successor.TrustedRoot(successor.url, standin.All())} {
			if err := json.Unmarshal(to, text); err != nil {
				t.Fatal(err)
			}
		}
		all := doc["timestampAuthorities"].([]any)
		all[0].(m)["validFor"].(m)["end"] = end.UTC().Format(time.RFC3339)
		doc["timestampAuthorities"] = append(all, next["timestampAuthorities"].([]any)...)
		return marshal(doc)
	}
	r := keylessRecipe()
	r.log, r.log2, r.stamp = false, true, &standin.Stamp{}
	e := s.forge(t, image, r)
	if _, err := open(opener(t, signature.Roots{Sigstore: [][]byte{root(time.Now().Add(time.Hour))}}), e, image); err != nil {
		t.Fatal(err)
	}
	_, err := open(opener(t, signature.Roots{Sigstore: [][]byte{root(time.Now().Add(-time.Hour))}}), e, image)
	wantRefusal(t, err, signature.NoTime)
}

// TestIntermediateThatExpired is CVE-2026-24122 of cosign: an authority that expired
// before the certificate below it, and before it signed.
func TestIntermediateThatExpired(t *testing.T) {
	ctx, image, a := context.Background(), subjectOf("image"), newAuthority(t)
	now := time.Now()
	middleKey := newKey(t, "P-256").(*ecdsa.PrivateKey)
	for name, tc := range map[string]struct {
		until time.Time
		want  signature.Reason
	}{
		"in time": {now.Add(time.Hour), opens},
		"expired": {now.Add(-time.Minute), signature.Expired},
	} {
		t.Run(name, func(t *testing.T) {
			middle := &x509.Certificate{
				SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "Acme Middle"}, IsCA: true, BasicConstraintsValid: true, SubjectKeyId: []byte{2},
				NotBefore: now.Add(-time.Hour), NotAfter: tc.until, KeyUsage: x509.KeyUsageCertSign,
			}
			middle = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, middle, a.root, middleKey.Public(), a.rootKey))(t)))(t)
			leaf := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, a.leaf, middle, a.key.Public(), middleKey))(t)))(t)
			k := signer(t, sigstore.SignerOptions{Key: a.key, Chain: []*x509.Certificate{leaf, middle, a.root}})
			o := opener(t, signature.Roots{Stores: []signature.Store{{Kind: signature.StoreCA, Name: "acme", Certificates: []*x509.Certificate{a.root}}}})
			_, err := open(o, must(k.Sign(ctx, image, nil))(t), image)
			wantOutcome(t, err, tc.want)
		})
	}
}

// TestCheckpointTricks has those of Sigstore's conformance suite, and a log that
// calls its key like another's.
func TestCheckpointTricks(t *testing.T) {
	s, other, image := start(t), start(t), subjectOf("image")
	o := s.opener(t, standin.All())
	// hint puts the first four bytes of a signed note's signature.
	hint := func(note string, from string) string {
		at := strings.LastIndexByte(strings.TrimSuffix(note, "\n"), ' ') + 1
		mine, theirs := must(decode(strings.TrimSpace(note[at:])))(t), must(decode(strings.TrimSpace(from[strings.LastIndexByte(strings.TrimSuffix(from, "\n"), ' ')+1:])))(t)
		copy(mine, theirs[:4])
		return note[:at] + base64.StdEncoding.EncodeToString(mine) + "\n"
	}
	for _, tc := range []struct {
		name string
		edit func(*standin.Entry)
	}{
		{"another log's, with our hint", func(e *standin.Entry) { e.Checkpoint = hint(must(other.Log1.Note(e.Size, e.Root))(t), e.Checkpoint) }},
		{"ours, with another hint", func(e *standin.Entry) { e.Checkpoint = hint(e.Checkpoint, must(other.Log1.Note(e.Size, e.Root))(t)) }},
		{"of another tree of ours", func(e *standin.Entry) { e.Checkpoint = must(s.Log1.Note(7, e.Body[:32]))(t) }},
		{"of a tree of all numbers", func(e *standin.Entry) {
			e.Size, e.ProofIndex = math.MaxInt64, math.MaxInt64-1
			e.Checkpoint = must(s.Log1.Note(e.Size, e.Root))(t)
		}},
		{"of a tree of all numbers, with a hash for each of its heights", func(e *standin.Entry) {
			e.Size, e.ProofIndex, e.Hashes = math.MaxInt64, math.MaxInt64-1, nil
			for range 63 {
				e.Hashes = append(e.Hashes, e.Root)
			}
			e.Checkpoint = must(s.Log1.Note(e.Size, e.Root))(t)
		}},
		{"of no tree", func(e *standin.Entry) { e.Size = 0; e.Checkpoint = must(s.Log1.Note(0, e.Root))(t) }},
		{"of a tree of fewer than none", func(e *standin.Entry) { e.Checkpoint = must(s.Log1.Note(-1, e.Root))(t) }},
		{"with a second text", func(e *standin.Entry) { e.Checkpoint = e.Checkpoint + "\n" + e.Checkpoint }},
		{"signed before another text", func(e *standin.Entry) { e.Checkpoint = "x\n\n" + e.Checkpoint }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := keylessRecipe()
			r.entry = tc.edit
			_, err := open(o, s.forge(t, image, r), image)
			wantRefusal(t, err, signature.NoLog)
		})
	}
}

// TestKeyInPlaceOfACertificate is GHSA-fx35-mq7g-6g98 of cosign: a bare key where a
// certificate belongs, for which nobody vouches.
func TestKeyInPlaceOfACertificate(t *testing.T) {
	s, image, mine := start(t), subjectOf("image"), newKey(t, "P-256")
	spki := must(x509.MarshalPKIXPublicKey(mine.Public()))(t)
	o := s.opener(t, standin.All())
	old := must(signer(t, sigstore.SignerOptions{Key: mine}).SignOld(context.Background(), image, nil))(t)
	bundle := s.forge(t, image, recipe{key: mine, keyed: true, log: true})
	noKey := edit(t, bundle, nil, "verificationMaterial", "publicKey")
	for name, e := range map[string]signature.Envelope{
		"in a bundle":          edit(t, noKey, m{"rawBytes": spki}, "verificationMaterial", "certificate"),
		"in a bundle's chain":  edit(t, noKey, m{"certificates": []m{{"rawBytes": spki}}}, "verificationMaterial", "x509CertificateChain"),
		"in an annotation":     note(old, "dev.sigstore.cosign/certificate", pemText("PUBLIC KEY", spki)),
		"named a certificate":  note(old, "dev.sigstore.cosign/certificate", pemText("CERTIFICATE", spki)),
		"beside a certificate": note(old, "dev.sigstore.cosign/certificate", pemText("CERTIFICATE", s.Issuer.Raw)+pemText("PUBLIC KEY", spki)),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := open(o, e, image)
			wantRefusal(t, err, signature.Malformed)
		})
	}
}
