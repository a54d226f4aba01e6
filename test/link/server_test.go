package link_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Where the server's process writes: what it leaves out of reports is said
// there.
const serverLog = "server.log"

// build makes the castellan command and returns its path.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "castellan")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "../../cmd/castellan")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build castellan: %v\n%s", err, out)
	}
	return path
}

// shortDir is a folder whose path is short enough for a unix socket in it.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "castellan-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// ask runs castellan to its end and returns what it prints.
func (c *chaos) ask(env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(c.t.Context(), c.castellan, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("castellan %v: %w", args, err)
	}
	return out, nil
}

// join lets the agent join the server, as people do: it is invited there, and
// uses the invitation here.
func (c *chaos) join() {
	c.t.Helper()
	var invitation struct {
		Token       string `json:"token"`
		Fingerprint string `json:"ca_fingerprint"`
	}
	c.until("the server to invite", func() bool {
		out, err := c.ask(nil, "agents", "invite", "--data-dir", c.serverDir, "-o", "json")
		return err == nil && json.Unmarshal(out, &invitation) == nil
	})
	if _, err := c.ask([]string{"CASTELLAN_JOIN_TOKEN=" + invitation.Token},
		"agent", "join", "--data-dir", c.agentDir, "--server", "https://"+c.address, "--ca-fingerprint", invitation.Fingerprint); err != nil {
		c.t.Fatal(err)
	}
}
