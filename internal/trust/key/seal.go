package key

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/nacl/secretbox"
	"golang.org/x/crypto/scrypt"

	"github.com/castellan-security/castellan/internal/fault"
)

// Types of PEM blocks with a private key.
const (
	typeSigstore = "ENCRYPTED SIGSTORE PRIVATE KEY"
	typeCosign   = "ENCRYPTED COSIGN PRIVATE KEY" // by cosign before 2
	typePKCS8    = "PRIVATE KEY"
	typeEC       = "EC PRIVATE KEY"
	typeRSA      = "RSA PRIVATE KEY"

	typeECParameters = "EC PARAMETERS" // which openssl writes before the key
)

const (
	kdfScrypt    = "scrypt"
	cipherBox    = "nacl/secretbox"
	keySize      = 32
	nonceSize    = 24
	saltSize     = 32
	leastSalt    = 16
	mostSalt     = 64
	mostPassword = 1024
	// LeastPassword is how long a new key's password is at least: whoever gets
	// hold of the file tries as fast as his machines allow.
	LeastPassword = 12
	// maxKeyFile bounds a key's file: a sealed RSA key of 8192 bits has ten
	// kilobytes.
	maxKeyFile = 16 << 10
)

// sealedKey is what a sealed key's PEM block holds, as cosign writes it.
type sealedKey struct {
	KDF struct {
		Name   string `json:"name"`
		Params work   `json:"params"`
		Salt   []byte `json:"salt"`
	} `json:"kdf"`
	Cipher struct {
		Name  string `json:"name"`
		Nonce []byte `json:"nonce"`
	} `json:"cipher"`
	Ciphertext []byte `json:"ciphertext"`
}

// work is what deriving a key from a password costs.
type work struct {
	N int `json:"N"`
	R int `json:"r"`
	P int `json:"p"`
}

// known are the costs that cosign has ever asked for; the last is the one that
// OWASP advises, and ours: 128 MiB and half a second. A file that asks for less
// was not made by cosign, one that asks for more would have us work for hours.
func known() []work { return []work{{1 << 15, 8, 1}, {1 << 16, 8, 1}, {1 << 17, 8, 1}} }

// Seal encrypts a private key with a password, in the form of cosign's key
// files, which cosign 2 and later reads.
func Seal(k crypto.Signer, password []byte) ([]byte, error) {
	if err := checkPassword(password); err != nil {
		return nil, err
	}
	der, err := encode(k)
	if err != nil {
		return nil, err
	}
	defer Wipe(der)
	var s sealedKey
	s.KDF.Name, s.Cipher.Name = kdfScrypt, cipherBox
	s.KDF.Params = known()[len(known())-1]
	s.KDF.Salt, s.Cipher.Nonce = make([]byte, saltSize), make([]byte, nonceSize)
	for _, b := range [][]byte{s.KDF.Salt, s.Cipher.Nonce} {
		if _, err := rand.Read(b); err != nil {
			return nil, fmt.Errorf("read random bytes: %w", err)
		}
	}
	secret, err := s.derive(password)
	if err != nil {
		return nil, err
	}
	defer Wipe(secret[:])
	s.Ciphertext = secretbox.Seal(nil, der, (*[nonceSize]byte)(s.Cipher.Nonce), secret)
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: typeSigstore, Bytes: b}), nil
}

// checkPassword refuses a new password that is too short, or too long.
func checkPassword(password []byte) error {
	if n := len(password); n < LeastPassword || n > mostPassword {
		return fault.New(fault.Invalid, "a password of %d characters, and a key's has between %d and %d", n, LeastPassword, mostPassword).
			With("take a longer one, best of several random words")
	}
	return nil
}

// encode is a private key in PKCS #8. Whoever asked wipes it.
func encode(k crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return der, nil
}

// derive makes the key of the cipher from a password.
func (s *sealedKey) derive(password []byte) (*[keySize]byte, error) {
	p := s.KDF.Params
	b, err := scrypt.Key(password, s.KDF.Salt, p.N, p.R, p.P, keySize)
	if err != nil {
		return nil, fmt.Errorf("derive key from password: %w", err)
	}
	return (*[keySize]byte)(b), nil
}

// check refuses what cosign would not have written.
func (s *sealedKey) check() error {
	ok := false
	for _, w := range known() {
		ok = ok || w == s.KDF.Params
	}
	switch {
	case s.KDF.Name != kdfScrypt || s.Cipher.Name != cipherBox:
		return fmt.Errorf("it is sealed by %.40q and %.40q, and %s and %s are known", s.KDF.Name, s.Cipher.Name, kdfScrypt, cipherBox)
	case !ok:
		return fmt.Errorf("its scrypt parameters %+v are none that cosign ever wrote", s.KDF.Params)
	case len(s.KDF.Salt) < leastSalt || len(s.KDF.Salt) > mostSalt:
		return fmt.Errorf("a salt of %d bytes", len(s.KDF.Salt))
	case len(s.Cipher.Nonce) != nonceSize:
		return fmt.Errorf("a nonce of %d bytes", len(s.Cipher.Nonce))
	case len(s.Ciphertext) <= secretbox.Overhead:
		return errors.New("nothing is sealed in it")
	}
	return nil
}

