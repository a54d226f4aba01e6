package link

import (
	"encoding/json"
	"testing"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/proto/linkv1"
)

// FuzzBehaviourWire reads what a hostile agent holds and a hostile server briefs.
func FuzzBehaviourWire(f *testing.F) {
	f.Add([]byte(`{"held":[{"group":"a/b/c","stamp":"s","controls":[{"control":"exec","answer":"deny","rung":"BPF LSM"}]}]}`))
	f.Add([]byte(`{"stamp":"s","release":["a/b/c"],"more":true}`))
	f.Add([]byte(`{"group":"a/b/c","stamp":"s","mode":"protect"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := heldFromWire(&linkv1.BehaviourRequest{AskJson: b})
		if err == nil {
			err = a.Check()
		}
		if err == nil {
			if _, err := json.Marshal(a); err != nil {
				t.Errorf("what was taken can't be written: %v", err)
			}
		} else if !fault.Is(err, fault.Invalid) {
			t.Errorf("ask: got an error of another kind: %v", err)
		}
		for _, w := range []*linkv1.BehaviourResponse{
			{BriefJson: b}, {BriefJson: []byte("{}"), Rules: []*linkv1.BriefRules{{AboutJson: b, Packed: b}}},
		} {
			if _, err := rulesFromWire(w); err != nil && !fault.Is(err, fault.Invalid) {
				t.Errorf("brief: got an error of another kind: %v", err)
			}
		}
	})
}
