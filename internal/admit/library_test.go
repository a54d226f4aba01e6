package admit_test

import (
	"fmt"
	"strings"
	"testing"

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
