package spool_test

import (
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/agent/spool"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

var quiet = slog.New(slog.DiscardHandler)

func open(t testing.TB, boot string, o spool.Options) *spool.Spool {
	t.Helper()
	s := spool.New(o, quiet)
	s.Open(boot)
	t.Cleanup(func() { _, _, _ = s.Close() }) // most tests close by themselves
	return s
}

// batchOf returns n events; every fourth is of low value.
func batchOf(n int) []event.Event {
	events := make([]event.Event, n)
	for i := range events {
		events[i] = event.Event{
			Kind: event.KindExec, Time: time.Unix(1_700_000_000, int64(i)).UTC(), WorkloadID: strings.Repeat("c", 64),
			Process: event.Process{Key: event.Key{PID: uint32(i + 1), Start: 7}, Executable: "/usr/bin/program"},
			Exec:    &event.Exec{Args: []string{"program", "--option", "value"}},
		}
		if i%4 == 3 {
			events[i].Kind, events[i].Exec, events[i].Exit = event.KindExit, nil, &event.Exit{Code: 1}
		}
	}
	return events
}

// drain takes everything and returns the numbers by boot, and the boots in order.
func drain(t testing.TB, s *spool.Spool) (seqs map[string][]uint64, boots []string) {
	t.Helper()
	seqs = map[string][]uint64{}
	for {
		b := s.Peek(700)
		for _, e := range b.Events {
			if e.Boot != b.Boot {
				t.Fatalf("event %d of boot %q in a batch of %q", e.Seq, e.Boot, b.Boot)
			}
			if len(seqs[b.Boot]) == 0 {
				boots = append(boots, b.Boot)
			}
			seqs[b.Boot] = append(seqs[b.Boot], e.Seq)
		}
		s.Ack(len(b.Events))
		if !b.More {
			return seqs, boots
		}
	}
}

func ascending(t testing.TB, seqs []uint64) {
	t.Helper()
	for i := 1; i < len(seqs); i++ {
		if seqs[i] <= seqs[i-1] {
			t.Fatalf("event %d after %d", seqs[i], seqs[i-1])
		}
	}
}

func lost(s *spool.Spool) map[string]uint64 {
	m := map[string]uint64{}
	for _, l := range s.Losses() {
		m[l.Where] = l.Count
	}
	return m
}

// killed returns a copy of a data folder as it is now: what is left when its
// owner is killed.
func killed(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// segments returns the paths of all segments, in order.
func segments(t testing.TB, dir string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(p, ".seg") {
			paths = append(paths, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestEventsComeBackAsTheyWere(t *testing.T) {
	dir := t.TempDir()
	s := open(t, "BOOT0001", spool.Options{Dir: dir, Cache: 1})
	want := batchOf(9)
	s.Push(want)
	got := s.Peek(100)
	if diff := cmp.Diff(want, got.Events); diff != "" || got.Boot != "BOOT0001" || got.More {
		t.Errorf("events of %s, more %t (-want +got):\n%s", got.Boot, got.More, diff)
	}
	st := s.Status()
	if st.Events != 9 || st.Bytes == 0 || st.Limit != spool.DefaultSize || !st.Oldest.Equal(want[0].Time) || st.Error != "" {
		t.Errorf("status %+v", st)
	}
	s.Ack(9)
	if kept, gone, err := s.Close(); kept != 0 || gone != 0 || err != nil {
		t.Errorf("closed with %d kept, %d lost, %v", kept, gone, err)
	}
	if left := segments(t, dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFilesAreTheOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, "BOOT0001", spool.Options{Dir: dir})
	s.Push(batchOf(4))
	err := filepath.WalkDir(filepath.Join(dir, "spool"), func(p string, d fs.DirEntry, err error) error {
		info, ierr := d.Info()
		if err != nil || ierr != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v, errors %v, %v", p, info.Mode(), err, ierr)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestKills lets starts of an agent push, hand over and die at random. The
// receiver remembers the newest event of each start, as a server does.
func TestKills(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	pushed, stored := map[string]uint64{}, map[string][]uint64{}
	store := func(b spool.Batch) {
		for _, e := range b.Events {
			if have := stored[b.Boot]; len(have) == 0 || e.Seq > have[len(have)-1] {
				stored[b.Boot] = append(have, e.Seq)
			}
		}
	}
	var s *spool.Spool
	for start := range 12 {
		dir = killed(t, dir)
		boot := fmt.Sprintf("BOOT%04d", start)
		s = open(t, boot, spool.Options{Dir: dir, Size: 16 << 20, Cache: 50_000})
		for range rnd.IntN(60) {
			n := 1 + rnd.IntN(400)
			s.Push(batchOf(n))
			pushed[boot] += uint64(n)
			for range rnd.IntN(3) {
				b := s.Peek(1 + rnd.IntN(600))
				store(b)
				if rnd.IntN(4) > 0 { // else the answer is lost
					s.Ack(len(b.Events))
				}
			}
			s.Tend()
		}
		if l := s.Losses(); len(l) > 0 {
			t.Fatalf("start %d lost %v", start, l)
		}
	}
	for b := s.Peek(500); len(b.Events) > 0; b = s.Peek(500) {
		store(b)
		s.Ack(len(b.Events))
	}
	for boot, n := range pushed {
		if got := uint64(len(stored[boot])); got != n || got > 0 && stored[boot][got-1] != n {
			t.Errorf("%s: %d of %d events stored", boot, got, n)
		}
	}
	if st := s.Status(); st.Events != 0 {
		t.Errorf("%d events left", st.Events)
	}
}

func TestOverTheLimitLowValueGoesFirst(t *testing.T) {
	s := open(t, "BOOT0001", spool.Options{Dir: t.TempDir(), Size: 1 << 20, Cache: 20_000})
	first := s.Peek(1)
	if len(first.Events) != 0 {
		t.Fatal("an event out of nothing")
	}
	const batches, each = 100, 100
	var before uint64
	lows := 0
	for range batches {
		s.Push(batchOf(each))
		if st := s.Status(); st.Bytes > 1<<20 {
			t.Fatalf("%d bytes on disk", st.Bytes)
		}
		if n := lost(s)[spool.LostSize]; n > before {
			before, lows = n, lows+1
		}
	}
	if lows < 3 {
		t.Fatalf("losses came %d times, want often", lows)
	}
	st := s.Status()
	count := map[event.Kind]int{}
	var seqs []uint64
	for b := s.Peek(700); len(b.Events) > 0; b = s.Peek(700) {
		for _, e := range b.Events {
			count[e.Kind]++
			seqs = append(seqs, e.Seq)
		}
		s.Ack(len(b.Events))
	}
	ascending(t, seqs)
	if got := uint64(len(seqs)) + lost(s)[spool.LostSize]; got != batches*each || uint64(len(seqs)) != st.Events {
		t.Errorf("%d arrived of %d said to wait, lost %v; want %d in all", len(seqs), st.Events, lost(s), batches*each)
	}
	if count[event.KindExec] < 2000 || count[event.KindExit] > count[event.KindExec]/20 {
		t.Errorf("%v arrived, want hardly any of low value", count)
	}
	if seqs[len(seqs)-1] != batches*each {
		t.Errorf("newest is %d, want %d", seqs[len(seqs)-1], batches*each)
	}
}

func TestOnlyLowValueIsDroppedWhileThereIsEnough(t *testing.T) {
	s := open(t, "BOOT0001", spool.Options{Dir: t.TempDir(), Size: 1 << 20, Cache: 20_000})
	execs := 0
	for lost(s)[spool.LostSize] == 0 {
		s.Push(batchOf(100))
		execs += 75
	}
	seqs, _ := drain(t, s)
	low := 0
	for _, seq := range seqs["BOOT0001"] {
		if (seq-1)%4 == 3 {
			low++
		}
	}
	if got := len(seqs["BOOT0001"]) - low; got != execs {
		t.Errorf("%d of %d of the others arrived", got, execs)
	}
}

func TestWhatIsHandedOutIsNotCountedAsLost(t *testing.T) {
	s := open(t, "BOOT0001", spool.Options{Dir: t.TempDir(), Size: 1 << 20, Cache: 20_000})
	s.Push(batchOf(500))
	hand := len(s.Peek(500).Events)
	for range 100 {
		s.Push(batchOf(100))
	}
	if got := s.Peek(500); len(got.Events) != hand || got.Events[0].Seq != 1 {
		t.Fatalf("the hand changed: %d events from %d", len(got.Events), got.Events[0].Seq)
	}
	s.Ack(hand)
	seqs, _ := drain(t, s)
	if got := hand + len(seqs["BOOT0001"]) + int(lost(s)[spool.LostSize]); got != 10_500 {
		t.Errorf("%d accounted for, want 10500", got)
	}
}

func TestTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, "BOOT0001", spool.Options{Dir: dir, Age: time.Hour, Cache: 1})
		s.Push(batchOf(40))
		time.Sleep(10 * time.Minute)
		s.Tend()
		s.Push(batchOf(8))
		time.Sleep(55 * time.Minute)
		s.Tend()
		if diff := cmp.Diff([]asset.Loss{{Where: spool.LostAge, Count: 40}}, s.Losses()); diff != "" {
			t.Errorf("losses (-want +got):\n%s", diff)
		}
		if seqs, _ := drain(t, s); len(seqs["BOOT0001"]) != 8 {
			t.Errorf("%v left, want the younger 8", seqs)
		}
	})
}

// A write that is killed ends between two pages: of the batch that was being
// pushed, one series may have more than the other. What was pushed before is
// whole, what there is of the batch comes in order, and none of it is counted as
// lost, because it was never held.
func TestKilledWhileWriting(t *testing.T) {
	dir := t.TempDir()
	s := open(t, "BOOT0001", spool.Options{Dir: dir})
	s.Push(batchOf(100))
	before := map[string]int64{}
	for _, p := range segments(t, dir) {
		before[filepath.Base(p)] = size(t, p)
	}
	s.Push(batchOf(100))
	for _, tc := range []struct{ low, rest float64 }{{1, 0}, {1, 0.5}, {0.3, 0}, {0.7, 0.9}} {
		t.Run(fmt.Sprint(tc), func(t *testing.T) {
			copied := killed(t, dir)
			for _, p := range segments(t, copied) {
				held, share := before[filepath.Base(p)], tc.rest
				if strings.HasPrefix(filepath.Base(p), "low") {
					share = tc.low
				}
				if err := os.Truncate(p, held+int64(float64(size(t, p)-held)*share)); err != nil {
					t.Fatal(err)
				}
			}
			s := open(t, "BOOT0002", spool.Options{Dir: copied})
			seqs, _ := drain(t, s)
			got := seqs["BOOT0001"]
			ascending(t, got)
			if len(got) < 100 || got[99] != 100 {
				t.Errorf("of what was pushed %d arrived: %v", len(got), got)
			}
			if most := 100 + int(25*tc.low+75*tc.rest); len(got) > most || len(got) < most-2 {
				t.Errorf("%d arrived, want about %d", len(got), most)
			}
			if l := lost(s); len(l) > 0 {
				t.Errorf("counted as lost: %v", l)
			}
		})
	}
}

func size(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestDamage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, "BOOT0001", spool.Options{Dir: dir, Cache: 1})
	for range 10 {
		s.Push(batchOf(100))
	}
	for _, tc := range []struct {
		name   string
		damage func(b []byte) []byte
		lost   uint64 // at least, per segment
	}{
		{"one byte in the middle", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, 1},
		{"a page of zeros", func(b []byte) []byte { clear(b[8192:12288]); return b }, 10},
		{"torn tail", func(b []byte) []byte { return b[:len(b)-3] }, 0},
		{"begins with zeros", func(b []byte) []byte { clear(b[:4096]); return b }, 10},
		{"nothing but zeros", func(b []byte) []byte { clear(b); return b }, 1},
		{"empty", func([]byte) []byte { return nil }, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			copied := killed(t, dir)
			paths := segments(t, copied)
			if len(paths) != 2 {
				t.Fatalf("segments %v, want one of each value", paths)
			}
			for _, p := range paths {
				b, err := os.ReadFile(p)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(p, tc.damage(b), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := open(t, "BOOT0002", spool.Options{Dir: copied})
			seqs, _ := drain(t, s)
			got := seqs["BOOT0001"]
			ascending(t, got)
			if n := lost(s)[spool.LostDamaged]; n < 2*tc.lost || tc.lost == 0 && n > 0 {
				t.Errorf("%d counted as damaged, %d arrived", n, len(got))
			} else if tc.lost > 0 && len(got) > 0 && len(got)+int(n) != 1000 {
				t.Errorf("%d arrived and %d counted as damaged, want 1000 in all", len(got), n)
			}
			if left := segments(t, copied); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestDamageWhileItRuns(t *testing.T) {
	dir := t.TempDir()
	s := open(t, "BOOT0001", spool.Options{Dir: dir, Cache: 100_000})
	for range 10 {
		s.Push(batchOf(100))
	}
	for _, p := range segments(t, dir) {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		b[100] ^= 1 // in the first record
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	seqs, _ := drain(t, s)
	if got := len(seqs["BOOT0001"]); got != 998 || lost(s)[spool.LostDamaged] != 2 {
		t.Errorf("%d arrived, lost %v; want 998 and 2", got, lost(s))
	}
	if st := s.Status(); st.Events != 0 {
		t.Errorf("%d said to wait", st.Events)
	}
}

func TestDiskFullAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := false
		free := func(*os.File) (uint64, uint64, error) {
			if full {
				return 1 << 20, 100 << 30, nil
			}
			return 50 << 30, 100 << 30, nil
		}
		dir := t.TempDir()
		o := spool.Options{Dir: dir, Free: free, Cache: 10_000, Memory: 500_000}
		s := open(t, "BOOT0001", o)
		s.Push(batchOf(100))
		full = true
		s.Tend()
		if st := s.Status(); !strings.Contains(st.Error, "free") {
			t.Errorf("status says %q", st.Error)
		}
		s.Peek(30)
		s.Push(batchOf(100))
		full = false
		time.Sleep(time.Minute)
		s.Tend()
		if st := s.Status(); st.Error != "" || st.Events != 200 {
			t.Errorf("status %+v", st)
		}
		s.Push(batchOf(100))
		after := open(t, "BOOT0002", spool.Options{Dir: killed(t, dir), Free: free})
		for name, s := range map[string]*spool.Spool{"in this start": s, "after a kill": after} {
			seqs, _ := drain(t, s)
			if got := seqs["BOOT0001"]; len(got) != 300 || got[299] != 300 || len(s.Losses()) > 0 {
				t.Errorf("%s: %d arrived, lost %v", name, len(got), s.Losses())
			}
			ascending(t, seqs["BOOT0001"])
		}
	})
}

func TestMemoryAloneIsBounded(t *testing.T) {
	s := open(t, "BOOT0001", spool.Options{Memory: 100_000})
	for range 100 {
		s.Push(batchOf(10))
	}
	want := s.Len()
	seqs, _ := drain(t, s)
	got := seqs["BOOT0001"]
	if len(got) != want || len(got) == 0 || got[len(got)-1] != uint64(len(got)) {
		t.Errorf("%d arrived up to %v, want the oldest %d", len(got), got[len(got)-1:], want)
	}
	if n := lost(s)[spool.LostDisk]; n != uint64(1000-len(got)) {
		t.Errorf("%d counted as lost, %d arrived", n, len(got))
	}
	if s.Status().Error == "" {
		t.Error("status does not say that nothing is on disk")
	}
}

func TestOneAgentPerFolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		one := open(t, "BOOT0001", spool.Options{Dir: dir})
		one.Push(batchOf(10))
		two := open(t, "BOOT0002", spool.Options{Dir: dir})
		two.Push(batchOf(5))
		if st := two.Status(); !strings.Contains(st.Error, "another agent") {
			t.Fatalf("the second one says %q", st.Error)
		}
		if _, _, err := one.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		two.Tend()
		seqs, boots := drain(t, two)
		want := map[string][]uint64{"BOOT0001": {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, "BOOT0002": {1, 2, 3, 4, 5}}
		if diff := cmp.Diff(want, seqs); diff != "" || boots[0] != "BOOT0001" {
			t.Errorf("boots %v (-want +got):\n%s", boots, diff)
		}
	})
}

func TestManyStartsDoNotFillTheFileSystem(t *testing.T) {
	o := spool.Options{Dir: t.TempDir(), Files: 40}
	const starts = 100
	var dropped uint64
	for i := range starts {
		s := spool.New(o, quiet)
		s.Open(fmt.Sprintf("BOOT%04d", i))
		s.Push(batchOf(1))
		dropped += lost(s)[spool.LostSize]
		if _, _, err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if n := len(segments(t, o.Dir)); n > 40 {
			t.Fatalf("%d files", n)
		}
	}
	_, boots := drain(t, open(t, "BOOTLAST", o))
	n := len(boots)
	if n < 30 || boots[n-1] != fmt.Sprintf("BOOT%04d", starts-1) || dropped != uint64(starts-n) {
		t.Errorf("%d of %d starts left, %d counted as lost, the last is %v", n, starts, dropped, boots[max(0, n-1):])
	}
}

func TestRefused(t *testing.T) {
	s := open(t, "BOOT0001", spool.Options{Dir: t.TempDir()})
	s.Push(batchOf(3))
	s.Peek(3)
	s.Refuse(1)
	seqs, _ := drain(t, s)
	if diff := cmp.Diff([]uint64{2, 3}, seqs["BOOT0001"]); diff != "" || lost(s)[spool.LostRefused] != 1 {
		t.Errorf("lost %v (-want +got):\n%s", lost(s), diff)
	}
}

func TestEventTooLargeForAnyone(t *testing.T) {
	s := open(t, "BOOT0001", spool.Options{Dir: t.TempDir()})
	events := batchOf(3)
	events[1].Exec.Args = []string{strings.Repeat("x", 1<<20)}
	s.Push(events)
	seqs, _ := drain(t, s)
	if diff := cmp.Diff([]uint64{1, 3}, seqs["BOOT0001"]); diff != "" || lost(s)[spool.LostSize] != 1 {
		t.Errorf("lost %v (-want +got):\n%s", lost(s), diff)
	}
}

// TestMemoryWhileTheServerIsAway holds the agent's promise of 60 MiB: however
// long it lasts, the spool's part of memory does not grow.
func TestMemoryWhileTheServerIsAway(t *testing.T) {
	s := open(t, "BOOT0001", spool.Options{Dir: t.TempDir(), Size: 32 << 20})
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	s.Push(batchOf(10))
	s.Peek(10)
	for range 300 {
		s.Push(batchOf(1000))
	}
	if grown := int64(heap()) - int64(before); grown > 12<<20 {
		t.Errorf("300,000 events waiting take %d MiB of memory", grown>>20)
	}
	seqs, _ := drain(t, s)
	if got := uint64(len(seqs["BOOT0001"])) + lost(s)[spool.LostSize]; got != 300_010 {
		t.Errorf("%d accounted for, want 300010", got)
	}
}
