package decide_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/decide"
	"github.com/castellan-security/castellan/internal/admit/policy"
	"github.com/castellan-security/castellan/internal/finding"
)

func now() time.Time { return time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC) }

func read(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Read([]byte("version: 1\n"+text), "p.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// request is of two containers, both of which run privileged, with an image of
// another repository each.
func request() *admission.Request {
	return &admission.Request{ID: "7", Door: admission.Docker, Action: admission.Run, Place: admission.Place{Cluster: "prod", Account: "012345678901"}, Task: admission.Task{Family: "shop", Containers: []admission.Container{
		{Name: "web", Privileged: true, Image: admission.ParseImage("registry.example.com/pay/web:1@sha256:aa")},
		{Name: "log", Privileged: true, Image: admission.ParseImage("registry.example.com/ops/log:1@sha256:bb")},
	}}}
}

// told is what a verdict says, a line each.
func told(v *admission.Verdict) []string {
	out := []string{string(v.Outcome)}
	for _, r := range v.Reasons {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Effect, r.Rule, r.Container)))
	}
	return out
}

const privileged = "rules:\n  - use: privileged\n"

func TestModesAndScopes(t *testing.T) {
	for _, tc := range []struct {
		name, policy string
		change       func(*admission.Request)
		want         []string
	}{
		{"enforce", "mode: enforce\n" + privileged, nil, []string{"deny", "denies privileged web", "denies privileged log"}},
		{"audit", "mode: audit\n" + privileged, nil, []string{"allow", "audited privileged web", "audited privileged log"}},
		{"off", "mode: off\n" + privileged, nil, []string{"allow"}},
		{"a rule on trial", "mode: enforce\n" + privileged + "    mode: audit\n", nil, []string{"allow", "audited privileged web", "audited privileged log"}},
		{"a rule is never stricter than its place", "mode: audit\n" + privileged + "    mode: enforce\n", nil, []string{"allow", "audited privileged web", "audited privileged log"}},
		{"by repository", "mode: audit\nscopes:\n  - {name: a, where: {repository: '*/pay/**'}, mode: enforce}\n" + privileged, nil, []string{"deny", "denies privileged web", "audited privileged log"}},
		{"the first that fits counts", "mode: off\nscopes:\n  - {name: a, where: {cluster: 'pr*', account: '012345678901'}, mode: audit}\n  - {name: b, where: {cluster: prod}, mode: enforce}\n" + privileged, nil, []string{"allow", "audited privileged web", "audited privileged log"}},
		{"all of where must fit", "mode: off\nscopes:\n  - {name: a, where: {cluster: prod, account: '1'}, mode: enforce}\n" + privileged, nil, []string{"allow"}},
		{"a rule in a scope", "mode: off\nscopes:\n  - {name: a, where: {door: docker}, mode: audit, rules: {privileged: enforce}}\n" + privileged, nil, []string{"deny", "denies privileged web", "denies privileged log"}},
		{"what isn't known fits no scope", "mode: enforce\nscopes:\n  - {name: a, where: {service: '**'}, mode: off}\n" + privileged, nil, []string{"deny", "denies privileged web", "denies privileged log"}},
		{"what can't be known may be meant", "mode: audit\nscopes:\n  - {name: a, where: {service: web}, mode: enforce}\n" + privileged, func(r *admission.Request) { r.Unknown = []string{"place.service"} }, []string{"deny", "denies privileged web", "denies privileged log"}},
		{"a rule about the whole takes the strictest", "mode: audit\nscopes:\n  - {name: a, where: {repository: '*/pay/**'}, mode: enforce}\nrules:\n  - use: public-ip\n", func(r *admission.Request) { r.Task.PublicIP = true }, []string{"deny", "denies public-ip"}},
		{"nothing is said to run", "mode: enforce\n" + privileged, func(r *admission.Request) { r.Task.Containers = nil }, []string{"deny", "denies privileged"}},
		{"nothing is said to run, and nobody is asked about it", "mode: enforce\nrules:\n  - use: public-ip\n", func(r *admission.Request) { r.Task.Containers = nil }, []string{"allow"}},
		{"another action", "mode: enforce\n" + privileged, func(r *admission.Request) { r.Action = admission.Pull }, []string{"allow"}},
		{"an action that nobody knows", "mode: off\n" + privileged, func(r *admission.Request) { r.Action = "conquer" }, []string{"deny", "denies"}},
		{"a door that nobody knows", "mode: off\n" + privileged, func(r *admission.Request) { r.Door = "" }, []string{"deny", "denies"}},
		{"another door", "mode: enforce\n" + privileged + "    doors: [ci]\n", nil, []string{"allow"}},
		{"so many are let pass", "mode: enforce\nrules:\n  - id: few\n    for: mount\n    deny: mount.target != ''\n    message: too many\n    atMost: 1\n", func(r *admission.Request) {
			r.Task.Containers[0].Mounts = []admission.Mount{{Target: "/a"}}
			r.Task.Containers[1].Mounts = []admission.Mount{{Target: "/a"}, {Target: "/b"}}
		}, []string{"deny", "denies few log", "denies few log"}},
		{"a condition that fails denies", "mode: enforce\nrules:\n  - id: bad\n    for: request\n    deny: 1 / task.count == 1\n    message: no\n", nil, []string{"deny", "denies bad"}},
		{"more than anybody looks at denies, whatever onError says", "mode: off\nonError: {docker: allow}\n" + privileged, func(r *admission.Request) { r.Task.Containers[0].Env = make([]admission.Variable, 10_001) }, []string{"deny", "denies"}},
		{"more work than a condition may do denies", "mode: enforce\nrules:\n  - id: slow\n    for: request\n    deny: task.containers[0].command.exists(a, task.containers[0].command.exists(b, task.containers[0].command.exists(c, a + b + c == 'x')))\n    message: no\n", func(r *admission.Request) {
			r.Task.Containers[0].Command = make([]string, 1000)
		}, []string{"deny", "denies slow"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := request()
			if tc.change != nil {
				tc.change(r)
			}
			v := decide.Decide(context.Background(), read(t, tc.policy), nil, r, decide.Given{Now: now()})
			if diff := cmp.Diff(tc.want, told(&v)); diff != "" {
				t.Errorf("-want +got:\n%s\n%+v", diff, v.Reasons)
			}
		})
	}
}

