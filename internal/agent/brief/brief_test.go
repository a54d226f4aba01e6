package brief_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/agent/brief"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/link"
)

const (
	agentID = "AGENTONE"
	policy  = `version: 1
mode: enforce
rules:
  - id: no-criticals
    for: vulnerability
    deny: vulnerability.severity >= critical
    message: "{vulnerability.id}"
`
)

func digest(c string) string { return "sha256:" + strings.Repeat(c, 64) }

// fleet is a server that the test plays.
type fleet struct {
	mu         sync.Mutex
	away       error
	text       string
	stamp      string
	exceptions []admission.Exception
	facts      map[string]admission.Facts // by digest
	asked      int
	heard      []link.ReportedVerdict
}

func (f *fleet) Brief(_ context.Context, a link.AdmissionAsk) (b link.AdmissionBrief, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if f.away != nil {
		return b, f.away
	}
	b.AdmissionWish = link.AdmissionWish{Version: 1, Digest: "sha256:p", Stamp: f.stamp}
	if a.Stamp != f.stamp {
		b.Changed, b.Policy, b.Exceptions = true, []byte(f.text), f.exceptions
	}
	for _, m := range a.Images {
		known := f.facts[m.Digest]
		known.Digest = m.Digest
		plain, err := json.Marshal(known)
		if err != nil {
			return b, err
		}
		one := link.BriefFacts{Hash: known.At.String() + string(known.Scan.State)}
		if one.Same = one.Hash == m.Have; !one.Same {
			if one.Packed, err = link.PackFacts(plain); err != nil {
				return b, err
			}
		}
		b.Facts = append(b.Facts, one)
	}
	return b, nil
}

func (f *fleet) Admitted(_ context.Context, r link.AdmissionReport) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away != nil {
		return f.away
	}
	f.heard = append(f.heard, r.Verdicts...)
	return r.Check()
}

func (f *fleet) set(change func()) { f.mu.Lock(); defer f.mu.Unlock(); change() }

func newFleet() *fleet {
	known := admission.Facts{Scan: admission.Scan{State: admission.Known}}
	bad := known
	bad.Scan.Vulnerabilities = []admission.Vulnerability{{ID: "CVE-2026-1", Severity: finding.Critical}}
	return &fleet{text: policy, stamp: "s1", facts: map[string]admission.Facts{digest("a"): known, digest("b"): bad}}
}

// keeper is one that runs until the test ends, or stop is called.
func keeper(t *testing.T, f *fleet, dir string) (k *brief.Keeper, stop func()) {
	t.Helper()
	return logging(t, f, dir, slog.New(slog.DiscardHandler))
}

// logging is keeper, with a log.
func logging(t *testing.T, f *fleet, dir string, log *slog.Logger) (k *brief.Keeper, stop func()) {
	t.Helper()
	k, err := brief.Open(brief.Options{Dir: dir, AgentID: agentID, Server: f, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); k.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return k, stop
}

func run(digest string) admission.Request {
	return admission.Request{ID: "r-" + digest[7:9], Door: admission.Docker, Action: admission.Run, Task: admission.Task{Containers: []admission.Container{
		{Name: "app", Image: admission.Image{Reference: "reg.example/shop:1", Registry: "reg.example", Repository: "shop", Digest: digest}},
	}}}
}

// want decides by what is kept, as the door of a host does.
func want(t *testing.T, k *brief.Keeper, digest string, o admission.Outcome) {
	t.Helper()
	r := run(digest)
	m := &r.Task.Containers[0].Image
	s, _ := k.Standing()
	p, err := admit.Read(s.Policy, "policy")
	if err != nil {
		t.Fatal(err)
	}
	known := k.Facts(t.Context(), []link.AskedImage{{Registry: m.Registry, Repository: m.Repository, Digest: m.Digest}})
	v := p.Decide(t.Context(), &r, admit.Given{Facts: map[string]*admission.Facts{digest: known[0]}, Exceptions: s.Exceptions, Now: time.Now()})
	if v.Outcome != o {
		t.Errorf("image %.10s: got %s %+v, want %s", digest, v.Outcome, v.Reasons, o)
	}
}

func TestItDecidesByWhatTheServerSaidWhileThatIsAway(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet()
		k, stop := keeper(t, f, dir)
		synctest.Wait()
		want(t, k, digest("a"), admission.Allow)
		want(t, k, digest("b"), admission.Deny)
		want(t, k, digest("c"), admission.Deny) // nobody knows it
		f.set(func() { f.away = fault.New(fault.Unavailable, "the server is away") })
		want(t, k, digest("a"), admission.Allow)
		stop()
		again, _ := keeper(t, f, dir)
		synctest.Wait()
		time.Sleep(time.Hour)
		want(t, again, digest("a"), admission.Allow)
		want(t, again, digest("b"), admission.Deny)
		want(t, again, digest("d"), admission.Deny)
		s, have := again.Standing()
		if !have || string(s.Policy) != policy || s.Version != 1 {
			t.Errorf("after a restart it stands by %+v", s)
		}
		fresh, _ := keeper(t, f, t.TempDir())
		synctest.Wait()
		if s, have := fresh.Standing(); have {
			t.Errorf("one that never met the server stands by %+v", s)
		}
	})
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestItFollowsTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet()
		k, _ := keeper(t, f, t.TempDir())
		synctest.Wait()
		want(t, k, digest("b"), admission.Deny)
		changed := k.Changed()
		f.set(func() {
			f.stamp = "s2"
			f.exceptions = []admission.Exception{{ID: "1", Rules: []string{"no-criticals"}, Owner: "a", Reason: "b", Image: "reg.example/shop", Expires: time.Now().Add(time.Hour)}}
		})
		k.Wish(link.AdmissionWish{Version: 1, Stamp: "s2"})
		synctest.Wait()
		select {
		case <-changed:
		default:
			t.Error("nobody was told of the change")
		}
		want(t, k, digest("b"), admission.Allow)
		// A new advisory: no one tells, and it asks by itself.
		want(t, k, digest("a"), admission.Allow)
		f.set(func() {
			worse := f.facts[digest("b")]
			worse.At = time.Now()
			f.facts[digest("a")], f.exceptions, f.stamp = worse, nil, "s3"
		})
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		want(t, k, digest("a"), admission.Deny)
		// What is decided often is not asked for each time.
		f.mu.Lock()
		before := f.asked
		f.mu.Unlock()
		for range 100 {
			want(t, k, digest("a"), admission.Deny)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.asked != before {
			t.Errorf("a hundred decisions asked %d times", f.asked-before)
		}
	})
}

