package condition

import (
	"testing"
	"time"

	"cel.dev/cel-go/common/types"

	"github.com/castellan-security/castellan/internal/admission"
)

// Every field of what is known of an image that asks how late it is says by which
// times it follows the clock: conditions are remembered by that.
func TestFieldsSayByWhichTimes(t *testing.T) {
	s := NewSchema()
	day := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	f := &admission.Facts{Trust: admission.Trust{State: admission.Known, Allowed: true, Until: day}, Scan: admission.Scan{State: admission.Known, At: day, Database: day, EndOfLife: &day}}
	f.Scan.Vulnerabilities, f.Trust.Signers, f.Scan.Secrets = []admission.Vulnerability{{Published: day}}, []admission.Signer{{At: day}}, []admission.Found{{}}
	v, err := s.NewView(&admission.Request{Task: admission.Task{Containers: []admission.Container{{Image: admission.Image{Digest: "a"}}}}}, func(*admission.Image) *admission.Facts { return f }, day.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	nouns := map[string]any{"Scan": &f.Scan, "Vulnerability": &f.Scan.Vulnerabilities[0], "Found": &f.Scan.Secrets[0], "Trust": &f.Trust, "Signer": &f.Trust.Signers[0], "Image": v.images[0].v}
	for _, kind := range s.Structs {
		if !kind.facts {
			continue
		}
		if nouns[kind.Name] == nil {
			t.Errorf("%s: no value of it here", kind.Name)
			continue
		}
		for i := range kind.Fields {
			field := &kind.Fields[i]
			field.get(&Object{kind: kind, view: v, v: nouns[kind.Name]})
			if v.UsedClock() && field.times == nil {
				t.Errorf("%s.%s asks how late it is", kind.Name, field.Name)
			}
			if field.times != nil && len(field.times(f)) == 0 || field.typ.IsExactType(types.DurationType) && field.times == nil {
				t.Errorf("%s.%s has no time", kind.Name, field.Name)
			}
		}
	}
}