func TestWhatIsNotKnown(t *testing.T) {
	scans := func(a, b admission.State) map[string]*admission.Facts {
		return map[string]*admission.Facts{"sha256:aa": {Scan: admission.Scan{State: a}}, "sha256:bb": {Scan: admission.Scan{State: b}}}
	}
	const rule = "mode: enforce\nrules:\n  - use: malware\n    unknown: "
	for _, tc := range []struct {
		name, policy string
		facts        map[string]*admission.Facts
		want         []string
	}{
		{"all is known", rule + "deny\n", scans(admission.Known, admission.Known), []string{"allow"}},
		{"nothing is", rule + "deny\n", nil, []string{"deny", "denies malware", "denies malware"}},
		{"waiting denies if that is said", rule + "deny\n", scans(admission.Waiting, admission.Known), []string{"deny", "denies malware"}},
		{"waiting waits", rule + "wait\n", scans(admission.Waiting, admission.Known), []string{"wait", "waits malware"}},
		{"nobody finds out", rule + "wait\n", scans(admission.Unknown, admission.Known), []string{"deny", "denies malware"}},
		{"it could not be found out", rule + "wait\n", scans(admission.Failed, admission.Waiting), []string{"deny", "denies malware", "waits malware"}},
		{"warned", rule + "warn\n", scans(admission.Failed, admission.Known), []string{"allow", "warns malware"}},
		{"audited", strings.Replace(rule, "enforce", "audit", 1) + "wait\n", scans(admission.Waiting, admission.Failed), []string{"allow", "audited malware", "audited malware"}},
		{"one reason for all rules that need it", rule + "deny\n  - use: secrets-in-image\n    unknown: deny\n", scans(admission.Failed, admission.Known), []string{"deny", "denies malware"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := decide.Decide(context.Background(), read(t, tc.policy), nil, request(), decide.Given{Facts: tc.facts, Now: now()})
			if diff := cmp.Diff(tc.want, told(&v)); diff != "" {
				t.Errorf("-want +got:\n%s\n%+v", diff, v.Reasons)
			}
			if waits := v.Outcome == admission.Wait; (v.Again > 0) != waits {
				t.Errorf("ask again after %s", v.Again)
			}
		})
	}
}

