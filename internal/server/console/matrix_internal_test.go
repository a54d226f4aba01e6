package console

import (
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/server/detections"
	"github.com/castellan-security/castellan/internal/threat"
)

func TestAMatrixCountsEachRuleOnce(t *testing.T) {
	rule := func(off bool, techniques ...string) detections.Rule {
		return detections.Rule{Rule: threat.Rule{Tactic: threat.Execution, Techniques: techniques, Off: off}, Stats: threat.RuleStats{Hits: 2}}
	}
	for name, c := range map[string]struct {
		all  []detections.Rule
		want string
	}{
		"none":             {nil, "no rule"},
		"two parts of one": {[]detections.Rule{rule(false, "T1609", "T1609.001")}, "1 rule, fired ×2"},
		"one that is off":  {[]detections.Rule{rule(true, "T1609")}, "1 rule is off, fired ×2"},
		"two rules":        {[]detections.Rule{rule(false, "T1609"), rule(false, "T1609")}, "2 rules, fired ×4"},
	} {
		got := ""
		for _, col := range newMatrix(c.all).Columns {
			for _, cell := range col.Cells {
				if col.Tactic == threat.Execution && cell.ID == "T1609" {
					got = cellWords(cell)
				}
			}
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestATechniqueOfTheMatrixHasAName(t *testing.T) {
	engine, err := detect.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range engine.Rules() {
		for _, id := range r.Techniques {
			if base, _, _ := strings.Cut(id, "."); techniqueName(base) == base {
				t.Errorf("%s, of rule %s, has no name", base, r.ID)
			}
		}
	}
	for tactic, all := range containerTechniques() {
		for _, id := range all {
			if techniqueName(id) == id {
				t.Errorf("%s, %s has no name", tactic, id)
			}
		}
	}
}
