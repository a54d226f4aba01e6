package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

// Threats that an agent told are incidents that people read and work on.
func TestIncidentsOverTheAPI(t *testing.T) {
	h := open(t, nil)
	at := time.Now().UTC()
	take := func(rule, technique string, n int, sev finding.Severity) {
		t.Helper()
		k := event.Key{PID: uint32(n), Start: 1}
		x := &threat.Threat{
			Version: threat.Version, Rule: rule, Severity: sev, Techniques: []string{technique}, Title: "Title of " + rule, Summary: "sh ran", First: at, Last: at, Count: 1, AgentID: "AGENTONE",
			WorkloadID: fmt.Sprintf("%064x", n), Group: fmt.Sprintf("shop/web%d/nginx", n), Root: k, Process: event.Process{Key: k, Name: "sh"}, Print: rule + fmt.Sprint(n),
		}
		if err := h.Incidents().Take(t.Context(), "AGENTONE", []*threat.Threat{x}); err != nil {
			t.Fatal(err)
		}
	}
	take("shell", "T1059.004", 1, finding.High)
	take("scan", "T1046", 2, finding.Low)
	viewer, operator := h.as(access.Viewer), h.as(access.Operator)
	const path = "/api/v1/detect/incidents"
	var list struct {
		Incidents []threat.Incident
		Totals    struct{ States map[string]int }
	}
	h.ask(t, "GET", path, nil, viewer...).into(t, &list)
	if len(list.Incidents) != 2 || list.Incidents[1].Title != "Title of shell, in shop/web1/nginx" || list.Totals.States["open"] != 2 || len(list.Incidents[0].Timeline) != 0 {
		t.Errorf("the list: %+v", list)
	}
	h.ask(t, "GET", path+"?severity=medium&state=open&group=shop/web1/*", nil, viewer...).into(t, &list)
	if len(list.Incidents) != 1 || list.Incidents[0].ID != 1 {
		t.Errorf("grave ones: %+v", list.Incidents)
	}
	for asked, want := range map[string][]int64{
		"technique=T1059": {1}, "technique=T1046": {2}, "technique=T1611": nil, "until=" + at.Add(-time.Hour).Format(time.RFC3339): nil,
		"until=" + at.Add(time.Hour).Format(time.RFC3339) + "&technique=T1059.004": {1},
	} {
		h.ask(t, "GET", path+"?"+asked, nil, viewer...).into(t, &list)
		var got []int64
		for k := range list.Incidents {
			got = append(got, list.Incidents[k].ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", asked, got, want)
		}
	}
	for _, wrong := range []string{"technique=shell", "until=yesterday"} {
		if a := h.ask(t, "GET", path+"?"+wrong, nil, viewer...); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", wrong, a.status, a.body)
		}
	}
	var i threat.Incident
	h.ask(t, "GET", path+"/1", nil, viewer...).into(t, &i)
	if len(i.Timeline) != 1 || len(i.Processes) != 1 {
		t.Errorf("one: %+v", i)
	}
	for _, tc := range []struct {
		name string
		body map[string]any
		role access.Role
		want int
		says string
	}{
		{"a viewer may not", map[string]any{"do": "assign"}, access.Viewer, http.StatusForbidden, "incidents:write"},
		{"recur is for threats", map[string]any{"do": "recur"}, access.Operator, http.StatusUnprocessableEntity, "do"},
		{"without a resolution", map[string]any{"do": "resolve"}, access.Operator, http.StatusUnprocessableEntity, "resolution"},
		{"reopened while open", map[string]any{"do": "reopen"}, access.Operator, http.StatusConflict, "open"},
	} {
		if a := h.ask(t, "POST", path+"/1/changes", tc.body, h.as(tc.role)...); a.status != tc.want || !strings.Contains(string(a.body), tc.says) {
			t.Errorf("%s: got %d %s", tc.name, a.status, a.body)
		}
	}
	h.ask(t, "POST", path+"/1/changes", map[string]any{"do": "assign", "assignee": "bob", "comment": "yours"}, operator...).into(t, &i)
	h.ask(t, "POST", path+"/1/changes", map[string]any{"do": "resolve", "resolution": "attack"}, operator...).into(t, &i)
	if i.State != threat.Resolved || i.Assignee != "bob" || len(i.Timeline) != 3 {
		t.Errorf("resolved: %+v", i)
	}
	if a := h.ask(t, "GET", path+"/9", nil, viewer...); a.status != http.StatusNotFound {
		t.Errorf("one that is not there: %d %s", a.status, a.body)
	}
}
