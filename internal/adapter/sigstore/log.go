package sigstore

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
)

// entry is what an envelope says that a transparency log holds.
type entry struct {
	log           []byte // id of the log
	index         int64
	kind, version string // as the bundle says; "" if it doesn't
	time          int64  // when the log took it, Unix; only a promise signs it
	promise       []byte
	proof         *proofOfInclusion
	body          []byte
}

// proofOfInclusion is a log's proof that it holds the body at an index.
type proofOfInclusion struct {
	index, size int64
	root        []byte
	hashes      [][]byte
	checkpoint  string
}

// logged is an entry that was found true.
type logged struct {
	log   *log
	entry signature.LogEntry
}

// checkEntries checks every entry of a log that is known; those of others prove
// nothing and are passed over. One false entry is enough to refuse.
func (m *material) checkEntries(logs map[string]*log, verifier signerKey) ([]logged, error) {
	if sameEntries(m.entries) {
		return nil, signature.Refuse(signature.Malformed, "the same log entry stands twice")
	}
	var all []logged
	for _, e := range m.entries {
		l := logs[string(e.log)]
		if l == nil {
			continue
		}
		if err := e.check(l, m.rules); err != nil {
			return nil, err
		}
		if err := m.sameAs(e, verifier); err != nil {
			return nil, err
		}
		all = append(all, logged{l, e.found(l)})
	}
	return all, nil
}

// found says where the log has the entry. What no signature covers is left out.
func (e entry) found(l *log) signature.LogEntry {
	f := signature.LogEntry{Log: l.name}
	if len(e.promise) > 0 {
		f.Index, f.At = e.index, time.Unix(e.time, 0).UTC()
		return f
	}
	f.Index = e.proof.index
	return f
}

// check checks the promise and the proof of an entry; what is there must hold,
// and one must be there.
func (e entry) check(l *log, rules proofRules) error {
	switch {
	case rules.promise && len(e.promise) == 0:
		return signature.Refuse(signature.NoLog, "the log's signed promise is missing, which this form must bring")
	case rules.proof && e.proof == nil:
		return signature.Refuse(signature.NoLog, "the log's inclusion proof is missing, which this form must bring")
	}
	if len(e.promise) > 0 {
		if at := time.Unix(e.time, 0); !l.between.holds(at) {
			return signature.Refuse(signature.NoLog, "the log's key was not in use at %s, when it is said to have taken the entry", at.UTC().Format(time.RFC3339))
		}
		if !holdsWith(l.key, l.hash, e.promised(), e.promise) {
			return signature.Refuse(signature.NoLog, "the log's promise is not its own: the signed entry time stamp does not hold")
		}
	}
	if e.proof == nil {
		return nil
	}
	// A log of the first version counts entries of earlier trees, too; of others
	// the index that no promise covers must be the proven one.
	if !firstVersion(e.proof.checkpoint) && len(e.promise) == 0 && e.index != e.proof.index {
		return signature.Refuse(signature.NoLog, "the log entry is said to be the %d., and proven to be the %d.", e.index, e.proof.index)
	}
	return e.proof.check(l, e.body)
}

// firstVersion reports whether a checkpoint is of Rekor's first version, whose
// origin has the tree's number behind the log's name.
func firstVersion(note string) bool {
	origin, _, _ := strings.Cut(note, "\n")
	return strings.Contains(origin, " - ")
}

// promised is what a log signs in a promise: the entry as canonical JSON
// (RFC 8785), whose fields are in the order of their names.
func (e entry) promised() []byte {
	return []byte(`{"body":"` + base64.StdEncoding.EncodeToString(e.body) +
		`","integratedTime":` + strconv.FormatInt(e.time, 10) +
		`,"logID":"` + hex.EncodeToString(e.log) +
		`","logIndex":` + strconv.FormatInt(e.index, 10) + `}`)
}

