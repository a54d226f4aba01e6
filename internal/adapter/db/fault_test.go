package db_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/internal/store"
)

// closedFile makes a store with n events and closes it.
func closedFile(t *testing.T, path string, n int) {
	t.Helper()
	d := openAt(t, path)
	f := newFleet(1)
	for stored := 0; stored < n; stored += 500 {
		if err := d.AppendEvents(t.Context(), f.batch(min(500, n-stored))); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefusesDamagedFile(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "whole.db")
	closedFile(t, whole, 5_000)
	good, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		damage func(b []byte) []byte
	}{
		{"not a database", func([]byte) []byte { return []byte("this is a letter to my aunt, and not a database\n") }},
		{"three bytes", func([]byte) []byte { return []byte("SQL") }},
		{"header alone", func(b []byte) []byte { return b[:100] }},
		{"cut in half", func(b []byte) []byte { return b[:len(b)/2] }},
		{"bytes flipped all over", func(b []byte) []byte {
			for i := 20_000; i < len(b); i += 997 {
				b[i] ^= 0xff
			}
			return b
		}},
		{"one page zeroed", func(b []byte) []byte {
			copy(b[len(b)/2&^8191:], make([]byte, 8192))
			return b
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "castellan.db")
			bad := c.damage(bytes.Clone(good))
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			d, err := db.Open(t.Context(), db.Options{Path: path}, testLog())
			if err == nil {
				t.Error(d.Close())
				t.Fatal("a damaged file was opened")
			}
			if got := fault.Of(err); got != fault.Corrupt {
				t.Errorf("got %v (%v), want corrupt", got, err)
			}
			remedy := fault.Remedy(err)
			if !strings.Contains(remedy, path) || !strings.Contains(remedy, "nothing was deleted") {
				t.Errorf("the remedy does not say what to do with the file: %q", remedy)
			}
			now, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(now, bad) {
				t.Errorf("the file was changed: %v", err)
			}
		})
	}
}

// TestDamageWhileOpen: a query that meets damage says so, and the process
// lives.
func TestDamageWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "castellan.db")
	closedFile(t, path, 5_000)
	d := openFor(t, db.Options{Path: path})
	if err := os.Truncate(path, 64<<10); err != nil {
		t.Fatal(err)
	}
	_, err := d.Events(t.Context(), store.EventQuery{Limit: store.MaxPage})
	if got := fault.Of(err); got != fault.Corrupt {
		t.Errorf("got %v (%v), want corrupt", got, err)
	}
}

func TestSecondOpener(t *testing.T) {
	path := filepath.Join(t.TempDir(), "castellan.db")
	d := openAt(t, path)
	_, err := db.Open(t.Context(), db.Options{Path: path}, testLog())
	if got := fault.Of(err); got != fault.Conflict {
		t.Errorf("got %v (%v), want conflict", got, err)
	}
	if want := fmt.Sprintf("another castellan (process %d) uses %s", os.Getpid(), path); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want it to say %q", err, want)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openAt(t, path).Close(); err != nil {
		t.Error(err)
	}
}

func TestNewerSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "castellan.db")
	d := openAt(t, path)
	err := d.Exec(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)")
	if err := errors.Join(err, d.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = db.Open(t.Context(), db.Options{Path: path}, testLog())
	if got := fault.Of(err); got != fault.Unsupported {
		t.Errorf("got %v (%v), want unsupported", got, err)
	}
	if err == nil || !strings.Contains(err.Error(), "999") {
		t.Errorf("got %v, want it to name the version", err)
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	path := filepath.Join(dir, "castellan with space?.db")
	d := openFor(t, db.Options{Path: path})
	if err := d.AppendEvents(t.Context(), newFleet(1).batch(5)); err != nil {
		t.Fatal(err)
	}
	want := map[string]os.FileMode{
		dir: 0o700 | os.ModeDir, path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600, path + ".lock": 0o600,
	}
	for name, mode := range want {
		info, err := os.Stat(name)
		if err != nil {
			t.Error(err)
		} else if info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), mode)
		}
	}
}

func TestAuditCannotBeChanged(t *testing.T) {
	d := openFor(t, db.Options{Path: filepath.Join(t.TempDir(), "castellan.db")})
	err := d.Exec(t.Context(), "INSERT INTO audit (time, actor, address, action, target, outcome, detail) VALUES (1,'','','','','','')")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Exec(t.Context(), "UPDATE audit SET actor = 'x'"); err == nil || !strings.Contains(err.Error(), "append only") {
		t.Errorf("got %v, want a refusal", err)
	}
}

