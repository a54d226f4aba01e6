package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/admit/policy"
)

const head = "version: 1\nmode: audit\n"

func TestWhatCantBeMeantIsRefused(t *testing.T) {
	const rules = head + "rules:\n  - use: privileged\n"
	const exception = rules + "exceptions:\n  - "
	for _, tc := range []struct{ name, text, want string }{
		{"nothing", "", "p: the policy is empty"},
		{"no map", "- a", "p:1:1: the policy is no map of fields"},
		{"where it breaks off", rules + "   - use: latest\n", "p:5:4: did not find expected '-' indicator"},
		{"two documents", rules + "---\na: 1\n", "p: there is more than one document"},
		{"an alias", "version: 1\nmode: &a audit\nrules: *a\n", "p:2:7: anchors and aliases are not read in a policy: each line must say what it means"},
		{"a tag", head + "rules: !!binary aGk=\n", "p:3:8: tags (!!binary) are not read in a policy"},
		{"no mode", "version: 1\nrules:\n  - use: privileged\n", "p:1:1: the policy has no mode"},
		{"no rules", head, "p:1:1: the policy has no rules"},
		{"an empty field", head + "rules:\n", "p:1:1: the policy has no rules"},
		{"a field twice", rules + "mode: audit\n", "p:5:1: the policy has mode twice: line 2 has it already"},
		{"a mode that isn't", "version: 1\nmode: enforced\nrules:\n  - use: privileged\n", `p:2:7: mode can't be "enforced": did you mean enforce?`},
		{"a rule twice", rules + "  - use: privileged\n", "p:5:5: line 4 has a rule privileged already"},
		{"a parameter that isn't", rules + "    with: {allow: 1}\n", `p:5:19: the built-in rule privileged has no parameter "allow"`},
		{"a parameter misspelt", head + "rules:\n  - use: vulnerabilities\n    with: {severty: high}\n", `p:5:21: the built-in rule vulnerabilities has no parameter "severty": did you mean severity?`},
		{"a parameter of another type", head + "rules:\n  - use: vulnerabilities\n    with: {severity: 7}\n", `p:5:22: "7" is no severity`},
		{"a parameter that must be set", head + "rules:\n  - use: registry\n", "p:4:5: the built-in rule registry needs the parameter allowed: registries; * stands for anything"},
		{"a built-in rule's condition", rules + "    deny: 'true'\n", `p:5:5: a rule has no field "deny"`},
		{"a rule without a kind", head + "rules:\n  - {id: a, deny: 'true', message: m}\n", "p:4:5: the rule a doesn't say what it is for"},
		{"a rule without words", head + "rules:\n  - {id: a, for: image, deny: 'true'}\n", "p:4:5: the rule a has no message"},
		{"a kind that isn't", head + "rules:\n  - {id: a, for: images, deny: 'true', message: m}\n", `p:4:18: for can't be "images": did you mean image?`},
		{"a variable of another kind", head + "rules:\n  - {id: a, for: image, deny: 'container.privileged', message: m}\n", `p:4:32: deny of a: there is no "container"`},
		{"in a block", head + "rules:\n  - id: a\n    for: image\n    deny: |\n      image.pinned\n        && image.tagg == ''\n    message: m\n", `p:8:17: deny of a: Image has no field "tagg": did you mean tag?`},
		{"a brace that isn't closed", head + "rules:\n  - {id: a, for: image, deny: 'true', message: 'x {image.tag'}\n", `p:4:51: message of a: a "{" without a "}"`},
		{"an object made", head + "rules:\n  - {id: a, for: image, deny: 'Mount{kind: \"bind\"}.read_only', message: m}\n", "p:4:32: deny of a: a condition can't make a Mount"},
		{"a scope without where", rules + "scopes:\n  - {name: a, mode: off}\n", "p:6:5: the scope a has no where"},
		{"a scope by a number", rules + "scopes:\n  - {name: a, mode: off, where: {account: 012345678901}}\n", "p:6:43: account is no text"},
		{"a scope's rule that isn't", rules + "scopes:\n  - {name: a, mode: off, where: {cluster: a}, rules: {privilege: audit}}\n", `p:6:55: the policy has no rule "privilege": did you mean privileged?`},
		{"an exception that never ends", exception + "{rules: [privileged], owner: o, reason: r, family: f}\n", "p:6:5: the exception never ends"},
		{"nobody's exception", exception + "{rules: [privileged], expires: 2027-01-01, reason: r, family: f}\n", "p:6:5: the exception has no owner"},
		{"an exception without a reason", exception + "{rules: [privileged], expires: 2027-01-01, owner: o, family: f}\n", "p:6:5: the exception has no reason"},
		{"an exception for everything", exception + "{rules: [privileged], expires: 2027-01-01, owner: o, reason: r}\n", "p:6:5: the exception is for everything"},
		{"an exception for every image", exception + "{rules: [privileged], expires: 2027-01-01, owner: o, reason: r, image: '**'}\n", `p:6:5: the exception's image "**" is every image`},
		{"an exception from no rule", exception + "{expires: 2027-01-01, owner: o, reason: r, family: f}\n", "p:6:5: the exception names no rules"},
		{"an exception from another rule", exception + "{rules: [priv], expires: 2027-01-01, owner: o, reason: r, family: f}\n", `p:6:14: the policy has no rule "priv"`},
		{"no date", exception + "{rules: [privileged], expires: never, owner: o, reason: r, family: f}\n", "p:6:36: expires is no date"},
		{"too slow", rules + "timeLimit: 2h\n", "p:5:12: timeLimit is 2h0m0s: want 1ms to 1m0s"},
		{"too large", strings.Repeat("#", policy.MaxBytes+1), "p: 1048577 bytes, and at most 1048576 are read"},
		{"too deep", head + "rules: " + strings.Repeat("[", 50) + strings.Repeat("]", 50), "p:3:28: values within values, more than 20 deep"},
		{"an expression too long", head + "rules:\n  - {id: a, for: image, message: m, deny: 'image.pinned" + strings.Repeat(" ", 5000) + "'}\n", "p:4:44: deny of a: a condition of 5012 bytes: at most 4096 are read"},
		{"an expression too deep", head + "rules:\n  - {id: a, for: image, message: m, deny: '" + strings.Repeat("(", 100) + "'}\n", "p:4:44: deny of a: expression recursion limit exceeded: 50"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := policy.Read([]byte(tc.text), "p")
			all := policy.ProblemsOf(err)
			if p != nil || len(all) == 0 {
				t.Fatalf("read: %v", err)
			}
			if got := all[0].Error(); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// All problems are told, in the order of their lines, and not more than anybody reads.
func TestProblemsAreToldTogether(t *testing.T) {
	_, err := policy.Read([]byte("version: 2\nmode: x\nrules:\n  - use: nothing\n"), "p")
	var lines []int
	for _, x := range policy.ProblemsOf(err) {
		lines = append(lines, x.Line)
	}
	if diff := cmp.Diff([]int{1, 2, 4}, lines); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	_, err = policy.Read([]byte(head+"rules:\n"+strings.Repeat("  - use: nothing\n", 400)), "p")
	if n := len(policy.ProblemsOf(err)); n != policy.MaxProblems {
		t.Errorf("%d problems", n)
	}
}

// A policy has a name by its text; JSON is one, too.
func TestDigest(t *testing.T) {
	a, err := policy.Read([]byte(head+"rules:\n  - use: privileged\n"), "a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := policy.Read([]byte("{\"version\": \"1\",\t\"mode\": \"audit\", \"rules\": [{\"use\": \"privileged\"}]}"), "b")
	if err != nil {
		t.Fatal(err)
	}
	if a.Digest == b.Digest || !strings.HasPrefix(a.Digest, "sha256:") {
		t.Errorf("%s, %s", a.Digest, b.Digest)
	}
}
