package vm_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/test/vm"
)

func TestConsole(t *testing.T) {
	const mark = "\x16"
	tests := []struct {
		name  string
		lines []string
		want  []vm.Result
		end   string
		panic bool
	}{
		{
			name: "pass, fail and skip",
			lines: []string{
				"[    0.000000] Linux version 6.1.0",
				mark + "=== RUN   TestA\r", mark + "=== RUN   TestA/x\r", "    a_test.go:1: said\r",
				mark + "=== NAME  TestA\r", "of A\r",
				mark + "--- FAIL: TestA (0.10s)\r", "    " + mark + "--- FAIL: TestA/x (0.01s)\r",
				mark + "=== RUN   TestB\r", mark + "--- PASS: TestB (0.00s)\r",
				mark + "=== RUN   TestC\r", mark + "--- SKIP: TestC (0.00s)\r",
				mark + "=== NAME  \r", "FAIL\r", vm.EndMark + "1\r",
			},
			want: []vm.Result{
				{Name: "TestA", Outcome: "FAIL", Took: "0.10s", Output: []string{"of A"}},
				{Name: "TestA/x", Outcome: "FAIL", Took: "0.01s", Output: []string{"    a_test.go:1: said"}},
				{Name: "TestB", Outcome: "PASS", Took: "0.00s"},
				{Name: "TestC", Outcome: "SKIP", Took: "0.00s"},
			},
			end: "1",
		},
		{
			name: "a test that prints what testing prints",
			lines: []string{
				mark + "=== RUN   TestA", "--- PASS: TestA (0.00s)", "=== RUN   TestZ", mark + "--- FAIL: TestA (0.00s)",
			},
			want: []vm.Result{{Name: "TestA", Outcome: "FAIL", Took: "0.00s", Output: []string{"--- PASS: TestA (0.00s)", "=== RUN   TestZ"}}},
		},
		{
			name:  "behind a message without a newline",
			lines: []string{mark + "=== RUN   TestA", "[    1.2] audit" + mark + "--- PASS: TestA (0.00s)"},
			want:  []vm.Result{{Name: "TestA", Outcome: "PASS", Took: "0.00s", Output: []string{"[    1.2] audit"}}},
		},
		{
			name:  "panic",
			lines: []string{mark + "=== RUN   TestA", "[    1.2] Kernel panic - not syncing: Attempted to kill init!"},
			want: []vm.Result{{
				Name: "TestA", Output: []string{"[    1.2] Kernel panic - not syncing: Attempted to kill init!"},
			}},
			panic: true,
		},
		{name: "nothing", want: []vm.Result{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var c vm.Console
			for _, l := range tt.lines {
				c.Line(l)
			}
			if diff := cmp.Diff(tt.want, c.Results()); diff != "" {
				t.Errorf("results (-want +got):\n%s", diff)
			}
			if c.End != tt.end || c.Panic != tt.panic {
				t.Errorf("end %q, panic %v, want %q, %v", c.End, c.Panic, tt.end, tt.panic)
			}
		})
	}
}

func TestConsoleTailIsBounded(t *testing.T) {
	var c vm.Console
	for range 1000 {
		c.Line("line")
	}
	c.Line("last")
	tail := strings.Split(c.Tail(), "\n")
	if len(tail) > 100 || tail[len(tail)-1] != "last" {
		t.Errorf("tail of %d lines ends in %q, want at most 100 that end in the last", len(tail), tail[len(tail)-1])
	}
}

func FuzzConsole(f *testing.F) {
	f.Add("\x16=== RUN   TestA\n\x16--- PASS: TestA (0.00s)\n\x16=== NAME  \n" + vm.EndMark + "0\n")
	f.Add("x\x16\x16=== RUN a/b\n")
	f.Fuzz(func(t *testing.T, output string) {
		var c vm.Console
		for line := range strings.Lines(output) {
			c.Line(line)
		}
		for _, r := range c.Results() {
			if r.Name == "" || strings.ContainsAny(r.Name, " \n") {
				t.Errorf("a test is called %q", r.Name)
			}
		}
	})
}
