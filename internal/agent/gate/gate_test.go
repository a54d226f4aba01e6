package gate_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/agent/brief"
	"github.com/castellan-security/castellan/internal/agent/gate"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/link"
)

const (
	strict  = "version: 1\nmode: enforce\nrules:\n  - use: privileged\n"
	lenient = "version: 1\nmode: audit\nonError: {docker: allow}\nrules:\n  - use: privileged\n"
	scanned = "version: 1\nmode: enforce\nrules:\n  - id: criticals\n    title: No criticals\n    for: vulnerability\n    deny: vulnerability.severity >= high\n    message: \"{vulnerability.id}\"\n"
)

// fleet is a server's word.
type fleet struct {
	standing brief.Standing
	said     bool
	facts    map[string]*admission.Facts
	decided  []admission.Verdict
}

func (f *fleet) Standing() (brief.Standing, bool) { return f.standing, f.said }
func (f *fleet) Facts(_ context.Context, images []link.AskedImage) []*admission.Facts {
	var out []*admission.Facts
	for _, i := range images {
		known := f.facts[i.Digest+i.ID]
		if known == nil {
			known = &admission.Facts{}
		}
		out = append(out, known)
	}
	return out
}
func (f *fleet) Decided(_ admission.Request, v admission.Verdict) { f.decided = append(f.decided, v) }

func request(privileged bool, digest string) admission.Request {
	return admission.Request{ID: "1", Door: admission.Docker, Action: admission.Run, Task: admission.Task{Containers: []admission.Container{
		{Name: "web", Privileged: privileged, Image: admission.Image{Reference: "web:1", Digest: digest}},
	}}}
}

