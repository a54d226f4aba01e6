package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/signature"
)

// TestADeploymentWaitsUntilItsImageIsVerified: a server that knows nothing of an
// image, and would look for it only in minutes, is asked by the door of a service's
// deployment: it tells the door to wait, finds the image in its registry, verifies
// it, and lets it through, or refuses it if nobody has signed it.
func TestADeploymentWaitsUntilItsImageIsVerified(t *testing.T) {
	f := readyFleet(t)
	f.every = 10 * time.Second // all images are looked through once a minute
	running := pushedImage(t, f.registry+"/shop/run", "c")
	f.run(signedHost{running})
	if out, err := f.castellan("", "registries", "add", "local", "--host", f.registry, "--plain-http"); err != nil {
		t.Fatalf("add the registry: %s, %v", out, err)
	}
	signed, unsigned := pushedImage(t, f.registry+"/shop/web", "a"), pushedImage(t, f.registry+"/shop/pay", "b")
	f.set(keyedPolicy(f.registry, signBy(t, f.to, signed)))
	if out, err := f.castellan("version: 1\nmode: enforce\nrules:\n  - use: not-signed\n    unknown: wait\n", "admit", "policy", "set", "-"); err != nil {
		t.Fatalf("set the policy: %s, %v", out, err)
	}
	door := access.Identity{Actor: "token:door", Scopes: []access.Scope{access.DecideAdmission}}
	asks := 0
	ask := func(s signature.Subject) admission.Verdict {
		t.Helper()
		asks++
		r := admission.Request{ID: fmt.Sprint("deployment-", asks), Door: admission.Service, Action: admission.Run, Task: admission.Task{
			Family: "web", Containers: []admission.Container{{Name: "web", Image: admission.ParseImage(s.Repository + "@" + s.Digest)}}}}
		v, err := f.server.Gate().Decide(t.Context(), door, r)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for i, tt := range []struct {
		image signature.Subject
		want  admission.Outcome
	}{{signed, admission.Allow}, {unsigned, admission.Deny}} {
		v := ask(tt.image)
		// The look into the registry for the first one may have met the second.
		if i == 0 && (v.Outcome != admission.Wait || v.Again <= 0) {
			t.Errorf("%s at first: %s after %s, %+v", tt.image.Repository, v.Outcome, v.Again, v.Reasons)
		}
		tick := time.NewTicker(200 * time.Millisecond) // a door asks less often
		for late := time.After(time.Minute); v.Outcome == admission.Wait; v = ask(tt.image) {
			select {
			case <-tick.C:
			case <-late:
				t.Fatalf("%s is still waited for: %+v", tt.image.Repository, v.Reasons)
			}
		}
		tick.Stop()
		if v.Outcome != tt.want {
			t.Errorf("%s: %s, want %s: %+v", tt.image.Repository, v.Outcome, tt.want, v.Reasons)
		}
	}
}
