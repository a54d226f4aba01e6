package key_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/sealed"
	"github.com/castellan-security/castellan/internal/trust/key"
)

const secret = "correct horse battery"

func is(word string) key.Password { return func() ([]byte, error) { return []byte(word), nil } }

// signs says whether what signer signs, its own public key verifies.
func signs(t *testing.T, signer crypto.Signer) bool {
	t.Helper()
	sum := sha256.Sum256([]byte("image"))
	switch public := signer.Public().(type) {
	case *ecdsa.PublicKey:
		b, err := signer.Sign(rand.Reader, sum[:], crypto.SHA256)
		return err == nil && ecdsa.VerifyASN1(public, sum[:], b)
	case *rsa.PublicKey:
		b, err := signer.Sign(rand.Reader, sum[:], crypto.SHA256)
		return err == nil && rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], b) == nil
	case ed25519.PublicKey:
		b, err := signer.Sign(rand.Reader, sum[:], crypto.Hash(0))
		return err == nil && ed25519.Verify(public, sum[:], b)
	}
	return false
}

func checkError(t *testing.T, err error, kind fault.Kind, words string) {
	t.Helper()
	if err == nil || fault.Of(err) != kind || fault.Remedy(err) == "" || !strings.Contains(err.Error(), words) {
		t.Errorf("error %v of kind %v with remedy %q, want %v and %q", err, fault.Of(err), fault.Remedy(err), kind, words)
	}
	if err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("the error tells the password: %v", err)
	}
}

func TestKeysOfAllAlgorithms(t *testing.T) {
	for _, a := range key.Algorithms() {
		t.Run(string(a), func(t *testing.T) {
			if a == key.RSA4096 && testing.Short() {
				t.Skip("takes seconds")
			}
			path := filepath.Join(t.TempDir(), "build")
			pair, err := key.WritePair(path, a, []byte(secret))
			if err != nil || pair.Algorithm != a {
				t.Fatalf("WritePair = %+v, %v", pair, err)
			}
			for file, mode := range map[string]os.FileMode{pair.Private: 0o600, pair.Public: 0o644} {
				if info, err := os.Stat(file); err != nil || info.Mode().Perm() != mode {
					t.Errorf("%s: %v, %v, want mode %v", file, info.Mode(), err, mode)
				}
			}
			signer, err := key.Load(pair.Private, is(secret), false)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := sealed.Fingerprint(signer.Public()); got != pair.Fingerprint || !signs(t, signer) {
				t.Errorf("fingerprint %s, want %s; signs: %v", got, pair.Fingerprint, signs(t, signer))
			}
			public, err := os.ReadFile(pair.Public)
			want, _ := key.PublicPEM(signer.Public())
			if err != nil || !bytes.Equal(public, want) {
				t.Errorf("public key %s, %v, want %s", public, err, want)
			}
			_, err = key.WritePair(path, key.P256, []byte(secret))
			checkError(t, err, fault.Conflict, "is there already")
			if again, err := key.Load(pair.Private, is(secret), false); err != nil || !signer.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(again.Public()) {
				t.Errorf("the key was overwritten: %v", err)
			}
		})
	}
}

// Keys that cosign's own library sealed, of today and of before version 2.
func TestKeysOfCosign(t *testing.T) {
	for file, want := range map[string]key.Algorithm{"sigstore.key": key.P256, "cosign1.key": key.RSA3072} {
		b, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		signer, err := key.Parse(b, is(secret), false)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if got, err := key.AlgorithmOf(signer.Public()); got != want || err != nil || !signs(t, signer) {
			t.Errorf("%s: %s, %v, want %s, and that it signs", file, got, err, want)
		}
	}
}

// sealedWith is a sealed key whose JSON was changed.
func sealedWith(t *testing.T, change func(map[string]any)) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/sigstore.key")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	var v map[string]any
	if err := json.Unmarshal(block.Bytes, &v); err != nil {
		t.Fatal(err)
	}
	change(v)
	if block.Bytes, err = json.Marshal(v); err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block)
}

func params(n, r, p int) func(map[string]any) {
	return func(v map[string]any) {
		v["kdf"].(map[string]any)["params"] = map[string]int{"N": n, "r": r, "p": p}
	}
}

