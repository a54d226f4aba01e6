package docker_test

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/moby/moby/api/types/container"

	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/adapter/self"
	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// scanner scans as the agent's command does, in a child of the real program.
type scanner struct {
	engine  *docker.Engine
	program *self.Program
}

// Analysis is agent.Scanner.
func (scanner) Analysis() int { return scan.Analysis }

// ScanImage is agent.Scanner.
func (s scanner) ScanImage(ctx context.Context, w link.ScanWish) ([]byte, error) {
	l, err := s.program.Listen("engine.sock")
	if err != nil {
		return nil, err
	}
	lending, stop := context.WithCancel(ctx)
	lent := make(chan error, 1)
	go func() { lent <- s.engine.Lend(lending, l) }()
	out, err := s.program.Run(ctx, self.Task{
		Args: []string{
			"agent", "scan-image", "--docker-host", "unix://" + s.program.Inside("engine.sock"), "--cache-dir", s.program.Own(),
			"--reference=" + w.Reference, w.ImageID,
		},
		Input: w.Salt, Output: link.MaxInventory, Memory: 128 << 20, Within: patience,
	})
	stop()
	if err = errors.Join(err, <-lent); err == nil && out.Code != 0 {
		var said struct{ Kind, Error string }
		err = errors.Join(json.Unmarshal(out.Stdout, &said), fault.New(fault.NotFound, "%s: %s", said.Kind, said.Error))
	}
	return out.Stdout, err
}

func newScanner(t *testing.T, e *engine.Engine) scanner {
	t.Helper()
	castellan := filepath.Join(t.TempDir(), "castellan")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", castellan, "../../cmd/castellan")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build castellan: %v\n%s", err, out)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	door, err := docker.New(docker.Options{Host: e.Host()}, log)
	if err != nil {
		t.Fatal(err)
	}
	program, err := self.New(self.Options{Folder: t.TempDir(), Program: castellan}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := program.Close(); err != nil {
			t.Error(err)
		}
	})
	return scanner{door, program}
}

