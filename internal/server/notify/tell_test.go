package notify_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/store"
)

// incident is a notice as incidents make them.
func incident(id string, s finding.Severity) notice.Notice {
	return notice.Notice{
		Kind: notice.Incident, ID: id, Subject: "incident-7", Time: time.Now().UTC(), Severity: s, Title: "shell over the network in prod/web/app",
		Link: "/incidents/7", Rule: "reverse-shell", Workload: &notice.Workload{ID: "c1", Group: "prod/web/app", Cluster: "prod"},
	}
}

func (p *post) tells(n notice.Notice) {
	p.t.Helper()
	if err := p.Tell(p.t.Context(), n); err != nil {
		p.t.Fatal(err)
	}
}

func TestIncidentIsToldOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		if err := p.st.PutOwners(t.Context(), asset.Owners{{Group: "prod/**", Owner: asset.Owner{Name: "shop"}}}); err != nil {
			t.Fatal(err)
		}
		p.add("soc", notice.Filter{Kinds: []notice.Kind{notice.Incident}, Severity: high, Clusters: []string{"prod"}, Owners: []string{"shop"}})
		p.add("others", notice.Filter{Kinds: []notice.Kind{notice.Incident}, Owners: []string{"payments"}})
		p.add("images", notice.Filter{})
		n := incident("7-1", high)
		p.tells(n)
		p.tells(n)
		p.tells(incident("8-1", finding.Low))
		p.restart()
		p.tells(n)
		later(time.Minute)
		all := p.takes()
		if len(all) != 1 || all[0].d.URL != "https://soc" {
			t.Fatalf("sent %+v, want one to soc", all)
		}
		want := n
		want.Link, want.Owner = "https://c/incidents/7", "shop"
		if diff := cmp.Diff(all[0].notification(t).Notices, []notice.Notice{want}); diff != "" {
			t.Errorf("notices (-got +want):\n%s", diff)
		}
		p.tells(incident("7-2", critical)) // it is news of the same
		later(time.Hour)
		if all := p.takes(); len(all) != 1 || all[0].n.Severity != critical {
			t.Errorf("of the change %+v was sent", all)
		}
	})
}

func TestWhatCannotBeTold(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		for name, change := range map[string]func(*notice.Notice){
			"no id":            func(n *notice.Notice) { n.ID = "" },
			"no title":         func(n *notice.Notice) { n.Title = "" },
			"no such severity": func(n *notice.Notice) { n.Severity = 99 },
			"of a comparison":  func(n *notice.Notice) { n.Kind = notice.ImageVulnerable },
		} {
			n := incident("1", high)
			change(&n)
			if err := p.Tell(t.Context(), n); !fault.Is(err, fault.Invalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestHeadlineOfSeveralKinds(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.add("soc", notice.Filter{Kinds: notice.Kinds()})
		for i := range 3 {
			p.tells(incident(fmt.Sprint(i), high))
		}
		v := incident("v", critical)
		v.Kind, v.Title = notice.Violation, "sh was started in prod/web/app"
		p.tells(v)
		later(time.Minute)
		all := p.takes()
		if len(all) != 1 || all[0].n.Title != "3 incidents, 1 violation of a profile; 1 critical" || all[0].n.Link != "https://c" {
			t.Errorf("sent %+v", all)
		}
	})
}

func TestRefusedIsADeadLetterAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.add("soc", notice.Filter{Kinds: []notice.Kind{notice.Incident}})
		p.fails(&notice.Refused{Err: errAway})
		p.tells(incident("1", high))
		later(time.Minute)
		if all := p.takes(); len(all) != 1 || !all[0].failed {
			t.Fatalf("sent %+v, want one try", all)
		}
		later(100 * time.Hour)
		if all := p.takes(); len(all) != 0 {
			t.Errorf("it was tried again: %+v", all)
		}
		if s := p.state(); s.Dead != 1 || s.Lost != 0 || s.Undelivered {
			t.Errorf("state %+v", s)
		}
	})
}

func TestDeadLettersAreRetriedOrDropped(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.add("soc", notice.Filter{Kinds: []notice.Kind{notice.Incident}})
		p.fails(&notice.Refused{Err: errAway})
		for i := range 2 {
			p.tells(incident(fmt.Sprint(i), high))
			later(time.Hour)
		}
		all, err := p.Dead(t.Context(), viewer, 0)
		if err != nil || len(all) != 2 || all[0].Reason != "soc answered 500" || all[0].Remedy != "look at its log" || all[0].Name != "soc" || all[0].Tries != 1 {
			t.Fatalf("dead letters %+v, %v", all, err)
		}
		_, err = p.RetryDead(t.Context(), viewer, store.DeadQuery{})
		wantKind(t, err, fault.Denied)
		_, err = p.RetryDead(t.Context(), operator, store.DeadQuery{ID: "none"})
		wantKind(t, err, fault.NotFound)
		_, err = p.DropDead(t.Context(), operator, store.DeadQuery{Target: 99})
		wantKind(t, err, fault.NotFound)
		if n, err := p.DropDead(t.Context(), operator, store.DeadQuery{ID: all[0].ID}); n != 1 || err != nil {
			t.Errorf("dropped %d, %v", n, err)
		}
		p.takes()
		p.fails(nil)
		if n, err := p.RetryDead(t.Context(), operator, store.DeadQuery{}); n != 1 || err != nil {
			t.Errorf("retried %d, %v", n, err)
		}
		later(time.Second)
		if sent := p.takes(); len(sent) != 1 || sent[0].n.ID != all[1].ID {
			t.Errorf("sent %+v, want the one with its id", sent)
		}
		if s := p.state(); s.Dead != 0 || s.Error != "" {
			t.Errorf("state %+v", s)
		}
	})
}