func block(t *testing.T, typ string, k any) []byte {
	t.Helper()
	var der []byte
	var err error
	switch k := k.(type) {
	case []byte:
		der = k
	default:
		der, err = x509.MarshalPKCS8PrivateKey(k)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})
}

func TestKeysThatAreRefused(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile("testdata/sigstore.key")
	if err != nil {
		t.Fatal(err)
	}
	box := func(member string, value any) func(map[string]any) {
		return func(v map[string]any) { v["cipher"].(map[string]any)[member] = value }
	}
	for _, tc := range []struct {
		name  string
		b     []byte
		plain bool
		kind  fault.Kind
		words string
	}{
		{"empty", nil, false, fault.Invalid, "no key in PEM form"},
		{"too large", bytes.Repeat([]byte("x"), 17<<10), false, fault.Invalid, "more than 16384 bytes"},
		{"two keys", append(bytes.Clone(good), good...), false, fault.Invalid, "something follows"},
		{"days of work", sealedWith(t, params(1<<30, 8, 1)), false, fault.Invalid, "none that cosign ever wrote"},
		{"much memory", sealedWith(t, params(1<<15, 1<<20, 1)), false, fault.Invalid, "none that cosign ever wrote"},
		{"no work", sealedWith(t, params(2, 8, 1)), false, fault.Invalid, "none that cosign ever wrote"},
		{"another cipher", sealedWith(t, box("name", "rot13")), false, fault.Invalid, "rot13"},
		{"a short nonce", sealedWith(t, box("nonce", []byte("x"))), false, fault.Invalid, "a nonce of 1 bytes"},
		{"nothing sealed", sealedWith(t, func(v map[string]any) { v["ciphertext"] = "" }), false, fault.Invalid, "nothing is sealed"},
		{"a changed one", sealedWith(t, func(v map[string]any) { v["ciphertext"] = bytes.Repeat([]byte("x"), 100) }), false, fault.Unauthenticated, "does not open"},
		{"no JSON", block(t, "ENCRYPTED SIGSTORE PRIVATE KEY", []byte("x")), false, fault.Invalid, "sealed key"},
		{"in the clear", block(t, "PRIVATE KEY", small), false, fault.Denied, "not sealed"},
		{"a weak curve", block(t, "PRIVATE KEY", small), true, fault.Invalid, "P-224"},
		{"a short RSA key", block(t, "PRIVATE KEY", weak), true, fault.Invalid, "1024 bits"},
		{"encrypted PKCS #8", block(t, "ENCRYPTED PRIVATE KEY", []byte("x")), true, fault.Unsupported, "PKCS #8"},
		{"a public key", block(t, "PUBLIC KEY", []byte("x")), true, fault.Invalid, "no private key"},
		{"another thing", block(t, "OPENSSH PRIVATE KEY", []byte("x")), true, fault.Unsupported, "OPENSSH"},
		{"rubbish in the clear", block(t, "RSA PRIVATE KEY", []byte("x")), true, fault.Invalid, "private key:"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := key.Parse(tc.b, is(secret), tc.plain)
			checkError(t, err, tc.kind, tc.words)
		})
	}
	t.Run("the wrong password", func(t *testing.T) {
		_, err := key.Parse(good, is("another"), false)
		checkError(t, err, fault.Unauthenticated, "does not open")
	})
	t.Run("no password", func(t *testing.T) {
		_, err := key.Parse(good, nil, false)
		checkError(t, err, fault.Unauthenticated, "sealed with a password")
	})
	t.Run("a short password for a new key", func(t *testing.T) {
		_, err := key.WritePair(filepath.Join(t.TempDir(), "k"), key.P256, []byte("short"))
		checkError(t, err, fault.Invalid, "between 12 and")
	})
}