func TestVerdictsAreToldOnceTheServerIsThere(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet()
		f.away = fault.New(fault.Unavailable, "the server is away")
		k, stop := keeper(t, f, dir)
		for _, c := range []string{"a", "b"} {
			r := run(digest(c))
			k.Decided(r, admission.Verdict{Outcome: admission.Deny})
		}
		time.Sleep(time.Minute)
		if n, lost := k.Unsent(); n != 2 || lost != 0 {
			t.Errorf("%d wait, %d are lost", n, lost)
		}
		stop()
		if _, err := os.Stat(filepath.Join(dir, "unsent.jsonl")); err != nil {
			t.Errorf("what was not sent is not on disk: %v", err)
		}
		f.set(func() { f.away = nil })
		var said bytes.Buffer // handlers write one record after the other
		k, _ = logging(t, f, dir, slog.New(slog.NewTextHandler(&said, nil)))
		time.Sleep(time.Second)
		synctest.Wait()
		if n, _ := k.Unsent(); n != 0 || len(f.heard) != 2 || f.heard[0].Request.Place.Host != agentID || f.heard[1].Request.ID != "r-bb" {
			t.Errorf("%d wait, heard %+v", n, f.heard)
		}
		f.set(func() { f.away = fault.New(fault.Unavailable, "away again") })
		for range 3_000 {
			k.Decided(run(digest("a")), admission.Verdict{})
		}
		if n, lost := k.Unsent(); n != 2_000 || lost != 1_000 {
			t.Errorf("without end: %d wait, %d are lost", n, lost)
		}
		f.set(func() { f.away = nil })
		time.Sleep(time.Hour)
		synctest.Wait()
		if n, lost := k.Unsent(); n != 0 || lost != 1_000 {
			t.Errorf("when it is back: %d wait, %d are lost", n, lost)
		}
		text := said.String()
		if strings.Count(text, "verdicts are being lost") != 1 || strings.Count(text, `msg="verdicts were lost while the server was away" count=1000`) != 1 {
			t.Errorf("the log says %s, want the losses told once, and how many once it is back", text)
		}
	})
}