func TestExceptions(t *testing.T) {
	e := func(change func(*admission.Exception)) admission.Exception {
		x := admission.Exception{ID: "1", Rules: []string{"privileged"}, Owner: "me", Reason: "why", Expires: now().Add(time.Hour), Container: "web"}
		change(&x)
		return x
	}
	excepted := []string{"deny", "denies privileged log", "excepted privileged web"}
	refused := []string{"deny", "denies privileged web", "denies privileged log"}
	for _, tc := range []struct {
		name   string
		change func(*admission.Exception)
		want   []string
	}{
		{"container", func(*admission.Exception) {}, excepted},
		{"another container", func(x *admission.Exception) { x.Container = "we" }, refused},
		{"another rule", func(x *admission.Exception) { x.Rules = []string{"devices"} }, refused},
		{"over", func(x *admission.Exception) { x.Expires = now() }, refused},
		{"no end", func(x *admission.Exception) { x.Expires = time.Time{} }, refused},
		{"no owner", func(x *admission.Exception) { x.Owner = " " }, refused},
		{"no reason", func(x *admission.Exception) { x.Reason = "" }, refused},
		{"for everything", func(x *admission.Exception) { x.Container = "" }, refused},
		{"digest", func(x *admission.Exception) { x.Container, x.Image = "", "sha256:aa" }, excepted},
		{"repository", func(x *admission.Exception) { x.Container, x.Image = "", "registry.example.com/pay/*" }, excepted},
		{"every image", func(x *admission.Exception) { x.Image = "**" }, refused},
		{"another digest", func(x *admission.Exception) { x.Image = "sha256:bb" }, refused},
		{"all must fit", func(x *admission.Exception) { x.Cluster = "dev" }, refused},
		{"all fit", func(x *admission.Exception) { x.Cluster, x.Family = "prod", "shop" }, excepted},
		{"no pattern", func(x *admission.Exception) { x.Cluster = "pro*" }, refused},
		{"a service that isn't known", func(x *admission.Exception) { x.Service = "web" }, refused},
		{"a subject that it has none of", func(x *admission.Exception) { x.Subject = "CVE-1" }, refused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := decide.Decide(context.Background(), read(t, "mode: enforce\n"+privileged), nil, request(), decide.Given{Now: now(), Exceptions: []admission.Exception{e(tc.change)}})
			if diff := cmp.Diff(tc.want, told(&v)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if tc.want[1] == excepted[1] && !v.Until.Equal(now().Add(time.Hour)) {
				t.Errorf("it holds until %s, not until the exception ends", v.Until)
			}
		})
	}
}

func TestWhatNobodyCanDecideIsDeclared(t *testing.T) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	r := request()
	deny, allow := read(t, "mode: audit\n"+privileged), read(t, "mode: enforce\nonError: {docker: allow}\n"+privileged)
	for _, tc := range []struct {
		name string
		p    *policy.Policy
		ctx  context.Context
		want admission.Outcome
	}{
		{"denied unless it is said", deny, over, admission.Deny},
		{"allowed if it is said", allow, over, admission.Allow},
		{"no policy", nil, context.Background(), admission.Deny},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := decide.Decide(tc.ctx, tc.p, nil, r, decide.Given{Now: now()})
			if v.Outcome != tc.want || !v.Declared || len(v.Reasons) != 1 || v.Reasons[0].Remedy == "" {
				t.Errorf("%+v", v)
			}
		})
	}
	r.Door = admission.CI // of which the policy says nothing
	if v := decide.Decide(over, allow, nil, r, decide.Given{Now: now()}); v.Outcome != admission.Deny {
		t.Errorf("%+v", v)
	}
}

func TestManyReasonsAreBounded(t *testing.T) {
	r := request()
	r.Task.Containers = make([]admission.Container, 300)
	for i := range r.Task.Containers {
		r.Task.Containers[i] = admission.Container{Name: fmt.Sprint(i), Privileged: true}
	}
	v := decide.Decide(context.Background(), read(t, "mode: enforce\n"+privileged), nil, r, decide.Given{Now: now()})
	if len(v.Reasons) != decide.MaxReasons || v.Omitted != 200 {
		t.Errorf("%d reasons, %d omitted", len(v.Reasons), v.Omitted)
	}
}

