package signature

import (
	"crypto"
	"crypto/x509"
	"time"
)

// StoreKind says what the certificates of a store may vouch for (Notary
// Project, trust store and trust policy specification).
type StoreKind string

// The kinds of stores.
const (
	StoreCA        StoreKind = "ca"               // for signing certificates
	StoreAuthority StoreKind = "signingAuthority" // for signing authorities, whose word on the time counts
	StoreTSA       StoreKind = "tsa"              // for time-stamping authorities
)

// Store is a named set of root certificates.
type Store struct {
	Kind         StoreKind
	Name         string
	Certificates []*x509.Certificate
}

// Key is a public key that is trusted by itself.
type Key struct {
	Name      string // what people call it
	Public    crypto.PublicKey
	NotBefore time.Time // signatures before are refused; zero: none
	NotAfter  time.Time // signatures from then on are refused, and those whose time is not proven; zero: none
	Lost      time.Time // from when on somebody else may have had it; treated like NotAfter, told as such
}

// Roots is all that signatures are held against. Nothing is ever fetched to
// verify: what is not here is not trusted.
type Roots struct {
	Keys     []Key
	Stores   []Store
	Sigstore [][]byte // trusted roots in Sigstore's own form (protobuf-specs, TrustedRoot as JSON)

	// Revocation lists, by DER. They are checked against their issuer before
	// they are believed.
	Revoked [][]byte
}
