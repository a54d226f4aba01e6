package docker_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/server/respond"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// A snapshot that a joined agent took of a frozen container proves, with the
// fingerprint of the server's authority alone, which agent took it; one that was changed
// since, or that another authority vouches for, does not.
func TestSnapshotOfAJoinedAgentIsSigned(t *testing.T) {
	e := start(t, engine.Options{})
	w := guardedHost(t, e)
	id := run(t, e, engine.Container{Name: "web", Cmd: []string{"sh", "-c", "echo stolen > /tmp/loot; exec sleep 3600"}})
	w.until("the container to be known", func() bool {
		var got asset.Workload
		return w.ask(&got, "/workloads/"+id, nil) == nil && got.State == asset.Running
	})
	w.obeys("web")
	w.does("respond", "quarantine", "web", "--freeze", "--reason", "case 42")
	archive := filepath.Join(t.TempDir(), "case-42.tar.gz")
	t.Log(w.does("respond", "snapshot", "web", "--files", "--save", archive, "--reason", "case 42"))

	var page struct{ Snapshots []respond.Snapshot }
	w.until("the server to look who signed it", func() bool {
		if err := json.Unmarshal([]byte(w.does("respond", "snapshots", "-o", "json")), &page); err != nil {
			t.Fatal(err)
		}
		return len(page.Snapshots) == 1 && page.Snapshots[0].Signed != ""
	})
	var agents struct{ Agents []asset.Agent }
	w.asks(&agents, "/agents", nil)
	if len(agents.Agents) != 1 {
		t.Fatalf("%d agents, want one", len(agents.Agents))
	}
	s, agent := page.Snapshots[0], agents.Agents[0].ID
	if s.Workload != id || s.AgentID != agent || s.Signed != respond.SignedYes {
		t.Errorf("the server lists %+v, want it of %s and signed", s, agent)
	}

	// verify asks nobody: it gets no data folder.
	verify := func(args ...string) (string, int) {
		c := exec.CommandContext(t.Context(), w.program, append([]string{"respond", "snapshots", "verify"}, args...)...)
		out, err := c.CombinedOutput()
		if err != nil && c.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), c.ProcessState.ExitCode()
	}
	out, code := verify(archive, "--ca-fingerprint", w.fingerprint, "--digest", s.Digest)
	t.Log(out)
	if code != 0 || !strings.Contains(out, agent) || !strings.Contains(out, asset.ShortID(id)) {
		t.Errorf("verify ended with %d, want 0 and agent %s in it", code, agent)
	}
	const violated = 3
	out, code = verify(archive, "--ca-fingerprint", "sha256:"+strings.Repeat("0", 64))
	if code != violated || !strings.Contains(out, "wrong") {
		t.Errorf("under another authority: %d, %s", code, out)
	}
	w.forge(archive, archive+".forged")
	if out, code = verify(archive + ".forged"); code != 0 {
		t.Errorf("what is whole and signed by nobody: %d, %s", code, out)
	}
	out, code = verify(archive+".forged", "--ca-fingerprint", w.fingerprint)
	if code != violated || !strings.Contains(out, "nobody has signed it") {
		t.Errorf("without its signature: %d, %s", code, out)
	}
	w.does("respond", "release", "web")
}

// forge writes an archive anew without what signs it.
func (w *ward) forge(from, to string) {
	w.t.Helper()
	dir := w.t.TempDir()
	tar := func(in string, args ...string) string {
		c := exec.CommandContext(w.t.Context(), "tar", args...)
		c.Stdin = strings.NewReader(in)
		out, err := c.Output()
		if err != nil {
			w.t.Fatalf("tar %q: %v", args, err)
		}
		return string(out)
	}
	tar("", "-xzf", from, "-C", dir)
	names := strings.ReplaceAll(tar("", "-tzf", from), "manifest.sig\n", "")
	tar(names, "-czf", to, "-C", dir, "-T", "-")
}
