package vm_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/test/vm"
)

func TestModulesInOrderOfLoading(t *testing.T) {
	m := need.VM(t, "amd64")
	files, err := vm.Modules(m.Modules, "vfat", "overlay", "vfat")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(f))
	}
	at := func(name string) int { return slices.Index(names, name) }
	if at("overlay.ko") < 0 || at("fat.ko") < 0 || at("fat.ko") > at("vfat.ko") {
		t.Errorf("modules = %q, want overlay.ko, and fat.ko before vfat.ko", names)
	}
	if once := slices.Compact(slices.Sorted(slices.Values(names))); len(once) != len(names) {
		t.Errorf("modules = %q, want each once", names)
	}
}

func TestModulesAbsent(t *testing.T) {
	_, err := vm.Modules(t.TempDir(), "overlay")
	if err == nil || !strings.Contains(err.Error(), "kernel module overlay is not below") {
		t.Errorf("Modules = %v, want an error that names the module", err)
	}
}
