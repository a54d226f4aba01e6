package cosign_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/adapter/sigstore/standin"
	"github.com/castellan-security/castellan/internal/signature"
)

// believes asks Sigstore's own library about a bundle.
func believes(t testing.TB, doc, trusted []byte, s signature.Subject) error {
	t.Helper()
	tr, err := root.NewTrustedRootFromJSON(trusted)
	if err != nil {
		t.Fatal(err)
	}
	var b bundle.Bundle
	if err := b.UnmarshalJSON(doc); err != nil {
		return err
	}
	v, err := verify.NewVerifier(tr, verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1), verify.WithSignedCertificateTimestamps(1))
	if err != nil {
		t.Fatal(err)
	}
	digest, err := hex.DecodeString(strings.TrimPrefix(s.Digest, "sha256:"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Verify(&b, verify.NewPolicy(verify.WithArtifactDigest("sha256", digest), verify.WithoutIdentitiesUnsafe()))
	return err
}

// TestWhatTheLibraryRefusesIsRefused changes every value of a bundle, one by one:
// what Sigstore's library refuses then must be refused here. What it believes
// and is refused here is counted and must be a kind that is meant.
func TestWhatTheLibraryRefusesIsRefused(t *testing.T) {
	ctx := context.Background()
	for name, parts := range map[string]standin.Parts{"log 1": logged, "log 2 and time stamp": tiles} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			ref := b.image()
			trusted := b.TrustedRoot(b.url, parts)
			s := b.signer(sigstore.SignerOptions{Token: b.token()}, parts)
			e, err := s.Attest(ctx, subject(ref), "https://example.org/p", []byte(`{"a":1}`))
			if err != nil {
				t.Fatal(err)
			}
			if err := believes(t, e.Payload, trusted, subject(ref)); err != nil {
				t.Fatalf("the library refuses what was signed here: %v", err)
			}
			o := b.opener(parts)
			tried, stricter := 0, map[string]bool{}
			for _, change := range changes(t, e.Payload) {
				theirs := believes(t, change.doc, trusted, subject(ref))
				changed := e
				changed.Payload = change.doc
				_, ours := o.Open(ctx, changed, subject(ref), time.Now())
				tried++
				if theirs != nil && ours == nil {
					t.Errorf("%s: the library refuses it (%v), and here it opens", change.name, theirs)
				}
				if theirs == nil && ours != nil {
					stricter[change.name] = true
				}
			}
			t.Logf("%d changes; stricter here: %d %v", tried, len(stricter), keys(stricter))
			if tried < 50 {
				t.Errorf("only %d changes were tried", tried)
			}
		})
	}
}

func keys(m map[string]bool) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	return all
}

type change struct {
	name string
	doc  []byte
}

// changes makes documents that differ from one in one value: without it, null,
// with its first, middle or last character another, with the value twice in a
// list, and with a field beside it that nobody knows.
func changes(t testing.TB, doc []byte) []change {
	t.Helper()
	var tree any
	if err := json.Unmarshal(doc, &tree); err != nil {
		t.Fatal(err)
	}
	var all []change
	emit := func(name string) {
		out, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, change{name, out})
	}
	var walk func(path string, at any, set func(any))
	walk = func(path string, at any, set func(any)) {
		defer set(at)
		for _, other := range others(at) {
			set(other)
			emit(path)
		}
		set(at)
		switch v := at.(type) {
		case map[string]any:
			for k, child := range v {
				delete(v, k)
				emit(path + "." + k + " removed")
				walk(path+"."+k, child, func(n any) { v[k] = n })
			}
			v["unknown"] = 1
			emit(path + ".unknown")
			delete(v, "unknown")
		case []any:
			for i, child := range v {
				walk(path+"[]", child, func(n any) { v[i] = n })
			}
			set([]any{})
			emit(path + " emptied")
			if len(v) > 0 {
				set(append(append([]any{}, v...), v[0]))
				emit(path + " with one twice")
			}
		}
	}
	walk("", tree, func(n any) { tree = n })
	return all
}

// others are values that could stand instead of one.
func others(at any) []any {
	out := []any{nil}
	switch v := at.(type) {
	case string:
		for _, i := range []int{0, len(v) / 3, len(v) / 2, len(v) - 2, len(v) - 1} {
			if i < 0 || i >= len(v) {
				continue
			}
			c := byte('A')
			if v[i] == 'A' || v[i] == '=' {
				c = 'B'
			}
			if v[i] >= '0' && v[i] <= '9' {
				c = '0' + (v[i]-'0'+1)%10
			}
			out = append(out, v[:i]+string(c)+v[i+1:])
		}
		out = append(out, "", v+v)
	case float64:
		out = append(out, v+1)
	}
	return out
}

// TestTheLibrarysOwnSamples opens what others have signed with the public
// Sigstore and with other clients: the samples of Sigstore's library.
func TestTheLibrarysOwnSamples(t *testing.T) {
	dir := library(t)
	public := read(t, dir, "pkg/testing/data/trusted-roots/public-good.json")
	for _, tc := range []struct {
		name, file, trusted, digest string
		want                        signature.Reason // of the refusal, which for what is about no image is that
	}{
		{"npm provenance", "pkg/testing/data/bundles/sigstore.js@2.0.0-provenance.sigstore.json", "", "", signature.OtherSubject},
		{"provenance in an example", "examples/bundle-provenance.json", "", "", signature.OtherSubject},
		{"DSSE with two signatures", "pkg/testing/data/bundles/dsse-2sigs.sigstore.json", "", "", signature.Malformed},
		{"other name", "pkg/testing/data/bundles/othername.sigstore.json", "pkg/testing/data/trusted-roots/scaffolding.json", "bc103b4a84971ef6459b294a2b98568a2bfb72cded09d4acd1e16366a401f95b", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			trusted := public
			if tc.trusted != "" {
				trusted = read(t, dir, tc.trusted)
			}
			o, err := sigstore.New(signature.Roots{Sigstore: [][]byte{trusted}}, sigstore.Options{})
			if err != nil {
				t.Fatal(err)
			}
			doc := read(t, dir, tc.file)
			if tc.digest == "" {
				tc.digest = strings.Repeat("0", 64)
			}
			got, err := o.Open(context.Background(), signature.Envelope{Payload: doc}, signature.Subject{Digest: "sha256:" + tc.digest}, time.Now())
			if tc.want == "" {
				if err != nil || got.Identity.Subject == "" || got.Identity.Issuer == "" {
					t.Errorf("Open() = %+v, %v, want it to open", got.Identity, err)
				}
				return
			}
			var r *signature.Refusal
			if !errors.As(err, &r) || r.Reason != tc.want {
				t.Errorf("Open() = %v, want a refusal: %s", err, tc.want)
			}
		})
	}
}

func library(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/sigstore/sigstore-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(out))
}

func read(t testing.TB, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
