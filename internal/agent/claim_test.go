package agent_test

import (
	"testing"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/fault"
)

func TestADataFolderHasOneAgent(t *testing.T) {
	dir := t.TempDir()
	first, err := agent.Claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := agent.Claim(dir); !fault.Is(err, fault.Conflict) || fault.Remedy(err) == "" {
		t.Errorf("a second agent: %v, want Conflict with a remedy", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := agent.Claim(dir)
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
