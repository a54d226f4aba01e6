package key

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/castellan-security/castellan/internal/fault"
)

const (
	ageIntro    = "age-encryption.org/"
	ageScrypt   = "scrypt"
	ageSecret   = "AGE-SECRET-KEY-"
	agePayload  = 8 << 10 // bytes: an RSA key of 8192 bits in PEM has seven kilobytes
	maxIdentity = 16 << 10
	// ageWork is the cost of scrypt, as a power of two, that age itself asks for
	// (256 MiB and a second for each guess), and the most that is done: a file that
	// asks for more would have us work for minutes. Less than leastAgeWork protects
	// no password.
	ageWork      = 18
	leastAgeWork = 15
	// maxRecipients bounds who may open a key: the build, its standby, who recovers
	// it.
	maxRecipients = 20
)

// isAge says whether a file is one of age, armored or not.
func isAge(b []byte) bool {
	b = bytes.TrimLeft(b, " \t\r\n")
	return bytes.HasPrefix(b, []byte(armor.Header)) || bytes.HasPrefix(b, []byte(ageIntro))
}

// sealAge encrypts a private key, as PEM, into an armored file of age, which age
// itself opens: for recipients if there are some, else with a password.
func sealAge(k crypto.Signer, password []byte, recipients []string) ([]byte, error) {
	to, err := ageRecipients(recipients)
	if err != nil {
		return nil, err
	}
	if len(to) == 0 {
		if err := checkPassword(password); err != nil {
			return nil, err
		}
		r, err := age.NewScryptRecipient(string(password))
		if err != nil {
			return nil, fmt.Errorf("seal key: %w", err)
		}
		r.SetWorkFactor(ageWork)
		to = []age.Recipient{r}
	}
	der, err := encode(k)
	if err != nil {
		return nil, err
	}
	defer Wipe(der)
	plain := pem.EncodeToMemory(&pem.Block{Type: typePKCS8, Bytes: der})
	defer Wipe(plain)
	var out bytes.Buffer
	a := armor.NewWriter(&out)
	w, err := age.Encrypt(a, to...)
	if err == nil {
		_, err = w.Write(plain)
		err = errors.Join(err, w.Close(), a.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	return out.Bytes(), nil
}

// ageRecipients reads recipients as age writes them, age1….
func ageRecipients(all []string) ([]age.Recipient, error) {
	if len(all) > maxRecipients {
		return nil, fault.New(fault.Invalid, "%d recipients, and at most %d may open a key", len(all), maxRecipients).With("name fewer")
	}
	var out []age.Recipient
	for _, text := range all {
		one, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil || len(one) != 1 {
			return nil, fault.New(fault.Invalid, "%.100q is no recipient of age", text).With("write it as age-keygen prints it: age1…")
		}
		out = append(out, one...)
	}
	return out, nil
}

// unsealAge decrypts a file of age that holds a private key in PEM.
func unsealAge(b []byte, password Password) (crypto.Signer, error) {
	if len(b) > maxKeyFile {
		return nil, invalid("a key file of more than %d bytes", maxKeyFile)
	}
	var in io.Reader = bytes.NewReader(b)
	if !bytes.HasPrefix(b, []byte(ageIntro)) {
		in = armor.NewReader(in)
	}
	with := &ageOpener{password: password}
	r, err := age.Decrypt(in, with)
	var none *age.NoIdentityMatchError
	switch {
	case with.refused != nil:
		return nil, with.refused
	case errors.As(err, &none):
		return nil, fault.New(fault.Unauthenticated, "%s does not open the key", with.what()).With("is it the right one? if so, the file is damaged")
	case err != nil:
		return nil, invalid("key sealed by age: %w", err)
	}
	plain := make([]byte, agePayload) // not grown, so that no copies are left in memory
	defer Wipe(plain)
	n, err := io.ReadFull(r, plain)
	switch {
	case err == nil:
		return nil, invalid("more than %d bytes are sealed in it", agePayload)
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, invalid("key sealed by age: %w", err)
	}
	block, err := only(plain[:n])
	if err != nil {
		return nil, invalid("what is sealed in it: %w", err)
	}
	defer Wipe(block.Bytes)
	switch block.Type {
	case typePKCS8, typeEC, typeRSA:
		return decode(block)
	}
	return nil, invalid("what is sealed in it is a %.60q, and no private key", block.Type)
}

// ageOpener is age.Identity. It asks for the password, or the identity, only when
// the rest of the header has proven right.
type ageOpener struct {
	password Password
	identity bool // it was opened, or not, by an identity
	refused  error
}

func (o *ageOpener) what() string {
	if o.identity {
		return "the age identity"
	}
	return "the password"
}

// Unwrap is age.Identity.
func (o *ageOpener) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	key, err := o.unwrap(stanzas)
	if err != nil && !errors.Is(err, age.ErrIncorrectIdentity) {
		o.refused = err
	}
	return key, err
}

func (o *ageOpener) unwrap(stanzas []*age.Stanza) ([]byte, error) {
	byPassword := false
	for _, s := range stanzas {
		if s.Type == ageScrypt {
			byPassword = true
			if err := checkWork(s.Args, len(stanzas)); err != nil {
				return nil, err
			}
		}
	}
	if o.password == nil {
		return nil, fault.New(fault.Unauthenticated, "the key is sealed by age").With("give its password: --password-file FILE, or CASTELLAN_KEY_PASSWORD; or --age-identity FILE")
	}
	word, err := o.password()
	if err != nil {
		return nil, err
	}
	defer Wipe(word)
	isIdentity := isIdentity(word)
	switch {
	case byPassword && isIdentity:
		return nil, fault.New(fault.Invalid, "the key is sealed with a password, and an age identity was given").With("give the password: --password-file FILE, or CASTELLAN_KEY_PASSWORD")
	case !byPassword && !isIdentity:
		return nil, fault.New(fault.Unauthenticated, "the key is sealed for recipients of age, and no password opens it").With("name the file with one's identity, AGE-SECRET-KEY-1…: --age-identity FILE")
	case !byPassword:
		o.identity = true
		return unwrapFor(word, stanzas)
	case len(word) > mostPassword:
		return nil, fault.New(fault.Invalid, "a password of %d bytes, and at most %d are read", len(word), mostPassword).With("is that the right file?")
	case len(word) == 0:
		return nil, age.ErrIncorrectIdentity
	}
	i, err := age.NewScryptIdentity(string(word))
	if err != nil {
		return nil, err
	}
	i.SetMaxWorkFactor(ageWork)
	key, err := i.Unwrap(stanzas)
	if err != nil && !errors.Is(err, age.ErrIncorrectIdentity) {
		err = invalid("key sealed by age: %w", err)
	}
	return key, err
}

// checkWork refuses a password's stanza that asks for too much work, or for none.
func checkWork(args []string, stanzas int) error {
	if stanzas != 1 || len(args) != 2 {
		return invalid("key sealed by age: a password beside others, or without salt and cost")
	}
	n, err := strconv.Atoi(args[1])
	if err != nil || n < leastAgeWork || n > ageWork {
		return fault.New(fault.Invalid, "the key is sealed with 2^%.10s rounds of scrypt, and between 2^%d and 2^%d are taken", args[1], leastAgeWork, ageWork).
			With("seal it anew with age's own cost: age -d FILE | age -p -a -o NEW")
	}
	return nil
}

// unwrapFor opens a key that is sealed for recipients.
func unwrapFor(word []byte, stanzas []*age.Stanza) ([]byte, error) {
	all, err := age.ParseIdentities(bytes.NewReader(word))
	if err != nil {
		// The error could tell the secret.
		return nil, fault.New(fault.Invalid, "the age identity can't be read").With("name a file that age-keygen made, with AGE-SECRET-KEY-1…; those of plugins and of SSH are not known")
	}
	for _, i := range all {
		key, err := i.Unwrap(stanzas)
		if errors.Is(err, age.ErrIncorrectIdentity) {
			continue
		}
		if err != nil {
			err = invalid("key sealed by age: %w", err)
		}
		return key, err
	}
	return nil, age.ErrIncorrectIdentity
}

// isIdentity says whether a text is an identity of age, which has comments before
// it as a rule.
func isIdentity(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' {
			return bytes.HasPrefix(line, []byte(ageSecret))
		}
	}
	return false
}

// AgeIdentityFile returns the identity of age that a file has, in the place of a
// password. Like a password's file it may be one that is mounted into a container.
func AgeIdentityFile(path string) Password {
	return func() ([]byte, error) {
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return nil, fault.New(fault.Invalid, "read age identity: %w", err).With("name a file that castellan may read")
		}
		b := make([]byte, maxIdentity)
		n, err := io.ReadFull(f, b)
		switch {
		case err == nil:
			err = fmt.Errorf("it has more than %d bytes", maxIdentity)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			err = nil
		}
		if err = errors.Join(err, f.Close()); err == nil && !isIdentity(b[:n]) {
			err = fault.New(fault.Invalid, "it has no identity of age").With("name a file that age-keygen made, with AGE-SECRET-KEY-1…")
		}
		if err != nil {
			Wipe(b)
			return nil, fmt.Errorf("read age identity from %s: %w", path, err)
		}
		return b[:n], nil
	}
}
