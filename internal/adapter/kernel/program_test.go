package kernel_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

// program is a copy of sleep that runs, with the exec that a sensor would tell of.
type program struct {
	file string
	exec event.Event
}

func runProgram(t *testing.T, h *kernel.Host, origin event.Origin) program {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	p := program{file: filepath.Join(t.TempDir(), "program")}
	if err := os.WriteFile(p.file, content, 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(p.file, "600")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	var st unix.Stat_t
	if err := unix.Stat(p.file, &st); err != nil {
		t.Fatal(err)
	}
	key := keyOf(t, h, c.Process.Pid)
	p.exec = event.Event{Kind: event.KindExec, Time: time.Now(), Process: event.Process{Key: key, Executable: p.file}, Exec: &event.Exec{Origin: origin, Inode: st.Ino}}
	return p
}

func keyOf(t *testing.T, h *kernel.Host, pid int) event.Key {
	t.Helper()
	all, err := h.Processes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if r.Process.Key.PID == uint32(pid) {
			return r.Process.Key
		}
	}
	t.Fatalf("process %d is not listed", pid)
	return event.Key{}
}

func TestReadProgram(t *testing.T) {
	h := kernel.New(kernel.Options{})
	own := keyOf(t, h, os.Getpid())
	ended := event.Key{PID: 1 << 30, Start: 1e9}
	for _, tc := range []struct {
		name   string
		origin event.Origin
		beside event.Key
		change func(t *testing.T, p *program)
		want   fault.Kind // Unknown: it is read
	}{
		{name: "while it runs", origin: event.OriginWritten},
		{name: "its process has ended", origin: event.OriginImage, beside: own, change: func(_ *testing.T, p *program) { p.exec.Process.Key = ended }},
		{name: "of an earlier process of that number", origin: event.OriginImage, want: fault.NotFound, change: func(_ *testing.T, p *program) { p.exec.Process.Key.Start -= 1e9 }},
		{name: "it ended, and nobody else is there", origin: event.OriginImage, want: fault.NotFound, change: func(_ *testing.T, p *program) { p.exec.Process.Key = ended }},
		{name: "it ended, and did not come with the image", origin: event.OriginWritten, beside: own, want: fault.NotFound, change: func(_ *testing.T, p *program) { p.exec.Process.Key = ended }},
		{name: "deleted while it runs", origin: event.OriginWritten, change: func(t *testing.T, p *program) {
			if err := os.Remove(p.file); err != nil {
				t.Fatal(err)
			}
			p.exec.Time = time.Now().Add(time.Second)
		}},
		{name: "it has executed something else since", origin: event.OriginImage, want: fault.Unsupported, change: func(_ *testing.T, p *program) { p.exec.Exec.Inode++ }},
		{name: "another file has its name", origin: event.OriginImage, beside: own, want: fault.Unsupported, change: func(t *testing.T, p *program) {
			p.exec.Process.Key = ended
			replaced(t, p.file, func(name string) error { return os.WriteFile(name, []byte("other"), 0o755) })
		}},
		{name: "a link has its name", origin: event.OriginImage, beside: own, want: fault.Unsupported, change: func(t *testing.T, p *program) {
			p.exec.Process.Key = ended
			replaced(t, p.file, func(name string) error { return os.Symlink("/bin/sleep", name) })
		}},
		{name: "a FIFO has its name", origin: event.OriginImage, beside: own, want: fault.Unsupported, change: func(t *testing.T, p *program) {
			p.exec.Process.Key = ended
			replaced(t, p.file, func(name string) error { return unix.Mkfifo(name, 0o666) })
		}},
		{name: "changed after it was executed", origin: event.OriginWritten, want: fault.Unsupported, change: func(t *testing.T, p *program) {
			p.exec.Time = p.exec.Time.Add(-time.Second) // times of files are as exact as a tick
			if err := os.Chmod(p.file, 0o700); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := runProgram(t, h, tc.origin)
			want, err := os.ReadFile(p.file)
			if err != nil {
				t.Fatal(err)
			}
			if tc.change != nil {
				tc.change(t, &p)
			}
			var got []byte
			err = h.ReadProgram(&p.exec, tc.beside, func(id event.FileIdentity, r io.Reader) (err error) {
				if id.Size != int64(len(want)) || id.Inode != p.exec.Exec.Inode {
					t.Errorf("it is %+v", id)
				}
				got, err = io.ReadAll(r)
				return err
			})
			if fault.Of(err) != tc.want || tc.want == fault.Unknown && err != nil {
				t.Fatalf("got %v", err)
			}
			if err == nil && !bytes.Equal(got, want) {
				t.Errorf("read %d bytes, want %d", len(got), len(want))
			}
		})
	}
}

// replaced puts something else at a name, with the time of before.
func replaced(t *testing.T, name string, put func(string) error) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := put(name); err != nil {
		t.Fatal(err)
	}
}

// What was read while the file changed is not of one content.
func TestAProgramThatChangesWhileItIsReadIsRefused(t *testing.T) {
	h := kernel.New(kernel.Options{})
	p := runProgram(t, h, event.OriginImage)
	err := h.ReadProgram(&p.exec, event.Key{}, func(event.FileIdentity, io.Reader) error { return os.Chmod(p.file, 0o700) })
	if !fault.Is(err, fault.Unsupported) {
		t.Errorf("got %v", err)
	}
}
