package hunt_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/agent/hunt"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/threat"
)

var shop = strings.Repeat("a1", 32)

// keeps is a server that keeps rules of detection.
type keeps struct {
	mu    sync.Mutex
	brief link.DetectionsBrief
	err   error
	asked []link.DetectionsAsk
}

func (k *keeps) Detections(_ context.Context, a link.DetectionsAsk) (link.DetectionsBrief, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked = append(k.asked, a)
	b := k.brief
	b.Changed = a.Stamp != b.Stamp
	if !b.Changed {
		b.Texts = link.DetectionTexts{}
	}
	return b, k.err
}

func (k *keeps) set(stamp string, t link.DetectionTexts) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.brief = link.DetectionsBrief{Stamp: stamp, Texts: t}
}

func (k *keeps) last() link.DetectionsAsk {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.asked[len(k.asked)-1]
}

// told returns how a rule fares as the server heard it last.
func (k *keeps) told(rule string) (last threat.RuleStats) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, a := range k.asked {
		for _, r := range a.Rules {
			if r.Rule == rule {
				last = r
			}
		}
	}
	return last
}

const own = `
theme: own
rules:
- {id: own-write, title: t, severity: %s, tactic: execution, meaning: m., on: [file.write], when: 'file.path.startsWith("/own/")', about: [file.path], says: "{parent.program} had {file.path} written"}
`

func document(name string, version int64, text string) link.DetectionText {
	return link.DetectionText{Name: name, Version: version, Text: text}
}

type hunting struct {
	*hunt.Hunter
	t     *testing.T
	stop  func()
	seq   uint64
	group func(string) (string, bool)
}

func begin(t *testing.T, o hunt.Options, running ...event.Running) *hunting {
	t.Helper()
	o.AgentID, o.Log = "A", slog.New(slog.DiscardHandler)
	h, err := hunt.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	x := &hunting{Hunter: h, t: t, group: func(string) (string, bool) { return "shop/store/web", true }}
	h.Begin(hunt.Start{Boot: "boot", Running: running, Group: func(id string) (string, bool) { return x.group(id) }, Wake: func() {}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); h.Run(ctx) }()
	x.stop = func() {
		t.Helper()
		cancel()
		<-done
		h.Finish()
		if _, _, err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	synctest.Wait()
	return x
}

func (h *hunting) write(path string) {
	h.seq++
	h.Observe([]event.Event{{
		Kind: event.KindFileWrite, Time: time.Now(), WorkloadID: shop, Boot: "boot", Seq: h.seq,
		Process: event.Process{Key: event.Key{PID: 9, Start: 9e9}, Parent: event.Key{PID: 7, Start: 7e9}, Executable: "/bin/sh"},
		File:    &event.File{Path: path},
	}})
}

func (h *hunting) found() (out []string) {
	synctest.Wait()
	all, _, _ := h.Threats()
	for _, x := range all {
		out = append(out, fmt.Sprintf("%s %s: %s", x.Severity, x.Rule, x.Summary))
	}
	if n := len(all); n > 0 {
		h.Taken(all[n-1].Number)
	}
	return out
}

func TestRulesOfTheServerTakeTheirPlaceAndOutliveIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dir := &keeps{}, t.TempDir()
		h := begin(t, hunt.Options{Dir: dir, Server: s}, event.Running{WorkloadID: shop, Process: event.Process{Key: event.Key{PID: 7, Start: 7e9}, Executable: "/usr/bin/python3.12"}, Started: time.Now()})
		h.write("/own/a")
		if got := h.found(); got != nil {
			t.Errorf("before there are rules: %v", got)
		}
		s.set("s1", link.DetectionTexts{Documents: []link.DetectionText{document("shop.yaml", 1, fmt.Sprintf(own, "high"))}})
		h.Wish(link.DetectWish{Stamp: "s1"})
		synctest.Wait()
		h.write("/own/b")
		want := []string{"high own-write: python had /own/b written"} // who ran before is known still
		if diff := cmp.Diff(want, h.found()); diff != "" {
			t.Errorf("with rules (-want +got):\n%s", diff)
		}
		// Another version, and a silence beside it.
		s.set("s2", link.DetectionTexts{
			Documents: []link.DetectionText{document("shop.yaml", 2, fmt.Sprintf(own, "low"))},
			Silences:  []threat.Silence{{Rule: "own-*", Groups: []string{"shop/store/*"}, About: "/own/quiet", Reason: "r", Until: time.Now().Add(time.Hour)}},
		})
		h.Wish(link.DetectWish{Stamp: "s2"})
		synctest.Wait()
		h.write("/own/quiet")
		h.write("/own/c")
		if diff := cmp.Diff([]string{"low own-write: python had /own/c written"}, h.found()); diff != "" {
			t.Errorf("with other rules (-want +got):\n%s", diff)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		// Over both sets of rules together; /own/b is not looked at again.
		if st := s.told("own-write"); st.Hits != 3 || st.Silenced != 1 || st.Looked != 3 || s.last().Boot != "boot" {
			t.Errorf("the server heard of own-write: %+v", st)
		}
		h.stop()

		s.err = fault.New(fault.Unavailable, "away")
		h = begin(t, hunt.Options{Dir: dir, Server: s})
		h.write("/own/d")
		if got := h.found(); len(got) != 1 || !strings.HasPrefix(got[0], "low own-write") {
			t.Errorf("after a restart without the server: %v", got)
		}
		h.stop()
	})
}