// openssl's forms in the clear, when that is meant.
func TestKeysInTheClear(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"PKCS #8":           block(t, "PRIVATE KEY", k),
		"SEC 1":             block(t, "EC PRIVATE KEY", ec),
		"SEC 1, parameters": append(block(t, "EC PARAMETERS", []byte{6, 5, 43, 129, 4, 0, 34}), block(t, "EC PRIVATE KEY", ec)...),
	} {
		got, err := key.Parse(b, nil, true)
		if err != nil || !k.PublicKey.Equal(got.Public()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The password is wiped when it was used.
func TestPasswordIsWiped(t *testing.T) {
	b, err := os.ReadFile("testdata/sigstore.key")
	if err != nil {
		t.Fatal(err)
	}
	word := []byte(secret)
	if _, err := key.Parse(b, func() ([]byte, error) { return word, nil }, false); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(word, make([]byte, len(secret))) {
		t.Errorf("the password is still %q", word)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	pair, err := key.WritePair(filepath.Join(dir, "build"), key.P256, []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	copied := func(t *testing.T, name string, mode os.FileMode) string {
		b, err := os.ReadFile(pair.Private)
		if err == nil {
			err = os.WriteFile(at(name), b, mode)
		}
		if err == nil {
			err = os.Chmod(at(name), mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		return at(name)
	}
	for _, tc := range []struct {
		name  string
		path  func(t *testing.T) string
		kind  fault.Kind
		words string
	}{
		{"that others may read", func(t *testing.T) string { return copied(t, "others", 0o604) }, fault.Denied, "others may read"},
		{"that the group may read", func(t *testing.T) string { return copied(t, "group", 0o640) }, fault.Denied, "others may read"},
		{"a link", func(t *testing.T) string {
			if err := os.Symlink(pair.Private, at("link")); err != nil {
				t.Fatal(err)
			}
			return at("link")
		}, fault.Denied, "symbolic link"},
		{"none", func(*testing.T) string { return at("none") }, fault.NotFound, "no such file"},
		{"a folder", func(*testing.T) string { return dir }, fault.Invalid, "no regular file"},
		{"a pipe", func(t *testing.T) string {
			if err := syscall.Mkfifo(at("pipe"), 0o600); err != nil {
				t.Fatal(err)
			}
			return at("pipe")
		}, fault.Invalid, "no regular file"},
		{"a large one", func(t *testing.T) string {
			if err := os.WriteFile(at("large"), make([]byte, 1<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			return at("large")
		}, fault.Invalid, "1048576 bytes"},
		{"of another user", func(t *testing.T) string {
			if os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			path := copied(t, "theirs", 0o600)
			if err := os.Chown(path, 12345, 12345); err != nil {
				t.Fatal(err)
			}
			return path
		}, fault.Denied, "another user"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := key.Load(tc.path(t), is(secret), false)
			checkError(t, err, tc.kind, tc.words)
		})
	}
}

func TestPasswords(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(secret+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := key.PasswordFile(file)(); string(got) != secret || err != nil {
		t.Errorf("from a file: %q, %v", got, err)
	}
	t.Setenv("SOME_PASSWORD", secret)
	if got, err := key.PasswordVariable("SOME_PASSWORD")(); string(got) != secret || err != nil {
		t.Errorf("from a variable: %q, %v", got, err)
	}
	_, err := key.PasswordVariable("NO_PASSWORD")()
	checkError(t, err, fault.Invalid, "not set")
	_, err = key.PasswordFile(file + ".not")()
	checkError(t, err, fault.Invalid, "read password")
}

// FuzzParse wants a usable key or an error, and no more work than cosign's keys
// take.
func FuzzParse(f *testing.F) {
	for _, file := range []string{"sigstore.key", "cosign1.key"} {
		b, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(ed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), true)
	f.Add(sealedBy(f, []byte("x"), true, identity(f).Recipient()), false)
	f.Add(sealedBy(f, []byte("x"), false, withPassword(f, secret, 15)), false)
	f.Add([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), false)
	f.Fuzz(func(t *testing.T, b []byte, plain bool) {
		// A password is asked for only when the rest is right; deriving a key from it
		// would take all of the fuzzer's time.
		signer, err := key.Parse(b, func() ([]byte, error) { return nil, fault.New(fault.Unauthenticated, "none") }, plain)
		if err != nil {
			return
		}
		if _, err := key.AlgorithmOf(signer.Public()); err != nil || !plain {
			t.Fatalf("a key of %T was read: %v", signer, err)
		}
	})
}
