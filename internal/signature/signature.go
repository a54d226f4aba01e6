// Package signature has the words for who vouched for an image: the envelope
// in which a registry keeps a signature or an attestation, the roots it is held
// against, and what is true of it once its cryptography has been checked.
//
// Two kinds of doors meet here. One finds envelopes (a registry, an image
// layout); the other opens them (Sigstore, the Notary Project). What an opened
// envelope is worth is for the trust policy to say (package trust): a door
// reports facts and refuses what is false, it never decides whether a signer is
// the right one.
//
// An Envelope is hostile until a door has opened it; everything in Signed is
// covered by the signature unless its comment says otherwise.
package signature

import (
	"time"
)

// Kind is a family of signatures.
type Kind string

// The kinds.
const (
	Sigstore Kind = "sigstore" // bundles of Sigstore, and what cosign wrote before there were bundles
	Notary   Kind = "notary"   // envelopes of the Notary Project (JWS and COSE), AWS Signer among them
)

// Way is how an envelope was found.
type Way string

// The ways.
const (
	ByReferrer     Way = "referrer"      // the registry's list of referrers (OCI distribution 1.1)
	ByReferrersTag Way = "referrers-tag" // the tag sha256-HEX that stands in for that list
	ByCosignTag    Way = "cosign-tag"    // the tags sha256-HEX.sig and .att of older cosign
	ByFile         Way = "file"          // a file that the user named
)

// Envelope is a signature or an attestation as it was found: bytes of a
// stranger.
type Envelope struct {
	Digest       string            // of the manifest that holds it; of the payload when it came from a file
	ArtifactType string            // what the manifest says it is
	MediaType    string            // of the payload
	Annotations  map[string]string // of the manifest, and of the payload's descriptor, which win
	Payload      []byte
	Way          Way
}

// Subject is what a signature must be about.
type Subject struct {
	Repository string // registry/path, without tag or digest; "" for what is no image of a registry
	Digest     string // "sha256:HEX" of the image's manifest or index
	MediaType  string // of that manifest; "" if not known
	Size       int64  // of that manifest, in bytes; 0 if not known
}

// Proof is how the time of signing is known.
type Proof string

// The proofs of time.
const (
	Unproven    Proof = ""          // nothing says when
	Claimed     Proof = "claimed"   // only the signer says so
	Authority   Proof = "authority" // a signing authority vouches for it (Notary Project, signingAuthority)
	Timestamped Proof = "timestamp" // RFC 3161, by a trusted authority
	Logged      Proof = "log"       // a transparency log's signed promise
)

// Signed is what a door found true of an envelope.
type Signed struct {
	Kind        Kind
	Envelope    string // digest of the manifest that holds it
	Way         Way
	Identity    Identity
	Statement   *Statement        // nil for a bare signature
	Annotations map[string]string // that are signed too
	Reference   string            // the image as the signer named it, signed too (docker-reference of simple signing); "" if it was not named

	At     time.Time // of signing; zero if nothing says when
	Proof  Proof     // how At is known
	Expiry time.Time // after which the signer does not want it believed; zero: never

	// Until is when the door must be asked again at the latest: the end of
	// the certificate if nothing proves an earlier time, of a revocation
	// list, of a root. Zero: the answer holds as long as the roots do.
	Until time.Time

	Log        *LogEntry  // nil without a transparency log
	Revocation Revocation // of the certificate, as far as it could be found out
	Old        bool       // a form that its makers have given up (cosign's signatures before bundles)
}

// LogEntry is where a transparency log keeps a signature.
type LogEntry struct {
	Log   string // the log's key, "sha256:HEX"
	Index int64
	At    time.Time
}

// Revocation is what is known of a certificate's revocation.
type Revocation string

// The states of revocation. Revoked itself is a refusal, not a state.
const (
	NoRevocation     Revocation = ""        // keys, and certificates that live for minutes or name no place to ask: there is none
	NotRevoked       Revocation = "good"    // said by a list or an answer that is still valid
	RevocationStale  Revocation = "stale"   // said by one that is valid no longer
	RevocationSilent Revocation = "unknown" // nobody could be asked
)

// Identity is who signed. The same signer under two keys is two identities.
type Identity struct {
	Key string // "sha256:HEX" of the public key's SubjectPublicKeyInfo in DER; always set

	// Of a certificate; empty for a bare key.
	Name        string   // its subject, as RFC 4514 writes it, in the certificate's order of parts
	Names       []string // its alternative names: e-mail addresses, URIs, DNS names
	Store       string   // the root store that vouches for it
	Root        string   // "sha256:HEX" of the root certificate
	Certificate string   // "sha256:HEX" of the certificate

	// Keyless: what Fulcio wrote into the certificate.
	Issuer  string            // OIDC issuer
	Subject string            // the e-mail address or URI it was given for
	Claims  map[string]string // source-repository, source-ref, source-digest, build-signer, trigger, …: see docs/trust.md

	// AWS. Where there is a profile there is no name: the certificate's is the
	// service's, whoever asked it to sign.
	Profile        string // ARN of AWS Signer's signing profile, without version
	ProfileVersion string // the same with its version; "" for a profile that AWS holds under an alias
	ProfileAlias   string // ARN of that alias
	Job            string // ARN of AWS Signer's job
}

// Statement is an in-toto statement about an image (in-toto Attestation
// Framework, v1 or v0.1).
type Statement struct {
	Predicate string // its type, a URI
	Body      []byte // the predicate, JSON

	// Subjects are the digests ("sha256:HEX") that the statement itself says it
	// is about: the door has found the wanted one among them, and who decides
	// looks again.
	Subjects []string
}