// Password returns the password of a key. Whoever asked wipes it.
type Password func() ([]byte, error)

// Parse reads a private key from what a key file has. One that is not sealed is
// read only if plain says so. The password is asked for only once the rest of
// the file has proven right.
func Parse(b []byte, password Password, plain bool) (crypto.Signer, error) {
	if isAge(b) {
		return unsealAge(b, password)
	}
	block, err := only(b)
	if err != nil {
		return nil, invalid("%w", err)
	}
	defer Wipe(block.Bytes)
	switch block.Type {
	case typeSigstore, typeCosign:
		return unseal(block.Bytes, password)
	case typePKCS8, typeEC, typeRSA:
		if strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return nil, fault.New(fault.Unsupported, "the key is encrypted in the form of OpenSSL before 1.0, which anyone can break").
				With("seal it anew: openssl pkey -in FILE | cosign import-key-pair, or make a new one: castellan trust key generate")
		}
		if !plain {
			return nil, fault.New(fault.Denied, "the private key is not sealed with a password").
				With("seal it (cosign import-key-pair --key FILE), or say that a key in the clear is meant to be used: --plain-key")
		}
		return decode(block)
	case "ENCRYPTED PRIVATE KEY":
		return nil, fault.New(fault.Unsupported, "the key is encrypted as PKCS #8, and keys that cosign or age sealed are read").
			With("seal it anew: openssl pkcs8 -in FILE -out plain.pem && cosign import-key-pair --key plain.pem, and delete plain.pem")
	case "PUBLIC KEY", "CERTIFICATE":
		return nil, fault.New(fault.Invalid, "it is a %s and no private key", strings.ToLower(block.Type)).With("name the file with the private key, often the one that ends with .key")
	}
	return nil, fault.New(fault.Unsupported, "a PEM block of type %.60q is no private key that is known", block.Type).
		With("make one: castellan trust key generate")
}

// invalid is the error for a file that is no key.
func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).With("name a file that castellan trust key generate or cosign generate-key-pair made, or a key in PEM that age sealed")
}

// only returns the one PEM block with a key.
func only(b []byte) (*pem.Block, error) {
	if len(b) > maxKeyFile {
		return nil, fmt.Errorf("a key file of more than %d bytes", maxKeyFile)
	}
	block, rest := pem.Decode(b)
	if block != nil && block.Type == typeECParameters {
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, errors.New("there is no key in PEM form in it")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("something follows the key")
	}
	return block, nil
}

// unseal decrypts what cosign or we sealed.
func unseal(b []byte, password Password) (crypto.Signer, error) {
	var s sealedKey
	err := json.Unmarshal(b, &s)
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return nil, invalid("sealed key: %w", err)
	}
	if password == nil {
		return nil, fault.New(fault.Unauthenticated, "the key is sealed with a password").With("give it: --password-file FILE, or CASTELLAN_KEY_PASSWORD")
	}
	word, err := password()
	if err != nil {
		return nil, err
	}
	defer Wipe(word)
	if isIdentity(word) {
		return nil, fault.New(fault.Invalid, "the key is sealed with a password, and an age identity was given").With("give the password: --password-file FILE, or CASTELLAN_KEY_PASSWORD")
	}
	if len(word) > mostPassword {
		return nil, fault.New(fault.Invalid, "a password of %d bytes, and at most %d are read", len(word), mostPassword).With("is that the right file?")
	}
	secret, err := s.derive(word)
	if err != nil {
		return nil, err
	}
	defer Wipe(secret[:])
	der, ok := secretbox.Open(nil, s.Ciphertext, (*[nonceSize]byte)(s.Cipher.Nonce), secret)
	if !ok {
		return nil, fault.New(fault.Unauthenticated, "the password does not open the key").With("is it the right one? if so, the file is damaged")
	}
	defer Wipe(der)
	return decode(&pem.Block{Type: typePKCS8, Bytes: der})
}

// decode reads a private key in DER.
func decode(block *pem.Block) (crypto.Signer, error) {
	var k any
	var err error
	switch block.Type {
	case typePKCS8:
		k, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case typeEC:
		k, err = x509.ParseECPrivateKey(block.Bytes)
	case typeRSA:
		k, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, invalid("private key: %w", err)
	}
	signer, ok := k.(crypto.Signer)
	if !ok {
		return nil, invalid("a private key of type %T, which signs nothing", k)
	}
	if _, err := AlgorithmOf(signer.Public()); err != nil {
		return nil, err
	}
	return signer, nil
}
