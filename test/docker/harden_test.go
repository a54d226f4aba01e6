package docker_test

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/harden"
	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// callName is how strace begins a line of a call.
var callName = regexp.MustCompile(`^(?:\d+ +)?([a-z_][a-z0-9_]*)\(`)

// learn runs a program on this host and returns the system calls that it made.
func learn(t *testing.T, command ...string) (calls []profile.Call) {
	t.Helper()
	strace := need.Program(t, "strace")
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.CommandContext(t.Context(), strace, append([]string{"-f", "-qq", "-o", trace}, command...)...)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasSuffix(string(out), "done\n") {
		t.Fatalf("learn from %v: %v: %s", command, err, out)
	}
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.SplitSeq(string(b), "\n") {
		if m := callName.FindStringSubmatch(line); m != nil && !seen[m[1]] {
			seen[m[1]] = true
			calls = append(calls, profile.Call{Name: m[1]})
		}
	}
	return calls
}

// seccompOf is what castellan harden writes for seccomp.
func seccompOf(t *testing.T, calls []profile.Call) string {
	t.Helper()
	p := profile.Profile{Group: "shop/web/busy", Calls: calls}
	return hardened(t, p, harden.Seccomp)
}

func hardened(t *testing.T, p profile.Profile, o harden.Output) string {
	t.Helper()
	r, err := harden.Compile(&p, harden.Options{Outputs: []harden.Output{o}})
	if err != nil {
		t.Fatal(err)
	}
	return r.Files[0].Content
}

// ranToEnd runs a container to its end and returns what it wrote and its exit code.
func ranToEnd(t *testing.T, e *engine.Engine, c engine.Container) (output string, code int64) {
	t.Helper()
	id, err := e.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	wait := e.Client.ContainerWait(t.Context(), id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case err := <-wait.Error:
		t.Fatal(err)
	case end := <-wait.Result:
		code = end.StatusCode
	}
	logs, err := e.Client.ContainerLogs(t.Context(), id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	var b bytes.Buffer
	if _, err := stdcopy.StdCopy(&b, &b, logs); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	return b.String(), code
}

// busyProgram builds test/docker/busy.
func busyProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "busy")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./busy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build busy: %v: %s", err, out)
	}
	return program
}

// debianWork is what a container of Debian does with a shell and its programs.
const debianWork = `set -e
d=$(mktemp -d)
i=0
while [ $i -lt 20 ]; do echo "line $i" >> "$d/log"; i=$((i+1)); done
sort -r "$d/log" | head -n 3 | tee "$d/top" | grep -c line > "$d/count"
mv "$d/log" "$d/log.1"
ln -s log.1 "$d/log"
cp "$d/log" "$d/copy"
cat "$d/copy" | wc -l > /dev/null
chmod 600 "$d/copy"
touch "$d/copy"
sleep 0.05 &
wait
ls -l "$d" > /dev/null
date > /dev/null
id -u > /dev/null
rm -r "$d"
echo done
`

// debian is an image of the host's own Debian: a shell, its programs, and what
// they are linked with.
func debian(t *testing.T) engine.Image {
	t.Helper()
	i := engine.Image{Reference: "debian:test", Files: []engine.File{{Path: "/tmp/", Mode: 0o1777}, {Path: "/work.sh", Body: []byte(debianWork)}}}
	seen := map[string]bool{}
	var add func(path, as string)
	add = func(path, as string) {
		if seen[as] {
			return
		}
		seen[as] = true
		body, err := os.ReadFile(path)
		if err != nil {
			t.Skipf("needs a Debian with %s: %v; run the tests on Debian 12", path, err)
		}
		i.Files = append(i.Files, engine.File{Path: as, Body: body})
		f, err := elf.NewFile(bytes.NewReader(body))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		libraries, err := f.ImportedLibraries()
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, l := range libraries {
			found, err := filepath.Glob("/lib/*-linux-gnu/" + l)
			if err != nil || len(found) == 0 {
				t.Skipf("needs the library %s of Debian: %v", l, err)
			}
			add(found[0], found[0])
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				name := make([]byte, p.Filesz)
				if _, err := p.ReadAt(name, 0); err != nil {
					t.Fatal(err)
				}
				loader := strings.TrimRight(string(name), "\x00")
				add(loader, loader)
			}
		}
	}
	add("/bin/dash", "/bin/sh")
	for _, name := range []string{"mktemp", "sort", "head", "tee", "grep", "mv", "ln", "cp", "cat", "wc", "chmod", "touch", "sleep", "ls", "date", "id", "rm"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skipf("needs %s of Debian: %v", name, err)
		}
		add(path, "/bin/"+name)
	}
	return i
}

