package learn_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/watch/learn"
)

// live starts a container, has it work, and ends it if it should.
func live(s *script, id string, events int, ends bool) {
	was := s.id
	s.id = id
	first := event.Key{PID: 1, Start: uint64(s.at.UnixNano())}
	x := s.exec("/usr/bin/app", event.OriginImage, "app")
	x.Process.Key, x.Process.Parent, x.Exec.Ancestors = first, event.Key{}, nil
	for range events {
		s.write("/data/a").Process.Key = first
	}
	if ends {
		s.add(event.Event{Kind: event.KindExit, Process: event.Process{Key: first}, Exit: &event.Exit{}})
	}
	s.id = was
}

func TestHowSettledAProfileIs(t *testing.T) {
	const hour = time.Hour
	for _, tc := range []struct {
		name        string
		do          func(*script)
		after       time.Duration // from the start to when it is asked for
		least, most float64
		waits       []string // the beginnings
	}{
		{"nothing seen", func(*script) {}, hour, 0, 0, []string{"Nothing was seen"}},
		{"just begun", func(s *script) { live(s, "a", 10, false) }, time.Minute, 0, 0.15, []string{"Something new", "It has been watched", "No container was seen to end", "Only 11 events", "One container was"}},
		{"a day, two starts, one end", func(s *script) { live(s, "a", 600, true); live(s, "b", 10, false) }, 25 * hour, 1, 1, nil},
		{"a day without a restart", func(s *script) { live(s, "a", 600, false) }, 25 * hour, 0.82, 0.83, []string{"No container was seen to end", "One container was"}},
		{"news after twenty hours", func(s *script) {
			live(s, "a", 600, true)
			live(s, "b", 10, false)
			s.at = start.Add(20 * hour)
			s.write("/data/nightly")
		}, 21 * hour, 0.6, 0.9, []string{"Something new was learned 59 minutes ago, after 20 hours", "It has been watched for 20 hours"}},
		{"code with a new name each time, which may be a program", func(s *script) {
			live(s, "a", 600, true)
			live(s, "b", 10, false)
			for i := range 2 {
				s.add(event.Event{Kind: event.KindExecMap, Memory: &event.Memory{Path: fmt.Sprintf("/tmp/native%d.bin", 8123456+i), Origin: event.OriginWritten}})
			}
		}, 48 * hour, 0.9, 0.9, []string{"2 programs or libraries that did not come with the image have changing names, such as /tmp/native*.bin"}},
		{"more files than there is room for", func(s *script) {
			live(s, "a", 600, true)
			live(s, "b", 10, false)
			for i := range 1100 {
				s.write(fmt.Sprintf("/etc/a%c%c%c", 'a'+i/100, 'a'+i/10%10, 'a'+i%10))
			}
		}, 48 * hour, 0.9, 0.9, []string{"There was no room for all files: 100 events"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScript()
			tc.do(s)
			l := learn.New("g")
			for i := range s.events {
				l.Take(&s.events[i], nil)
			}
			got := l.Settled(start.Add(tc.after))
			if got.Measure < tc.least-1e-9 || got.Measure > tc.most+1e-9 {
				t.Errorf("measure %v, want %v to %v", got.Measure, tc.least, tc.most)
			}
			if len(got.Waits) != len(tc.waits) {
				t.Fatalf("waits for %q, want %q", got.Waits, tc.waits)
			}
			for i, w := range tc.waits {
				if !strings.HasPrefix(got.Waits[i], w) {
					t.Errorf("waits for %q, want %q…", got.Waits[i], w)
				}
			}
		})
	}
}

// TestClocksThatAreSetSettleNothing asks how settled a profile is whose hosts' clocks
// say anything, and when the server's is set.
func TestClocksThatAreSetSettleNothing(t *testing.T) {
	const hour = time.Hour
	for _, tc := range []struct {
		name   string
		host   time.Duration // by how much the host's clock is wrong
		set    time.Duration // by how much the server's is set an hour after
		after  time.Duration // to when it is asked for, since then
		settle bool
	}{
		{"a host a year behind", -365 * 24 * hour, 0, 0, false},
		{"a host in 2000", -26 * 365 * 24 * hour, 0, 0, false},
		{"a host a day ahead", 24 * hour, 0, 0, false},
		{"a host a day ahead, days later", 24 * hour, 0, 26 * hour, true},
		{"the server a day forward", 0, 24 * hour, 0, false},
		{"the server a day forward, an hour later", 0, 24 * hour, hour, false},
		{"the server a day forward, a day later", 0, 24 * hour, 24 * hour, true},
		{"the server a day back", 0, -24 * hour, 0, false},
		{"the server a day back, half a day later", 0, -24 * hour, 12 * hour, false},
		{"the server a year back, a day later", 0, -365 * 24 * hour, 25 * hour, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScript()
			live(s, "a", 600, true)
			live(s, "b", 10, false)
			l := learn.New("g")
			for i := range s.events {
				e := &s.events[i]
				e.Received = e.Time
				e.Time = e.Time.Add(tc.host)
				l.Take(e, nil)
			}
			now := start.Add(hour)
			if tc.set != 0 {
				l.ClockSet(now, now.Add(tc.set))
				now = now.Add(tc.set)
			}
			b, err := l.Save()
			if err != nil {
				t.Fatal(err)
			}
			if l, err = learn.Load(b); err != nil {
				t.Fatal(err)
			}
			got := l.Settled(now.Add(tc.after))
			if (got.Measure >= 0.95) != tc.settle {
				t.Errorf("measure %v, waits for %q", got.Measure, got.Waits)
			}
		})
	}
}

