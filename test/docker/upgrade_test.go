package docker_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// intruder drops a program over and over. From the moment that /tmp/go is there it
// also runs it, which it says, and how that ended.
const intruder = `
while :; do
  cp /bin/busybox /tmp/true
  if [ -e /tmp/go ]; then /tmp/true && echo ran || echo "stopped $?"
  else /bin/busybox sleep 0.1; fi
done`

// worker does what was learned of it, and says when that fails.
const worker = `while :; do /bin/busybox true || echo "failed $?"; echo worked; /bin/busybox sleep 0.01; done`

// buildLater builds the program as a later version of it would be: the programs that
// hold containers have another layout of a map that is taken over from one version to
// the next. Without clang they have other bytes alone.
func buildLater(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source, err := filepath.Abs("../../internal/adapter/bpf")
	if err != nil {
		t.Fatal(err)
	}
	arch := map[string]string{"amd64": "x86", "arm64": "arm64"}[runtime.GOARCH]
	overlay := map[string]string{}
	replace := func(name string) { overlay[filepath.Join(source, name)] = filepath.Join(dir, name) }
	if _, err := exec.LookPath("clang"); err != nil {
		t.Log("no clang here: the later version has the same layout of maps (test/setup/generate.sh)")
		for _, object := range []string{"guardexec", "guardfile", "guardprivilege"} {
			name := object + "_" + arch + "_bpfel.o"
			b, err := os.ReadFile(filepath.Join(source, name))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, name), append(b, 0), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			replace(name)
		}
	} else {
		compileLater(t, source, dir)
		for _, object := range []string{"guardexec", "guardfile", "guardprivilege"} {
			replace(object + "_" + arch + "_bpfel.o")
			replace(object + "_" + arch + "_bpfel.go")
		}
	}
	b, err := json.Marshal(map[string]any{"Replace": overlay})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay.json"), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "castellan")
	c := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", program, "../../cmd/castellan")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build the later version: %v\n%s", err, out)
	}
	return program
}

