package notary

import (
	"fmt"

	"github.com/castellan-security/castellan/internal/signature"
)

// Claimed returns what an envelope about a subject says of itself; see
// signature.Claim. The signature and the chain are checked up to the envelope's own
// root, for which nobody vouches; times and revocation are not looked at.
func Claimed(e signature.Envelope, s signature.Subject) (signature.Claim, error) {
	dec, err := reader()
	if err != nil {
		return signature.Claim{}, fmt.Errorf("prepare to read CBOR: %w", err)
	}
	in, err := (&Opener{dec: dec}).read(e)
	if err != nil {
		return signature.Claim{}, err
	}
	what, err := readPayload(in.payload)
	if err != nil {
		return signature.Claim{}, err
	}
	if err := what.about(s); err != nil {
		return signature.Claim{}, err
	}
	if err := in.header.check(); err != nil {
		return signature.Claim{}, err
	}
	aws, err := in.header.plugin()
	if err != nil {
		return signature.Claim{}, err
	}
	chain, err := parseChain(in.chain)
	if err != nil {
		return signature.Claim{}, err
	}
	// Taken for trusted, the envelope's own root is held to the rules of all.
	own := signature.StoreCA
	if in.header.scheme == schemeAuthority {
		own = signature.StoreAuthority
	}
	root := chain[len(chain)-1]
	o, err := New(signature.Roots{Stores: []signature.Store{{Kind: own, Certificates: chain[len(chain)-1:]}}}, Options{})
	if err != nil {
		return signature.Claim{}, err
	}
	if _, _, err := o.verify(in); err != nil {
		return signature.Claim{}, err
	}
	who, err := identity(chain, anchor{cert: root}, aws)
	return signature.Claim{Kind: signature.Notary, Identity: who, Root: root, Store: own}, err
}
