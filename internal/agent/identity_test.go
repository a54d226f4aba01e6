package agent_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/fault"
)

func TestIdentityStays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	first, err := agent.Identity(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := agent.Identity(dir)
	if err != nil || again != first {
		t.Errorf("second call gave %q, %v; want %q", again, err, first)
	}
	other, err := agent.Identity(t.TempDir())
	if err != nil || other == first {
		t.Errorf("another folder gave %q, %v; want another id", other, err)
	}
}

func TestDamagedIdentityIsNotReplaced(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "cut": "ABC", "hostile": "../../etc/passwd\n", "long": string(make([]byte, 1000))} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "agent-id")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := agent.Identity(dir)
			if !fault.Is(err, fault.Corrupt) || fault.Remedy(err) == "" {
				t.Errorf("got %v, want a corrupt fault with a remedy", err)
			}
			if left, _ := os.ReadFile(path); string(left) != text {
				t.Errorf("file changed to %q", left)
			}
		})
	}
}
