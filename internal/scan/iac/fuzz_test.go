package iac_test

import (
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/castellan-security/castellan/internal/scan/iac"
)

// FuzzScan reads whatever comes as each kind of document: it ends, without a
// panic, and every fault has a place in the file.
func FuzzScan(f *testing.F) {
	names := []string{"task.json", "template.yaml", "main.tf", "main.tf.json", "Dockerfile", "compose.yaml", "plan.json"}
	archive, err := txtar.ParseFile("testdata/checks.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for i, file := range archive.Files {
		f.Add(uint8(i), file.Data)
	}
	f.Add(uint8(1), []byte("services: &a [*a]\nx: {<<: *a}\n"))
	f.Add(uint8(2), []byte("locals {\n a = \"${local.b}${local.b}\"\n b = local.a\n}\nresource \"aws_ecs_cluster\" \"c\" {\n name = local.a\n}"))
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		name := names[int(kind)%len(names)]
		r, err := iac.Scan(t.Context(), fstest.MapFS{name: {Data: data}}, name, iac.Options{Now: now})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range r.Faults {
			if m.File != name || m.Start.Line < 1 || m.Fingerprint == "" || m.End.Line < m.Start.Line {
				t.Fatalf("a fault without a place: %+v", m)
			}
		}
	})
}
