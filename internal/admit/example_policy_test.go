package admit_test

import (
	"context"
	"os"
	"testing"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
)

// TestPolicyOfTheExample holds the example of a policy against a small shop: in
// production what is wrong is refused, elsewhere it is told.
func TestPolicyOfTheExample(t *testing.T) {
	b, err := os.ReadFile("../../deploy/admission/castellan-admission.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p := read(t, string(b))
	ours := image(func(i *admission.Image) { i.Registry = "123456789012.dkr.ecr.eu-central-1.amazonaws.com" })
	for _, tc := range []struct {
		name, cluster string
		wrong         []change
		want          admission.Outcome
		told          string // the rule that has something against it, "" for none
	}{
		{"as it should be", "prod-eu", nil, admission.Allow, ""},
		{"its own network's pause container", "prod-eu", []change{container(func(c *admission.Container) { c.Network = "container:pause" })}, admission.Allow, ""},
		{"privileged in production", "prod-eu", []change{container(func(c *admission.Container) { c.Privileged = true })}, admission.Deny, "privileged"},
		{"privileged elsewhere", "test-eu", []change{container(func(c *admission.Container) { c.Privileged = true })}, admission.Allow, "privileged"},
		{"privileged nobody knows where", "", []change{container(func(c *admission.Container) { c.Privileged = true })}, admission.Allow, "privileged"},
		{"root in production, where it is not refused yet", "prod-eu", []change{container(func(c *admission.Container) { c.User = "0" })}, admission.Allow, "root-user"},
		{"from somewhere else", "prod-eu", []change{image(func(i *admission.Image) { i.Registry = "docker.io" })}, admission.Deny, "registry"},
		{"not scanned yet", "prod-eu", []change{func(_ *admission.Request, f *admission.Facts) { f.Scan = admission.Scan{State: admission.Waiting} }}, admission.Wait, "not-scanned"},
		{"not scanned, and nobody will", "prod-eu", []change{unscanned}, admission.Deny, "not-scanned"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, f := sane()
			r.Place.Cluster = tc.cluster
			for _, c := range append([]change{ours}, tc.wrong...) {
				c(&r, &f)
			}
			v := p.Decide(context.Background(), &r, admit.Given{Facts: map[string]*admission.Facts{f.Digest: &f}, Now: now()})
			if v.Outcome != tc.want || v.Declared {
				t.Errorf("outcome %s, want %s: %+v", v.Outcome, tc.want, v.Reasons)
			}
			told := tc.told == "" && len(v.Reasons) == 0
			for _, reason := range v.Reasons {
				told = told || reason.Rule == tc.told
			}
			if !told {
				t.Errorf("reasons %+v, want one of %q", v.Reasons, tc.told)
			}
		})
	}
}
