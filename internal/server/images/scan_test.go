package images_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/store"
)

func TestImageOfAWorkloadIsScannedAndCompared(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		changes, err := f.Changed(t.Context(), web)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		a := f.join(one, container("a", web))
		w := a.wish(1)
		if w.ImageID != web || w.Job == "" || w.Reference != "shop/1:1" || !w.Until.Equal(began.Add(lease)) {
			t.Errorf("wish %+v", w)
		}
		if s := f.image(web).Scan; s.State != store.ScanRunning || s.Agent != one || s.Tries != 1 {
			t.Errorf("while it runs: %+v", s)
		}
		later(time.Second)
		a.answers(w, django, xnet, openssl, unknown)
		m := f.image(web)
		if m.Scan.State != store.ScanDone || m.Packages != 4 || m.Layers != 3 || m.OS.ID != "debian" || m.Scan.Gaps != 1 {
			t.Errorf("after it: %+v", m)
		}
		if m.Scan.Database == "" || m.Scan.Database != f.status().Database.Generation || !m.Scan.Matched.Equal(time.Now()) {
			t.Errorf("compared: %+v", m.Scan)
		}
		found := f.found(store.VulnerabilityQuery{ImageID: web})
		for _, want := range []string{"CVE-2019-14234 django", "CVE-2023-39325 golang.org/x/net", "CVE-2021-3711 libssl1.1"} {
			if !slices.Contains(found, want) {
				t.Errorf("%s is not among the %d findings %v", want, len(found), found)
			}
		}
		c := m.Counts
		if sum := c.Critical + c.High + c.Medium + c.Low + c.Negligible + c.Unknown; sum != len(found) || c.Fixable == 0 || c.InUse != 0 {
			t.Errorf("counts %+v of %d findings", c, len(found))
		}
		select {
		case <-changes:
		default:
			t.Error("nobody was told")
		}
		if st := f.status(); st.Done != 1 || st.Waiting+st.Running+st.Failed+st.Unmatched != 0 || !st.Database.Seeded || len(st.Database.Sources) == 0 {
			t.Errorf("status %+v", st)
		}
		f.report(one, container("b", web))
		later(time.Hour)
		a.wish(1) // nobody asks for what is known
	})
}

func TestRestartInTheMiddle(t *testing.T) {
	for _, answer := range []string{"before it reconnects", "after it reconnects"} {
		t.Run(answer, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *fleet) {
				w := f.join(one, container("a", web)).wish(1)
				later(time.Minute)
				f.restart()
				if answer == "before it reconnects" {
					if err := f.answer(one, w, django); err != nil {
						t.Fatal(err)
					}
				}
				a := f.join(one)
				if answer == "after it reconnects" {
					if again := a.wish(1); !cmp.Equal(again, w) {
						t.Errorf("told %+v, want the same as before %+v", again, w)
					}
					a.answers(w, django)
				}
				if m := f.image(web); m.Scan.State != store.ScanDone || m.Counts.Fixable == 0 {
					t.Errorf("got %+v", m)
				}
				later(time.Hour)
				if n := len(a.asked()); answer == "before it reconnects" && n != 0 {
					t.Errorf("asked %d times for what it had answered", n)
				}
			})
		})
	}
}

func TestInventoryIsComparedAfterARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		w := f.join(one, container("a", web)).wish(1)
		f.stop() // the loop ends; requests are still answered
		<-f.ended
		if err := f.answer(one, w, django); err != nil {
			t.Fatal(err)
		}
		if m := f.image(web); m.Scan.State != store.ScanDone || !m.Scan.Matched.IsZero() {
			t.Fatalf("before: %+v", m.Scan)
		}
		f.restart()
		if m := f.image(web); m.Scan.Matched.IsZero() || m.Counts.Fixable == 0 {
			t.Errorf("after: %+v", m)
		}
	})
}

func TestWorkloadsOfBeforeAreFound(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		f.stop() // told of, and not made known before the end
		<-f.ended
		f.report(one, container("a", web))
		f.restart()
		if w := f.join(one).wish(1); w.ImageID != web {
			t.Errorf("asked for %s", w.ImageID)
		}
	})
}

func TestAgentThatDies(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		a := f.join(one, container("a", web))
		b := f.join(two, container("b", web))
		if len(b.asked()) != 0 {
			t.Fatal("both were asked")
		}
		w := a.wish(1)
		a.leave()
		later(20 * time.Second)
		b.wantAsked(0, "while the other one may only be out of reach")
		later(40 * time.Second)
		other := b.wish(1)
		if other.ImageID != web || other.Job == w.Job {
			t.Errorf("the second one was asked %+v", other)
		}
		wantKind(t, f.answer(one, w, django), fault.Conflict) // it was not dead after all
		if s := f.image(web).Scan; s.State != store.ScanRunning || s.Agent != two || s.Tries != 2 {
			t.Errorf("after the late answer: %+v", s)
		}
		b.answers(other, django)
		if s := f.image(web).Scan; s.State != store.ScanDone {
			t.Errorf("in the end: %+v", s)
		}
		wantKind(t, f.answer(two, other, django), fault.Conflict) // twice
	})
}

