package images_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/store"
)

// lacks says that the engine has no such image.
func (n *node) lacks(w link.ScanWish) {
	n.f.t.Helper()
	err := n.f.Inventory(context.Background(), link.Scanned{
		AgentID: n.id, Job: w.Job, ImageID: w.ImageID, Error: "open image: no such image", Missing: true,
	})
	if err != nil {
		n.f.t.Fatal(err)
	}
	synctest.Wait()
}

// exited is a container that has ended just now.
func exited(letter, image string) asset.Workload {
	w := container(letter, image)
	w.State = asset.Exited
	return w
}

func TestImageThatItsEngineLost(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		a := f.join(one, container("a", web))
		w := a.wish(1)
		f.report(one, exited("a", web))
		later(time.Second)
		a.lacks(w)
		if s := f.image(web).Scan; s.State != store.ScanGone {
			t.Errorf("at once: %+v, want gone", s)
		}
		later(3 * time.Hour)
		f.restart()
		a = f.join(one)
		later(time.Hour)
		a.wantAsked(0, "for what its engine does not have")
		if s := f.image(web).Scan; s.State != store.ScanGone {
			t.Errorf("hours later: %+v, want gone", s)
		}
		f.report(one, container("b", web))
		later(2 * time.Minute)
		if w := a.wish(1); w.ImageID != web {
			t.Errorf("asked for %s once a container of it runs", w.ImageID)
		}
	})
}

// TestImageThatItsEngineLostAndThatRuns: the engine may forget an image while a
// container of it runs on, and another engine may have it.
func TestImageThatItsEngineLostAndThatRuns(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		a := f.join(one, container("a", web))
		a.lacks(a.wish(1))
		if s := f.image(web).Scan; s.State != store.ScanWaiting || s.Error == "" {
			t.Errorf("while it runs: %+v, want waiting", s)
		}
		b := f.join(two, container("b", web))
		later(2 * time.Minute)
		b.answers(b.wish(1), django)
		if s := f.image(web).Scan; s.State != store.ScanDone {
			t.Errorf("scanned by another one: %+v", s)
		}
	})
}

func TestWaitForAnAnalysisThatNobodyHasAnyMore(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		says := func(analysis int) {
			later(30 * time.Second) // what an agent says of itself is stored so often
			f.analysis = analysis
			f.report(one)
		}
		f.analysis = scan.Analysis - 1
		a := f.join(one, container("a", web))
		a.answers(a.wish(1), django)
		says(scan.Analysis)
		later(2 * time.Minute)
		a.fails(a.wish(2), "no space", false)
		says(scan.Analysis - 1) // it went back to the older build
		if s := f.image(web).Scan; s.State != store.ScanWaiting {
			t.Fatalf("after the try that failed: %+v", s)
		}
		later(3 * time.Minute)
		if m := f.image(web); m.Scan.State != store.ScanDone || m.Scan.Error != "" || m.Counts.Fixable == 0 {
			t.Errorf("with an agent of the older analysis: %+v", m)
		}
		if st := f.status(); st.Outdated != 1 || st.Waiting != 0 {
			t.Errorf("status %+v, want one outdated image", st)
		}
		later(3 * time.Hour)
		a.wantAsked(2, "with the older analysis")
		says(scan.Analysis)
		later(2 * time.Minute)
		a.answers(a.wish(3), django)
		if s := f.image(web).Scan; s.Analysis != scan.Analysis {
			t.Errorf("with the newer one again: %+v", s)
		}
	})
}