// check checks that the log signed a tree in which the body is.
func (p *proofOfInclusion) check(l *log, body []byte) error {
	size, root, err := checkpoint(p.checkpoint, l)
	if err != nil {
		return err
	}
	if p.size != size || !bytes.Equal(p.root, root) {
		return signature.Refuse(signature.NoLog, "the inclusion proof is about another tree than the log's checkpoint")
	}
	if !included(body, p.index, size, p.hashes, root) {
		return signature.Refuse(signature.NoLog, "the inclusion proof does not hold: the log does not have this entry at %d", p.index)
	}
	return nil
}

// included follows an inclusion proof from the leaf to the root (RFC 9162,
// 2.1.3.2).
func included(body []byte, index, size int64, path [][]byte, root []byte) bool {
	if index < 0 || index >= size {
		return false
	}
	hash := hashParts([]byte{0}, body)
	at, last := index, size-1
	for _, p := range path {
		if last == 0 || len(p) != sha256.Size {
			return false
		}
		if at&1 == 1 || at == last {
			hash = hashParts([]byte{1}, p, hash)
			for at&1 == 0 && at != 0 {
				at, last = at>>1, last>>1
			}
		} else {
			hash = hashParts([]byte{1}, hash, p)
		}
		at, last = at>>1, last>>1
	}
	return last == 0 && bytes.Equal(hash, root)
}

func hashParts(parts ...[]byte) []byte {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// checkpoint reads a log's signed note (C2SP, tlog-checkpoint) and returns the
// size and root of the tree that its key has signed.
func checkpoint(note string, l *log) (int64, []byte, error) {
	bad := func(format string, args ...any) (int64, []byte, error) {
		return 0, nil, signature.Refuse(signature.NoLog, "the log's checkpoint is false: "+format, args...)
	}
	if len(note) > maxCheckpoint {
		return bad("it has %d bytes, more than %d", len(note), maxCheckpoint)
	}
	end := strings.LastIndex(note, "\n\n")
	if end < 0 || !strings.HasSuffix(note, "\n") {
		return bad("it is no signed note")
	}
	text, signatures := note[:end+1], strings.Split(strings.TrimSuffix(note[end+2:], "\n"), "\n")
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || len(signatures) > maxNoteSignatures {
		return bad("it has no tree, or more than %d signatures", maxNoteSignatures)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size <= 0 || strconv.FormatInt(size, 10) != lines[1] {
		return bad("its size is %q", clip(lines[1]))
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != sha256.Size {
		return bad("its root is %q", clip(lines[2]))
	}
	if !firstVersion(note) && l.host != "" && lines[0] != l.host {
		return bad("its origin is %q, and the trusted root has the log at %q", clip(lines[0]), l.host)
	}
	for _, s := range signatures {
		if signedBy(l, lines[0], text, s) {
			return size, root, nil
		}
	}
	return bad("the log's key has not signed it")
}

// signedBy reports whether a line of a note is the log's signature over text.
func signedBy(l *log, origin, text, line string) bool {
	fields := strings.Split(line, " ")
	if len(fields) != 3 || fields[0] != "—" {
		return false
	}
	sig, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil || len(sig) <= 4 || len(sig) > maxSignature {
		return false
	}
	if name, _, _ := strings.Cut(origin, " - "); fields[1] != name {
		return false
	}
	if !l.noted(fields[1], binary.BigEndian.Uint32(sig)) {
		return false
	}
	return holdsWith(l.key, l.hash, []byte(text), sig[4:])
}

// noted reports whether a note calls the log's key so (C2SP, signed-note): the
// first version by the beginning of its fingerprint, whatever key it is, the second
// only ECDSA keys.
func (l *log) noted(name string, id uint32) bool {
	ids := [][]byte{hashParts(l.spki)}
	switch k := l.key.(type) {
	case ed25519.PublicKey:
		ids = append(ids, hashParts([]byte(name+"\n\x01"), k))
	case *rsa.PublicKey:
		ids = append(ids, hashParts([]byte(name+"\n\xffPKIX-RSA-PKCS#1v1.5"), l.spki))
	}
	return slices.ContainsFunc(ids, func(each []byte) bool { return binary.BigEndian.Uint32(each) == id })
}