func outcome(t *testing.T, g *gate.Gate, r admission.Request) admission.Outcome {
	t.Helper()
	v, err := g.Decide(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return v.Outcome
}

func open(t *testing.T, o gate.Options) *gate.Gate {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	g, err := gate.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestAFileHoldsUntilAnotherIsGood shows that a policy that can't be read changes
// nothing, and that one which can holds from the next request on.
func TestAFileHoldsUntilAnotherIsGood(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yaml")
	write := func(text string, age time.Duration) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, time.Now(), time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := gate.Open(gate.Options{File: file}); err == nil {
		t.Error("a file that is not there is no error")
	}
	write(strict, 4*time.Hour)
	g := open(t, gate.Options{File: file})
	if got := outcome(t, g, request(true, "")); got != admission.Deny {
		t.Errorf("privileged: %s, want deny", got)
	}
	if got := outcome(t, g, request(false, "")); got != admission.Allow {
		t.Errorf("not privileged: %s, want allow", got)
	}
	write("version: nonsense", 3*time.Hour)
	if got := outcome(t, g, request(true, "")); got != admission.Deny {
		t.Errorf("privileged, by a broken policy: %s, want deny by the one before", got)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := outcome(t, g, request(false, "")); got != admission.Allow {
		t.Errorf("not privileged, without a file: %s, want allow by the one before", got)
	}
	write(lenient, 2*time.Hour)
	if got := outcome(t, g, request(true, "")); got != admission.Allow || !g.Allows(admission.Docker) {
		t.Errorf("privileged, by another policy: %s, want allow", got)
	}
}

// TestTheFleetsPolicy shows what holds as the server says it, and before.
func TestTheFleetsPolicy(t *testing.T) {
	f := &fleet{}
	g := open(t, gate.Options{Fleet: f})
	if got := outcome(t, g, request(false, "")); got != admission.Deny || g.Allows(admission.Docker) {
		t.Errorf("without a policy: %s, want deny", got)
	}
	f.standing, f.said = brief.Standing{Version: 1, Digest: "1", Policy: []byte(strict)}, true
	if got := outcome(t, g, request(false, "")); got != admission.Allow {
		t.Errorf("not privileged: %s, want allow", got)
	}
	f.standing.Exceptions = []admission.Exception{{ID: "e", Rules: []string{"privileged"}, Owner: "a", Reason: "b", Container: "web", Expires: time.Now().Add(time.Hour)}}
	if got := outcome(t, g, request(true, "")); got != admission.Allow {
		t.Errorf("privileged, excepted: %s, want allow", got)
	}
	f.standing = brief.Standing{Version: 2, Digest: "2", Policy: []byte("nonsense")}
	if got := outcome(t, g, request(true, "")); got != admission.Deny {
		t.Errorf("privileged, by a broken policy: %s, want deny by the one before", got)
	}
	f.standing = brief.Standing{Digest: "3"}
	if got := outcome(t, g, request(false, "")); got != admission.Deny {
		t.Errorf("without a policy any more: %s, want deny", got)
	}
}

// TestFacts shows that what is known of an image is found by its digest or its id.
func TestFacts(t *testing.T) {
	known := func(v ...admission.Vulnerability) *admission.Facts {
		return &admission.Facts{Scan: admission.Scan{State: admission.Known, Vulnerabilities: v}}
	}
	f := &fleet{said: true, standing: brief.Standing{Version: 1, Digest: "1", Policy: []byte(scanned)}, facts: map[string]*admission.Facts{
		"sha256:good": known(), "sha256:bad": known(admission.Vulnerability{ID: "CVE-1", Severity: 4}),
	}}
	g := open(t, gate.Options{Fleet: f})
	for digest, want := range map[string]admission.Outcome{"sha256:good": admission.Allow, "sha256:bad": admission.Deny, "sha256:new": admission.Deny} {
		if got := outcome(t, g, request(false, digest)); got != want {
			t.Errorf("image %s: %s, want %s", digest, got, want)
		}
	}
	// What was said of many vulnerabilities is remembered until others are known.
	many := slices.Repeat([]admission.Vulnerability{{ID: "CVE-2", Severity: 1}}, 400)
	f.facts["sha256:many"] = known(many...)
	for range 3 {
		if got := outcome(t, g, request(false, "sha256:many")); got != admission.Allow {
			t.Errorf("many: %s, want allow", got)
		}
	}
	f.facts["sha256:many"] = known(append(many, admission.Vulnerability{ID: "CVE-3", Severity: 4})...)
	if got := outcome(t, g, request(false, "sha256:many")); got != admission.Deny {
		t.Errorf("many and a grave one: %s, want deny", got)
	}
	byID := request(false, "")
	byID.Task.Containers[0].Image.ID = "sha256:good"
	if got := outcome(t, g, byID); got != admission.Allow {
		t.Errorf("by the engine's id: %s, want allow", got)
	}
	mounted := request(false, "sha256:good")
	mounted.Task.Containers[0].Mounts = []admission.Mount{{Kind: "image", Image: &admission.Image{Digest: "sha256:bad"}}}
	if got := outcome(t, g, mounted); got != admission.Deny {
		t.Errorf("with another image mounted: %s, want deny", got)
	}
	g.Decided(byID, admission.Verdict{})
	if len(f.decided) != 1 {
		t.Errorf("%d verdicts told, want 1", len(f.decided))
	}
}

// BenchmarkDecide decides on a container whose image has 400 vulnerabilities by the first
// policy, as the engine of a host waits for it.
func BenchmarkDecide(b *testing.B) {
	vulnerabilities := make([]admission.Vulnerability, 400)
	for i := range vulnerabilities {
		vulnerabilities[i] = admission.Vulnerability{ID: fmt.Sprintf("CVE-2026-%d", i), Package: "p", Version: "1", Severity: finding.Low}
	}
	f := &fleet{said: true, standing: brief.Standing{Version: 1, Digest: "1", Policy: admit.First()}, facts: map[string]*admission.Facts{
		"sha256:x": {Digest: "sha256:x", Scan: admission.Scan{State: admission.Known, Vulnerabilities: vulnerabilities}},
	}}
	g, err := gate.Open(gate.Options{Fleet: f, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	r := request(false, "sha256:x")
	for b.Loop() {
		if v, err := g.Decide(b.Context(), r); err != nil || v.Declared {
			b.Fatal(v, err)
		}
	}
}
