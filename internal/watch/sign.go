package watch

import (
	"crypto"
	"fmt"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/sealed"
)

// MaxSignature bounds what lies beside a signed profile: eight signatures of the
// largest keys have less.
const MaxSignature = 64 << 10

const signedProfile = "application/vnd.castellan.profile.v1+yaml"

// SignProfile returns what lies beside the text of a profile to show that somebody
// approved exactly that text: a DSSE envelope without its payload. What is no
// profile, or one for any group, is refused, since it would be signed for all.
func SignProfile(text []byte, key crypto.Signer) ([]byte, error) {
	d, err := Read(text, "profile")
	if err != nil {
		return nil, err
	}
	if err := isOfGroup(d); err != nil {
		return nil, err
	}
	b, err := sealed.Sign(signedProfile, text, key)
	if err != nil {
		return nil, fmt.Errorf("sign profile: %w", err)
	}
	return b, nil
}

// VerifyProfile returns the fingerprint of the one of the keys that signed a text. It
// is Denied if none has.
func VerifyProfile(text, signature []byte, keys []crypto.PublicKey) (key string, err error) {
	if len(signature) > MaxSignature {
		return "", fault.New(fault.Corrupt, "the signature has more than %d bytes", MaxSignature)
	}
	if key, err = sealed.Verify(signedProfile, text, signature, keys); err != nil {
		return "", fmt.Errorf("verify profile: %w", err)
	}
	d, err := Read(text, "profile")
	if err == nil {
		err = isOfGroup(d)
	}
	return key, err
}

func isOfGroup(d *Document) error {
	if d.Profile.Group != "" {
		return nil
	}
	return fault.New(fault.Invalid, "the profile does not say of which group it is").
		With("write it into the text, so that the signature is for that group alone: group: cluster/service/container")
}
