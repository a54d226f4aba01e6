package decide_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust/decide"
)

// TestGolden holds what people and programs read of a decision:
// CASTELLAN_GOLDEN=write rewrites it.
func TestGolden(t *testing.T) {
	const rules = `  - name: shop
    match: ghcr.io/acme/**
    require:
      - {signers: [build, quality], log: true}
      - {signers: [ops], threshold: 1}
    attestations:
      - {type: vuln, signers: [build], maxAge: 7d, condition: "predicate.scanner.result.size() == 0"}
`
	allowed := func(s *stage) {
		s.put(index, "signature of the build", s.by("a"), nil)
		s.put(image, "signature of quality", s.by("b"), nil)
		s.put(image, "signature of ops", ops("1"), nil)
		s.put(image, "scan", attestation(s.by("a"), vuln, scanned(now.Add(-day))), nil)
	}
	denied := func(s *stage) {
		s.put(index, "signature of the build", s.by("a"), nil)
		s.put(image, "signature of quality", with(s.by("b"), func(x *signature.Signed) { x.Log, x.Proof = nil, signature.Claimed }), nil)
		s.put(image, "forged", s.by("a"), signature.Refuse(signature.Forged, "the hash differs\x1b[31m"))
		s.put(image, "signature of ops", with(ops("1"), func(x *signature.Signed) { x.Revocation = signature.RevocationSilent; x.Old = true }), nil)
		s.put(image, "old scan", attestation(s.by("a"), vuln, scanned(now.Add(-30*day))), nil)
		s.put(image, "stranger", s.by("stranger"), nil)
	}
	for name, put := range map[string]func(*stage){"allowed": allowed, "denied": denied} {
		t.Run(name, func(t *testing.T) {
			s := setStage(t, rules)
			put(s)
			v, err := s.decider.Explain(t.Context(), decide.Image{Subject: image, Index: &index}, now)
			if err != nil {
				t.Fatal(err)
			}
			b, err := json.MarshalIndent(v, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".txt", steady(s, v, written(t, v)))
			golden(t, name+".json", steady(s, v, string(b)+"\n"))
		})
	}
}

// steady writes names for what differs each time.
func steady(s *stage, v decide.Verdict, text string) string {
	for name, print := range s.prints {
		text = strings.ReplaceAll(text, print, "sha256:key-"+name)
	}
	for name, d := range map[string]string{"image": image.Digest, "index": index.Digest, "policy": v.Policy, "roots": v.Roots, "stranger": digest("stranger")} {
		text = strings.ReplaceAll(text, d, "sha256:"+name)
	}
	return regexp.MustCompile(`sha256:([0-9a-f]{8})[0-9a-f]{56}`).ReplaceAllString(text, "sha256:$1")
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("CASTELLAN_GOLDEN") == "write" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
}