// TestAgentThatIsOutOfReach: while nobody else has the image, its scan stays its
// own; its answer is good whenever it comes within its time.
func TestAgentThatIsOutOfReach(t *testing.T) {
	for _, tc := range []struct {
		name string
		back time.Duration // joined again after that, 0: only the answer comes
	}{
		{"its answer comes late", 0}, {"it is back before", 2 * time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *fleet) {
				began := time.Now()
				a := f.join(one, container("a", web))
				w := a.wish(1)
				a.leave()
				later(2 * time.Minute)
				if s := f.image(web).Scan; s.State != store.ScanRunning || s.Job != w.Job || s.Next.After(time.Now()) {
					t.Errorf("while it is away: %+v", s)
				}
				if tc.back > 0 {
					f.join(one)
					later(time.Minute)
					if s := f.image(web).Scan; s.Job != w.Job || !s.Next.Equal(began.Add(lease)) {
						t.Errorf("when it is back: %+v", s)
					}
					b := f.join(two, container("b", web))
					b.wantAsked(0, "when it is back")
				}
				if err := f.answer(one, w, django); err != nil {
					t.Fatal(err)
				}
				if s := f.image(web).Scan; s.State != store.ScanDone || s.Tries != 0 {
					t.Errorf("after its answer: %+v", s)
				}
			})
		})
	}
}

// TestAgentThatHangs: it is alive and does not answer.
func TestAgentThatHangs(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		f.join(one, container("a", web)).wish(1)
		b := f.join(two, container("b", web))
		later(lease)
		b.wantAsked(0, "before the other one's time was over")
		later(5 * time.Minute)
		b.wantAsked(1, "after it")
	})
}

func TestImageIsGoneBeforeItIsScanned(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		ended := func(letter string) asset.Workload {
			w := container(letter, web)
			at := time.Now()
			w.State, w.Finished = asset.Exited, &at
			return w
		}
		f.report(one, container("a", web)) // never listens
		later(time.Hour)
		f.report(one, ended("a"))
		later(23 * time.Hour)
		if s := f.image(web).Scan; s.State != store.ScanWaiting {
			t.Errorf("within a day: %+v", s)
		}
		changes, err := f.Changed(t.Context(), web)
		if err != nil {
			t.Fatal(err)
		}
		later(2 * time.Hour)
		if st := f.status(); f.image(web).Scan.State != store.ScanGone || st.Gone != 1 || st.Waiting != 0 {
			t.Errorf("after it: %+v", st)
		}
		select {
		case <-changes:
		default:
			t.Error("nobody was told")
		}
		a := f.join(one)
		later(2 * time.Minute)
		a.wantAsked(0, "for what it has no more")
		a.leave()
		b := f.join(two, container("b", web))
		later(2 * time.Minute)
		b.answers(b.wish(1), django)
		if m := f.image(web); m.Scan.State != store.ScanDone || m.Counts.Fixable == 0 {
			t.Errorf("when another has it: %+v", m)
		}
	})
}

// TestImageOfAHostThatIsGone: its containers run for ever, as far as anybody can
// know.
func TestImageOfAHostThatIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		f.report(one, container("a", web))
		later(25 * time.Hour)
		if s := f.image(web).Scan; s.State != store.ScanGone {
			t.Errorf("its host is silent for a day: %+v", s)
		}
		f.restart()
		later(2 * time.Minute)
		if s := f.image(web).Scan; s.State != store.ScanGone {
			t.Errorf("a restart of the server brings it back: %+v", s)
		}
		a := f.join(one)
		later(2 * time.Minute)
		a.answers(a.wish(1), django)
	})
}

func TestWorkIsSpreadAndOneAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		third := imageID("3")
		a := f.join(one, container("a", web), container("b", worker), container("c", third))
		b := f.join(two, container("d", web), container("e", worker), container("f", third))
		wa, wb := a.wish(1), b.wish(1)
		if wa.ImageID == wb.ImageID || wa.Job == wb.Job {
			t.Errorf("both were asked for %s", wa.ImageID)
		}
		a.answers(wa, django)
		if got := a.wish(2).ImageID; got == wa.ImageID || got == wb.ImageID {
			t.Errorf("then %s", got)
		}
		b.wantAsked(1, "while it was at it")
		b.answers(wb, django)
		a.answers(a.wish(2), django)
		if st := f.status(); st.Done != 3 || st.Unmatched != 0 {
			t.Errorf("status %+v", st)
		}
	})
}

func TestOnlyWhoCanAndListensIsAsked(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		f.report(one, container("a", web)) // does not listen
		b := f.join(two, container("b", worker))
		if w := b.wish(1); w.ImageID != worker {
			t.Errorf("asked for an image that it does not have: %s", w.ImageID)
		}
		if s := f.image(web).Scan; s.State != store.ScanWaiting {
			t.Errorf("of who does not listen: %+v", s)
		}
		if w := f.join(one).wish(1); w.ImageID != web {
			t.Errorf("when it listens: %+v", w)
		}
	})
}

