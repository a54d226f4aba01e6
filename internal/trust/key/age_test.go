package key_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/trust/key"
)

func identity(t testing.TB) *age.X25519Identity {
	t.Helper()
	i, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// sealedBy is what age itself makes of some bytes.
func sealedBy(t testing.TB, plain []byte, armored bool, to ...age.Recipient) []byte {
	t.Helper()
	var out bytes.Buffer
	var dst io.Writer = &out
	end := func() error { return nil }
	if armored {
		a := armor.NewWriter(&out)
		dst, end = a, a.Close
	}
	w, err := age.Encrypt(dst, to...)
	if err == nil {
		_, err = w.Write(plain)
		err = errors.Join(err, w.Close(), end())
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func withPassword(t testing.TB, word string, work int) age.Recipient {
	t.Helper()
	r, err := age.NewScryptRecipient(word)
	if err != nil {
		t.Fatal(err)
	}
	r.SetWorkFactor(work)
	return r
}

func somePEM(t testing.TB) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), k
}

// Keys that age sealed are read, armored or not.
func TestKeysOfAge(t *testing.T) {
	plain, k := somePEM(t)
	mine, other := identity(t), identity(t)
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	comment := "# created: today\n# public key: " + mine.Recipient().String() + "\n"
	for _, tc := range []struct {
		name string
		b    []byte
		word string
	}{
		{"a password", sealedBy(t, plain, true, withPassword(t, secret, 15)), secret},
		{"a password, not armored", sealedBy(t, plain, false, withPassword(t, secret, 15)), secret},
		{"a recipient", sealedBy(t, plain, true, mine.Recipient()), comment + mine.String() + "\n"},
		{"one of several recipients", sealedBy(t, plain, true, other.Recipient(), mine.Recipient()), mine.String()},
		{"one of several identities", sealedBy(t, plain, true, mine.Recipient()), other.String() + "\n" + mine.String()},
		{"a recipient for the time of quantum computers", sealedBy(t, plain, true, hybrid.Recipient()), hybrid.String()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := key.Parse(tc.b, is(tc.word), false)
			if err != nil {
				t.Fatal(err)
			}
			if !k.PublicKey.Equal(got.Public()) || !signs(t, got) {
				t.Error("it is another key")
			}
		})
	}
}

func TestKeysOfAgeThatAreRefused(t *testing.T) {
	plain, _ := somePEM(t)
	mine, other := identity(t), identity(t)
	forMe := sealedBy(t, plain, true, mine.Recipient())
	weak := sealedBy(t, plain, true, withPassword(t, secret, 15))
	broken := bytes.Clone(sealedBy(t, plain, false, mine.Recipient()))
	broken[len(broken)-1] ^= 1
	costly := bytes.Replace(sealedBy(t, plain, false, withPassword(t, secret, 15)), []byte(" 15\n"), []byte(" 30\n"), 1)
	for _, tc := range []struct {
		name  string
		b     []byte
		word  string
		kind  fault.Kind
		words string
	}{
		{"the wrong password", weak, "another password", fault.Unauthenticated, "the password does not open"},
		{"an empty password", weak, "", fault.Unauthenticated, "the password does not open"},
		{"a long password", weak, strings.Repeat("x", 2000), fault.Invalid, "2000 bytes"},
		{"an identity for a password", weak, mine.String(), fault.Invalid, "sealed with a password"},
		{"a password for a recipient", forMe, secret, fault.Unauthenticated, "sealed for recipients"},
		{"somebody else's identity", forMe, other.String(), fault.Unauthenticated, "the age identity does not open"},
		{"an identity that is none", forMe, "AGE-SECRET-KEY-1NONE", fault.Invalid, "can't be read"},
		{"hours of work", costly, secret, fault.Invalid, "2^30 rounds"},
		{"no work", sealedBy(t, plain, true, withPassword(t, secret, 10)), secret, fault.Invalid, "2^10 rounds"},
		{"changed", broken, mine.String(), fault.Invalid, "sealed by age"},
		{"cut off", forMe[:len(forMe)/2], mine.String(), fault.Invalid, "sealed by age"},
		{"something behind it", append(bytes.Clone(forMe), "x"...), mine.String(), fault.Invalid, "sealed by age"},
		{"too large", append(bytes.Clone(forMe), make([]byte, 17<<10)...), mine.String(), fault.Invalid, "more than 16384"},
		{"no key in it", sealedBy(t, []byte("hello"), true, mine.Recipient()), mine.String(), fault.Invalid, "no key in PEM"},
		{"much in it", sealedBy(t, bytes.Repeat(plain, 40), false, mine.Recipient()), mine.String(), fault.Invalid, "more than 8192 bytes"},
		{"two keys in it", sealedBy(t, append(bytes.Clone(plain), plain...), true, mine.Recipient()), mine.String(), fault.Invalid, "something follows"},
		{"a sealed key in it", sealedBy(t, block(t, "ENCRYPTED SIGSTORE PRIVATE KEY", []byte("{}")), true, mine.Recipient()), mine.String(), fault.Invalid, "no private key"},
		{"a weak key in it", sealedBy(t, block(t, "PRIVATE KEY", weakKey(t)), true, mine.Recipient()), mine.String(), fault.Invalid, "P-224"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := key.Parse(tc.b, is(tc.word), true)
			checkError(t, err, tc.kind, tc.words)
			if err != nil && strings.Contains(err.Error(), "AGE-SECRET") {
				t.Errorf("the error tells the identity: %v", err)
			}
		})
	}
	t.Run("nobody who knows the password", func(t *testing.T) {
		_, err := key.Parse(forMe, nil, false)
		checkError(t, err, fault.Unauthenticated, "sealed by age")
	})
	// Before hours of work, or a header that is wrong, nobody is asked.
	_, err := key.Parse(costly, func() ([]byte, error) { t.Error("the password was asked for"); return nil, nil }, false)
	checkError(t, err, fault.Invalid, "2^30 rounds")
}

func weakKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// What the ring seals, age itself opens; keys that replace it are sealed alike.
func TestRingSealsByAge(t *testing.T) {
	mine, standby := identity(t), identity(t)
	ring := key.OpenRing(t.TempDir())
	to := []string{mine.Recipient().String(), standby.Recipient().String()}
	made, err := ring.Generate("build", key.Options{Format: key.Age, Recipients: to}, june(1))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(ring.PrivateFile(made))
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(b)), standby)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := key.Parse(plain, nil, true); err != nil || !signs(t, got) {
		t.Errorf("age opens %q, %v", plain, err)
	}
	next, _, err := ring.Rotate("build", key.Options{}, day, june(2))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(next.Recipients, to); diff != "" || next.Format != key.Age || next.Sealing() != "2 recipients (age)" {
		t.Errorf("the next is sealed in the form %q, recipients, got, want: %s", next.Format, diff)
	}
	if s, k, err := ring.Signer("build", is(mine.String()), june(3)); err != nil || k.Number != 2 || !signs(t, s) {
		t.Errorf("the signer is %v, %v", k, err)
	}
	_, _, err = ring.Signer("build", is(secret), june(3))
	checkError(t, err, fault.Unauthenticated, "sealed for recipients")
	if _, _, err := ring.Rotate("build", key.Options{Format: key.Age, Password: is(secret)}, day, june(3)); err != nil {
		t.Fatal(err)
	}
	if s, k, err := ring.Signer("build", is(secret), june(4)); err != nil || k.Sealing() != "password (age)" || !signs(t, s) {
		t.Errorf("with a password: %v, %v", k, err)
	}
	if lost, err := ring.Lose("build-2", june(2), june(4)); err != nil || lost.State != key.Lost {
		t.Errorf("lost: %v, %v", lost, err)
	}
	for _, tc := range []struct {
		name  string
		o     key.Options
		words string
	}{
		{"a form that is none", key.Options{Format: "pgp", Password: is(secret)}, "pgp"},
		{"recipients of cosign", key.Options{Recipients: to, Password: is(secret)}, "only keys in age's form"},
		{"no recipient", key.Options{Format: key.Age, Recipients: []string{"age1nobody"}}, "no recipient"},
		{"two in one", key.Options{Format: key.Age, Recipients: []string{to[0] + "\n" + to[1]}}, "no recipient"},
		{"many", key.Options{Format: key.Age, Recipients: make([]string, 21)}, "at most 20"},
		{"nobody", key.Options{Format: key.Age}, "without a password"},
		{"a short password", key.Options{Format: key.Age, Password: is("short")}, "between 12 and"},
		{"an identity as password", key.Options{Format: key.Age, Password: is(mine.String())}, "an age identity was given"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ring.Generate("other", tc.o, june(1))
			checkError(t, err, fault.Invalid, tc.words)
		})
	}
}

func TestAgeIdentityFile(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	mine := identity(t).String()
	if got, err := key.AgeIdentityFile(put("good", "# mine\n"+mine+"\n"))(); err != nil || !strings.Contains(string(got), mine) {
		t.Errorf("got %q, %v", got, err)
	}
	_, err := key.AgeIdentityFile(put("word", secret))()
	checkError(t, err, fault.Invalid, "no identity of age")
	if _, err := key.AgeIdentityFile(put("large", mine+strings.Repeat("\n", 17<<10)))(); err == nil {
		t.Error("a large file was read")
	}
	_, err = key.AgeIdentityFile(filepath.Join(dir, "none"))()
	checkError(t, err, fault.Invalid, "read age identity")
}
