package agent_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

// files are those of programs, by inode.
type files struct {
	mu      sync.Mutex
	content map[uint64]string
	size    map[uint64]int64 // where it is not that of the content
	slow    map[uint64]time.Duration
	read    map[uint64]int // how often the content was read
	asked   int
}

func (f *files) ReadProgram(e *event.Event, _ event.Key, use func(event.FileIdentity, io.Reader) error) error {
	f.mu.Lock()
	f.asked++
	content, there := f.content[e.Exec.Inode]
	size, pause := f.size[e.Exec.Inode], f.slow[e.Exec.Inode]
	f.mu.Unlock()
	if !there {
		return fault.New(fault.NotFound, "process %d has ended", e.Process.Key.PID)
	}
	if size == 0 {
		size = int64(len(content))
	}
	return use(event.FileIdentity{Device: 1, Inode: e.Exec.Inode, Size: size}, readerFunc(func(b []byte) (int, error) {
		f.mu.Lock()
		f.read[e.Exec.Inode]++
		f.mu.Unlock()
		time.Sleep(pause)
		n := copy(b, content)
		if content = content[n:]; n == 0 {
			return 0, io.EOF
		}
		return n, nil
	}))
}

// reads returns how often the content of a file was read.
func (f *files) reads(inode uint64) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read[inode]
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func digestOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// execOf is an exec of a file of a container.
func execOf(pid uint32, inode uint64, origin event.Origin) event.Event {
	return event.Event{
		Kind: event.KindExec, WorkloadID: strings.Repeat("a", 64), Time: time.Now(),
		Process: event.Process{Key: event.Key{PID: pid, Start: uint64(pid) * 1e9}, Executable: "/bin/p" + strconv.FormatUint(inode, 10)},
		Exec:    &event.Exec{Origin: origin, Inode: inode},
	}
}

// withFiles runs play beside an agent that reads these files, in a bubble of fake
// time, stops the agent, and calls then.
func withFiles(t *testing.T, f *files, play, then func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{sense: make(chan []event.Event), engine: make(chan asset.Inventory)}
		f.read = map[uint64]int{}
		a := agent.New(agent.Config{ID: "A"}, agent.Parts{Engine: w, Sensors: w, Host: w, Server: w, Programs: f}, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		w.engine <- asset.Inventory{Engine: asset.Engine{Connected: true}, Workloads: []asset.Workload{{ID: strings.Repeat("a", 64), State: asset.Running}}}
		play(w)
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v, want nil", err)
		}
		then(w)
		// A file that is being read is left to itself, and a bubble waits for all that it began.
		time.Sleep(time.Minute)
		synctest.Wait()
	})
}

func nothing(*world) {}

func TestExecsSayWhatTheirFilesHold(t *testing.T) {
	f := &files{content: map[uint64]string{7: "seven", 8: "eight"}}
	withFiles(t, f, func(w *world) {
		w.sense <- []event.Event{execOf(100, 7, event.OriginImage), execOf(101, 8, event.OriginWritten), execOf(102, 9, event.OriginImage), execOf(103, 7, event.OriginImage)}
		w.sense <- []event.Event{execOf(104, 7, event.OriginImage), execOf(105, 8, event.OriginWritten)}
		time.Sleep(time.Second)
		synctest.Wait()
		var got []string
		for _, e := range w.taken() {
			got = append(got, e.Exec.Digest)
		}
		seven, eight := digestOf("seven"), digestOf("eight")
		if d := cmp.Diff(got, []string{seven, eight, "", seven, seven, eight}); d != "" {
			t.Errorf("digests (-got +want):\n%s", d)
		}
		// Each file is read once: to its content, and to its end.
		if f.reads(7) != 2 || f.reads(8) != 2 || f.asked != 4 {
			t.Errorf("files were read %v times, and asked for %d times", f.read, f.asked)
		}
	}, nothing)
}

// What takes too long is told without, in order, and known the next time.
func TestExecsDoNotWaitLongForADigest(t *testing.T) {
	f := &files{content: map[uint64]string{7: "seven"}, slow: map[uint64]time.Duration{7: time.Second}}
	withFiles(t, f, func(w *world) {
		began := time.Now()
		w.sense <- []event.Event{execOf(100, 7, event.OriginImage)}
		w.sense <- []event.Event{{Kind: event.KindExit, WorkloadID: strings.Repeat("a", 64), Time: time.Now(), Process: event.Process{Key: event.Key{PID: 100, Start: 100e9}}, Exit: &event.Exit{}}}
		for len(w.taken()) < 2 {
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
		}
		if took := time.Since(began); took > 400*time.Millisecond {
			t.Errorf("events waited %v", took)
		}
		if all := w.taken(); all[0].Kind != event.KindExec || all[0].Exec.Digest != "" || all[1].Kind != event.KindExit {
			t.Errorf("got %+v", all)
		}
		time.Sleep(5 * time.Second)
		w.sense <- []event.Event{execOf(101, 7, event.OriginImage)}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := w.taken()[2].Exec.Digest; got != digestOf("seven") {
			t.Errorf("the next time it has %q", got)
		}
	}, nothing)
}

// A file that is too large, or grows, is not known; and a large one leaves the rest of
// the host its processor.
func TestLargeProgramsAreReadSlowlyOrNotAtAll(t *testing.T) {
	large := string(bytes.Repeat([]byte("x"), 96<<20))
	f := &files{content: map[uint64]string{7: "small", 8: "grown", 9: large}, size: map[uint64]int64{7: 1 << 40, 8: 2}}
	withFiles(t, f, func(w *world) {
		began := time.Now()
		w.sense <- []event.Event{execOf(100, 7, event.OriginImage), execOf(101, 8, event.OriginImage), execOf(102, 9, event.OriginImage)}
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		for _, e := range w.taken() {
			if e.Exec.Digest != "" {
				t.Errorf("%s has the digest %s after %v", e.Process.Executable, e.Exec.Digest, time.Since(began))
			}
		}
		if f.reads(7) != 0 {
			t.Error("a file that is too large was read")
		}
		time.Sleep(2 * time.Second)
		w.sense <- []event.Event{execOf(103, 9, event.OriginImage)}
		time.Sleep(time.Second)
		synctest.Wait()
		if all := w.taken(); all[len(all)-1].Exec.Digest != digestOf(large) {
			t.Errorf("after %v it is not known", time.Since(began))
		}
	}, nothing)
}

// An agent that is stopped loses nothing of what waits.
func TestWhatWaitsForADigestIsHandedOverAtTheEnd(t *testing.T) {
	f := &files{content: map[uint64]string{7: "seven"}, slow: map[uint64]time.Duration{7: time.Second}}
	withFiles(t, f, func(w *world) {
		w.sense <- []event.Event{execOf(100, 7, event.OriginImage)}
	}, func(w *world) {
		if all := w.taken(); len(all) != 1 {
			t.Errorf("handed over %+v", all)
		}
	})
}
