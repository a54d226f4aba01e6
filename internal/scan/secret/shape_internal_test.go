package secret

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Rules whose keywords need not be in what they match cost more, and find less in
// long files: there is a reason for each.
func TestLooseRules(t *testing.T) {
	rules, _ := newRules()
	var loose, sure, far []string
	for _, r := range rules {
		if r.loose {
			loose = append(loose, r.id)
		}
		for _, p := range r.probes {
			if p.sure {
				sure = append(sure, r.id)
			}
			if p.back < 0 || p.back > backward || p.reach > overlap {
				far = append(far, r.id)
			}
		}
	}
	// Tokens with no word of their own: their keyword is the name of the service,
	// anywhere in the file.
	if d := cmp.Diff(loose, []string{"airtable-personnal-access-token", "facebook-access-token", "sourcegraph-access-token"}); d != "" {
		t.Errorf("loose rules differ (-got +want):\n%s", d)
	}
	// Blanks without bound before a field's value, and in the name of a host.
	if d := cmp.Diff(slices.Compact(far), []string{"kubernetes-secret-yaml", "microsoft-teams-webhook"}); d != "" {
		t.Errorf("rules that reach farther than is kept differ (-got +want):\n%s", d)
	}
	t.Logf("%d rules, %d for programs too: %v", len(rules), len(sure), sure)
}
