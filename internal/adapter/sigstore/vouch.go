package sigstore

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"path"
	"strconv"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// signing is what is to be vouched for.
type signing struct {
	payload   []byte // of a DSSE envelope; nil for a simple signature
	message   []byte // that was signed
	signature []byte
	stamped   []byte // what is stamped instead of the signature
}

// vouchers are what logs and authorities answered.
type vouchers struct {
	entries []json.RawMessage // as bundles have them
	stamps  [][]byte
}

// vouchers asks every service that was named; one that does not answer fails the
// signature, for who named it wants it.
func (s *Signer) vouchers(ctx context.Context, w *hand, what signing) (vouchers, error) {
	var v vouchers
	if what.stamped == nil {
		what.stamped = what.signature
	}
	for _, address := range s.o.Services.Stamps {
		t, err := s.stamp(ctx, address, what.stamped)
		if err != nil {
			return v, fmt.Errorf("get a time stamp of %s: %w", address, err)
		}
		v.stamps = append(v.stamps, t)
	}
	for _, l := range s.o.Services.Logs {
		write := s.writeLog
		if l.Version == 2 {
			write = s.writeLog2
		}
		e, err := write(ctx, l.URL, w, what)
		if err != nil {
			return v, fmt.Errorf("write to the log %s: %w", l.URL, err)
		}
		v.entries = append(v.entries, e)
	}
	return v, nil
}

// stamp gets a time stamp (RFC 3161) and checks that it is over what it was to be.
func (s *Signer) stamp(ctx context.Context, address string, over []byte) ([]byte, error) {
	nonce, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	if err != nil {
		return nil, err
	}
	digest := sum(crypto.SHA256, over)
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oid(2, 16, 840, 1, 101, 3, 4, 2, 1))
				b.AddASN1NULL()
			})
			b.AddASN1OctetString(digest)
		})
		b.AddASN1BigInt(nonce)
		b.AddASN1Boolean(true) // with certificates
	})
	query, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	answer, err := s.http.post(ctx, address, "application/timestamp-query", query, nil)
	if err != nil {
		return nil, err
	}
	t, err := readToken(answer)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if string(t.imprint) != string(digest) {
		return nil, errors.New("the time stamp is over something else")
	}
	if t.nonce == nil || t.nonce.Cmp(nonce) != 0 {
		return nil, errors.New("the time stamp answers another request: its nonce is not ours")
	}
	return answer, nil
}

// writeLog writes to Rekor's first version.
func (s *Signer) writeLog(ctx context.Context, base string, w *hand, what signing) (json.RawMessage, error) {
	var entry any
	verifier := base64.StdEncoding.EncodeToString(w.pem())
	if what.payload != nil {
		envelope, err := json.Marshal(dsseJSON{Payload: what.payload, PayloadType: statementType, Signatures: []dsseSignature{{what.signature}}})
		if err != nil {
			return nil, err
		}
		entry = map[string]any{"kind": "dsse", "apiVersion": "0.0.1", "spec": map[string]any{
			"proposedContent": map[string]any{"envelope": string(envelope), "verifiers": []string{verifier}},
		}}
	} else {
		if _, pure := w.key.Public().(ed25519.PublicKey); pure {
			return nil, errors.New("the first version of Rekor takes no Ed25519 signatures in the old form; sign a bundle, or with ECDSA or RSA")
		}
		h := hashesOf(w.key.Public())[0]
		name := map[crypto.Hash]string{crypto.SHA256: "sha256", crypto.SHA384: "sha384", crypto.SHA512: "sha512"}[h]
		entry = map[string]any{"kind": "hashedrekord", "apiVersion": "0.0.1", "spec": map[string]any{
			"data": map[string]any{"hash": map[string]any{"algorithm": name, "value": hex.EncodeToString(sum(h, what.message))}},
			"signature": map[string]any{
				"content":   what.signature,
				"publicKey": map[string]any{"content": verifier},
			},
		}}
	}
	doc, err := json.Marshal(entry)
	if err != nil {
		return nil, err
	}
	address, err := join(base, "api/v1/log/entries")
	if err != nil {
		return nil, err
	}
	answer, err := s.http.post(ctx, address, "application/json", doc, nil)
	var there *conflictError
	if errors.As(err, &there) {
		// RSA and Ed25519 sign the same statement alike: it was logged before.
		answer, err = s.loggedBefore(ctx, address, there)
	}
	if err != nil {
		return nil, err
	}
	return entryOf(answer)
}

// loggedBefore gets an entry that the log has already. Where it is the log says,
// but another host is not asked.
func (s *Signer) loggedBefore(ctx context.Context, entries string, there *conflictError) ([]byte, error) {
	id := path.Base(there.location)
	if b, err := hex.DecodeString(id); err != nil || len(b) == 0 {
		return nil, there
	}
	address, err := join(entries, id)
	if err != nil {
		return nil, err
	}
	return s.http.get(ctx, address, nil)
}

