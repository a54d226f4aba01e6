package pki_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/pki"
)

var start = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func open(t *testing.T, dir string, now time.Time, names ...string) *pki.Authority {
	t.Helper()
	a, err := pki.Open(dir, names, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// chain returns the leaf and the root that a listener sends.
func chain(t *testing.T, a *pki.Authority) (leaf, root *x509.Certificate) {
	t.Helper()
	c, err := a.Certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Certificate) != 2 {
		t.Fatalf("got %d certificates, want leaf and root", len(c.Certificate))
	}
	root, err = x509.ParseCertificate(c.Certificate[1])
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf, root
}

func TestCertificateIsGoodForItsNames(t *testing.T) {
	a := open(t, t.TempDir(), start, "localhost", "127.0.0.1", "0:0::1", "Shop.Example")
	leaf, root := chain(t, a)
	pool := x509.NewCertPool()
	pool.AddCert(root)
	for name, ok := range map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true, "shop.example": true, "other.example": false} {
		_, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: pool, CurrentTime: start})
		if (err == nil) != ok {
			t.Errorf("%s: got %v, want good %v", name, err, ok)
		}
	}
	if link.Fingerprint(root) != a.Fingerprint() {
		t.Error("fingerprint is not the root's")
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 90*24*time.Hour {
		t.Errorf("got a certificate for %s, want at most 90 days", life)
	}
}

func TestKeysAreTheOwnersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	open(t, dir, start, "localhost")
	for _, name := range []string{"ca.pem", "server.pem"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s: got mode %o, want 600", name, info.Mode().Perm())
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Errorf("got %d files, %v, want 2", len(files), err)
	}
}

func TestReopened(t *testing.T) {
	day := 24 * time.Hour
	for _, c := range []struct {
		name     string
		later    time.Duration
		names    []string
		sameLeaf bool
	}{
		{"at once", 0, []string{"a.example", "::1"}, true},
		{"after a month", 31 * day, []string{"a.example", "::1"}, true},
		{"close to its end", 62 * day, []string{"a.example", "::1"}, false},
		{"after its end", 400 * day, []string{"a.example", "::1"}, false},
		{"clock stepped back", -3 * day, []string{"a.example", "::1"}, false},
		{"another name", 0, []string{"b.example", "::1"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			before := open(t, dir, start, "a.example", "::1")
			after := open(t, dir, start.Add(c.later), c.names...)
			if before.Fingerprint() != after.Fingerprint() {
				t.Error("the authority changed")
			}
			l1, _ := chain(t, before)
			l2, _ := chain(t, after)
			if got := l1.Equal(l2); got != c.sameLeaf {
				t.Errorf("got the same certificate %v, want %v", got, c.sameLeaf)
			}
		})
	}
}

func TestRenewedWhileRunning(t *testing.T) {
	now := start
	a, err := pki.Open(t.TempDir(), []string{"localhost"}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	if did, err := a.Renew(); did || err != nil {
		t.Errorf("fresh: got %v, %v, want nothing done", did, err)
	}
	now = now.Add(70 * 24 * time.Hour)
	if did, err := a.Renew(); !did || err != nil {
		t.Errorf("old: got %v, %v, want it renewed", did, err)
	}
	if !a.Expires().After(now.Add(80 * 24 * time.Hour)) {
		t.Errorf("got an end at %s", a.Expires())
	}
}

func TestDamagedFilesAreNeverReplaced(t *testing.T) {
	for _, name := range []string{"ca.pem", "server.pem"} {
		for what, content := range map[string]string{"empty": "", "text": "hello", "a broken certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
			t.Run(name+" is "+what, func(t *testing.T) {
				dir := t.TempDir()
				open(t, dir, start, "localhost")
				path := filepath.Join(dir, name)
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
				_, err := pki.Open(dir, []string{"localhost"}, func() time.Time { return start })
				if !fault.Is(err, fault.Corrupt) || fault.Remedy(err) == "" {
					t.Errorf("got %v, want corrupt with a remedy", err)
				}
				if b, err := os.ReadFile(path); err != nil || string(b) != content {
					t.Error("the file was changed")
				}
			})
		}
	}
}

func TestNamesThatNoCertificateCanHold(t *testing.T) {
	for _, n := range []string{"", "a b", "https://x", "-a.example", "x..y", "a.example:8600"} {
		_, err := pki.Open(t.TempDir(), []string{n}, time.Now)
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: got %v, want invalid", n, err)
		}
	}
	many := slices.Repeat([]string{"a.example"}, 3)
	for i := range 101 {
		many = append(many, string(rune('a'+i%26))+string(rune('a'+i/26))+".example")
	}
	if _, err := pki.Open(t.TempDir(), many, time.Now); !fault.Is(err, fault.Invalid) {
		t.Errorf("101 names: got %v, want invalid", err)
	}
}
