package bpf_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// compatSource makes, changes, gives away and deletes a file, or, with an argument, only begins.
const compatSource = `package main

import "os"

func main() {
	if len(os.Args) > 1 {
		return
	}
	const name = "/tmp/made"
	for _, do := range []func() error{
		func() error { return os.WriteFile(name, nil, 0o600) },
		func() error { return os.Chmod(name, 0o755) },
		func() error { return os.Chown(name, 70000, -1) },
		func() error { return os.Remove(name) },
	} {
		if err := do(); err != nil {
			os.Exit(1)
		}
	}
}
`

// buildCompat builds the 32-bit program. Some virtual machines have no mode for such
// programs, whatever their kernel was built with: there its test is skipped.
func buildCompat(t *testing.T, goTool, out string) {
	t.Helper()
	source := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(source, []byte(compatSource), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), goTool, "build", "-o", out, source)
	cmd.Env = append(os.Environ(), "GOARCH=386", "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build a 32-bit program: %v\n%s", err, b)
	}
	switch err := exec.CommandContext(t.Context(), out, "begin").Run(); {
	case errors.Is(err, unix.ENOEXEC):
		t.Skip("this machine runs no 32-bit programs")
	case err != nil:
		t.Fatalf("begin a 32-bit program: %v", err)
	}
}
