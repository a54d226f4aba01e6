package respond_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/response"
	server "github.com/castellan-security/castellan/internal/server/respond"
)

// quarantines has otto quarantine web, and returns the deed's id.
func (f *fleet) quarantines() string {
	f.t.Helper()
	r, err := f.svc.Ask(f.t.Context(), otto, server.Ask{Kind: response.Quarantine, Workload: web, Freeze: true, Reason: "miner"})
	if err != nil {
		f.t.Fatal(err)
	}
	return r.Deed.ID
}

// tells has the agent tell what it holds, some time after it started.
func (f *fleet) tells(looked time.Time, held ...asset.Held) {
	f.svc.Holds(f.t.Context(), &asset.Agent{ID: host, Started: start.Add(time.Minute), Quarantine: &asset.Quarantine{Looked: looked, Held: held}})
	if err := f.parts[server.PartStanding]; err != nil {
		f.t.Error(err)
	}
}

// listed writes what is listed, the newest first: who did what, how it stands, and what
// takes it back.
func (f *fleet) listed() (out []string) {
	f.t.Helper()
	all, err := f.svc.Responses(f.t.Context(), otto, "")
	if err != nil {
		f.t.Fatal(err)
	}
	for i := range all {
		r := &all[i]
		line := fmt.Sprintf("%s %s %s", r.Deed.By, r.Deed.Kind, r.Answer.State)
		if r.Answer.Holds() {
			line += ", undo: " + string(r.Answer.Undo)
		}
		if r.Standing() {
			line += ", stands"
		}
		out = append(out, line)
	}
	return out
}

