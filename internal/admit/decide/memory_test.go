package decide_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/decide"
	"github.com/castellan-security/castellan/internal/admit/policy"
	"github.com/castellan-security/castellan/internal/finding"
)

// pieces are of what conditions are made: what reads facts alone, what reads the
// clock in ways that can be told beforehand and in others, and what reads the
// request.
var pieces = map[string][]string{
	"vulnerability": {
		"vulnerability.kev", "vulnerability.severity >= high", "vulnerability.fixable && !vulnerability.accepted", "vulnerability.epss > 0.4",
		"vulnerability.age > days(3)", "days(2) >= vulnerability.age", "vulnerability.age == duration('48h')", "vulnerability.age != params.span", "params.span < vulnerability.age",
		"vulnerability.age + days(1) > days(3)", "string(vulnerability.age) == '172800s'", "[vulnerability.age].exists(a, a > days(3))", "vulnerability.age > vulnerability.age - days(1)",
		"{'a': vulnerability.age}['a'] > days(2)", "dyn(vulnerability).kev == true", "dyn(vulnerability).age > days(2)", "vulnerability == image.vulnerabilities[0]",
		"1 / size(vulnerability.fixed) == 1", "vulnerability.id == 'CVE-' + string(size(image.containers))",
	},
	"image": {
		"image.scan.age > days(2)", "image.scan.database_age <= days(1)", "image.scan.end_of_life", "image.trust.allowed", "image.trust.why.contains('longer')",
		"image.vulnerabilities.exists(v, v.age > days(3) && v.kev)", "image.vulnerabilities.exists(v, v.severity == critical)", "image.trust.signers.all(s, s.age < days(1))",
		"image.secrets.exists(s, s.severity >= high)", "size(image.malware) > 1", "image.user == 'root'", "image.labels.exists(k, k == 'a')",
		"image.created > timestamp('2026-11-26T00:00:00Z')", "image.scanned", "image.verified", "image.scan.distribution == 'debian'", "size(image.owners) > 0",
		"image.tag == '1'", "image.repository.like('pay/**')", "image.pinned", "[image].exists(i, i.tag == '2')", "dyn(image).tag == '2'", "image.registry == 'registry.example.com'",
		"'web' in image.containers", "image.vulnerabilities.exists(image, image.kev)", "image.vulnerabilities.map(now, now.kev).exists(x, x)",
	},
	"any": {
		"place.cluster == 'prod'", "door == 'docker'", "action == 'run'", "caller.name == 'a'", "task.family == 'shop'", "now > timestamp('2026-11-28T12:00:00Z')", "images.exists(i, i.tag == '2')",
		"task.containers.exists(c, c.privileged)", "true", "false", "[1, 2].exists(door, door == 2)", "['a', place.cluster].exists(p, p == 'prod')", "process.tty", "call.options.exists(k, true)", "repositories == []",
	},
}

// condition makes a condition for rules of a kind.
func condition(r *rand.Rand, kind string, depth int) string {
	if depth > 0 && r.IntN(3) > 0 {
		a, b := condition(r, kind, depth-1), condition(r, kind, depth-1)
		switch r.IntN(4) {
		case 0:
			return "(" + a + " && " + b + ")"
		case 1:
			return "(" + a + " || " + b + ")"
		case 2:
			return "(" + a + " ? " + b + " : !(" + b + "))"
		}
		return "!(" + a + ")"
	}
	from := []string{kind, kind, "image", "any"}[r.IntN(4)]
	return pieces[from][r.IntN(len(pieces[from]))]
}

// generated is a policy of such rules.
func generated(t *testing.T, r *rand.Rand) *policy.Policy {
	var b strings.Builder
	fmt.Fprintf(&b, "mode: %s\n", []string{"enforce", "audit"}[r.IntN(2)])
	if r.IntN(3) == 0 {
		b.WriteString("scopes:\n  - {name: a, where: {repository: '*/pay/**'}, mode: off, rules: {r1: enforce}}\n")
	}
	if r.IntN(3) == 0 {
		b.WriteString("exceptions:\n  - {rules: [r0, r1], subject: CVE-1, owner: me, reason: why, expires: 2026-11-29}\n")
	}
	b.WriteString("rules:\n")
	for i := range 4 {
		kind := []string{"vulnerability", "image"}[r.IntN(2)]
		fmt.Fprintf(&b, "  - id: r%d\n    for: %s\n    with: {span: 49h}\n    unknown: %s\n    atMost: %d\n    message: m {image.tag}\n    deny: %q\n",
			i, kind, []string{"deny", "wait", "warn"}[r.IntN(3)], r.IntN(3)*r.IntN(3), strings.ReplaceAll(condition(r, kind, 2), "params.span", []string{"days(3)", "duration('49h')"}[r.IntN(2)]))
	}
	return read(t, strings.ReplaceAll(b.String(), "    with: {span: 49h}\n", ""))
}