// entryOf turns the answer of Rekor's first version into an entry of a bundle.
func entryOf(answer []byte) (json.RawMessage, error) {
	all, err := parseObject(answer)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(all.fields) != 1 {
		return nil, fmt.Errorf("the answer has %d entries, want one", len(all.fields))
	}
	var o object
	for id := range all.fields {
		o = all.object(id)
	}
	body := o.bytes("body", maxBody)
	inner, err := parseObject(body)
	if err != nil {
		return nil, fmt.Errorf("read the entry's body: %w", err)
	}
	id, err := hex.DecodeString(o.text("logID"))
	if err != nil {
		o.fail("logID", "want hexadecimal")
	}
	verification := o.object("verification")
	e := entryJSON{
		Index:   strconv.FormatInt(o.integer("logIndex"), 10),
		Log:     keyIDJSON{id},
		Kind:    kindJSON{inner.text("kind"), inner.text("apiVersion")},
		Time:    strconv.FormatInt(o.integer("integratedTime"), 10),
		Promise: &promiseJSON{verification.bytes("signedEntryTimestamp", maxSignature)},
		Body:    body,
	}
	proof := verification.object("inclusionProof")
	if proof.fields == nil {
		return nil, errors.New("the log answered without an inclusion proof")
	}
	e.Proof = &proofJSON{
		Index:      strconv.FormatInt(proof.integer("logIndex"), 10),
		Size:       strconv.FormatInt(proof.integer("treeSize"), 10),
		Checkpoint: checkpointJSON{proof.text("checkpoint")},
		Root:       hexBytes(proof, "rootHash"),
	}
	for _, h := range proof.list("hashes", maxHashes) {
		text, _ := h.(string)
		b, err := hex.DecodeString(text)
		if err != nil {
			proof.fail("hashes", "want hexadecimal")
		}
		e.Proof.Hashes = append(e.Proof.Hashes, b)
	}
	if err := errors.Join(all.err(), inner.err()); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return json.Marshal(e)
}

func hexBytes(o object, name string) []byte {
	b, err := hex.DecodeString(o.text(name))
	if err != nil {
		o.fail(name, "want hexadecimal")
	}
	return b
}

// writeLog2 writes to Rekor's second version, which takes nothing but the digest
// of what was signed.
func (s *Signer) writeLog2(ctx context.Context, base string, w *hand, what signing) (json.RawMessage, error) {
	details, h, err := keyDetails(w.key.Public())
	if err != nil {
		return nil, err
	}
	verifier := map[string]any{"keyDetails": details}
	if len(w.chain) > 0 {
		verifier["x509Certificate"] = rawJSON{w.chain[0].Raw}
	} else {
		verifier["publicKey"] = rawJSON{w.spki}
	}
	doc, err := json.Marshal(map[string]any{"hashedRekordRequestV002": map[string]any{
		"digest":    sum(h, what.message),
		"signature": map[string]any{"content": what.signature, "verifier": verifier},
	}})
	if err != nil {
		return nil, err
	}
	address, err := join(base, "api/v2/log/entries")
	if err != nil {
		return nil, err
	}
	answer, err := s.http.post(ctx, address, "application/json", doc, nil)
	if err != nil {
		return nil, err
	}
	o, err := parseObject(answer)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	readEntry(o)
	if err := o.err(); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return answer, nil
}

// keyDetails is how the second version names a key and its hash.
func keyDetails(pub crypto.PublicKey) (string, crypto.Hash, error) {
	h := hashesOf(pub)[0]
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return "PKIX_ECDSA_P256_SHA_256", h, nil
		case elliptic.P384():
			return "PKIX_ECDSA_P384_SHA_384", h, nil
		case elliptic.P521():
			return "PKIX_ECDSA_P521_SHA_512", h, nil
		}
	case *rsa.PublicKey:
		switch n := k.N.BitLen(); n {
		case 2048, 3072, 4096:
			return "PKIX_RSA_PKCS1V15_" + strconv.Itoa(n) + "_SHA256", h, nil
		}
	case ed25519.PublicKey:
		return "", 0, errors.New("the second version of Rekor takes no Ed25519 signatures over whole messages; sign with ECDSA or RSA")
	}
	return "", 0, errors.New("the second version of Rekor takes no such keys")
}

// A log entry of a bundle as JSON.
type (
	entryJSON struct {
		Index   string       `json:"logIndex"`
		Log     keyIDJSON    `json:"logId"`
		Kind    kindJSON     `json:"kindVersion"`
		Time    string       `json:"integratedTime"`
		Promise *promiseJSON `json:"inclusionPromise,omitempty"`
		Proof   *proofJSON   `json:"inclusionProof,omitempty"`
		Body    []byte       `json:"canonicalizedBody"`
	}
	keyIDJSON struct {
		KeyID []byte `json:"keyId"`
	}
	kindJSON struct {
		Kind    string `json:"kind"`
		Version string `json:"version"`
	}
	promiseJSON struct {
		Signed []byte `json:"signedEntryTimestamp"`
	}
	proofJSON struct {
		Index      string         `json:"logIndex"`
		Root       []byte         `json:"rootHash"`
		Size       string         `json:"treeSize"`
		Hashes     [][]byte       `json:"hashes"`
		Checkpoint checkpointJSON `json:"checkpoint"`
	}
	checkpointJSON struct {
		Envelope string `json:"envelope"`
	}
)
