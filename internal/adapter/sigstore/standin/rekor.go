package standin

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Log is a transparency log: a Merkle tree (RFC 6962) whose root it signs.
type Log struct {
	Origin string // first line of its checkpoints
	V1     bool   // it promises, and says when it took an entry
	name   string
	key    crypto.Signer
	offset int64 // entries of earlier trees, which indexes count

	mu     sync.Mutex
	leaves [][]byte
}

// Entry is what a log has taken, with its proofs.
type Entry struct {
	Body                []byte
	Time, Index         int64 // Index counts earlier trees
	ProofIndex, Size    int64
	Root                []byte
	Hashes              [][]byte
	Checkpoint          string
	Promise             []byte
	LogID               []byte
	Kind, KindOfVersion string
}

// ID is by which the log is known.
func (l *Log) ID() []byte {
	if pub, ok := l.key.Public().(ed25519.PublicKey); ok { // as signed notes name it
		id := sha256.Sum256(append([]byte(l.name+"\n\x01"), pub...))
		return id[:]
	}
	spki, _ := x509.MarshalPKIXPublicKey(l.key.Public()) // our own key
	id := sha256.Sum256(spki)
	return id[:]
}

// Add takes a body and proves that it has it.
func (l *Log) Add(body []byte, at time.Time) (Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	leaf := sha256.Sum256(append([]byte{0}, body...))
	l.leaves = append(l.leaves, leaf[:])
	n := len(l.leaves)
	var head struct{ Kind, APIVersion string }
	if err := json.Unmarshal(body, &head); err != nil {
		return Entry{}, err
	}
	e := Entry{
		Body: body, LogID: l.ID(), Kind: head.Kind, KindOfVersion: head.APIVersion,
		Index: int64(n-1) + l.offset, ProofIndex: int64(n - 1), Size: int64(n), Root: treeRoot(l.leaves), Hashes: treePath(l.leaves, n-1),
	}
	var err error
	if e.Checkpoint, err = l.Note(e.Size, e.Root); err != nil || !l.V1 {
		return e, err
	}
	e.Time = at.Unix()
	e.Promise, err = l.SignPromise(e)
	return e, err
}

// SignPromise signs that an entry was taken at its time and index.
func (l *Log) SignPromise(e Entry) ([]byte, error) {
	return signWith(l.key, fmt.Appendf(nil, `{"body":%q,"integratedTime":%d,"logID":%q,"logIndex":%d}`,
		base64.StdEncoding.EncodeToString(e.Body), e.Time, hex.EncodeToString(e.LogID), e.Index))
}

// Note signs a checkpoint.
func (l *Log) Note(size int64, root []byte) (string, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", l.Origin, size, base64.StdEncoding.EncodeToString(root))
	sig, err := signWith(l.key, []byte(text))
	if err != nil {
		return "", err
	}
	blob := append(binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(l.ID())), sig...)
	return text + "\n— " + l.name + " " + base64.StdEncoding.EncodeToString(blob) + "\n", nil
}

func node(left, right []byte) []byte {
	h := sha256.Sum256(append(append([]byte{1}, left...), right...))
	return h[:]
}

// split is the largest power of two below n.
func split(n int) int {
	k := 1
	for k*2 < n {
		k *= 2
	}
	return k
}

func treeRoot(leaves [][]byte) []byte {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := split(len(leaves))
	return node(treeRoot(leaves[:k]), treeRoot(leaves[k:]))
}

func treePath(leaves [][]byte, at int) [][]byte {
	if len(leaves) == 1 {
		return nil
	}
	k := split(len(leaves))
	if at < k {
		return append(treePath(leaves[:k], at), treeRoot(leaves[k:]))
	}
	return append(treePath(leaves[k:], at-k), treeRoot(leaves[:k]))
}

// Bundle writes the entry as bundles have it.
func (e Entry) Bundle() map[string]any {
	type m = map[string]any
	text := func(n int64) string { return strconv.FormatInt(n, 10) }
	out := m{
		"logIndex": text(e.Index), "logId": m{"keyId": e.LogID}, "canonicalizedBody": e.Body,
		"kindVersion": m{"kind": e.Kind, "version": e.KindOfVersion},
		"inclusionProof": m{
			"logIndex": text(e.ProofIndex), "treeSize": text(e.Size), "rootHash": e.Root, "hashes": e.Hashes,
			"checkpoint": m{"envelope": e.Checkpoint},
		},
	}
	if e.Time != 0 {
		out["integratedTime"] = text(e.Time)
	}
	if e.Promise != nil {
		out["inclusionPromise"] = m{"signedEntryTimestamp": e.Promise}
	}
	return out
}

// addEntry answers as Rekor's API v1 does.
func (s *Sigstore) addEntry(_ *http.Request, body []byte) ([]byte, error) {
	canonical, err := canonicalEntry(body)
	if err != nil {
		return nil, err
	}
	id := uuid(canonical)
	if _, err := s.getEntry(id); err == nil {
		return nil, conflictError(id)
	}
	e, err := s.Log1.Add(canonical, s.Now())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken[id] = e
	return e.answer()
}

// uuid is what Rekor calls an entry: its tree and its leaf.
func uuid(canonical []byte) string {
	id := sha256.Sum256(append([]byte{0}, canonical...))
	return "24296fb24b8ad77a" + hex.EncodeToString(id[:])
}

