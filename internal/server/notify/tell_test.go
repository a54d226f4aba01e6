package notify_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/server/notify"
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

// TestTellTarget: what a rule of response wants somebody told is told, whatever the
// target's filter is, and each time it has no id.
func TestTellTarget(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.add("soc", notice.Filter{Severity: critical})
		n := incident("", finding.Low)
		for range 2 {
			if err := p.TellTarget(t.Context(), "soc", n); err != nil {
				t.Fatal(err)
			}
		}
		n.ID = "rule-1"
		for range 2 {
			if err := p.TellTarget(t.Context(), "soc", n); err != nil {
				t.Fatal(err)
			}
		}
		later(time.Hour)
		if all := p.takes(); len(all) != 1 || len(all[0].n.Notices) != 3 {
			t.Errorf("sent %+v, want three notices", all)
		}
		wantKind(t, p.TellTarget(t.Context(), "nobody", n), fault.NotFound)
	})
}

func TestHeadlineOfSeveralKinds(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		calm := finding.Unknown
		p.addTarget(notify.NewTarget{Name: "soc", Filter: notice.Filter{Kinds: notice.Kinds()}, Urgent: &calm})
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

// TestWhatIsUrgentWaitsForNothing: a grave incident is told within seconds, whatever
// the target's interval and quiet hours are; what is found in images waits.
func TestWhatIsUrgentWaitsForNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.addTarget(notify.NewTarget{
			Name: "soc", Interval: time.Hour, Filter: notice.Filter{Kinds: notice.Kinds()}, Schedule: notice.Schedule{Quiet: []string{"00:00-06:00"}},
		})
		p.image(1, "")
		p.compared(1, found("CVE-1", critical)) // it is midnight
		p.tells(incident("1", finding.Medium))
		later(5 * time.Hour)
		if got := p.takes(); len(got) != 0 {
			t.Fatalf("in quiet hours it was told %+v", got)
		}
		at := time.Now()
		p.tells(incident("2", high))
		later(5 * time.Second)
		got := p.takes()
		if len(got) != 1 || got[0].at.Sub(at) > 3*time.Second || len(got[0].n.Notices) != 4 {
			t.Fatalf("of what is urgent it was told %+v", got)
		}
		p.tells(incident("3", high))
		p.tells(incident("4", finding.Low))
		later(11 * time.Second)
		if got := p.takes(); len(got) != 1 || len(got[0].n.Notices) != 2 {
			t.Errorf("of the next it was told %+v", got)
		}
		p.tells(incident("5", finding.Low))
		later(45 * time.Minute)
		if got := p.takes(); len(got) != 0 {
			t.Errorf("in quiet hours again it was told %+v", got)
		}
		later(30 * time.Minute)
		if got := p.takes(); len(got) != 1 || got[0].at.Hour() != 6 {
			t.Errorf("after them it was told %+v", got)
		}
	})
}

func TestDigest(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.addTarget(notify.NewTarget{
			Name: "people", Filter: notice.Filter{Kinds: notice.Kinds()}, Schedule: notice.Schedule{At: []string{"08:00"}, Zone: "Europe/Vienna"},
			Template: notice.Template{Title: "{{.Count}} since yesterday", Body: "{{range .Notices}}{{.Owner}}: {{.Title}}\n{{end}}"},
		})
		for i := range 5 {
			p.tells(incident(fmt.Sprint(i), finding.Low))
			later(time.Hour)
		}
		later(time.Hour + 59*time.Minute + 58*time.Second)
		p.tells(incident("late", finding.Low))
		later(time.Minute)
		got := p.takes()
		if len(got) != 1 || got[0].at.UTC().Format("15:04") != "07:00" || len(got[0].n.Notices) != 6 {
			t.Fatalf("told %+v, want one at eight in Vienna", got)
		}
		if n := got[0].notification(t); n.Title != "6 since yesterday" || !strings.HasPrefix(n.Text, ": shell over the network in prod/web/app\n") {
			t.Errorf("title %q, text %q", n.Title, n.Text)
		}
	})
}

func TestPreview(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		title, text, err := p.Preview(operator, notice.Template{Title: "{{.Severity}}: {{.Title}}"}, "")
		if err != nil || title != "high: sample: shell over the network in prod/shop/web" || !strings.Contains(text, "Rule: reverse-shell\n") {
			t.Errorf("got %q, %q, %v", title, text, err)
		}
		_, _, err = p.Preview(viewer, notice.Template{}, "")
		wantKind(t, err, fault.Denied)
		_, _, err = p.Preview(operator, notice.Template{Body: "{{.Nothing}}"}, "")
		wantKind(t, err, fault.Invalid)
		_, _, err = p.Preview(operator, notice.Template{}, "nothing")
		wantKind(t, err, fault.Invalid)
	})
}

func TestTargetsThatAreRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		for name, n := range map[string]notify.NewTarget{
			"template": {Template: notice.Template{Body: "{{.Nothing}}"}}, "schedule": {Schedule: notice.Schedule{At: []string{"25:00"}}},
			"owners": {Filter: notice.Filter{Owners: []string{""}}}, "clusters": {Filter: notice.Filter{Clusters: []string{"a b"}}},
		} {
			n.Name, n.Destination = "x", notice.Destination{Type: notice.Webhook, URL: "https://x"}
			_, _, err := p.Add(t.Context(), operator, n)
			wantKind(t, err, fault.Invalid)
			if err != nil && !strings.Contains(err.Error(), name[:len(name)-1]) && name != "schedule" {
				t.Errorf("%s: %v", name, err)
			}
		}
		t1 := p.add("soc", notice.Filter{})
		quiet, body, owners := []string{"22:00-06:00"}, "{{.Title}}", []string{"shop team"}
		if _, _, err := p.Edit(t.Context(), operator, t1.ID, notify.TargetChange{Quiet: &quiet, Body: &body, Owners: &owners}); err != nil {
			t.Fatal(err)
		}
		all, err := p.Targets(t.Context(), viewer)
		if err != nil || all[0].Schedule.Quiet[0] != quiet[0] || all[0].Schedule.Urgent != high || all[0].Template.Body != body || all[0].Filter.Owners[0] != "shop team" {
			t.Errorf("got %+v, %v", all, err)
		}
	})
}
