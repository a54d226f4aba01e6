package admit_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
)

// FuzzRead: no text makes the reader panic, and what it refuses it says why.
func FuzzRead(f *testing.F) {
	f.Add([]byte(first))
	f.Add(admit.First())
	f.Add([]byte(`{"version": 1, "mode": "audit", "rules": [{"id": "a", "for": "image", "deny": "true", "message": "{image.tag"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := admit.Read(b, "p.yaml")
		if (p == nil) == (err == nil) {
			t.Fatal("a policy and an error, or neither")
		}
		if err != nil && len(admit.Problems(err)) == 0 {
			t.Errorf("no problem is told: %v", err)
		}
		if p != nil {
			r, _ := sane()
			p.Decide(context.Background(), &r, admit.Given{Now: now()})
		}
	})
}

// FuzzDecide: whatever a request is, the verdict has a reason if it isn't leave,
// and nobody is let through whom no policy knows.
func FuzzDecide(f *testing.F) {
	p, err := admit.Read(admit.First(), admit.File)
	if err != nil {
		f.Fatal(err)
	}
	p = p.Enforced()
	r, facts := sane()
	for _, v := range []any{r, admission.Request{}} {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		known, err := json.Marshal(facts)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, known)
	}
	f.Fuzz(func(t *testing.T, b, known []byte) {
		var r admission.Request
		var facts admission.Facts
		if json.Unmarshal(b, &r) != nil || json.Unmarshal(known, &facts) != nil {
			return
		}
		v := p.Decide(context.Background(), &r, admit.Given{Facts: map[string]*admission.Facts{facts.Digest: &facts}, Now: now()})
		if v.Declared {
			t.Fatalf("it could not be decided: %+v", v.Reasons)
		}
		if !v.Allowed() && len(v.Reasons) == 0 {
			t.Error("refused without a reason")
		}
		for _, c := range r.Task.Containers {
			if c.Privileged && v.Allowed() && r.Action == admission.Run {
				t.Error("a privileged container is let through")
			}
		}
	})
}
