package sigstore

import "time"

// The limits of what strangers hand in, and why.
const (
	// MaxPayload bounds an envelope. A bundle around the bill of materials of a
	// large image has 10 MiB; a signature has ten kilobytes.
	MaxPayload = 24 << 20

	// maxCertificate bounds one certificate: Fulcio's have one kilobyte, those
	// of governments four.
	maxCertificate = 32 << 10
	// maxChain bounds the certificates of an envelope. Chains in use have two
	// to four; every one more is a signature to check.
	maxChain = 8
	// maxEntries and maxStamps bound what each costs a signature check; there
	// are one or two in use, and Sigstore's library takes 32.
	maxEntries = 16
	maxStamps  = 16
	// maxHashes bounds an inclusion proof: a log of 2^63 entries needs 63.
	maxHashes = 64
	// maxCheckpoint bounds a log's signed note: an origin, a size, a root and a
	// few signatures of witnesses.
	maxCheckpoint = 16 << 10
	// maxNoteSignatures bounds how many of a note's signatures are looked at.
	maxNoteSignatures = 16
	// maxBody bounds a log entry. An entry for an attestation holds hashes, not
	// the attestation; the largest has a certificate twice.
	maxBody = 256 << 10
	// maxStamp bounds a time stamp: a signature and a chain of certificates.
	maxStamp = 64 << 10
	// maxSignature bounds a signature: RSA with 8,192 bits has 1,024 bytes.
	maxSignature = 2 << 10
	// maxKeyBits bounds RSA keys: a check takes time with the cube of the size.
	maxKeyBits = 8192
	minKeyBits = 2048
	// maxSubjects bounds a statement's subjects; builds of hundreds of files
	// make one statement about all.
	maxSubjects = 4096
	// maxNodes bounds the values of a document that is kept in memory as such;
	// a bundle with 16 proofs has 2,000.
	maxNodes = 20_000
	// maxNames bounds the alternative names of a certificate, and maxText every
	// single text of it.
	maxNames = 32
	maxText  = 4 << 10
	// maxClaims bounds what a signature says beside what it is about.
	maxAnnotations = 256
	// maxSCTs bounds the promises of certificate logs; there is one in use.
	maxSCTs = 8
	// maxTried bounds how many keys a signature without a known hint is held
	// against.
	maxTried = 64
	// maxList bounds a revocation list.
	maxList = 16 << 20
	// maxRoot bounds a trusted root; the public one has 7 KiB.
	maxRoot = 4 << 20
)

// skew is how far the clocks of logs and authorities may be ahead of this
// machine's before one of them must be wrong.
const skew = 5 * time.Minute