// TestAHostileContainerFillsNoMemory does ever new things of every kind.
func TestAHostileContainerFillsNoMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a few seconds")
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	l := learn.New("g")
	long := strings.Repeat("q", 180)
	for i := range 20_000 {
		s := newScript()
		word := fmt.Sprintf("%s%c%c%c%c", long, 'a'+i%26, 'a'+i/26%26, 'a'+i/676%26, 'a'+i/17576%26)
		s.write("/a" + word + "/b" + word + "/c" + word + ".x" + word).Process.Executable = "/bin/" + word
		s.write("/etc/" + word)
		s.add(event.Event{Kind: event.KindFileRead, File: &event.File{Path: "/r/" + word}})
		s.exec("/bin/"+word, event.OriginImage, word, word)
		s.exec("/tmp/"+word, event.OriginWritten, word)
		s.connect(fmt.Sprintf("%d.%d.%d.1:%d", 11+i%100, i/100%256, i/25600, 1+i), "")
		s.add(event.Event{Kind: event.KindQuery, DNS: &event.DNS{Name: word[150:] + ".evil.example"}})
		s.add(event.Event{Kind: event.KindDevice, Privilege: &event.Privilege{Target: "/dev/" + word}})
		for j := range s.events {
			s.events[j].WorkloadID = fmt.Sprint("w", i%2000)
			l.Take(&s.events[j], &asset.Workload{Image: asset.Image{Digest: fmt.Sprint("sha256:", i/1000)}})
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	const most = 48 << 20
	used := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d MiB after 160,000 events that were all new", used>>20)
	if used > most {
		t.Errorf("the learner holds %d MiB, want at most %d", used>>20, most>>20)
	}
	s := l.Settled(start.Add(100 * time.Hour))
	if s.Measure > 0.9 || len(s.Waits) < 5 || !strings.HasPrefix(s.Waits[0], "There was no room") {
		t.Errorf("settled %v, %q: want it to say what had no room", s.Measure, s.Waits)
	}
	b, err := l.Save()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := learn.Load(b); err != nil {
		t.Errorf("load what was saved: %v", err)
	}
	t.Logf("%d KiB kept", len(b)>>10)
}

func FuzzLoad(f *testing.F) {
	l := learn.New("g")
	s := newScript()
	s.write("/data/a")
	for i := range s.events {
		l.Take(&s.events[i], nil)
	}
	b, err := l.Save()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := learn.Load(b)
		if err != nil {
			return
		}
		l.Take(&s.events[0], nil)
		l.Profile()
	})
}

// work is what a web service does in a minute, many times over.
func work(n int) []event.Event {
	s := newScript()
	for i := range n {
		switch i % 8 {
		case 0:
			s.write(fmt.Sprintf("/var/cache/nginx/client_temp/%010d", i))
		case 1:
			s.connect("10.0.1.7:5432", "db.internal")
		case 2:
			s.add(event.Event{Kind: event.KindAccept, Connection: &event.Connection{Protocol: "tcp", Local: addr("10.0.0.9:80"), Remote: addr(fmt.Sprintf("10.0.3.%d:4000", i%200))}})
		case 3:
			s.exec("/usr/bin/convert", event.OriginImage, "convert", "a.png")
		case 4:
			s.add(event.Event{Kind: event.KindQuery, DNS: &event.DNS{Name: "db.internal"}})
		case 5:
			s.write(fmt.Sprintf("/srv/uploads/%d/%x.jpg", i%300, i*7919))
		case 6:
			s.add(event.Event{Kind: event.KindFileRename, File: &event.File{Path: fmt.Sprintf("/tmp/tmp%08x", i), To: fmt.Sprintf("/srv/out/page-%d.html", i%50)}})
		case 7:
			s.add(event.Event{Kind: event.KindClose, Connection: &event.Connection{Protocol: "tcp"}})
		}
	}
	return s.events
}

func BenchmarkLearn(b *testing.B) {
	events := work(8_000)
	w := &asset.Workload{Image: asset.Image{Digest: "sha256:1", Reference: "shop:1"}}
	l := learn.New("g")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		l.Take(&events[i%len(events)], w)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(held(l), "B/group")
	kept, err := l.Save()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(kept)), "B/saved")
}

// held is how much memory a second learner of the same takes.
func held(l *learn.Learner) float64 {
	var with, without runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&with)
	kept, err := l.Save()
	if err != nil {
		return 0
	}
	again, err := learn.Load(kept)
	if err != nil {
		return 0
	}
	runtime.GC()
	runtime.ReadMemStats(&without)
	runtime.KeepAlive(again)
	return float64(int64(without.HeapAlloc) - int64(with.HeapAlloc))
}

func BenchmarkProfile(b *testing.B) {
	events := work(8_000)
	l := learn.New("g")
	for i := range events {
		l.Take(&events[i], nil)
	}
	for b.Loop() {
		l.Profile()
	}
}

func TestItWaitsForHosts(t *testing.T) {
	s := newScript()
	live(s, "a", 600, true)
	live(s, "b", 10, false)
	l := learn.New("g")
	for i := range s.events {
		l.Take(&s.events[i], nil)
	}
	l.Expect(5)
	got := l.Settled(start.Add(25 * time.Hour))
	if len(got.Waits) != 1 || got.Waits[0] != "It runs on 5 hosts and was seen on 1." || got.Measure >= 1 {
		t.Errorf("settled %+v", got)
	}
}