// conflictError says that an entry is there.
type conflictError string

func (c conflictError) Error() string { return "an equivalent entry already exists" }

// getEntry answers as Rekor's API v1 does for an entry that it has.
func (s *Sigstore) getEntry(id string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.taken[id]
	if !ok {
		return nil, errors.New("no such entry")
	}
	return e.answer()
}

// answer writes the entry as the API v1 does.
func (e Entry) answer() ([]byte, error) {
	hashes := []string{}
	for _, h := range e.Hashes {
		hashes = append(hashes, hex.EncodeToString(h))
	}
	return json.Marshal(map[string]any{uuid(e.Body): map[string]any{
		"body": e.Body, "integratedTime": e.Time, "logID": hex.EncodeToString(e.LogID), "logIndex": e.Index,
		"verification": map[string]any{
			"signedEntryTimestamp": e.Promise,
			"inclusionProof": map[string]any{
				"checkpoint": e.Checkpoint, "hashes": hashes, "logIndex": e.ProofIndex, "rootHash": hex.EncodeToString(e.Root), "treeSize": e.Size,
			},
		},
	}})
}

// canonicalEntry turns a proposed entry into what the log keeps: of an envelope
// only hashes. Maps are written with their names in order.
func canonicalEntry(body []byte) ([]byte, error) {
	type m = map[string]any
	var p struct {
		Kind, APIVersion string
		Spec             struct {
			Content struct {
				Envelope  string
				Verifiers [][]byte
			} `json:"proposedContent"`
		}
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, err
	}
	switch p.Kind {
	case "hashedrekord":
		var whole m
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		if err := d.Decode(&whole); err != nil {
			return nil, err
		}
		if err := checkRecord(body); err != nil {
			return nil, err
		}
		return json.Marshal(whole)
	case "dsse":
		var envelope struct {
			Payload    []byte
			Signatures []struct{ Sig []byte }
		}
		if err := json.Unmarshal([]byte(p.Spec.Content.Envelope), &envelope); err != nil {
			return nil, err
		}
		if len(envelope.Signatures) != 1 || len(p.Spec.Content.Verifiers) != 1 {
			return nil, errors.New("want one signature and one verifier")
		}
		hash := func(b []byte) m {
			h := sha256.Sum256(b)
			return m{"algorithm": "sha256", "value": hex.EncodeToString(h[:])}
		}
		return json.Marshal(m{"kind": "dsse", "apiVersion": "0.0.1", "spec": m{
			"envelopeHash": hash([]byte(p.Spec.Content.Envelope)), "payloadHash": hash(envelope.Payload),
			"signatures": []m{{"signature": envelope.Signatures[0].Sig, "verifier": p.Spec.Content.Verifiers[0]}},
		}})
	}
	return nil, fmt.Errorf("entries of the kind %q are not known", p.Kind)
}

// checkRecord holds the signature of a hashedrekord against its key.
func checkRecord(body []byte) error {
	var r struct {
		Spec struct {
			Data struct {
				Hash struct{ Algorithm, Value string }
			}
			Signature struct {
				Content   []byte
				PublicKey struct{ Content []byte }
			}
		}
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return err
	}
	digest, err := hex.DecodeString(r.Spec.Data.Hash.Value)
	if err != nil {
		return err
	}
	b, _ := pem.Decode(r.Spec.Signature.PublicKey.Content)
	if b == nil {
		return errors.New("no verifier")
	}
	var pub any
	if c, err := x509.ParseCertificate(b.Bytes); err == nil {
		pub = c.PublicKey
	} else if pub, err = x509.ParsePKIXPublicKey(b.Bytes); err != nil {
		return err
	}
	hash := map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}[r.Spec.Data.Hash.Algorithm]
	holds := false
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		holds = len(digest) == hash.Size() && ecdsa.VerifyASN1(k, digest, r.Spec.Signature.Content)
	case *rsa.PublicKey:
		holds = rsa.VerifyPKCS1v15(k, hash, digest, r.Spec.Signature.Content) == nil
	}
	if !holds {
		return errors.New("the signature does not hold")
	}
	return nil
}

// addEntry2 answers as Rekor's API v2 does.
func (s *Sigstore) addEntry2(_ *http.Request, body []byte) ([]byte, error) {
	type m = map[string]any
	var req struct {
		Record struct {
			Digest    []byte
			Signature struct {
				Content  []byte
				Verifier m
			}
		} `json:"hashedRekordRequestV002"`
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, err
	}
	algorithm := map[int]string{32: "SHA2_256", 48: "SHA2_384", 64: "SHA2_512"}[len(req.Record.Digest)]
	canonical, err := json.Marshal(m{"kind": "hashedrekord", "apiVersion": "0.0.2", "spec": m{"hashedRekordV002": m{
		"data":      m{"algorithm": algorithm, "digest": req.Record.Digest},
		"signature": m{"content": req.Record.Signature.Content, "verifier": req.Record.Signature.Verifier},
	}}})
	if err != nil {
		return nil, err
	}
	e, err := s.Log2.Add(canonical, s.Now())
	if err != nil {
		return nil, err
	}
	return json.Marshal(e.Bundle())
}
