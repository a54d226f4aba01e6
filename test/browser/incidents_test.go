package browser

import (
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/threat"
)

func incidentPlaces() []place {
	return []place{
		{"incidents", "/incidents"}, {"incidents-none", "/incidents?text=nothinghasthis"}, {"incident", "/incidents/1"}, {"incident-low", "/incidents/2"}, {"incident-hostile", "/incidents/3"}, {"incident-cloud", "/incidents/4"},
		{"detect-rules", "/detect/rules?theme=escape"}, {"detect-rule", "/detect/rules/escape-core-pattern"}, {"responses", "/responses"},
		{"detect-matrix", "/detect/matrix"}, {"detect-documents", "/detect/documents"}, {"detect-document-new", "/detect/documents/shop.yaml/edit"}, {"responses-policy", "/responses/policy"},
		{"responses-policy-new", "/responses/policy/edit"}, {"deed-kill", "/responses/deeds/new?do=kill&incident=3&workload=" + consoletest.Hostile}, {"incidents-filtered", "/incidents?technique=T1059&state=active&severity=high"},
	}
}

// threaten has the shop's agents tell what rules saw.
func (h *house) threaten(t *testing.T) {
	t.Helper()
	for _, x := range consoletest.Threats(time.Now()) {
		if err := h.Incidents().Take(t.Context(), x.AgentID, []*threat.Threat{x}); err != nil {
			t.Fatal(err)
		}
	}
}

// resolves takes an incident, sees more of it come in, and resolves it.
func (h *house) resolves(t *testing.T, b *tab) {
	b.open("/incidents")
	b.click(`#part a[href="/incidents/1"]`)
	b.wait(`location.pathname === "/incidents/1" && ` + shows("Timeline"))
	b.ready()
	b.lets(t, "an incident")
	b.fill(`[name=assignee]`, "mira")
	b.click(`.inline-form button[value=assign]`)
	b.wait(`location.search === "?done=incident-assign" && ` + shows("assigned to mira"))

	// What comes in meanwhile is shown by itself.
	more := consoletest.Threats(time.Now())[4]
	more.Rule, more.Summary = "shadow-read", "curl read /etc/shadow"
	more.Print = threat.PrintOf(more.Rule, more.AgentID, more.WorkloadID, more.Root)
	if err := h.Incidents().Take(t.Context(), more.AgentID, []*threat.Threat{more}); err != nil {
		t.Fatal(err)
	}
	b.wait(shows("curl read /etc/shadow"))
	b.click(`[name=resolution][value=attack]`)
	b.fill(`form:has([name=resolution]) [name=comment]`, "the image is replaced")
	b.click(`form:has([name=resolution]) button`)
	b.wait(`location.search === "?done=incident-resolve" && ` + shows("the image is replaced") + ` && ` + shows("Reopen it"))
}
