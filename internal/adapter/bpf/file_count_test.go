package bpf_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/event"
)

// Opens of one file are told once and counted: all told together are as many as
// there were, and none is lost, as fast as a process can open.
func TestFileCount(t *testing.T) {
	const opens = 50_000
	s := open(t, bpf.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	var seen []event.Event
	done := make(chan error)
	go func() { done <- s.Run(ctx, func(batch []event.Event) { seen = append(seen, batch...) }) }()

	v2, _ := hierarchies()
	script := strings.Join([]string{fmt.Sprintf("repeat|%d", opens), "openat|" + at + "|/etc/passwd|" + wronly, "close|$0"}, "\n")
	h := startIn(t, v2, "castellan-test-count/docker/"+newID(t), "overlay="+newFiles(t), "script="+script, "exit=0")
	h.finish()
	cancel()
	<-done

	var records, times uint64
	for _, e := range seen {
		if e.Process.Key.PID == uint32(h.pid()) && e.Kind == event.KindFileWrite && e.File.Path == "/etc/passwd" {
			records++
			times += e.Times()
		}
	}
	if times != opens {
		t.Errorf("%d opens were told, want %d", times, opens)
	}
	if records > 20 {
		t.Errorf("they came as %d events, want a few", records)
	}
	for _, st := range s.Status() {
		if st.Lost != 0 {
			t.Errorf("sensor %s lost %d", st.Name, st.Lost)
		}
	}
}

// Files of the host that everybody writes are not told, its sensitive ones are.
func TestFileOfHost(t *testing.T) {
	w := watch(t)
	dir := t.TempDir()
	h := start(t, nil, "script="+strings.Join([]string{
		"openat|" + at + "|" + dir + "/ordinary|" + creat + "|0600",
		"mkdirat|" + at + "|" + dir + "/d|0700",
		"openat|" + at + "|/etc/shadow|0",
		fmt.Sprintf("mmap|0|4096|%d|%d|-1|0", unix.PROT_EXEC|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS),
	}, "\n"), "exit=0")
	h.finish()
	w.exit(h.pid())
	got, _ := w.seen(func(e event.Event) bool {
		return e.Process.Key.PID == uint32(h.pid()) && (e.File != nil || e.Memory != nil)
	})
	if len(got) != 1 || got[0].Kind != event.KindFileRead || got[0].File.Path != "/etc/shadow" || got[0].WorkloadID != "" {
		t.Errorf("told %+v, want the reading of /etc/shadow alone", got)
	}
}