func TestVulnerabilitiesAreFolded(t *testing.T) {
	f := admission.Facts{Scan: admission.Scan{State: admission.Known}}
	for i := range 20 {
		f.Scan.Vulnerabilities = append(f.Scan.Vulnerabilities, admission.Vulnerability{ID: fmt.Sprintf("CVE-%d", i), Package: "p", Severity: finding.Critical, KEV: i == 7})
	}
	v := decide.Decide(context.Background(), read(t, "mode: enforce\nrules:\n  - use: vulnerabilities\nexceptions:\n  - {rules: [vulnerabilities], subject: CVE-3, owner: me, reason: why, expires: 2027-01-01}\n"), nil, request(),
		decide.Given{Now: now(), Facts: map[string]*admission.Facts{"sha256:aa": &f, "sha256:bb": {Scan: admission.Scan{State: admission.Known}}}})
	if diff := cmp.Diff([]string{"deny", "denies vulnerabilities", "excepted vulnerabilities"}, told(&v)); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
	want := "registry.example.com/pay/web:1@sha256:aa has CVE-7 (critical) in p , of which there is no fix yet – and 18 more: CVE-0, CVE-1, CVE-2, CVE-4, …"
	if got := v.Reasons[0].Message; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestReasonsTellWhatExceptionsCanBeFor(t *testing.T) {
	f := admission.Facts{Scan: admission.Scan{State: admission.Known, Vulnerabilities: []admission.Vulnerability{
		{ID: "CVE-1", Package: "p", Severity: finding.Critical}, {ID: "CVE-2", Package: "p", Severity: finding.Critical, KEV: true}, {ID: "CVE-2", Package: "q", Severity: finding.Critical},
	}}}
	r := request()
	r.Task.Containers[0].Privileged, r.Task.Containers[1].Privileged = false, false
	r.Task.Containers[0].Mounts = []admission.Mount{{Kind: "bind", Source: "/etc", Target: "/a"}, {Kind: "bind", Source: "/" + strings.Repeat("x", 600), Target: "/b"}}
	p := read(t, "mode: enforce\nrules:\n  - use: vulnerabilities\n  - use: privileged\n  - id: no-mounts\n    for: mount\n    deny: \"true\"\n    message: no\n")
	facts := map[string]*admission.Facts{"sha256:aa": &f, "sha256:bb": {Scan: admission.Scan{State: admission.Known}}}
	v := decide.Decide(context.Background(), p, nil, r, decide.Given{Now: now(), Facts: facts})
	var got []string
	for _, x := range v.Reasons {
		got = append(got, fmt.Sprintf("%s %v %d", x.Rule, x.Subjects, x.Count))
	}
	// A part of a source that is too long would be another one: it is left out.
	if diff := cmp.Diff([]string{"vulnerabilities [CVE-2 CVE-1] 3", "no-mounts [/etc] 0", "no-mounts [] 0"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, subject := range v.Reasons[0].Subjects { // each can be the subject of an exception
		e := admission.Exception{Rules: []string{"vulnerabilities"}, Subject: subject, Owner: "me", Reason: "why", Expires: now().Add(time.Hour)}
		if got := decide.Decide(context.Background(), p, nil, r, decide.Given{Now: now(), Facts: facts, Exceptions: []admission.Exception{e}}); !strings.Contains(fmt.Sprint(told(&got)), "excepted vulnerabilities") {
			t.Errorf("an exception for %s alone: got %v", subject, told(&got))
		}
	}
	// What may be long in each of many is bounded over all of them.
	r.Task.Containers[0].Mounts = nil
	for i := range 90 {
		r.Task.Containers[0].Mounts = append(r.Task.Containers[0].Mounts, admission.Mount{Kind: "bind", Source: fmt.Sprintf("/%0500d", i), Target: "/a"})
	}
	v, named := decide.Decide(context.Background(), p, nil, r, decide.Given{Now: now(), Facts: facts}), 0
	for _, x := range v.Reasons {
		named += len(strings.Join(x.Subjects, ""))
	}
	if named == 0 || named > 16<<10 {
		t.Errorf("the names of one verdict have %d bytes", named)
	}
}