// compileLater compiles what holds containers with a longer entry of who is held, as
// the lines go:generate say, into a folder.
func compileLater(t *testing.T, source, dir string) {
	t.Helper()
	const header, entry = "guard.bpf.h", "struct hold {\n"
	for _, pattern := range []string{"*.h", "*.c"} {
		files, err := filepath.Glob(filepath.Join(source, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, from := range files {
			b, err := os.ReadFile(from)
			if err == nil && filepath.Base(from) == header {
				if strings.Count(string(b), entry) != 1 {
					t.Fatalf("%s has no %q any more", header, entry)
				}
				b = []byte(strings.Replace(string(b), entry, entry+"\tu64 of_a_later_version[2];\n", 1))
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, filepath.Base(from)), b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, file := range []string{"guardexec.go", "guardfile.go", "guardprivilege.go"} {
		b, err := os.ReadFile(filepath.Join(source, file))
		if err != nil {
			t.Fatal(err)
		}
		line := regexp.MustCompile(`(?m)^//go:generate go (tool bpf2go .*)$`).FindStringSubmatch(string(b))
		if line == nil {
			t.Fatalf("%s has no line go:generate", file)
		}
		var args []string
		for _, a := range strings.Fields(line[1]) {
			switch {
			case strings.HasSuffix(a, ".bpf.c"):
				a = filepath.Join(dir, a)
			case strings.Contains(a, ","):
				a = runtime.GOARCH
			case a == "bpf2go":
				args = append(args, a, "-go-package", "bpf", "-output-dir")
				a = dir
			}
			args = append(args, a)
		}
		c := exec.CommandContext(t.Context(), "go", args...)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// besieged is a protected group with intruders in it, and a worker.
type besieged struct {
	*ward
	intruders []string // ids of containers
	worker    string
}

const besiegedGroup = "shop/storefront/besieged"

func besiege(t *testing.T) *besieged {
	t.Helper()
	e := start(t, engine.Options{})
	s := &besieged{ward: guardedHost(t, e)}
	for n := range 2 {
		s.intruders = append(s.intruders, run(t, e, engine.Container{Name: fmt.Sprint("intruder", n), Labels: labels("besieged"), Cmd: []string{"sh", "-c", intruder}}))
	}
	s.worker = run(t, e, engine.Container{Name: "worker", Labels: labels("besieged"), Cmd: []string{"sh", "-c", worker}})
	for _, id := range append(slices.Clone(s.intruders), s.worker) {
		s.known(id)
	}
	s.mode(profile.Protect, besiegedGroup)
	for _, id := range s.intruders {
		// A shell from outside: its programs are the group's, its commands are builtins.
		if out, code, err := e.Exec(t.Context(), id, "sh", "-c", ": > /tmp/go"); err != nil || code != 0 {
			t.Fatalf("let the intruder go: %v, code %d, %s", err, code, out)
		}
	}
	return s
}

// said is what containers said so far, by word, with how often.
func (s *besieged) said(ids ...string) map[string]int {
	s.t.Helper()
	n := map[string]int{}
	for _, id := range ids {
		out, err := s.docker("logs", id)
		if err != nil {
			s.t.Fatalf("logs of %s: %v", id, err)
		}
		for line := range strings.Lines(out) {
			n[strings.TrimSpace(line)]++
		}
	}
	return n
}

// holdsOut returns when every intruder has tried so many times more.
func (s *besieged) holdsOut(what string, more int) {
	s.t.Helper()
	s.t.Logf("%s intruders, %s", time.Now().UTC().Format(time.RFC3339Nano), what)
	for _, id := range s.intruders {
		before := s.said(id)["stopped 137"]
		s.until("intruders, "+what, func() bool {
			n := s.said(id)
			if n["ran"] > 0 {
				out, err := s.docker("logs", "--timestamps", id)
				at := slices.DeleteFunc(strings.Split(out, "\n"), func(l string) bool { return !strings.HasSuffix(l, " ran") })
				s.t.Fatalf("%s: a dropped program ran; %v, %v\n%s", what, n, err, strings.Join(at, "\n"))
			}
			return n["stopped 137"] >= before+more
		})
	}
}

// programs are the pinned generations of what holds programs.
func (s *besieged) programs() []string {
	found, err := filepath.Glob(filepath.Join(s.pins(), "*", "exec", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

// TestNoGapWhileTheAgentIsKilledAndUpgraded has intruders run a program that they
// dropped, all the time, while the agent is killed, at moments of its start, too,
// another version of it takes its place, and that one gives way to it again. Not one
// of their programs runs.
func TestNoGapWhileTheAgentIsKilledAndUpgraded(t *testing.T) {
	s := besiege(t)
	later := buildLater(t)
	s.holdsOut("before anything", 10)
	for range 3 {
		s.agent.kill()
		s.holdsOut("while the agent is dead", 5)
		s.watch()
	}
	s.agent.kill()
	if out, err := s.docker("restart", "--time=0", "intruder0"); err != nil {
		t.Fatalf("restart an intruder: %v\n%s", err, out)
	}
	s.holdsOut("of whom one was restarted while the agent is dead", 5)
	s.watch()

	first := s.programs()
	s.agent.kill()
	s.watch(later)
	s.until("the later version to be the only one", func() bool {
		now := s.programs()
		return len(now) == 1 && !slices.Equal(now, first)
	})
	s.holdsOut("with the later version", 5)

	// Versions take turns, and each is killed somewhere within its start.
	for n := range 12 {
		s.agent.kill()
		if n%2 == 0 {
			s.start()
		} else {
			s.start(later)
		}
		time.Sleep(time.Duration(n) * 75 * time.Millisecond)
	}
	s.agent.kill()
	s.holdsOut("while the agent is dead, after versions took turns", 5)
	s.watch()
	s.until("the first version to be the only one", func() bool { return slices.Equal(s.programs(), first) })
	s.holdsOut("with the first version again", 5)

	tried := s.said(s.intruders...)
	t.Logf("intruders: %v", tried)
	if tried["ran"] != 0 {
		t.Errorf("%d of the dropped programs ran", tried["ran"])
	}
	delete(tried, "Killed") // the shell's own word for it
	for word := range maps.Keys(tried) {
		if word != "stopped 137" && word != "ran" {
			t.Errorf("an intruder said %q", word)
		}
	}
	worked := s.said(s.worker)
	t.Logf("the worker: %v", worked)
	if worked["worked"] < 100 || len(worked) != 1 {
		t.Errorf("the worker, whose program was learned: %v", worked)
	}
}