// linked is an image with a program that is linked dynamically, as this host
// has it, a package that owns it, an archive of code, and a shell.
func linked(t *testing.T) (i engine.Image, sleep string, libraries []string, libm string) {
	t.Helper()
	i, err := engine.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	i.Reference = "linked:test"
	real := func(path string) string {
		found, err := filepath.EvalSymlinks(path)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	add := func(path string, from string) {
		body, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		i.Files = append(i.Files, engine.File{Path: path, Body: body})
	}
	sleep = real("/usr/bin/sleep")
	f, err := elf.Open(sleep)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	j := slices.IndexFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
	if j < 0 {
		t.Skip("needs a sleep that is linked dynamically, as Debian's is")
	}
	name := make([]byte, f.Progs[j].Filesz)
	if _, err := f.Progs[j].ReadAt(name, 0); err != nil {
		t.Fatal(err)
	}
	loader := strings.TrimRight(string(name), "\x00")
	libc := filepath.Join(filepath.Dir(real(loader)), "libc.so.6")
	libm = filepath.Join(filepath.Dir(real(loader)), "libm.so.6")
	add("/usr/bin/nap", sleep)
	add(loader, loader)
	add("/lib/own/libc.so.6", libc)
	add("/lib/own/libm.so.6", libm)
	i.Env = append(i.Env, "LD_LIBRARY_PATH=/lib/own")
	i.Files = append(i.Files,
		engine.File{Path: "/app/app.jar", Mode: 0o644, Body: []byte("an archive")},
		engine.File{Path: "/app/app.txt", Mode: 0o644, Body: []byte("no archive")},
		engine.File{Path: "/etc/os-release", Mode: 0o644, Body: []byte("ID=debian\nVERSION_ID=12\nVERSION_CODENAME=bookworm\n")},
		engine.File{Path: "/var/lib/dpkg/status", Mode: 0o644, Body: []byte("Package: napper\nStatus: install ok installed\nArchitecture: all\nVersion: 1.2-3\n\n")},
		engine.File{Path: "/var/lib/dpkg/info/napper.list", Mode: 0o644, Body: []byte("/usr/bin/nap\n")},
	)
	return i, "/usr/bin/nap", []string{loader, "/lib/own/libc.so.6"}, libm
}

// A container runs: its image is scanned by a child that can do nothing else,
// and what of the image it uses is told; not what it has from a mount, wrote
// itself, or only reads.
func TestAnImageIsScannedAndWhatIsUsedOfItIsTold(t *testing.T) {
	e := engine.ForTest(t, engine.Options{})
	image, sleep, libraries, libm := linked(t)
	token, password := planted(&image)
	if err := e.Load(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	volume := t.TempDir()
	for _, name := range []string{"mounted.so", "mounted.jar"} {
		body, err := os.ReadFile(libm)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(volume, name), body, 0o755); err != nil { //nolint:gosec // a library is for all
			t.Fatal(err)
		}
	}
	b := &inbox{changed: make(chan struct{}), workloads: map[string]asset.Workload{}, wishes: make(chan link.Directive)}
	ofAgent := newScanner(t, e)
	b.further = func(p *agent.Parts) {
		p.Scanner, p.UseReader = ofAgent, kernel.New(kernel.Options{})
	}
	b.guard(t, e)
	if !slices.Contains(b.agent.Abilities, link.AbilityScan) {
		t.Errorf("abilities %q, want scan among them", b.agent.Abilities)
	}
	const script = `cp /lib/own/libm.so.6 /tmp/written.so; cp /app/app.jar /tmp/written.jar; cp /app/app.jar /tmp/gone.jar
exec 3</app/app.jar 4</app/app.txt 5</volume/mounted.jar 6</tmp/written.jar 7</tmp/gone.jar
/bin/busybox rm /tmp/gone.jar
LD_PRELOAD="/tmp/written.so /volume/mounted.so" exec /usr/bin/nap 3600`
	id := run(t, e, engine.Container{
		Name: "linked", Image: image.Reference,
		Cmd: []string{"sh", "-c", script},
		Change: func(_ *container.Config, h *container.HostConfig) {
			h.Binds = []string{volume + ":/volume:ro"}
		},
	})
	want := []string{"/app/app.jar", libraries[0], libraries[1], sleep}
	slices.Sort(want)
	// The shell's own come first, if they come: it may be gone before a look.
	ofShell := func(path string) bool { return path == "/bin/busybox" }
	b.wait(t, "files in use", func() bool { return slices.Contains(b.used[id], libraries[1]) && slices.Contains(b.used[id], sleep) })
	b.mu.Lock()
	got := slices.DeleteFunc(slices.Sorted(slices.Values(b.used[id])), ofShell)
	b.mu.Unlock()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files in use (-want +got):\n%s", diff)
	}

	w := b.workload(t, id, in(asset.Running))
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", w.PID))
	if err != nil || !strings.Contains(string(maps), " /tmp/written.so\n") || !strings.Contains(string(maps), " /volume/mounted.so\n") {
		t.Errorf("what is not to be told was not mapped either (%v):\n%s", err, maps)
	}
	inv := b.scan(t, w.Image.ID)
	i := slices.IndexFunc(inv.Packages, func(p inventory.Package) bool { return p.Name == "napper" })
	if i < 0 || inv.Packages[i].Version != "1.2-3" || !slices.Contains(inv.Packages[i].Files, sleep) {
		t.Errorf("packages %+v, want napper 1.2-3 with %s", inv.Packages, sleep)
	}
	if inv.Subject.Name != image.Reference || len(inv.Problems) > 0 {
		t.Errorf("subject %+v, problems %+v", inv.Subject, inv.Problems)
	}
	if len(inv.Secrets) != 0 || inv.Analysis >= scan.Analysis || slices.ContainsFunc(inv.Image.Config.Env, func(e string) bool { return strings.Contains(e, password) }) {
		t.Errorf("for a server without a salt: secrets %+v, analysis %d, env %q", inv.Secrets, inv.Analysis, inv.Image.Config.Env)
	}
	again := b.scan(t, w.Image.ID) // from what was kept
	if diff := cmp.Diff(inv.Packages, again.Packages); diff != "" {
		t.Errorf("the same image, scanned again (-first +second):\n%s", diff)
	}
	b.wish(t, "sha256:"+strings.Repeat("0", 64))
	if last := b.scanned[len(b.scanned)-1]; last.Error == "" || last.Final {
		t.Errorf("of an image that is not there: %+v", last)
	}
	wantSecretsShown(t, ofAgent, w, token, password)
}

// wish has an image scanned and waits for the answer.
func (b *inbox) wish(t *testing.T, imageID string) {
	t.Helper()
	b.mu.Lock()
	before := len(b.scanned)
	b.mu.Unlock()
	now := time.Now()
	b.wishes <- link.Directive{ID: now.String(), Kind: link.DirectiveScan, Issued: now, Scan: &link.ScanWish{
		Job: now.String(), ImageID: imageID, Reference: "linked:test", Until: now.Add(patience),
	}}
	b.wait(t, "an inventory", func() bool { return len(b.scanned) > before })
}

// scan has an image scanned and returns what is in it.
func (b *inbox) scan(t *testing.T, imageID string) (inv inventory.Inventory) {
	t.Helper()
	b.wish(t, imageID)
	last := b.scanned[len(b.scanned)-1]
	if last.Error != "" || last.ImageID != imageID {
		t.Fatalf("scan: %+v", last)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	packed, err := dec.DecodeAll(last.Inventory, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(packed, &inv); err != nil {
		t.Fatal(err)
	}
	return inv
}
