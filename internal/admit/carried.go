package admit

import (
	"crypto"
	"io"
	"time"

	"github.com/castellan-security/castellan/internal/admit/bundle"
)

// What whoever is outside this room knows of bundles; see package bundle.
type (
	// Bundle is a policy with facts that was signed.
	Bundle = bundle.Bundle
	// BundleManifest is what of it is signed.
	BundleManifest = bundle.Manifest
	// BundleContent is what it carries.
	BundleContent = bundle.Content
	// BundleTerms are how long it is good, and which it replaces.
	BundleTerms = bundle.Terms
	// BundleCheck is what a reader insists on.
	BundleCheck = bundle.Check
)

// MaxBundle is how large a bundle may be.
const MaxBundle = bundle.MaxBytes

// MaxBundleLifetime is for how long a bundle may be good.
const MaxBundleLifetime = bundle.MaxLifetime

// WriteBundle makes a bundle; see bundle.Write. A policy that does not load is
// refused before it is signed.
func WriteBundle(w io.Writer, c BundleContent, t BundleTerms, key crypto.Signer, now time.Time) (BundleManifest, error) {
	if _, err := Read(c.Policy, "policy"); err != nil {
		return BundleManifest{}, err
	}
	return bundle.Write(w, c, t, key, now)
}

// ReadBundle opens a bundle; see bundle.Read.
func ReadBundle(b []byte, c BundleCheck) (*Bundle, error) { return bundle.Read(b, c) }
