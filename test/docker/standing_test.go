package docker_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// listed is what castellan respond list shows of a container, the newest first: by whom
// which deed, how it stands, and what undoes it.
func (w *ward) listed(container string, flags ...string) (out []string) {
	w.t.Helper()
	var page struct {
		Responses []store.ResponseDeed `json:"responses"`
	}
	if err := json.Unmarshal([]byte(w.does(append([]string{"respond", "list", "-o", "json"}, flags...)...)), &page); err != nil {
		w.t.Fatal(err)
	}
	for i := range page.Responses {
		r := &page.Responses[i]
		if r.Deed.Workload != container || r.Deed.DryRun { // of obeys
			continue
		}
		line := fmt.Sprintf("%s %s, %s: %s", r.Deed.By, r.Deed.Kind, r.Deed.Reason, r.Answer.State)
		if r.Answer.Holds() {
			line += ", undo: " + string(r.Answer.Undo)
		}
		out = append(out, line)
	}
	return out
}

// lists waits until the list has this of a container.
func (w *ward) lists(what, container string, want ...string) {
	w.t.Helper()
	var got []string
	defer func() {
		if w.t.Failed() {
			w.t.Logf("%s: listed is %q, want %q", what, got, want)
		}
	}()
	w.until(what, func() bool {
		got = w.listed(container)
		return strings.Join(got, "\n") == strings.Join(want, "\n")
	})
}

// obeys waits until the agent hears what is to be done to a container: it reports before
// its server may tell it anything.
func (w *ward) obeys(container string) {
	w.t.Helper()
	w.until("the agent to hear of "+container, func() bool {
		return exec.Command(w.program, "respond", "quarantine", container, "--dry-run", "--data-dir", w.path("server")).Run() == nil
	})
}

// quarantined waits until a container is frozen and its network cut, or is not.
func (w *ward) quarantined(id string, want bool) {
	w.t.Helper()
	host := kernel.New(kernel.Options{})
	w.until(fmt.Sprintf("quarantine of %s to be %t", asset.ShortID(id), want), func() bool {
		is, err := host.Frozen(id)
		if err != nil {
			w.t.Fatal(err)
		}
		pins, err := filepath.Glob(filepath.Join(w.pins(), "*", "quarantine", id, "*"))
		if err != nil {
			w.t.Fatal(err)
		}
		return is == want && (len(pins) > 0) == want
	})
}

// restart ends the server as the kernel does when memory runs out, and starts it where
// it was.
func (w *ward) restart() {
	w.t.Helper()
	w.server.kill()
	w.serve(w.address)
	w.until("the server to answer", func() bool {
		var page struct{ Agents []asset.Agent }
		return w.ask(&page, "/agents", url.Values{}) == nil
	})
}

// What is in quarantine is listed, and can be undone, after server and agent were
// killed, whenever that was, and whatever became of the container meanwhile.
func TestWhatIsInQuarantineIsListedAfterTheAgentWasKilled(t *testing.T) {
	e := start(t, engine.Options{})
	w := guardedHost(t, e)
	id := run(t, e, engine.Container{Name: "web", Cmd: []string{"sleep", "3600"}})
	w.until("the container to be known", func() bool {
		var got asset.Workload
		return w.ask(&got, "/workloads/"+id, nil) == nil && got.State == asset.Running
	})
	file := filepath.Join(w.path("agent"), "respond", "quarantine.json")
	w.obeys("web")

	// The agent is killed as soon as it has begun, wherever it is then.
	asked := launch(t, w.program, "respond", "quarantine", "web", "--freeze", "--reason", "case 42", "--data-dir", w.path("server"))
	w.until("the agent to begin", func() bool { _, err := os.Stat(file); return err == nil })
	w.agent.kill()
	w.restart()
	asked.kill()
	w.watch()
	w.lists("what was begun to be listed", id, "local:0 quarantine, case 42: done, undo: release")
	w.quarantined(id, true)

	// It stays so without an agent, and is known to a server that starts meanwhile.
	w.agent.kill()
	w.restart()
	w.quarantined(id, true)
	w.lists("it to be listed while the agent is dead", id, "local:0 quarantine, case 42: done, undo: release")
	w.watch()
	w.obeys("web")
	if out := w.does("respond", "release", "web", "--reason", "solved"); !strings.Contains(out, "release "+asset.ShortID(id)) {
		t.Errorf("release says %q", out)
	}
	w.quarantined(id, false)
	undone := []string{"local:0 release, solved: done", "local:0 quarantine, case 42: undone"}
	w.lists("it to be undone", id, undone...)

	// What is cut off and nobody has written down is found.
	w.does("respond", "quarantine", "web", "--freeze", "--reason", "case 43")
	w.agent.kill()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	w.watch()
	const found = "unknown quarantine, found cut off at the agent's start: nobody has written down who did it, and why: done, undo: release"
	again := "local:0 quarantine, case 43: done, undo: release"
	w.lists("what is cut off to be listed", id, append([]string{found, again}, undone...)...)
	if got := w.listed(id, "--standing"); len(got) != 2 {
		t.Errorf("what stands: %q, want the first two", got)
	}

	// So is what is frozen alone, as where networks can't be cut; what the engine paused is not.
	w.obeys("web")
	w.does("respond", "release", "web")
	w.quarantined(id, false)
	undone = append([]string{"local:0 release, : done", strings.Replace(found, "done, undo: release", "undone", 1), strings.Replace(again, "done, undo: release", "undone", 1)}, undone...)
	w.agent.kill()
	host := kernel.New(kernel.Options{})
	paused := run(t, e, engine.Container{Name: "paused", Cmd: []string{"sleep", "3600"}})
	if _, err := e.Client.ContainerPause(t.Context(), paused, client.ContainerPauseOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := host.Freeze(t.Context(), id, false); err != nil {
		t.Fatal(err)
	}
	w.watch()
	const still = "unknown quarantine, found frozen at the agent's start, not by its engine: nobody has written down who did it, and why: done, undo: release"
	w.lists("what is frozen to be listed", id, append([]string{still}, undone...)...)
	if got := w.listed(paused); len(got) != 0 {
		t.Errorf("of what the engine paused is listed %q", got)
	}
	if pins, err := filepath.Glob(filepath.Join(w.pins(), "*", "quarantine", id, "*")); err != nil || len(pins) != 0 {
		t.Errorf("what was found frozen is cut off by %q, %v", pins, err)
	}
	w.does("respond", "release", "web")
	if is, err := host.Frozen(id); err != nil || is {
		t.Errorf("frozen after the release: %t, %v", is, err)
	}
	undone = append([]string{"local:0 release, : done", strings.Replace(still, "done, undo: release", "undone", 1)}, undone...)
	w.lists("what was found frozen to be undone", id, undone...)
	w.obeys("web")
	w.does("respond", "quarantine", "web", "--freeze", "--reason", "case 44")
	again = "local:0 quarantine, case 44: done, undo: release"

	// Its container is removed while the agent is dead: it is over.
	w.agent.kill()
	if err := e.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	w.watch()
	w.lists("it to be over", id, append([]string{strings.Replace(again, "done, undo: release", "over", 1)}, undone...)...)
	if got := w.listed(id, "--standing"); len(got) != 0 {
		t.Errorf("what stands: %q, want nothing", got)
	}
}