// A verdict is on the disk at once, so that the agent may be killed, and told soon
// after, with those that came meanwhile.
func TestAVerdictIsWrittenDownBeforeItIsTold(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet()
		k, _ := keeper(t, f, dir)
		synctest.Wait()
		for i, c := range []string{"a", "b"} {
			k.Decided(run(digest(c)), admission.Verdict{Outcome: admission.Deny})
			synctest.Wait()
			if b, err := os.ReadFile(filepath.Join(dir, "unsent.jsonl")); err != nil || strings.Count(string(b), `"outcome":"deny"`) != i+1 {
				t.Errorf("on the disk is %s, %v", b, err)
			}
			time.Sleep(200 * time.Millisecond)
		}
		f.set(func() {
			if len(f.heard) != 0 {
				t.Errorf("heard %+v", f.heard)
			}
		})
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		f.set(func() {
			if len(f.heard) != 2 {
				t.Errorf("heard %+v", f.heard)
			}
		})
		if b, err := os.ReadFile(filepath.Join(dir, "unsent.jsonl")); err != nil || len(b) > 0 {
			t.Errorf("what was told is on the disk still: %s, %v", b, err)
		}
	})
}

// What passes is told later than what is refused, and many at once.
func TestVerdictsAreToldTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet()
		k, _ := keeper(t, f, t.TempDir())
		synctest.Wait()
		heard := func(want int) {
			t.Helper()
			synctest.Wait()
			f.set(func() {
				if len(f.heard) != want {
					t.Errorf("heard of %d verdicts, want %d", len(f.heard), want)
				}
			})
		}
		decided := func(o admission.Outcome) { k.Decided(run(digest("a")), admission.Verdict{Outcome: o}) }
		decided(admission.Allow)
		time.Sleep(1900 * time.Millisecond)
		decided(admission.Allow)
		heard(0)
		time.Sleep(200 * time.Millisecond)
		heard(2)
		decided(admission.Allow)
		time.Sleep(100 * time.Millisecond)
		decided(admission.Deny)
		time.Sleep(600 * time.Millisecond)
		heard(4)
		for range 100 {
			decided(admission.Allow)
		}
		heard(104)
	})
}

// While the server is away a verdict is written down all the same, in a file that does
// not grow without end, and what a kill left of it is taken up.
func TestVerdictsThatWaitOutliveAKill(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "unsent.jsonl")
	var written []byte
	synctest.Test(t, func(t *testing.T) {
		f := newFleet()
		f.away = fault.New(fault.Unavailable, "the server is away")
		k, _ := keeper(t, f, dir)
		synctest.Wait()
		lines := func() (n int) {
			t.Helper()
			synctest.Wait()
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			return bytes.Count(b, []byte("\n"))
		}
		for i := range 5_000 {
			k.Decided(run(digest("a")), admission.Verdict{})
			if i%500 > 0 {
				continue
			}
			if n := lines(); n < min(i+1, 2_000) || n > 4_000 {
				t.Fatalf("after %d verdicts the file has %d", i+1, n)
			}
		}
		last := run(digest("b"))
		last.Task.Containers[0].Command = []string{strings.Repeat("x", 300_000)} // no server takes that
		k.Decided(last, admission.Verdict{})
		k.Decided(run(digest("b")), admission.Verdict{})
		lines()
		var err error
		if written, err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	})
	// It was killed while it wrote one more.
	if err := os.WriteFile(file, append(written, written[:100]...), 0o600); err != nil {
		t.Fatal(err)
	}
	older, err := json.Marshal([]link.ReportedVerdict{{Request: run(digest("c"))}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"kill": nil, "older": older} {
		t.Run(name, func(t *testing.T) {
			dir, want := dir, 2_000 // of those that are there still
			if content != nil {
				dir, want = t.TempDir(), 1
				if err := os.WriteFile(filepath.Join(dir, "unsent.json"), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Test(t, func(t *testing.T) {
				f := newFleet()
				keeper(t, f, dir)
				time.Sleep(time.Second)
				synctest.Wait()
				f.set(func() {
					if len(f.heard) != want || want > 1 && f.heard[want-1].Request.ID != "r-bb" {
						t.Errorf("heard of %d verdicts, want %d", len(f.heard), want)
					}
				})
			})
			if _, err := os.Stat(filepath.Join(dir, "unsent.json")); err == nil {
				t.Error("the older file is there still: it would be told again")
			}
		})
	}
}

func TestDamagedFilesAreLeftOut(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet()
		k, stop := keeper(t, f, dir)
		synctest.Wait()
		want(t, k, digest("a"), admission.Allow)
		stop()
		f.set(func() { f.away = fault.New(fault.Unavailable, "away") })
	})
	files, err := filepath.Glob(filepath.Join(dir, "facts", "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("got files %v, %v", files, err)
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "facts", strings.Repeat("0", 32)+".json")
	for path, b := range map[string][]byte{files[0]: whole[:len(whole)/2], other: whole} { // half of one, and one under the name of another image
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFleet()
		f.away = fault.New(fault.Unavailable, "away")
		k, _ := keeper(t, f, dir)
		synctest.Wait()
		want(t, k, digest("a"), admission.Deny) // as if nobody knew it
	})
}