// mountTmpfs gives the test a disk of its own.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	need.Root(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// TestFullDisk: the error says so, what was acknowledged stays, and the store
// goes on when there is space again.
func TestFullDisk(t *testing.T) {
	dir := mountTmpfs(t, "size=16m")
	path, ballast := filepath.Join(dir, "castellan.db"), filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 6<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	d := openFor(t, db.Options{Path: path})
	f := newFleet(1)
	var stored int64
	var batch []event.Event
	var err error
	for err == nil {
		batch = f.batch(500)
		if err = d.AppendEvents(t.Context(), batch); err == nil {
			stored += int64(len(batch))
		}
		if stored > 1_000_000 {
			t.Fatal("the disk does not fill")
		}
	}
	if got := fault.Of(err); got != fault.Exhausted || !strings.Contains(fault.Remedy(err), "free space") {
		t.Errorf("got %v (%v), want exhausted", got, err)
	}
	wantEvents(t, d, stored)
	if err := d.PutWorkloads(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := d.AppendEvents(t.Context(), batch); err != nil {
		t.Fatalf("the same report with space again: %v", err)
	}
	wantEvents(t, d, stored+int64(len(batch)))
}

func wantEvents(t *testing.T, d *db.DB, want int64) {
	t.Helper()
	got, err := d.Count(context.WithoutCancel(t.Context()), "SELECT count(id) FROM events")
	if err != nil || got != want {
		t.Errorf("got %d events (%v), want %d", got, err, want)
	}
}

func TestReadOnlyFolder(t *testing.T) {
	dir := mountTmpfs(t, "size=1m")
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "castellan.db"), filepath.Join(dir, "new", "castellan.db")} {
		_, err := db.Open(t.Context(), db.Options{Path: path}, testLog())
		if got := fault.Of(err); got != fault.Denied || fault.Remedy(err) == "" {
			t.Errorf("%s: got %v (%v), want denied with a remedy", path, got, err)
		}
	}
}

// writerEnv makes the test binary the child of TestKill: it writes to the file
// named, and says after each report how many events are acknowledged.
const writerEnv = "CASTELLAN_TEST_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerEnv); path != "" {
		fmt.Fprintln(os.Stderr, writeForever(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func writeForever(path string) error {
	ctx := context.Background()
	d, err := db.Open(ctx, db.Options{Path: path}, testLog())
	if err != nil {
		return err
	}
	f := newFleet(1)
	for n := 0; ; {
		batch := f.batch(97)
		if err := d.AppendEvents(ctx, batch); err != nil {
			return err
		}
		n += len(batch)
		fmt.Println(n)
	}
}

// TestKill ends a writer in the middle, three times over: what was
// acknowledged is there, and so is nothing by half.
func TestKill(t *testing.T) {
	for round := range 3 {
		path := filepath.Join(t.TempDir(), "castellan.db")
		acknowledged := int64(killWriter(t, path, 20+31*round))
		d := openFor(t, db.Options{Path: path, FullCheck: true})
		got, err := d.Count(t.Context(), "SELECT count(id) FROM events")
		if err != nil || got < acknowledged || got%97 != 0 {
			t.Errorf("%d events are there (%v), %d were acknowledged in reports of 97", got, err, acknowledged)
		}
		indexed, err := d.Count(t.Context(), "SELECT sum(events) FROM blocks")
		if err != nil || indexed != got {
			t.Errorf("blocks count %d events (%v), want %d", indexed, err, got)
		}
		var sent []event.Event
		for f := newFleet(1); int64(len(sent)) < got; {
			sent = append(sent, f.batch(97)...)
		}
		if err := d.AppendEvents(t.Context(), sent); err != nil {
			t.Fatal(err)
		}
		for _, e := range sent {
			if e.ID != 0 {
				t.Fatalf("event %d of %s was stored again", e.Seq, e.AgentID)
			}
		}
	}
}

// killWriter kills the child after some acknowledgements and returns the last.
func killWriter(t *testing.T, path string, after int) int {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), writerEnv+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last, lines := 0, bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ {
		if _, err := fmt.Sscan(lines.Text(), &last); err != nil {
			t.Fatal(err)
		}
		if n == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || last == 0 {
		t.Fatalf("the writer was not killed (%v) after %d events", err, last)
	}
	return last
}