func TestWhatStandsIsKnownAfterARestart(t *testing.T) {
	f := open(t)
	id := f.quarantines()
	f.restart()
	same(t, "after a restart", f.listed(), []string{"user:otto quarantine done, undo: release, stands"})
	r, err := f.svc.Response(t.Context(), otto, id)
	if err != nil || r.Deed.Reason != "miner" || !r.Deed.Freeze || r.Group != "shop/web/web" || r.Name != "web-1" {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := f.svc.Wait(t.Context(), otto, id); err != nil { // it does not wait for what has ended
		t.Error(err)
	}
	f.now = f.now.Add(time.Minute)
	if _, err := f.svc.Ask(t.Context(), otto, server.Ask{Kind: response.Release, Workload: web}); err != nil {
		t.Fatal(err)
	}
	undone := []string{"user:otto release done", "user:otto quarantine undone"}
	same(t, "after the release", f.listed(), undone)
	f.restart()
	same(t, "after another restart", f.listed(), undone)
}

// A deed that was under way when the server ended is answered to the next one, or has
// failed when nobody does.
func TestWhatWasUnderWayAtARestart(t *testing.T) {
	f := open(t)
	f.silent = true
	id := f.quarantines()
	f.restart()
	same(t, "after a restart", f.listed(), []string{"user:otto quarantine asked, stands"})
	if err := f.svc.Responded(t.Context(), link.Responded{AgentID: host, Answer: response.Answer{ID: id, State: response.Done, Undo: response.Release}}); err != nil {
		t.Fatal(err)
	}
	same(t, "after the answer", f.listed(), []string{"user:otto quarantine done, undo: release, stands"})
	f.quarantines()
	f.restart()
	f.now = f.now.Add(time.Hour)
	same(t, "an hour later", f.listed(), []string{"user:otto quarantine failed", "user:otto quarantine done, undo: release, stands"})
}

func TestWhatAgentsHoldIsWhatIsListed(t *testing.T) {
	held := func(deed, by string) asset.Held {
		return asset.Held{WorkloadID: web, Freeze: true, By: by, Reason: "case 42", At: start, Deed: deed}
	}
	after := start.Add(2 * time.Minute)
	for _, tc := range []struct {
		name string
		do   func(f *fleet)
		want []string
	}{
		{"as is known", func(f *fleet) {
			f.tells(after, held(f.quarantines(), "user:otto"))
		}, []string{"user:otto quarantine done, undo: release, stands"}},
		{"on the host itself", func(f *fleet) {
			f.tells(after, held("HOST", "host:root"))
			f.tells(after.Add(time.Second), held("HOST", "host:root"))
		}, []string{"host:root quarantine done, undo: release, stands"}},
		{"nobody knows by whom", func(f *fleet) {
			f.tells(after, held("FOUND", ""))
		}, []string{"unknown quarantine done, undo: release, stands"}},
		{"of which the server lost its data", func(f *fleet) {
			id := f.quarantines()
			f.deeds = nil
			f.restart()
			f.tells(after, held(id, "user:otto"))
			f.restart()
		}, []string{"user:otto quarantine done, undo: release, stands"}},
		{"by an agent that was killed before it could answer", func(f *fleet) {
			f.silent = true
			f.tells(after, held(f.quarantines(), "user:otto"))
		}, []string{"user:otto quarantine done, undo: release, stands"}},
		{"before the answer", func(f *fleet) {
			f.silent = true
			h := held(f.quarantines(), "user:otto")
			h.At = after // since the agent started
			f.tells(after.Add(time.Second), h)
		}, []string{"user:otto quarantine asked, stands"}},
		{"not any more", func(f *fleet) {
			f.quarantines()
			f.tells(after)
		}, []string{"user:otto quarantine over"}},
		{"not any more, told at another start", func(f *fleet) {
			f.quarantines()
			f.restart()
			f.tells(after)
			f.restart()
		}, []string{"user:otto quarantine over"}},
		{"again, of one that was over", func(f *fleet) {
			id := f.quarantines()
			f.tells(after)
			f.tells(after.Add(time.Second), held(id, "user:otto"))
		}, []string{"user:otto quarantine done, undo: release, stands"}},
		{"looked at before it was done", func(f *fleet) {
			f.quarantines()
			f.tells(start.Add(-time.Second))
		}, []string{"user:otto quarantine done, undo: release, stands"}},
		{"looked at before it was released", func(f *fleet) {
			id := f.quarantines()
			f.now = f.now.Add(time.Hour)
			if _, err := f.svc.Ask(f.t.Context(), otto, server.Ask{Kind: response.Release, Workload: web}); err != nil {
				f.t.Fatal(err)
			}
			f.tells(after, held(id, "user:otto"))
		}, []string{"user:otto release done", "user:otto quarantine undone"}},
		{"released, which its agent tells before the answer", func(f *fleet) {
			f.quarantines()
			f.silent = true
			r, err := f.svc.Ask(f.t.Context(), otto, server.Ask{Kind: response.Release, Workload: web})
			if err != nil {
				f.t.Fatal(err)
			}
			f.tells(after)
			a := link.Responded{AgentID: host, Answer: response.Answer{ID: r.Deed.ID, State: response.Done}}
			if err := f.svc.Responded(f.t.Context(), a); err != nil {
				f.t.Fatal(err)
			}
			f.tells(after)
		}, []string{"user:otto release done", "user:otto quarantine undone"}},
		{"released, which is never answered", func(f *fleet) {
			f.quarantines()
			f.silent = true
			if _, err := f.svc.Ask(f.t.Context(), otto, server.Ask{Kind: response.Release, Workload: web}); err != nil {
				f.t.Fatal(err)
			}
			f.tells(after)
			f.now = f.now.Add(time.Hour)
			f.tells(after) // not looked at since
		}, []string{"user:otto release failed", "user:otto quarantine over"}},
		{"of another agent", func(f *fleet) {
			a := &asset.Agent{ID: "OTHERAGENT", Quarantine: &asset.Quarantine{Looked: after, Held: []asset.Held{held("X", "user:otto")}}}
			f.svc.Holds(f.t.Context(), a)
		}, nil},
		{"an agent of before", func(f *fleet) {
			f.quarantines()
			f.svc.Holds(f.t.Context(), &asset.Agent{ID: host})
		}, []string{"user:otto quarantine done, undo: release, stands"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := open(t)
			f.answer = func(d response.Deed) response.Answer {
				return response.Answer{State: response.Done, Undo: d.Kind.Undo(), Ended: f.now}
			}
			tc.do(f)
			same(t, "listed", f.listed(), tc.want)
		})
	}
}

// What a rule is to undo and has ended is not tried to be undone, and the audit log has
// what was found and what ended.
func TestWhatEndedIsNotUndone(t *testing.T) {
	f := open(t)
	f.set("  - {id: m, title: m, owner: o, on: {themes: [miner]}, do: [quarantine], until: 10m}\n")
	f.happens(web)
	same(t, "listed", f.listed(), []string{"rule:m quarantine done, undo: release, stands"})
	f.gone = true
	f.now = f.now.Add(time.Minute)
	f.tells(f.now)
	same(t, "listed when its container is gone", f.listed(), []string{"rule:m quarantine over"})
	r, err := f.svc.Responses(t.Context(), otto, web)
	if err != nil || !strings.Contains(strings.Join(r[0].Answer.Did, " "), "container, which is gone") {
		t.Errorf("got %+v, %v", r, err)
	}
	f.did, f.notices = nil, nil
	f.now = f.now.Add(time.Hour)
	f.svc.Undo(t.Context())
	if len(f.did) != 0 || len(f.notices) != 0 {
		t.Errorf("did %q, told %q", f.did, f.heard())
	}
	if !slices.Contains(f.audit, "agent:"+host+" respond.quarantine over") {
		t.Errorf("the audit log has %q", f.audit)
	}
	f.gone = false
	f.tells(f.now, asset.Held{WorkloadID: web, By: "host:root", At: f.now, Deed: "HOST"})
	if !slices.Contains(f.audit, "agent:"+host+" respond.quarantine found") {
		t.Errorf("the audit log has %q", f.audit)
	}
}

// Half of a quarantine stands, and is undone with the whole.
func TestHalfAQuarantineIsUndone(t *testing.T) {
	f := open(t)
	f.answer = func(d response.Deed) response.Answer {
		if d.Kind == response.Quarantine {
			return response.Answer{State: response.Failed, Did: []string{"froze 3 processes"}, Error: "no cgroup", Undo: response.Release}
		}
		return response.Answer{State: response.Done}
	}
	f.quarantines()
	same(t, "listed", f.listed(), []string{"user:otto quarantine failed, undo: release, stands"})
	if _, err := f.svc.Ask(t.Context(), otto, server.Ask{Kind: response.Release, Workload: web}); err != nil {
		t.Fatal(err)
	}
	same(t, "listed after the release", f.listed(), []string{"user:otto release done", "user:otto quarantine undone"})
}

// What can't be kept is not done.
func TestADeedThatCanNotBeKeptIsNotDone(t *testing.T) {
	f := open(t)
	f.unkept = fault.New(fault.Exhausted, "the disk is full")
	if _, err := f.svc.Ask(t.Context(), otto, server.Ask{Kind: response.Quarantine, Workload: web}); !fault.Is(err, fault.Exhausted) {
		t.Errorf("got %v, want that the disk is full", err)
	}
	if len(f.did) != 0 || len(f.listed()) != 0 {
		t.Errorf("did %q, listed %q", f.did, f.listed())
	}
}