func TestScansThatFail(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		a := f.join(one, container("a", web))
		a.fails(a.wish(1), "no space", false)
		s := f.image(web).Scan
		if s.State != store.ScanWaiting || s.Error != "no space; free some space" || !s.Next.Equal(time.Now().Add(time.Minute)) {
			t.Errorf("after the first try: %+v", s)
		}
		for try := 2; try <= 5; try++ {
			for range 4 * 60 {
				if len(a.asked()) < try {
					later(time.Minute)
				}
			}
			a.fails(a.wish(try), "no space", false)
		}
		if s := f.image(web).Scan; s.State != store.ScanFailed || s.Tries != 5 {
			t.Errorf("after the fifth try: %+v", s)
		}
		later(24 * time.Hour)
		a.wish(5)
		wantKind(t, f.Rescan(t.Context(), viewer, web), fault.Denied)
		wantKind(t, f.Rescan(t.Context(), operator, imageID("9")), fault.NotFound)
		if err := f.Rescan(t.Context(), operator, web); err != nil {
			t.Fatal(err)
		}
		later(0)
		a.fails(a.wish(6), "no such image", true)
		if s := f.image(web).Scan; s.State != store.ScanFailed || s.Tries != 1 {
			t.Errorf("after one that is final: %+v", s)
		}
	})
}

func TestRescanTakesTheScanFromWhoIsAtIt(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		a := f.join(one, container("a", web))
		w := a.wish(1)
		if err := f.Rescan(t.Context(), operator, web); err != nil {
			t.Fatal(err)
		}
		later(0)
		wantKind(t, f.answer(one, w, django), fault.Conflict)
		a.answers(a.wish(2), django)
		if s := f.image(web).Scan; s.State != store.ScanDone {
			t.Errorf("got %+v", s)
		}
	})
}

func TestAnswersThatAreNone(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		a := f.join(one, container("a", web))
		w := a.wish(1)
		wantKind(t, f.answer(two, w, django), fault.Conflict)
		other := w
		other.Job = "another"
		wantKind(t, f.answer(one, other, django), fault.Conflict)
		other = w
		other.ImageID = worker
		wantKind(t, f.answer(one, other, django), fault.Conflict)
		other.ImageID = "web"
		wantKind(t, f.answer(one, other, django), fault.Invalid)
		if s := f.image(web).Scan; s.State != store.ScanRunning {
			t.Fatalf("after answers of others: %+v", s)
		}
		wantKind(t, f.garbage(one, w), fault.Invalid)
		if s := f.image(web).Scan; s.State != store.ScanWaiting || s.Error == "" {
			t.Errorf("after garbage: %+v", s)
		}
	})
}

func TestOlderAnalysisIsMadeAnew(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		f.analysis = scan.Analysis - 1
		a := f.join(one, container("a", web))
		a.answers(a.wish(1), django)
		if st := f.status(); st.Outdated != 1 || st.Done != 1 || st.Waiting != 0 {
			t.Errorf("scanned by an older one: %+v", st)
		}
		for range 2 {
			f.restart()
			a = f.join(one)
			later(time.Hour)
			a.wantAsked(0, "of the older one again")
		}
		f.analysis = scan.Analysis
		a = f.join(one, container("b", web)) // it was upgraded
		later(2 * time.Minute)
		w := a.wish(1)
		if m := f.image(web); m.Counts.Fixable == 0 {
			t.Errorf("while it is scanned again: %+v", m)
		}
		a.answers(w, xnet)
		if m := f.image(web); m.Scan.State != store.ScanDone || m.Packages != 1 || m.Counts.Fixable == 0 {
			t.Errorf("got %+v", m)
		}
		f.restart()
		a = f.join(one)
		later(time.Hour)
		a.wantAsked(0, "for what is new")
	})
}

// TestAgentThatDoesNotSayItsAnalysis: an old one is not asked for what is there.
func TestAgentThatDoesNotSayItsAnalysis(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		f.analysis = 0
		a := f.join(one, container("a", web))
		a.answers(a.wish(1), django)
		if err := f.Rescan(t.Context(), operator, web); err != nil {
			t.Fatal(err)
		}
		later(0)
		a.answers(a.wish(2), django) // somebody wanted it
		later(time.Hour)
		a.wantAsked(2, "by itself")
	})
}

func TestFewScansRunAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		var nodes []*node
		for i := range 20 {
			c := string(rune('a' + i))
			w := container("0", web)
			w.ID, w.Image.ID = fmt.Sprintf("%064x", i), fmt.Sprintf("sha256:%064x", i)
			nodes = append(nodes, f.join("AGENT-"+strings.Repeat(c, 8), w))
		}
		asked := func() (n int) {
			for _, n2 := range nodes {
				n += len(n2.asked())
			}
			return n
		}
		if n := asked(); n != 16 {
			t.Errorf("%d at once, want 16", n)
		}
		for _, n := range nodes {
			if len(n.asked()) == 1 {
				n.answers(n.wish(1), django)
				break
			}
		}
		if n := asked(); n != 17 {
			t.Errorf("%d after one has ended, want 17", n)
		}
	})
}
