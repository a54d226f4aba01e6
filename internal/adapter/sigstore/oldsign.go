package sigstore

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/castellan-security/castellan/internal/signature"
)

// SignOld signs as cosign did before there were bundles, for registries and
// verifiers that know nothing else: the envelope is a layer of the image at
// the tag sha256-HEX.sig, and its annotations are the layer's.
func (s *Signer) SignOld(ctx context.Context, subject signature.Subject, annotations map[string]string) (signature.Envelope, error) {
	if _, err := subjectDigest(subject.Digest); err != nil {
		return signature.Envelope{}, err
	}
	if subject.Repository == "" {
		return signature.Envelope{}, errors.New("the old form names the repository, and there is none")
	}
	payload, err := json.Marshal(simpleJSON{
		Critical: criticalJSON{
			Identity: identityJSON{subject.Repository},
			Image:    imageJSON{subject.Digest},
			Type:     simpleType,
		},
		Optional: annotations,
	})
	if err != nil {
		return signature.Envelope{}, err
	}
	w, err := s.holder(ctx)
	if err != nil {
		return signature.Envelope{}, err
	}
	sig, err := w.sign(payload)
	if err != nil {
		return signature.Envelope{}, err
	}
	notes, err := s.oldNotes(ctx, w, signing{message: payload, signature: sig})
	if err != nil {
		return signature.Envelope{}, err
	}
	notes[oldSignature] = base64.StdEncoding.EncodeToString(sig)
	return s.checked(ctx, subject, signature.Envelope{
		Digest:      hashName(payload),
		MediaType:   SimpleMediaType,
		Payload:     payload,
		Way:         signature.ByFile,
		Annotations: notes,
	})
}

// AttestOld attests as cosign did before there were bundles: a layer of the image
// at the tag sha256-HEX.att.
func (s *Signer) AttestOld(ctx context.Context, subject signature.Subject, predicateType string, predicate []byte) (signature.Envelope, error) {
	if err := attestable(predicateType, predicate); err != nil {
		return signature.Envelope{}, err
	}
	w, what, err := s.signStatement(ctx, subject, nil, predicateType, predicate)
	if err != nil {
		return signature.Envelope{}, err
	}
	doc, err := json.Marshal(what.dsse())
	if err != nil {
		return signature.Envelope{}, err
	}
	what.stamped = doc
	notes, err := s.oldNotes(ctx, w, what)
	if err != nil {
		return signature.Envelope{}, err
	}
	notes[oldSignature] = "" // cosign wants the annotation there, and the signature in the envelope
	notes["predicateType"] = predicateType
	return s.checked(ctx, subject, signature.Envelope{
		Digest:      hashName(doc),
		MediaType:   DSSEMediaType,
		Payload:     doc,
		Way:         signature.ByFile,
		Annotations: notes,
	})
}

// oldNotes asks the services and writes what they answer as annotations, which
// have room for one log's promise and one time stamp.
func (s *Signer) oldNotes(ctx context.Context, w *hand, what signing) (map[string]string, error) {
	for _, l := range s.o.Services.Logs {
		if l.Version != 1 {
			return nil, fmt.Errorf("the old form has no room for the proofs of %s: it needs a log of Rekor's first version", l.URL)
		}
	}
	if len(s.o.Services.Logs) > 1 || len(s.o.Services.Stamps) > 1 {
		return nil, errors.New("the old form has room for one log and one time stamp")
	}
	v, err := s.vouchers(ctx, w, what)
	if err != nil {
		return nil, err
	}
	notes := map[string]string{}
	if len(w.chain) > 0 {
		notes[oldCertificate] = string(pemOf("CERTIFICATE", w.chain[0].Raw))
		above := ""
		for _, c := range w.chain[1:] {
			above += string(pemOf("CERTIFICATE", c.Raw))
		}
		if above != "" {
			notes[oldChain] = above
		}
	}
	for _, t := range v.stamps {
		doc, err := json.Marshal(oldStampJSON{t})
		if err != nil {
			return nil, err
		}
		notes[oldStamp] = string(doc)
	}
	for _, e := range v.entries {
		var entry entryJSON
		if err := json.Unmarshal(e, &entry); err != nil {
			return nil, err
		}
		doc, err := json.Marshal(oldBundleJSON{entry.Promise.Signed, oldPayloadJSON{
			Body: entry.Body, Time: json.Number(entry.Time), Index: json.Number(entry.Index), Log: hex.EncodeToString(entry.Log.KeyID),
		}})
		if err != nil {
			return nil, err
		}
		notes[oldBundle] = string(doc)
	}
	return notes, nil
}

// The old forms as JSON.
type (
	simpleJSON struct {
		Critical criticalJSON      `json:"critical"`
		Optional map[string]string `json:"optional"`
	}
	criticalJSON struct {
		Identity identityJSON `json:"identity"`
		Image    imageJSON    `json:"image"`
		Type     string       `json:"type"`
	}
	identityJSON struct {
		Reference string `json:"docker-reference"`
	}
	imageJSON struct {
		Digest string `json:"docker-manifest-digest"`
	}
	oldStampJSON struct {
		Stamp []byte `json:"SignedRFC3161Timestamp"`
	}
	oldBundleJSON struct {
		Promise []byte         `json:"SignedEntryTimestamp"`
		Payload oldPayloadJSON `json:"Payload"`
	}
	oldPayloadJSON struct {
		Body  []byte      `json:"body"`
		Time  json.Number `json:"integratedTime"`
		Index json.Number `json:"logIndex"`
		Log   string      `json:"logID"`
	}
)
