package signature

import "crypto/x509"

// Claim is what an envelope says of itself. It holds against what it brings along
// and against nothing that anybody trusts, so that anybody can have written it: it
// is for showing to people who are to decide whom to trust, and decides nothing.
type Claim struct {
	Kind     Kind
	Identity Identity // of a bare key only the fingerprint that it hints at, if it does
	Attests  string   // type of the statement; "" for a signature

	// Of the Notary Project: the root of the envelope's own chain, and the kind of
	// store that must have it.
	Root  *x509.Certificate
	Store StoreKind
}
