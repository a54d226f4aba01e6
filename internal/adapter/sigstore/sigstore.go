// Package sigstore is the door to Sigstore: it opens what cosign and others that
// speak its protocols have signed, and signs so that they can open it.
//
// An Opener takes bundles (v0.1 to v0.3: signatures of an image, and in-toto
// attestations) and what cosign wrote before there were bundles. It never asks
// the network: keys, certificate authorities, logs and time-stamping authorities
// are those of the roots it was made with, and a trusted root is a closed
// circle: the log or the authority of one never vouches for a certificate of
// another.
//
// A Signer signs with a key, with a certificate, or keyless, and asks only the
// services that it was told to ask.
//
// It is not for finding envelopes or storing them, which are the registry's
// doors, and not for saying whose signature is wanted, which is the trust
// policy's. Why it doesn't stand on Sigstore's own library is told in
// docs/decisions/0021-sigstore-without-its-library.md; the library and the
// cosign command judge it in test/cosign.
package sigstore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
)

// The media types of what an Opener opens.
const (
	BundleMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json" // what is written
	SimpleMediaType = "application/vnd.dev.cosign.simplesigning.v1+json"
	DSSEMediaType   = "application/vnd.dsse.envelope.v1+json"

	bundlePrefix = "application/vnd.dev.sigstore.bundle"
)

// The annotations of a bundle's manifest, as cosign writes them.
const (
	ContentAnnotation   = "dev.sigstore.bundle.content"
	PredicateAnnotation = "dev.sigstore.bundle.predicateType"
)

// Options of an Opener. The zero value is strict enough.
type Options struct {
	// Logs is how many different transparency logs must hold what a
	// certificate of a trusted root with logs has signed. Less than one is one.
	Logs int
}

// Opener opens Sigstore's envelopes. It may be used by many at once.
type Opener struct {
	keys   []trustedKey
	realms []*realm
	logs   map[string]*log // of all realms, for signatures of keys
	stamps []*authority    // time-stamping authorities of all realms
	lists  []*revocationList
	want   int
}

// New reads the roots. An error says which of them cannot be used, and why.
func New(roots signature.Roots, o Options) (*Opener, error) {
	op := &Opener{logs: map[string]*log{}, want: max(o.Logs, 1)}
	for i, k := range roots.Keys {
		t, err := newTrustedKey(k)
		if err != nil {
			return nil, fmt.Errorf("read key %q, the %s of the roots: %w", k.Name, ordinal(i), err)
		}
		op.keys = append(op.keys, t)
	}
	for i, file := range roots.Sigstore {
		for _, doc := range documents(file) {
			r, err := readRoot(doc)
			if err != nil {
				return nil, fmt.Errorf("read the %s trusted root of Sigstore: %w", ordinal(i), err)
			}
			op.realms = append(op.realms, r)
		}
	}
	if r := storesRealm(roots.Stores); r != nil {
		op.realms = append(op.realms, r)
	}
	for _, r := range op.realms {
		for id, l := range r.logs {
			op.logs[id] = l
		}
		op.stamps = append(op.stamps, r.stamps...)
	}
	for i, der := range roots.Revoked {
		l, err := readRevocationList(der)
		if err != nil {
			return nil, fmt.Errorf("read the %s revocation list: %w", ordinal(i), err)
		}
		op.lists = append(op.lists, l)
	}
	return op, nil
}

// ordinal counts as people do, from the first.
func ordinal(i int) string { return fmt.Sprintf("%d.", i+1) }

// Opens reports whether an Opener knows the form of an envelope; what it does
// not know is another door's, or nobody's.
func Opens(mediaType string) bool {
	return mediaType == SimpleMediaType || mediaType == DSSEMediaType || strings.HasPrefix(mediaType, bundlePrefix)
}

// Open checks an envelope about a subject and says what is true of it, at the
// time at. An envelope that is false, is about something else or can't be
// believed is a *signature.Refusal; there are no other errors but ctx's.
func (o *Opener) Open(ctx context.Context, e signature.Envelope, s signature.Subject, at time.Time) (signature.Signed, error) {
	if err := ctx.Err(); err != nil {
		return signature.Signed{}, err
	}
	m, err := read(e)
	if err != nil {
		return signature.Signed{}, err
	}
	signed := signature.Signed{
		Kind:     signature.Sigstore,
		Envelope: e.Digest,
		Way:      e.Way,
		Old:      m.old,
	}
	if m.digest, err = subjectDigest(s.Digest); err != nil {
		return signature.Signed{}, err
	}
	if len(m.chain) > 0 {
		err = o.openCertified(m, at, &signed)
	} else {
		err = o.openKeyed(m, at, &signed)
	}
	if err != nil {
		return signature.Signed{}, err
	}
	if err := m.bind(&signed); err != nil {
		return signature.Signed{}, err
	}
	return signed, nil
}