const fresh = `
theme: own
rules:
- {id: own-new, title: t, severity: high, tactic: execution, meaning: m., on: [file.write], first: {by: group, of: file.path, after: 1h}, says: "{file.path} is new in {event.group}"}
`

func TestWhatIsUsualOutlivesTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dir := &keeps{}, t.TempDir()
		s.set("s1", link.DetectionTexts{Documents: []link.DetectionText{document("new.yaml", 1, fresh)}})
		h := begin(t, hunt.Options{Dir: dir, Server: s})
		h.write("/usual")
		time.Sleep(2 * time.Hour)
		if got := h.found(); got != nil {
			t.Errorf("while it is learned: %v", got)
		}
		h.stop()

		h = begin(t, hunt.Options{Dir: dir, Server: s})
		h.write("/usual")
		h.write("/unheard")
		if diff := cmp.Diff([]string{"high own-new: /unheard is new in shop/store/web"}, h.found()); diff != "" {
			t.Errorf("after the agent started again (-want +got):\n%s", diff)
		}
		h.stop()

		// What can't be read is learned anew, and nobody is kept from looking.
		if err := os.WriteFile(filepath.Join(dir, "learned.json"), []byte(`{"own-new": {"groups": 1}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		h = begin(t, hunt.Options{Dir: dir, Server: s})
		h.write("/usual")
		h.write("/further")
		time.Sleep(10 * time.Minute) // it is written down meanwhile
		if got := h.found(); got != nil {
			t.Errorf("after what was learned was damaged: %v", got)
		}
		killed, err := os.ReadFile(filepath.Join(dir, "learned.json"))
		if err != nil || !strings.Contains(string(killed), "/further") {
			t.Errorf("an agent that is killed leaves %q, %v", killed, err)
		}
		h.stop()
	})
}

func TestADocumentThatIsOfNoUseIsToldAndItsFormerHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &keeps{}
		s.set("s1", link.DetectionTexts{Documents: []link.DetectionText{
			document("good.yaml", 1, fmt.Sprintf(own, "high")), document("new.yaml", 4, "rules: [{id: x, wishes: 1}]"),
		}})
		h := begin(t, hunt.Options{Dir: t.TempDir(), Server: s})
		h.write("/own/a")
		if got := h.found(); len(got) != 1 {
			t.Errorf("beside a document that is of no use: %v, want one threat", got)
		}
		if u := s.last().Unusable; len(u) != 1 || u[0].Name != "new.yaml" || u[0].Version != 4 || u[0].Former != 0 || !strings.Contains(u[0].Error, "new.yaml:1:") {
			t.Errorf("the server heard of %+v", u)
		}
		s.set("s2", link.DetectionTexts{Documents: []link.DetectionText{document("good.yaml", 2, "rules: [{id: newer, wishes: 1}]")}})
		h.Wish(link.DetectWish{})
		synctest.Wait()
		h.write("/own/b")
		if got := h.found(); len(got) != 1 {
			t.Errorf("with a version that is of no use: %v, want the former's threat", got)
		}
		if u := s.last().Unusable; len(u) != 1 || u[0].Name != "good.yaml" || u[0].Version != 2 || u[0].Former != 1 {
			t.Errorf("the server heard of %+v", u)
		}
		if got := h.Status().Unusable; len(got) != 1 || got[0] != "good.yaml" {
			t.Errorf("the status says of documents: %v", got)
		}
		if n := len(s.asked); n > 6 {
			t.Errorf("the server was asked %d times", n)
		}
		h.stop()
	})
}

func TestWhatThereIsNoRoomForIsCountedAndNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := begin(t, hunt.Options{})
		stuck := make(chan struct{})
		h.group = func(string) (string, bool) { <-stuck; return "g", true }
		for range 20_000 {
			h.write("/x")
		}
		missed := h.Status().Missed
		if missed < 10_000 || missed > 19_000 {
			t.Errorf("%d of 20,000 events were missed while the engine stood still", missed)
		}
		close(stuck)
		synctest.Wait()
		h.write("/x")
		if got := h.Status().Missed; got != missed {
			t.Errorf("%d events were missed, want no more than %d", got, missed)
		}
		h.stop()
	})
}

func TestWaitingForTheEngineHasABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := begin(t, hunt.Options{})
		h.group = func(string) (string, bool) { return "", false }
		began := time.Now()
		for i := range 1_000 { // containers that nobody knows
			h.Observe([]event.Event{{Kind: event.KindFileWrite, Time: time.Now(), WorkloadID: fmt.Sprintf("%064x", i), Process: event.Process{Key: event.Key{PID: 9, Start: 9e9}}, File: &event.File{Path: "/x"}}})
		}
		h.stop()
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("a thousand unknown containers were waited for %v", took)
		}
	})
}

func TestTooManyThreatsLoseTheLeastFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dir := &keeps{}, t.TempDir()
		grave := strings.ReplaceAll(strings.ReplaceAll(fmt.Sprintf(own, "critical"), "own", "grave"), "theme: grave", "theme: x")
		s.set("s1", link.DetectionTexts{Documents: []link.DetectionText{document("a", 1, fmt.Sprintf(own, "low")), document("b", 1, grave)}})
		h := begin(t, hunt.Options{Dir: dir, Server: s})
		h.write("/grave/first")
		for i := range 2_500 {
			h.write(fmt.Sprintf("/own/%d", i))
			if i%1000 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		d := h.Status()
		if d.Waiting != 2_000 || d.Dropped != 501 {
			t.Errorf("%d threats wait and %d were dropped, want 2000 and 501", d.Waiting, d.Dropped)
		}
		h.stop()
		h = begin(t, hunt.Options{Dir: dir, Server: s})
		got := h.found()
		if len(got) != link.MaxThreats || !strings.Contains(got[0], "/grave/first") || !strings.Contains(got[1], "/own/501 ") {
			t.Errorf("the first two of %d after a restart are %q", len(got), got[:2])
		}
		h.stop()
	})
}

func TestAFileOfThreatsThatWasCutOffOrDamagedIsReadAsFarAsItGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dir := &keeps{}, t.TempDir()
		s.set("s1", link.DetectionTexts{Documents: []link.DetectionText{document("a", 1, fmt.Sprintf(own, "low"))}})
		h := begin(t, hunt.Options{Dir: dir, Server: s})
		for i := range 4 {
			h.write(fmt.Sprintf("/own/%d", i))
		}
		synctest.Wait()
		_, series, _ := h.Threats()
		h.stop()
		file := filepath.Join(dir, "threats.jsonl")
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfter(string(b), "\n")
		if len(lines) != 6 || !json.Valid([]byte(lines[1])) {
			t.Fatalf("the file has %d lines, want a head and four threats", len(lines))
		}
		lines[2] = "\x00\x00" + lines[2][2:]
		text := strings.Join(lines, "")
		if err := os.WriteFile(file, []byte(text[:len(text)-20]), 0o600); err != nil {
			t.Fatal(err)
		}
		h = begin(t, hunt.Options{Dir: dir, Server: s})
		all, again, _ := h.Threats()
		var numbers []uint64
		for _, x := range all {
			numbers = append(numbers, x.Number)
		}
		if diff := cmp.Diff([]uint64{1, 3}, numbers); diff != "" || series != again {
			t.Errorf("threats of series %s, want %s (-want +got):\n%s", again, series, diff)
		}
		h.stop()
	})
}
