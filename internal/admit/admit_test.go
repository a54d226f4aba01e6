package admit_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
)

const first = `version: 1
mode: enforce
onError: {ci: allow}
rules:
  - use: privileged
  - id: no-latest
    title: No latest
    for: image
    deny: image.tag == "latest" || image.scan.incomplete
    message: "{image.reference} has the tag latest"
    remedy: Name a version
  - id: criticals
    for: vulnerability
    deny: vulnerability.severity >= high && !vulnerability.accepted
    message: "{vulnerability.id} ({vulnerability.severity}) in {vulnerability.package}"
    unknown: wait
`

func now() time.Time { return time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC) }

func read(t testing.TB, text string) *admit.Policy {
	t.Helper()
	p, err := admit.Read([]byte(text), "policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAllReasonsAreTold(t *testing.T) {
	p := read(t, first)
	r := admission.Request{ID: "1", Door: admission.CI, Action: admission.Run, Task: admission.Task{Containers: []admission.Container{
		{Name: "web", Privileged: true, Image: admission.Image{Reference: "shop:latest", Tag: "latest", Digest: "sha256:1"}},
	}}}
	v := p.Decide(context.Background(), &r, admit.Given{Now: now()})
	var got []string
	for _, x := range v.Reasons {
		got = append(got, string(x.Effect)+" "+x.Rule+": "+x.Message)
	}
	want := []string{
		"denies privileged: web runs privileged: it has all rights on the host",
		"denies no-latest: shop:latest has the tag latest", // though whether the scan was incomplete isn't known
		"denies criticals: shop:latest has not been scanned (needed by criticals)",
	}
	if diff := cmp.Diff(want, got); diff != "" || v.Outcome != admission.Deny {
		t.Errorf("outcome %s, reasons (-want +got):\n%s", v.Outcome, diff)
	}
}

func TestWhatIsWrongWithAPolicyIsToldWithItsPlace(t *testing.T) {
	for _, tc := range []struct{ name, from, to, want string }{
		{"misspelt field", "image.tag", "image.tga", `policy.yaml:9:16: deny of no-latest: Image has no field "tga": did you mean tag?`},
		{"misspelt variable", "image.tag", "imag.tag", `policy.yaml:9:11: deny of no-latest: there is no "imag": did you mean image?`},
		{"number for a severity", ">= high", ">= 3", `policy.yaml:14:34: deny of criticals: >= can't be used with (severity, int)`},
		{"misspelt key", "unknown:", "unknow:", `policy.yaml:16:5: a rule has no field "unknow": did you mean unknown?`},
		{"misspelt rule", "use: privileged", "use: privilege", `policy.yaml:5:10: there is no built-in rule "privilege": did you mean privileged?`},
		{"misspelt value in a message", "{image.reference}", "{image.referenc}", `policy.yaml:10:21: message of no-latest: Image has no field "referenc": did you mean reference?`},
		{"no condition", `image.tag == "latest" || image.scan.incomplete`, "image.tag", `policy.yaml:9:11: deny of no-latest: the condition gives string, and must be true or false`},
		{"another version", "version: 1", "version: 2", `policy.yaml:1:1: the policy's version is not 1, the only one that there is`},
		{"a door that isn't", "{ci: allow}", "{cli: allow}", `policy.yaml:3:11: a door can't be "cli": did you mean ci?`},
		{"has", `image.tag == "latest"`, "has(image.tag)", `policy.yaml:9:14: deny of no-latest: there is no has(): every field is there; what is not set is empty, 0 or false`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := admit.Read([]byte(strings.Replace(first, tc.from, tc.to, 1)), "policy.yaml")
			all := admit.Problems(err)
			if len(all) != 1 || all[0].Error() != tc.want {
				t.Errorf("got %v\nwant %s", err, tc.want)
			}
		})
	}
}

func TestScopesTellWhatHoldsWhere(t *testing.T) {
	p := read(t, "version: 1\nmode: audit\nscopes:\n  - name: production\n    where: {cluster: [prod-*, live]}\n    mode: enforce\n    rules: {latest: off}\nrules:\n  - use: privileged\n  - use: latest\n  - {use: devices, mode: audit}\n")
	want := []admit.Scope{
		{Name: "production", Line: 4, Where: []admit.Where{{Field: "cluster", Patterns: []string{"prod-*", "live"}}}, Modes: map[string]admit.Mode{"privileged": admit.Enforce, "latest": admit.Off, "devices": admit.Audit}},
		{Modes: map[string]admit.Mode{"privileged": admit.Audit, "latest": admit.Audit, "devices": admit.Audit}},
	}
	if diff := cmp.Diff(want, p.Scopes()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := (*admit.Policy)(nil).Scopes(); got != nil {
		t.Errorf("without a policy: got %v", got)
	}
}
