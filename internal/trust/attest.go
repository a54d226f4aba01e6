package trust

import "github.com/castellan-security/castellan/internal/trust/attest"

// PredicateType returns the type that a short name or a URI means; see
// attest.Type.
func PredicateType(name string) (string, error) { return attest.Type(name) }

// Predicate checks a document that is to be attested; see attest.Predicate.
func Predicate(typ string, doc []byte) ([]byte, error) { return attest.Predicate(typ, doc) }

// ScannedImages returns the digests that a scan's predicate is about.
func ScannedImages(predicate []byte) ([]string, error) { return attest.Scanned(predicate) }