// times are around those at which conditions turn.
func times(r *rand.Rand) time.Time {
	return now().Add(time.Duration(r.IntN(5)-2) * 24 * time.Hour).Add(time.Duration(r.IntN(3)-1) * []time.Duration{1, time.Hour}[r.IntN(2)])
}

func facts(r *rand.Rand) *admission.Facts {
	state := func() admission.State {
		return []admission.State{admission.Known, admission.Known, admission.Known, admission.Waiting, admission.Unknown, admission.Failed}[r.IntN(6)]
	}
	past := func() time.Time {
		if r.IntN(5) == 0 {
			return time.Time{}
		}
		return times(r).Add(-time.Duration(r.IntN(4)) * 24 * time.Hour)
	}
	f := &admission.Facts{Scan: admission.Scan{State: state(), At: past(), Database: past(), Distribution: []string{"debian", ""}[r.IntN(2)]},
		Trust:   admission.Trust{State: state(), Allowed: r.IntN(2) == 0, Until: past(), Signers: []admission.Signer{{At: past()}}},
		Created: past(), User: []string{"root", "1"}[r.IntN(2)], Owners: []string{"o"}[:r.IntN(2)], Labels: map[string]string{"a": "b"}}
	if end := past(); r.IntN(2) == 0 {
		f.Scan.EndOfLife = &end
	}
	for i := range r.IntN(12) {
		f.Scan.Vulnerabilities = append(f.Scan.Vulnerabilities, admission.Vulnerability{ID: fmt.Sprint("CVE-", i), Severity: finding.Severity(r.IntN(6)),
			KEV: r.IntN(3) == 0, EPSS: r.Float64(), Fixed: []string{"", "2"}[r.IntN(2)], Accepted: r.IntN(4) == 0, Published: past()})
	}
	f.Scan.Secrets = []admission.Found{{Severity: finding.Severity(r.IntN(6))}}
	f.Scan.Malware = make([]admission.Found, r.IntN(3))
	return f
}

// asked is a request of two images by one of a few names each.
func asked(r *rand.Rand) *admission.Request {
	image := func(digest string) admission.Image {
		return admission.ParseImage(fmt.Sprintf("registry.example.com/%s:%d@%s", []string{"pay/web", "ops/log"}[r.IntN(2)], 1+r.IntN(2), digest))
	}
	out := &admission.Request{ID: "7", Door: admission.Doors()[r.IntN(2)], Action: admission.Actions()[r.IntN(2)], By: admission.Caller{Name: []string{"a", "b"}[r.IntN(2)]},
		Place: admission.Place{Cluster: []string{"prod", "test"}[r.IntN(2)]}, Task: admission.Task{Family: []string{"shop", "x"}[r.IntN(2)], Containers: []admission.Container{
			{Name: []string{"web", "w"}[r.IntN(2)], Privileged: r.IntN(2) == 0, Image: image("sha256:aa")}, {Name: "log", Image: image("sha256:bb")}}}}
	if r.IntN(6) == 0 {
		out.Unknown = []string{[]string{"task.containers[0].image.tag", "task.containers[1].image", "place.cluster", "action"}[r.IntN(4)]}
	}
	return out
}

