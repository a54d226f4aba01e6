package inventory_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/inventory"
)

func TestInstruction(t *testing.T) {
	for _, tc := range []struct{ name, createdBy, want string }{
		{"step without a layer, old builder", `/bin/sh -c #(nop)  CMD ["sh"]`, `CMD ["sh"]`},
		{"file, old builder", "/bin/sh -c #(nop) ADD file:0b4d in / ", "ADD file:0b4d in /"},
		{"command, old builder", "/bin/sh -c apt-get update", "RUN apt-get update"},
		{"command, BuildKit", "RUN /bin/sh -c apt-get update # buildkit", "RUN apt-get update"},
		{"command of another shell", "RUN /bin/bash -c make # buildkit", "RUN /bin/bash -c make"},
		{"file, BuildKit", "COPY . /app # buildkit", "COPY . /app"},
		{"arguments of a build", "|1 V=2 /bin/sh -c make", "|1 V=2 /bin/sh -c make"},
		{"another tool", "bazel build ...", "bazel build ..."},
		{"nothing", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := inventory.Instruction(tc.createdBy); got != tc.want {
				t.Errorf("Instruction() = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestExplainLayers(t *testing.T) {
	step := func(s string, empty bool) inventory.Step { return inventory.Step{Instruction: s, Empty: empty} }
	for _, tc := range []struct {
		name    string
		history []inventory.Step
		layers  int
		want    []string
	}{
		{"empty steps between", []inventory.Step{step("ADD", false), step("ENV", true), step("RUN", false), step("CMD", true)}, 2, []string{"ADD", "RUN"}},
		{"fewer steps than layers", []inventory.Step{step("ADD", false)}, 2, []string{"", ""}},
		{"more steps than layers", []inventory.Step{step("ADD", false), step("RUN", false)}, 1, []string{""}},
		{"no history", nil, 1, []string{""}},
		{"nothing", nil, 0, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			i := inventory.Image{History: tc.history, Layers: make([]inventory.Layer, tc.layers)}
			i.ExplainLayers()
			var got []string
			for _, l := range i.Layers {
				got = append(got, l.Instruction)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("instructions (-want +got):\n%s", diff)
			}
		})
	}
}
