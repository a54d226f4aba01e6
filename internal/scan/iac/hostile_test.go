package iac_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/castellan-security/castellan/internal/scan/iac"
)

// A small document that names one large text many times is not looked at, which is
// said as something that a gate must not pass; neither is what comes beyond a limit
// of all documents.
func TestOneTextManyTimes(t *testing.T) {
	document := func(field string, times int) *fstest.MapFile {
		text := strings.Repeat("long", 3<<10)
		var b strings.Builder
		fmt.Fprintf(&b, "x-a: &a %q\nservices:\n  a:\n    image: x\n    %s:\n", text, field)
		for range times {
			b.WriteString("    - *a\n")
		}
		return &fstest.MapFile{Data: []byte(b.String())}
	}
	many := fstest.MapFS{}
	for i := range 40 {
		many[fmt.Sprintf("%02d/compose.yaml", i)] = document("command", 150) // 1.8 MB each
	}
	for name, tc := range map[string]struct {
		files fstest.MapFS
		lost  int
	}{
		"command":             {fstest.MapFS{"compose.yaml": document("command", 900)}, 1},
		"entrypoint":          {fstest.MapFS{"compose.yaml": document("entrypoint", 900)}, 1},
		"as people may do it": {fstest.MapFS{"compose.yaml": document("command", 5)}, 0},
		"many documents":      {many, 4},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := iac.Scan(t.Context(), tc.files, ".", iac.Options{})
			if err != nil {
				t.Fatal(err)
			}
			lost := 0
			for _, p := range r.Problems {
				if p.Lost && strings.Contains(p.What, "its commands have") {
					lost++
				}
			}
			if lost != tc.lost || lost != len(r.Problems) {
				t.Errorf("%d documents are said to be left out, want %d; problems %.300v", lost, tc.lost, r.Problems)
			}
		})
	}
}