// Under the seccomp profile of what it was learned to do, a container does its
// work again and again, as whoever it runs; what is no part of it gets EPERM.
func TestSeccompProfileLetsTheWorkGoOn(t *testing.T) {
	e := engine.ForTest(t, engine.Options{})
	program := busyProgram(t)
	body, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	image := engine.Image{Reference: "busy:test", Files: []engine.File{{Path: "/busy", Body: body}, {Path: "/tmp/", Mode: 0o1777}}}
	for _, i := range []engine.Image{image, debian(t)} {
		if err := e.Load(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	script := filepath.Join(t.TempDir(), "work.sh")
	if err := os.WriteFile(script, []byte(debianWork), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, image string
		cmd         []string
		calls       []profile.Call
	}{
		{"a static Go program, learned", image.Reference, []string{"/busy", "work"}, learn(t, program, "work")},
		{"a static Go program, not learned", image.Reference, []string{"/busy", "work"}, nil},
		{"Debian, learned", "debian:test", []string{"/bin/sh", "/work.sh"}, learn(t, "/bin/dash", script)},
		{"Debian, not learned", "debian:test", []string{"/bin/sh", "/work.sh"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			option := "seccomp=" + seccompOf(t, tc.calls)
			for _, as := range []func(*container.Config, *container.HostConfig){
				func(*container.Config, *container.HostConfig) {},
				func(*container.Config, *container.HostConfig) {},
				func(_ *container.Config, h *container.HostConfig) { h.Init = new(true) },
				func(c *container.Config, h *container.HostConfig) {
					c.User, h.CapDrop = "1000:1000", []string{"ALL"}
					h.SecurityOpt = append(h.SecurityOpt, "no-new-privileges")
				},
			} {
				output, code := ranToEnd(t, e, engine.Container{Image: tc.image, Cmd: tc.cmd, Change: func(c *container.Config, h *container.HostConfig) {
					h.SecurityOpt = []string{option}
					as(c, h)
				}})
				if code != 0 || !strings.HasSuffix(output, "done\n") {
					t.Errorf("it ended with %d and said %q", code, output)
				}
			}
		})
	}
	t.Run("what is outside", func(t *testing.T) {
		for _, tc := range []struct {
			calls []profile.Call
			want  string
		}{
			{learn(t, program, "work"), "inotify EPERM\nmemfd EPERM\nunshare EPERM\nvsock EPERM\nclone3 ENOSYS\n"},
			{nil, "inotify \nmemfd EPERM\nunshare EPERM\nvsock EPERM\nclone3 ENOSYS\n"},
		} {
			output, _ := ranToEnd(t, e, engine.Container{Image: image.Reference, Cmd: []string{"/busy", "outside"}, Change: func(_ *container.Config, h *container.HostConfig) {
				h.SecurityOpt = []string{"seccomp=" + seccompOf(t, tc.calls)}
			}})
			if output != tc.want {
				t.Errorf("learned %v: got %q, want %q", len(tc.calls) > 0, output, tc.want)
			}
		}
	})
	t.Run("entered from outside", func(t *testing.T) {
		calls := append(learn(t, "/bin/dash", script), profile.Call{Name: "pause"})
		id, err := e.Run(t.Context(), engine.Container{Image: "debian:test", Cmd: []string{"/bin/sleep", "600"}, Change: func(_ *container.Config, h *container.HostConfig) {
			h.SecurityOpt = []string{"seccomp=" + seccompOf(t, calls)}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if out, code, err := e.Exec(t.Context(), id, "/bin/sh", "/work.sh"); err != nil || code != 0 || !strings.HasSuffix(out, "done\n") {
			t.Errorf("it ended with %d, %v, and said %q", code, err, out)
		}
		if err := e.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	})
}

// castellan harden run confines the application of a container that has no
// right at all: what was learned is done, the rest refused.
func TestLandlockHoldsAContainerWithoutRights(t *testing.T) {
	e := engine.ForTest(t, engine.Options{})
	castellan, err := os.ReadFile(build(t))
	if err != nil {
		t.Fatal(err)
	}
	p := profile.Profile{
		Group: "shop/web/app",
		Executables: []profile.Executable{
			{Path: "/bin/busybox", Origin: event.OriginImage, Parents: []profile.Pattern{""}},
		},
		Writes: []profile.File{{Path: "/data/**"}, {Path: "/var/log/app/*.log"}},
	}
	image, err := engine.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	var folders []engine.File
	for _, folder := range []string{"/data/", "/var/log/app/", "/other/", "/tmp/"} {
		folders = append(folders, engine.File{Path: folder, Mode: 0o777})
	}
	image.Files = append(append(folders, image.Files...), engine.File{Path: "/castellan", Body: castellan}, engine.File{Path: "/rules.json", Mode: 0o644, Body: []byte(hardened(t, p, harden.Landlock))},
		engine.File{Path: "/data/old", Mode: 0o666, Body: []byte("x")}, engine.File{Path: "/var/log/app/.keep", Mode: 0o644}, engine.File{Path: "/other/old", Mode: 0o666, Body: []byte("x")},
		engine.File{Path: "/etc/shadow", Mode: 0o644, Body: []byte("x")}, engine.File{Path: "/etc/plain", Mode: 0o644, Body: []byte("x")},
		engine.File{Path: "/opt/busybox", Body: image.Files[0].Body})
	if err := e.Load(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	const script = `try() { if "$@" >/dev/null 2>&1; then echo "$* done"; else echo "$* refused"; fi; }
put() { echo x 2>/dev/null > "$1"; }
try put /data/old
try put /data/new
try put /var/log/app/a.log
try put /other/old
try put /other/new
try put /tmp/new
try cat /etc/plain
try cat /etc/shadow
try /opt/busybox true
try put /dev/null
`
	want := strings.Split(strings.TrimSpace(`put /data/old done
put /data/new done
put /var/log/app/a.log done
put /other/old refused
put /other/new refused
put /tmp/new refused
cat /etc/plain done
cat /etc/shadow refused
/opt/busybox true refused
put /dev/null done`), "\n")
	free := func(_ *container.Config, h *container.HostConfig) {
		h.CapDrop, h.SecurityOpt = []string{"ALL"}, []string{"no-new-privileges"}
	}
	change := func(c *container.Config, h *container.HostConfig) { c.User = "1000:1000"; free(c, h) }
	command := []string{"/bin/busybox", "sh", "-c", script}
	output, code := ranToEnd(t, e, engine.Container{Image: image.Reference, Cmd: append([]string{"/castellan", "harden", "run", "--strict", "--rules", "/rules.json", "--"}, command...), Change: change})
	got := strings.Split(strings.TrimSpace(output), "\n")
	if code != 0 || !slices.Equal(got, want) {
		t.Errorf("it ended with %d and said\n%s\nwant\n%s", code, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// The same without rules: nothing is refused but what the user may not.
	output, _ = ranToEnd(t, e, engine.Container{Image: image.Reference, Cmd: command, Change: change})
	if strings.Contains(output, "refused") {
		t.Errorf("not confined: %s", output)
	}
	output, code = ranToEnd(t, e, engine.Container{Image: image.Reference, Cmd: []string{"/castellan", "harden", "run", "--rules", "/rules.json", "--", "/opt/busybox", "true"}, Change: change})
	if code != 1 || !strings.Contains(output, "not among the programs of the rules") {
		t.Errorf("a program that is not of the rules: it ended with %d and said %q", code, output)
	}
}
