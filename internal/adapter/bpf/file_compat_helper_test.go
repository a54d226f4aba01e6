package bpf_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// compatSource makes, changes, gives away and deletes a file.
const compatSource = `package main

import "os"

func main() {
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

// buildCompat builds the 32-bit program.
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
}
