package admit_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
)

func TestEveryBuiltinCanBeUsed(t *testing.T) {
	all, err := admit.Builtins()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		t.Run(b.ID, func(t *testing.T) {
			text := "version: 1\nmode: enforce\nrules:\n  - use: " + b.ID + "\n"
			var with []string
			for _, p := range b.Parameters {
				if p.Required {
					with = append(with, fmt.Sprintf("%s: %s", p.Name, p.Example))
				}
				if p.Doc == "" {
					t.Errorf("the parameter %s has no words", p.Name)
				}
			}
			if len(with) > 0 {
				text += "    with: {" + strings.Join(with, ", ") + "}\n"
			}
			if _, err := admit.Read([]byte(text), "policy.yaml"); err != nil {
				t.Error(err)
			}
			if b.Title == "" || b.Why == "" || b.Remedy == "" || b.Severity == 0 {
				t.Errorf("%+v lacks words", b)
			}
		})
	}
}

// TestBuiltins holds each built-in rule against what it refuses, what looks alike
// and is none, and what nobody knows.
func TestBuiltins(t *testing.T) {
	tested := map[string]bool{}
	for _, x := range examples() {
		tested[x.rule] = true
		text := "version: 1\nmode: enforce\nrules:\n  - use: " + x.rule + "\n"
		if x.with != "" {
			text += "    with: " + x.with + "\n"
		}
		p := read(t, text)
		run := func(name string, all []change, want admission.Outcome, unknown bool) {
			for i, c := range all {
				t.Run(fmt.Sprintf("%s%s/%s/%d", x.rule, x.with, name, i), func(t *testing.T) {
					r, f := sane()
					c(&r, &f)
					v := p.Decide(context.Background(), &r, admit.Given{Facts: map[string]*admission.Facts{f.Digest: &f}, Now: now()})
					if v.Outcome != want || v.Declared {
						t.Fatalf("outcome %s, want %s: %+v", v.Outcome, want, v.Reasons)
					}
					for _, reason := range v.Reasons {
						if (reason.Unknown != "") != unknown || reason.Message == "" || reason.Remedy == "" || strings.Contains(reason.Message+reason.Remedy, "(not known)") {
							t.Errorf("%+v", reason)
						}
					}
				})
			}
		}
		run("passes", append(x.passes, func(*admission.Request, *admission.Facts) {}), admission.Allow, false)
		run("fires", x.fires, admission.Deny, false)
		run("unknown", x.unknown, admission.Deny, true)
	}
	all, err := admit.Builtins()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		if !tested[b.ID] {
			t.Errorf("%s has no examples", b.ID)
		}
	}
}
