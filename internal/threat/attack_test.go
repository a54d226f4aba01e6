package threat_test

import (
	"testing"

	"github.com/castellan-security/castellan/internal/threat"
)

func TestTechniqueOf(t *testing.T) {
	for _, tc := range []struct {
		id, name string
		tactic   threat.Tactic
	}{
		{"T1003", "OS Credential Dumping", threat.CredentialAccess}, // the first
		{"T1611", "Escape to Host", threat.PrivilegeEscalation},
		{"T1053.003", "Cron", threat.Execution},
		{"T1668", "Exclusive Control", threat.Persistence}, // the last
	} {
		got, ok := threat.TechniqueOf(tc.id)
		if !ok || got.ID != tc.id || got.Name != tc.name || got.Tactics[0] != tc.tactic {
			t.Errorf("%s is %+v", tc.id, got)
		}
	}
	for _, id := range []string{"", "T0000", "T1611.001", "T9999"} {
		if got, ok := threat.TechniqueOf(id); ok {
			t.Errorf("%q is %+v", id, got)
		}
	}
}
