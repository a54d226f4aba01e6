package trust

import (
	"crypto"

	"github.com/castellan-security/castellan/internal/sealed"
	"github.com/castellan-security/castellan/internal/trust/key"
)

// What whoever is outside this room knows of signing keys.
type (
	// KeyRing is a folder of signing keys; see key.Ring.
	KeyRing = key.Ring
	// SigningKey is a key of a ring; see key.Key.
	SigningKey = key.Key
	// KeyAlgorithm is a kind of key with its size.
	KeyAlgorithm = key.Algorithm
	// KeyFormat is how a key's file is sealed.
	KeyFormat = key.Format
	// KeyOptions are how a key is made.
	KeyOptions = key.Options
	// KeyPassword returns the password of a key.
	KeyPassword = key.Password
)

// The states of a key.
const (
	KeyActive   = key.Active
	KeyRetiring = key.Retiring
	KeyRetired  = key.Retired
	KeyLost     = key.Lost
)

// LeastKeyPassword is how long a new key's password is at least.
const LeastKeyPassword = key.LeastPassword

// OpenKeyRing returns the ring of keys in a folder; see key.OpenRing.
func OpenKeyRing(dir string) *KeyRing { return key.OpenRing(dir) }

// LoadKey reads the private key of a file; see key.Load.
func LoadKey(path string, password KeyPassword, plain bool) (crypto.Signer, error) {
	return key.Load(path, password, plain)
}

// KeyFingerprint is "sha256:HEX" of a public key; see sealed.Fingerprint.
func KeyFingerprint(public crypto.PublicKey) (string, error) { return sealed.Fingerprint(public) }

// KeyAlgorithms are those that keys can be made for, the default first.
func KeyAlgorithms() []KeyAlgorithm { return key.Algorithms() }

// KeyFormats are those that keys can be sealed in, the default first.
func KeyFormats() []KeyFormat { return key.Formats() }

// KeyAgeIdentityFile returns an identity of age in the place of a password; see
// key.AgeIdentityFile.
func KeyAgeIdentityFile(path string) KeyPassword { return key.AgeIdentityFile(path) }

// KeyPasswordFile returns the password that is a file's content.
func KeyPasswordFile(path string) KeyPassword { return key.PasswordFile(path) }

// KeyPasswordVariable returns the password that an environment variable has.
func KeyPasswordVariable(name string) KeyPassword { return key.PasswordVariable(name) }
