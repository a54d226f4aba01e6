package bundle_test

import (
	"archive/tar"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/bundle"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/sealed"
)

var now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

const digest = "sha256:74b2c688c700ec95a93e478cdb959737c148df3fbf5ea706abe0318726e885e6"

func content() bundle.Content {
	return bundle.Content{Policy: []byte("mode: enforce\n"), Facts: []admission.Facts{{Digest: digest, At: now,
		Scan: admission.Scan{State: admission.Known, At: now, Vulnerabilities: []admission.Vulnerability{{ID: "CVE-2026-1", Package: "openssl", Severity: finding.Critical}}}}}}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func made(t *testing.T, key crypto.Signer, terms bundle.Terms) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := bundle.Write(&b, content(), terms, key, now); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestBundlesOfAllKeys(t *testing.T) {
	keys := map[string]crypto.Signer{"P-256": newKey(t)}
	for name, curve := range map[string]elliptic.Curve{"P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = k
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys["Ed25519"] = ed
	if keys["RSA"], err = rsa.GenerateKey(rand.Reader, 3072); err != nil {
		t.Fatal(err)
	}
	for name, key := range keys {
		t.Run(name, func(t *testing.T) {
			b := made(t, key, bundle.Terms{Version: 7, Expires: now.Add(24 * time.Hour)})
			got, err := bundle.Read(b, bundle.Check{Keys: []crypto.PublicKey{newKey(t).Public(), key.Public()}, Least: 7, Now: now})
			if err != nil {
				t.Fatal(err)
			}
			f, ok := got.Facts(digest)
			if diff := cmp.Diff(content().Facts[0], f); diff != "" || !ok {
				t.Errorf("facts: %v, -want +got:\n%s", ok, diff)
			}
			if string(got.Policy) != "mode: enforce\n" || got.Manifest.Version != 7 || got.Manifest.Images != 1 {
				t.Errorf("got %+v, %q", got.Manifest, got.Policy)
			}
			if want, _ := sealed.Fingerprint(key.Public()); got.Key != want {
				t.Errorf("key %s, want %s", got.Key, want)
			}
		})
	}
}

func TestBundlesThatAreRefused(t *testing.T) {
	key := newKey(t)
	good := made(t, key, bundle.Terms{Version: 7, Expires: now.Add(24 * time.Hour)})
	check := bundle.Check{Keys: []crypto.PublicKey{key.Public()}, Least: 7, Now: now}
	with := func(change func(*bundle.Check)) bundle.Check {
		c := check
		change(&c)
		return c
	}
	for _, tt := range []struct {
		name  string
		b     []byte
		check bundle.Check
		kind  fault.Kind
		says  string
	}{
		{"another's", good, with(func(c *bundle.Check) { c.Keys = []crypto.PublicKey{newKey(t).Public()} }), fault.Denied, "none of the keys"},
		{"no key", good, with(func(c *bundle.Check) { c.Keys = nil }), fault.Invalid, "no key"},
		{"replayed", good, with(func(c *bundle.Check) { c.Least = 8 }), fault.Denied, "version is 7, and at least 8"},
		{"expired", good, with(func(c *bundle.Check) { c.Now = now.Add(24 * time.Hour) }), fault.Denied, "expired"},
		{"of tomorrow", good, with(func(c *bundle.Check) { c.Now = now.Add(-time.Hour) }), fault.Denied, "in the future"},
		{"another policy", bytes.Replace(good, []byte("mode: enforce"), []byte("mode: permits"), 1), check, fault.Denied, "policy.yaml is not what was signed"},
		{"manifest changed", edited(t, good, "bundle.json", func(b []byte) []byte {
			return bytes.Replace(b, []byte("payload\":\"eyJ2"), []byte("payload\":\"eyJW"), 1)
		}), check, fault.Denied, "none of the keys"},
		{"type changed", edited(t, good, "bundle.json", func(b []byte) []byte {
			return bytes.Replace(b, []byte("admission-bundle"), []byte("admission-bumble"), 1)
		}), check, fault.Corrupt, "of type"},
		{"facts changed", edited(t, good, "facts.json.gz", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), check, fault.Denied, "facts.json.gz is not what was signed"},
		{"facts left out", edited(t, good, "facts.json.gz", nil), check, fault.Corrupt, "no facts.json.gz"},
		{"more in it", edited(t, good, "+more", func([]byte) []byte { return []byte("x") }), check, fault.Corrupt, "more in it"},
		{"cut off", good[:len(good)/2], check, fault.Corrupt, ""},
		{"nothing", nil, check, fault.Corrupt, "no bundle.json"},
		{"no archive", []byte(strings.Repeat("x", 2000)), check, fault.Corrupt, "no bundle.json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := bundle.Read(tt.b, tt.check)
			if !fault.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) || fault.Remedy(err) == "" {
				t.Errorf("got %v (%v), want %v with %q", err, fault.Of(err), tt.kind, tt.says)
			}
		})
	}
}

// edited changes one file of an archive, leaves it out, or adds one.
func edited(t *testing.T, b []byte, name string, change func([]byte) []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, r := tar.NewWriter(&out), tar.NewReader(bytes.NewReader(b))
	write := func(name string, b []byte) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(b)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == name {
			if change == nil {
				continue
			}
			was := bytes.Clone(body)
			if body = change(body); bytes.Equal(was, body) {
				t.Fatalf("%s: nothing changed", name)
			}
		}
		write(h.Name, body)
	}
	if more, ok := strings.CutPrefix(name, "+"); ok {
		write(more, change(nil))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestBundlesThatAreNotMade(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		c     bundle.Content
		terms bundle.Terms
		key   crypto.Signer
		says  string
	}{
		{"expired already", content(), bundle.Terms{Expires: now}, newKey(t), "good for 0s"},
		{"for ever", content(), bundle.Terms{Expires: now.Add(bundle.MaxLifetime + time.Hour)}, newKey(t), "good for"},
		{"without a policy", bundle.Content{}, bundle.Terms{Expires: now.Add(time.Hour)}, newKey(t), "policy has 0 bytes"},
		{"weak key", content(), bundle.Terms{Expires: now.Add(time.Hour)}, weak, "signs nothing here"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if _, err := bundle.Write(&b, tt.c, tt.terms, tt.key, now); err == nil || !strings.Contains(err.Error(), tt.says) || fault.Remedy(err) == "" {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}

func TestLaterBundlesHaveHigherVersions(t *testing.T) {
	key := newKey(t)
	var last uint64
	for _, at := range []time.Time{now, now.Add(time.Second), now.Add(time.Hour)} {
		var b bytes.Buffer
		m, err := bundle.Write(&b, content(), bundle.Terms{Expires: at.Add(time.Hour)}, key, at)
		if err != nil {
			t.Fatal(err)
		}
		if m.Version <= last {
			t.Errorf("version %d after %d", m.Version, last)
		}
		last = m.Version
	}
}

// FuzzRead: whatever is read, nothing that the key did not sign is taken.
func FuzzRead(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) // the same in all workers
	var b bytes.Buffer
	if _, err := bundle.Write(&b, content(), bundle.Terms{Version: 1, Expires: now.Add(time.Hour)}, key, now); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := bundle.Read(in, bundle.Check{Keys: []crypto.PublicKey{key.Public()}, Now: now})
		if err == nil && (string(got.Policy) != "mode: enforce\n" || got.Manifest.Version != 1) {
			t.Errorf("took %+v with %q", got.Manifest, got.Policy)
		}
	})
}
