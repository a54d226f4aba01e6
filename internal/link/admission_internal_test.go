package link

import (
	"encoding/json"
	"testing"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/proto/linkv1"
)

// FuzzAdmissionWire reads what a hostile agent reports and a hostile server briefs.
func FuzzAdmissionWire(f *testing.F) {
	f.Add([]byte(`{"verdicts":[{"request":{"id":"r","place":{"host":"A"},"task":{"containers":[{}]}},"verdict":{"request":"r"}}]}`))
	f.Add([]byte(`{"version":1,"stamp":"s","changed":true,"policy":"cA==","exceptions":[{"id":"1"}]}`))
	f.Add([]byte(`{"images":[{"digest":"sha256:1"}],"stamp":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := reportedFromWire(&linkv1.AdmittedRequest{ReportJson: b})
		if err == nil {
			r.AgentID = "A"
			err = r.Check()
		}
		if err == nil {
			if _, err := json.Marshal(r); err != nil {
				t.Errorf("what was taken can't be written: %v", err)
			}
		} else if !fault.Is(err, fault.Invalid) {
			t.Errorf("report: got an error of another kind: %v", err)
		}
		if _, err := briefFromWire(&linkv1.BriefResponse{BriefJson: b}); err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("brief: got an error of another kind: %v", err)
		}
		if a, err := askFromWire(&linkv1.BriefRequest{AskJson: b}); err == nil {
			if err := a.Check(); err != nil && !fault.Is(err, fault.Invalid) {
				t.Errorf("ask: got an error of another kind: %v", err)
			}
		}
	})
}
