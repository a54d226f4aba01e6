package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/finding"
)

const (
	admissionCold  = 150 // commands, each on an image of its own
	admissionFound = 400 // vulnerabilities of each image's stored scan
)

// admissionGate is by what the command decides: it must be signed, and scanned.
const admissionGate = `version: 1
mode: enforce
rules:
  - use: not-signed
  - use: not-scanned
  - use: scan-too-old
  - use: exploited-vulnerabilities
  - use: vulnerabilities
    with: {severity: critical, fixable: true}
  - use: malware
`

// coldAdmission times decisions of which nothing is ready: a new process reads the
// policy, resolves an image that it has never seen in a local registry, verifies its
// signature, and takes its scan from where it is stored.
func coldAdmission(ctx context.Context, o options) (rows []row, err error) {
	dir := filepath.Join(o.dir, "cold")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	s, err := openSigning(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.server.Close()) }()
	if err := s.push(ctx); err != nil {
		return nil, err
	}
	if _, err := s.signAll(ctx); err != nil {
		return nil, err
	}
	files := map[string]string{"policy.yaml": admissionGate, "trust.yaml": signingPolicy}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	took := make([]float64, admissionCold)
	for i := range took {
		args, err := s.gate(dir, i)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		out, err := exec.CommandContext(ctx, o.program, args...).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("castellan admit test: %w: %s", err, out)
		}
		took[i] = milliseconds(time.Since(began))
	}
	slices.Sort(took)
	what := "castellan admit test of a signed image, nothing ready"
	return []row{{what, shares(took) + fmt.Sprintf(", %d runs", len(took)), "p99 ≤ 300 ms"}}, nil
}

// gate writes the task definition of an image and its stored scan, and returns how
// the command is called.
func (s *signing) gate(dir string, i int) ([]string, error) {
	task := map[string]any{"family": "app", "containerDefinitions": []map[string]any{{"name": "app", "image": s.name(i), "memory": 128}}}
	now := time.Now().UTC()
	known := admission.Facts{Digest: s.subjects[i].Digest, At: now, Scan: admission.Scan{State: admission.Known, At: now, Database: now}}
	for k := range admissionFound {
		known.Scan.Vulnerabilities = append(known.Scan.Vulnerabilities, admission.Vulnerability{
			ID: fmt.Sprintf("CVE-2026-%04d", k), Package: fmt.Sprintf("package-%d", k%40), Version: "1.2.3", Severity: finding.Severity(1 + k%4), Published: now.AddDate(0, 0, -k),
		})
	}
	for name, v := range map[string]any{"task.json": task, "facts.json": map[string]admission.Facts{s.name(i): known}} {
		b, err := json.Marshal(v)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	return []string{"admit", "test", in("policy.yaml"), in("task.json"), "--facts", in("facts.json"), "--trust-policy", in("trust.yaml")}, nil
}
