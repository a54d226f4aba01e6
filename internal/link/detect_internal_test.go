package link

import (
	"testing"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/proto/linkv1"
)

// FuzzDetectWire reads what a hostile agent tells of threats and rules, and what a
// hostile server has written.
func FuzzDetectWire(f *testing.F) {
	f.Add([]byte(`{"version":1,"print":"00","evidence":[{"words":"a\",{["}],"peers":[{"address":"1.2.3.4:5","kind":"x"}],"process":{"key":"1-2"}}`))
	f.Add([]byte(`{"stamp":"s","changed":true,"rules":[{"rule":"a-b","hits":1}],"unusable":[{"name":"n"}]}`))
	f.Add([]byte(`{"documents":[{"name":"n","version":1,"text":"t"}],"silences":[{"rule":"r","until":"2026-01-01T00:00:00Z"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		wrong := func(what string, err error) {
			if err != nil && !fault.Is(err, fault.Invalid) {
				t.Errorf("%s: got an error of another kind: %v", what, err)
			}
		}
		threats, err := threatsFromWire([]*linkv1.Threat{{Number: 1, ThreatJson: b}})
		if err == nil {
			x := &threats[0].Threat
			x.Bound()
			_ = x.Check()
			if _, err := threatsToWire(threats); err != nil {
				t.Errorf("a threat that was taken can't be written: %v", err)
			}
		}
		wrong("threat", err)
		var a DetectionsAsk
		if err = readJSON("ask", b, &a); err == nil {
			err = a.Check()
		}
		wrong("ask", err)
		_, err = detectionsFromWire(&linkv1.DetectionsResponse{BriefJson: b, Texts: b})
		wrong("brief", err)
		packed, err := pack(b)
		if err != nil {
			t.Fatal(err)
		}
		_, err = UnpackDetectionTexts(packed)
		wrong("texts", err)
	})
}
