package kernel_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/kernel"
)

// What the start needed is mapped no more, and the program goes on.
func TestLetGoOfProgram(t *testing.T) {
	all, err := os.ReadFile("/proc/self/exe") // what is in the cache is mapped in larger parts
	if err != nil {
		t.Fatal(err)
	}
	before := mapped(t)
	if err := kernel.LetGoOfProgram(); err != nil {
		t.Fatal(err)
	}
	after := mapped(t)
	if after >= before {
		t.Errorf("%d KiB of files are mapped, %d before", after, before)
	}
	if again, err := os.ReadFile("/proc/self/exe"); err != nil || string(again) != string(all) {
		t.Errorf("the program's file is another: %v", err)
	}
}

// mapped is how much of files this process has mapped, in KiB.
func mapped(t *testing.T) (kib int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(status), "RssFile:")
	if _, err := fmt.Sscan(rest, &kib); !ok || err != nil {
		t.Fatalf("no RssFile in %s", status)
	}
	return kib
}
