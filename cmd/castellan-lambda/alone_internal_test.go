package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/fault"
)

// shelf is a bucket with one object, or an error.
type shelf struct {
	b   []byte
	tag string
	err error
	n   int // how often it was asked
}

func (s *shelf) Get(_ context.Context, _, known string, _ int64) ([]byte, string, error) {
	s.n++
	if s.err != nil {
		return nil, "", s.err
	}
	if known == s.tag {
		return nil, known, nil
	}
	return s.b, s.tag, nil
}

// put makes a bundle whose policy denies, or has nothing against, what is asked.
func (s *shelf) put(t *testing.T, version uint64, denies bool, now time.Time, lifetime time.Duration) {
	t.Helper()
	policy := fmt.Sprintf("version: 1\nmode: enforce\nrules:\n  - id: all\n    title: Nothing\n    why: A test.\n    severity: high\n    for: container\n    deny: \"%v\"\n    message: no\n    remedy: none\n", denies)
	var b bytes.Buffer
	if _, err := admit.WriteBundle(&b, admit.BundleContent{Policy: []byte(policy)}, admit.BundleTerms{Version: version, Expires: now.Add(lifetime)}, testKey(), now); err != nil {
		t.Fatal(err)
	}
	s.b, s.tag, s.err = b.Bytes(), fmt.Sprint(version, denies), nil
}

func testKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) }

func testConfig(t *testing.T, name string) config {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(testKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	return config{bundle: name, bundleKey: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), least: 2}
}

// TestBundlesThatAreReplaced is the life of one instance of the function.
func TestBundlesThatAreReplaced(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	start := now
	s := &shelf{err: fault.New(fault.Unavailable, "S3 is away")}
	a, err := newAlone(testConfig(t, "s3://policies/bundle"), s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	a.now = func() time.Time { return now }
	for _, step := range []struct {
		name   string
		after  time.Duration
		change func()
		want   admission.Outcome // "": an error
		kind   fault.Kind
	}{
		{"none can be had", 0, func() {}, "", fault.Unavailable},
		{"one is there at once, since there was none", 0, func() { s.put(t, 5, false, now, time.Hour) }, admission.Allow, 0},
		{"a newer one within the minute", time.Second, func() { s.put(t, 6, true, now, time.Hour) }, admission.Allow, 0},
		{"the newer one after it", time.Minute, func() {}, admission.Deny, 0},
		{"an older one is put back", time.Minute, func() { s.put(t, 5, false, start, time.Hour) }, admission.Deny, 0},
		{"the same version with another policy is the signer's word", time.Minute, func() { s.put(t, 6, false, now, 30*time.Minute) }, admission.Allow, 0},
		{"one that is none", time.Minute, func() { s.b, s.tag = []byte("none"), "x" }, admission.Allow, 0},
		{"S3 is away", time.Minute, func() { s.err = fault.New(fault.Unavailable, "S3 is away") }, admission.Allow, 0},
		{"the last one expires", 30 * time.Minute, func() {}, "", fault.Denied},
		{"and a new one holds", time.Minute, func() { s.put(t, 7, false, now, time.Hour) }, admission.Allow, 0},
	} {
		now = now.Add(step.after)
		step.change()
		v, err := a.Decide(t.Context(), &admission.Request{ID: "1", Door: admission.Service, Action: admission.Run, Task: admission.Task{Containers: []admission.Container{{Name: "web"}}}})
		if v.Outcome != step.want && step.want != "" || fault.Of(err) != step.kind || (err != nil) != (step.want == "") {
			t.Errorf("%s: %q, %v; want %q", step.name, v.Outcome, err, step.want)
		}
	}
	asked := s.n
	for range 10 {
		if _, err := a.Decide(t.Context(), &admission.Request{ID: "1", Door: admission.Service, Action: admission.Run}); err != nil {
			t.Fatal(err)
		}
	}
	if s.n != asked {
		t.Errorf("S3 was asked %d times within a minute", s.n-asked)
	}
}

func TestBundlesOfThePackage(t *testing.T) {
	var s shelf
	s.put(t, 2, true, time.Now(), time.Hour)
	name := filepath.Join(t.TempDir(), "castellan.bundle")
	if err := os.WriteFile(name, s.b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, file string
		change     func(*config)
		says       string
	}{
		{"there", name, func(*config) {}, ""},
		{"not there", name + "x", func(*config) {}, "read bundle"},
		{"a folder", filepath.Dir(name), func(*config) {}, "no file"},
		{"too old", name, func(c *config) { c.least = 3 }, "at least 3"},
	} {
		c := testConfig(t, tt.file)
		tt.change(&c)
		a, err := newAlone(c, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		v, err := a.Decide(t.Context(), &admission.Request{ID: "1", Door: admission.Service, Action: admission.Run, Task: admission.Task{Containers: []admission.Container{{Name: "web"}}}})
		switch {
		case tt.says == "" && (err != nil || v.Outcome != admission.Deny || v.Declared):
			t.Errorf("%s: %+v, %v", tt.name, v, err)
		case tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says) || fault.Remedy(err) == ""):
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