// TestMemory holds verdicts that rest on what is remembered against those that
// don't: they are the same, whatever the policy, the facts, the request and the time.
func TestMemory(t *testing.T) {
	const policies, requests = 150, 60
	held := 0
	for seed := range uint64(policies) {
		r := rand.New(rand.NewPCG(seed, 7))
		p, m := generated(t, r), &decide.Memory{}
		known := []map[string]*admission.Facts{{"sha256:aa": facts(r), "sha256:bb": facts(r)}, {"sha256:aa": facts(r)}}
		for range requests {
			q, g := asked(r), decide.Given{Facts: known[r.IntN(2)], Now: times(r), Lasting: true}
			if r.IntN(8) == 0 {
				known[0]["sha256:bb"] = facts(r)
			}
			got, want := decide.Decide(context.Background(), p, m, q, g), decide.Decide(context.Background(), p, nil, q, g)
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				var rules []string
				for _, rule := range p.Rules {
					rules = append(rules, rule.For.Name+": "+rule.Deny.Text)
				}
				t.Fatalf("policy %d at %s: -asked +remembered:\n%s\n%s", seed, g.Now, diff, strings.Join(rules, "\n"))
			}
		}
		held += m.Len()
	}
	if held < policies {
		t.Errorf("%d entries are remembered of %d policies", held, policies)
	}
}

// TestLasting says of which conditions it can be told what they rest on.
func TestLasting(t *testing.T) {
	for _, tc := range []struct {
		kind, deny string
		want       bool
	}{
		{"vulnerability", "vulnerability.severity >= high && image.labels['a'] == 'b'", true},
		{"vulnerability", "vulnerability.age > days(7)", true},
		{"vulnerability", "days(7) <= vulnerability.age || image.scan.age == duration('1h')", true},
		{"vulnerability", "vulnerability.age - days(1) > days(7)", false},
		{"vulnerability", "vulnerability.age > image.scan.age", false},
		{"vulnerability", "now - image.created > days(7)", false},
		{"vulnerability", "dyn(vulnerability).kev == true", false},
		{"vulnerability", "[image, vulnerability].exists(x, x == image)", true},
		{"vulnerability", "place.cluster == 'a' && door == 'ci' && image.tag == '1'", true},
		{"vulnerability", "size(image.containers) > 1", false},
		{"vulnerability", "task.family == 'a'", false},
		{"vulnerability", "images.exists(i, i.pinned)", false},
		{"vulnerability", "caller.agent", false},
		{"image", "image.trust.allowed || image.trust.why == ''", true},
		{"image", "image.vulnerabilities.exists(v, v.age > days(1))", true},
		{"image", "image.vulnerabilities.map(v, v.age).exists(a, a > days(1))", false},
		{"container", "image.scan.incomplete", true},
		{"container", "container.privileged", false},
	} {
		p := read(t, fmt.Sprintf("mode: audit\nrules:\n  - {id: a, for: %s, message: m, deny: %q}\n", tc.kind, tc.deny))
		if got := p.Rules[0].Deny.Basis.Lasting; got != tc.want {
			t.Errorf("%s: lasting is %v, want %v", tc.deny, got, tc.want)
		}
	}
}

// TestMemoryOfManyIsBounded asks under more names than are remembered.
func TestMemoryOfManyIsBounded(t *testing.T) {
	p, m := read(t, "mode: audit\nrules:\n  - {id: a, for: vulnerability, message: m, deny: image.tag == '1'}\n"), &decide.Memory{}
	f := &admission.Facts{Scan: admission.Scan{State: admission.Known, Vulnerabilities: make([]admission.Vulnerability, 10)}}
	long := strings.Repeat("x", 1<<20)
	most := 0
	for i := range 200 {
		r := request()
		r.Task.Containers[0].Image.Tag = fmt.Sprint(long, i)
		decide.Decide(context.Background(), p, m, r, decide.Given{Now: now(), Lasting: true, Facts: map[string]*admission.Facts{"sha256:aa": f}})
		most = max(most, m.Len())
	}
	if most == 0 || most > 32 {
		t.Errorf("%d entries of a MiB each are remembered", most)
	}
}

// TestMemoryIsShared has many ask at once; the race detector looks on.
func TestMemoryIsShared(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	p, m := read(t, "mode: enforce\nrules:\n  - {id: a, for: vulnerability, message: m, deny: vulnerability.age > days(3)}\n  - {id: b, for: image, message: m, deny: 'image.vulnerabilities.exists(v, v.kev)'}\n"), &decide.Memory{}
	known := map[string]*admission.Facts{"sha256:aa": facts(r), "sha256:bb": facts(r)}
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 2))
			for range 100 {
				q, g := asked(r), decide.Given{Facts: known, Now: times(r), Lasting: true}
				if diff := cmp.Diff(decide.Decide(context.Background(), p, nil, q, g), decide.Decide(context.Background(), p, m, q, g), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("-asked +remembered:\n%s", diff)
				}
			}
		})
	}
	wg.Wait()
}
