package storetest

import (
	"fmt"
	"math"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/store"
)

func (k *kit) target(name string) notice.Target {
	k.Helper()
	t, err := k.st.PutNotifyTarget(k.ctx, notice.Target{
		Name: name, Type: notice.Webhook, Address: "https://x", Signed: true, Interval: time.Minute, By: "user:anna", Created: base(),
		Filter: notice.Filter{Severity: finding.High, Repositories: []string{"a/*"}}, Sealed: []byte{1, 2, 3},
	})
	k.ok(err)
	return t
}

func (k *kit) targets() []notice.Target {
	k.Helper()
	all, err := k.st.NotifyTargets(k.ctx)
	k.ok(err)
	return all
}

// state returns that of the only target.
func (k *kit) state() notice.State {
	k.Helper()
	all := k.targets()
	if len(all) != 1 {
		k.Fatalf("%d targets, want one", len(all))
	}
	return all[0].State
}

func (k *kit) news() []store.ImageNews {
	k.Helper()
	all, err := k.st.News(k.ctx, 100)
	k.ok(err)
	return all
}

// toldOf is news in short: reason and id of each finding.
func toldOf(n store.ImageNews) (all []string) {
	for _, f := range n.Findings {
		all = append(all, string(f.Reason)+" "+f.ID)
	}
	return all
}

// wantNews takes all news, of which there must be one with these findings, or
// none for no findings.
func (k *kit) wantNews(when string, want ...string) {
	k.Helper()
	var got []string
	for _, n := range k.news() {
		got = append(got, toldOf(n)...)
	}
	same(k, when, got, want)
	k.ok(k.st.TakeNews(k.ctx, math.MaxInt64, nil))
}

func (k *kit) tell(target int64, n int, s finding.Severity) {
	k.Helper()
	k.ok(k.st.TakeNews(k.ctx, 0, []store.Telling{{
		Target: target, ImageID: imageID(1), Levels: map[string]int{fmt.Sprint("f", n): n},
		Notice: notice.Notice{Kind: notice.ImageVulnerable, Time: base().Add(time.Duration(n) * time.Second), Severity: s, Title: fmt.Sprint(n)},
	}}))
}

func notifyCases() []testCase {
	return []testCase{
		{"targets by name, with what is sealed", func(k *kit) {
			two, one := k.target("two"), k.target("one")
			if two.ID == 0 || two.ID == one.ID {
				k.Errorf("ids %d and %d", two.ID, one.ID)
			}
			same(k, "targets", k.targets(), []notice.Target{one, two})
			_, err := k.st.PutNotifyTarget(k.ctx, notice.Target{Name: "one", Sealed: []byte{1}})
			k.wantFault(err, fault.Conflict)
			changed := two
			changed.Name, changed.Sealed, changed.Filter.Running = "three", []byte{9}, true
			k.ok(k.st.UpdateNotifyTarget(k.ctx, changed))
			same(k, "after a change", k.targets(), []notice.Target{one, changed})
			taken := changed
			taken.Name = "one"
			k.wantFault(k.st.UpdateNotifyTarget(k.ctx, taken), fault.Conflict)
			taken.ID, taken.Name = 999, "four"
			k.wantFault(k.st.UpdateNotifyTarget(k.ctx, taken), fault.NotFound)
			k.ok(k.st.UpdateNotifyTarget(k.ctx, two))
			k.ok(k.st.DeleteNotifyTarget(k.ctx, one.ID))
			k.wantFault(k.st.DeleteNotifyTarget(k.ctx, one.ID), fault.NotFound)
			same(k, "after the removal", k.targets(), []notice.Target{two})
		}},
		{"no more targets than are permitted", func(k *kit) {
			for i := range store.MaxNotifyTargets {
				k.target(fmt.Sprintf("t%03d", i))
			}
			_, err := k.st.PutNotifyTarget(k.ctx, notice.Target{Name: "more", Sealed: []byte{1}})
			k.wantFault(err, fault.Exhausted)
		}},
		{"what was told, by target and image", func(k *kit) {
			k.noted(1)
			a, b := k.target("a"), k.target("b")
			k.tell(a.ID, 3, finding.High)
			k.ok(k.st.TakeNews(k.ctx, 0, []store.Telling{{Target: a.ID, ImageID: imageID(1), Levels: map[string]int{"f3": 2, "f4": 4}}}))
			got, err := k.st.Told(k.ctx, a.ID, imageID(1))
			k.ok(err)
			same(k, "a was told", got, map[string]int{"f3": 3, "f4": 4})
			for _, other := range []struct {
				target int64
				image  string
			}{{b.ID, imageID(1)}, {a.ID, imageID(2)}} {
				got, err := k.st.Told(k.ctx, other.target, other.image)
				k.ok(err)
				same(k, "others were told", got, map[string]int{})
			}
			k.ok(k.st.TakeNews(k.ctx, 0, []store.Telling{{Target: 999, ImageID: imageID(1)}})) // it is gone
		}},
		{"queues are folded, the gravest first", foldQueue},
		{"what no target can hold is lost, the least grave first", func(k *kit) {
			t := k.target("a")
			var many []store.Telling
			for i := range store.MaxNotices {
				many = append(many, store.Telling{Target: t.ID, Notice: notice.Notice{Severity: finding.High, Title: fmt.Sprint(i), Time: base()}})
			}
			k.ok(k.st.TakeNews(k.ctx, 0, many))
			k.tell(t.ID, 7, finding.Critical)
			k.tell(t.ID, 8, finding.Low)
			if s := k.state(); s.Waiting != store.MaxNotices || s.Lost != 2 {
				k.Errorf("state %+v", s)
			}
			ns, _, err := k.st.Notices(k.ctx, t.ID, store.MaxNotices)
			k.ok(err)
			if ns[0].Title != "7" || ns[len(ns)-1].Severity != finding.High {
				k.Errorf("the first is %s, the last %s", ns[0].Title, ns[len(ns)-1].Severity)
			}
		}},
		{"tries end", endTries},
		{"what has an id is told once", toldOnce},
		{"violations fold while they wait", foldedNotices},
		{"dead letters", deadLetters},
		{"no more dead letters than are kept", deadLettersLost},
	}
}

func toldOnce(k *kit) {
	t := k.target("a")
	told := []store.Telling{{Target: t.ID, Notice: notice.Notice{Kind: notice.Incident, Severity: finding.High, Title: "1", Time: base()}}}
	for _, id := range []string{"one", "two"} {
		for _, want := range []bool{true, false} {
			fresh, err := k.st.PutNotices(k.ctx, id, told)
			k.ok(err)
			same(k, id, fresh, want)
		}
	}
	same(k, "waiting", k.state().Waiting, 2)
	lines, err := k.st.Queues(k.ctx)
	k.ok(err)
	same(k, "urgency", lines[0].Urgency, finding.High)
}

func foldedNotices(k *kit) {
	t := k.target("a")
	tell := func(subject, print string, at time.Time) {
		n := notice.Notice{Kind: notice.Violation, Subject: subject, Time: at, Count: 1, Outside: []notice.Outside{{Fingerprint: print, Sentence: print, Severity: finding.Low, Count: 1, Last: at}}}
		n.Told()
		fresh, err := k.st.PutNotices(k.ctx, "", []store.Telling{{Target: t.ID, Notice: n, Fold: true}})
		k.ok(err)
		same(k, "fresh", fresh, true)
	}
	tell("one", "a", base())
	_, read, err := k.st.Notices(k.ctx, t.ID, 10)
	k.ok(err)
	tell("one", "b", base().Add(time.Minute))
	tell("other", "a", base().Add(time.Minute))
	lines, err := k.st.Queues(k.ctx)
	k.ok(err)
	same(k, "waiting", lines[0].Notices, 2)
	same(k, "oldest", lines[0].Oldest, base())
	ns, newest, err := k.st.Notices(k.ctx, t.ID, 10)
	k.ok(err)
	same(k, "violations", len(ns[0].Outside), 2)
	same(k, "count", ns[0].Count, 2)
	if newest <= read {
		k.Errorf("what folded meanwhile has number %d, and would go with %d", newest, read)
	}
}

func deadLettersLost(k *kit) {
	t := k.target("a")
	for i := range store.MaxDeadOf + 2 {
		k.dies(t.ID, fmt.Sprint("n", i), 3)
	}
	if s := k.state(); s.Dead != store.MaxDeadOf || s.Lost != 6 {
		k.Errorf("state %+v", s)
	}
	all, err := k.st.Dead(k.ctx, 0)
	k.ok(err)
	same(k, "the oldest that is kept", all[len(all)-1].ID, "n2")
}

// dies stores a notification and gives it up at once.
func (k *kit) dies(target int64, id string, notices int) {
	k.Helper()
	for i := range notices {
		k.tell(target, i, finding.High)
	}
	body := []byte(`{"title":"title of ` + id + `","severity":"high"}`)
	k.ok(k.st.PutNotification(k.ctx, store.Delivery{ID: id, Target: target, Created: base(), Next: base(), Body: body}, math.MaxInt64))
	k.ok(k.st.EndNotifyTry(k.ctx, store.NotifyTry{Target: target, ID: id, At: base().Add(time.Minute), Error: "no", Remedy: "ask"}))
}

func deadLetters(k *kit) {
	a, b := k.target("a"), k.target("b")
	k.dies(a.ID, "n1", 2)
	k.dies(b.ID, "n2", 1)
	k.dies(a.ID, "n3", 1)
	want := func(what string, target int64, ids ...string) {
		k.Helper()
		all, err := k.st.Dead(k.ctx, target)
		k.ok(err)
		var got []string
		for _, d := range all {
			got = append(got, d.ID)
		}
		same(k, what, got, ids)
	}
	all, err := k.st.Dead(k.ctx, a.ID)
	k.ok(err)
	same(k, "the older of a", all[len(all)-1], notice.Dead{
		ID: "n1", Target: a.ID, Name: "a", Title: "title of n1", Severity: finding.High, Notices: 2, Created: base(),
		Died: base().Add(time.Minute), Tries: 1, Reason: "no", Remedy: "ask",
	})
	want("all", 0, "n3", "n2", "n1")
	count := func(what string, want int) func(int, error) {
		return func(got int, err error) {
			k.Helper()
			k.ok(err)
			same(k, what, got, want)
		}
	}
	now := base().Add(time.Hour)
	count("none of that name", 0)(k.st.RetryDead(k.ctx, store.DeadQuery{ID: "n9"}, now))
	count("of a", 2)(k.st.RetryDead(k.ctx, store.DeadQuery{Target: a.ID}, now))
	want("after the retry", 0, "n2")
	deliveries, err := k.st.Deliveries(k.ctx)
	k.ok(err)
	if len(deliveries) != 2 || deliveries[0].ID != "n1" || deliveries[0].Tries != 0 || !deliveries[0].Next.Equal(now) || deliveries[0].Notices != 2 ||
		deliveries[1].ID != "n3" || deliveries[0].Created.Before(now) {
		k.Errorf("deliveries %+v", deliveries)
	}
	count("dropped", 1)(k.st.DropDead(k.ctx, store.DeadQuery{ID: "n2"}))
	want("after the drop", 0)
	k.dies(b.ID, "n4", 1)
	count("all", 1)(k.st.DropDead(k.ctx, store.DeadQuery{}))
	k.dies(b.ID, "n5", 1)
	k.ok(k.st.DeleteNotifyTarget(k.ctx, b.ID))
	want("of a target that is gone", 0)
}

func foldQueue(k *kit) {
	t := k.target("a")
	k.target("b")
	for i, s := range []finding.Severity{finding.Low, finding.Critical, finding.Medium, finding.Critical} {
		k.tell(t.ID, i+1, s)
	}
	lines, err := k.st.Queues(k.ctx)
	k.ok(err)
	same(k, "queues", lines, []store.NoticeLine{{Target: t.ID, Notices: 4, Oldest: base().Add(time.Second), Newest: base().Add(4 * time.Second)}})
	ns, newest, err := k.st.Notices(k.ctx, t.ID, 3)
	k.ok(err)
	var titles string
	for _, n := range ns {
		titles += n.Title
	}
	same(k, "order", titles, "243")
	k.tell(t.ID, 5, finding.Low) // comes too late for this one
	d := store.Delivery{ID: "n1", Target: t.ID, Created: base(), Next: base().Add(time.Minute), Body: []byte("{}")}
	k.ok(k.st.PutNotification(k.ctx, d, newest))
	d.Notices = 4
	all, err := k.st.Deliveries(k.ctx)
	k.ok(err)
	same(k, "deliveries", all, []store.Delivery{d})
	st := k.targets()[0].State
	same(k, "state", st, notice.State{Waiting: 1, Undelivered: true, Next: d.Next, Folded: base()})
	k.wantFault(k.st.PutNotification(k.ctx, store.Delivery{ID: "n2", Target: 999}, 0), fault.NotFound)
	k.ok(k.st.DeleteNotifyTarget(k.ctx, t.ID))
	all, err = k.st.Deliveries(k.ctx)
	k.ok(err)
	lines, err = k.st.Queues(k.ctx)
	k.ok(err)
	if len(all)+len(lines) != 0 {
		k.Errorf("after the removal %v and %v are left", all, lines)
	}
}

func endTries(k *kit) {
	t := k.target("a")
	put := func(id string, notices int) {
		k.Helper()
		for i := range notices {
			k.tell(t.ID, i, finding.High)
		}
		k.ok(k.st.PutNotification(k.ctx, store.Delivery{ID: id, Target: t.ID, Created: base(), Next: base(), Body: []byte("{}")}, math.MaxInt64))
	}
	at := func(minutes int) time.Time { return base().Add(time.Duration(minutes) * time.Minute) }
	end := func(id, why string, minutes int, next time.Time) notice.State {
		k.Helper()
		remedy := ""
		if why != "" {
			remedy = "repair it"
		}
		k.ok(k.st.EndNotifyTry(k.ctx, store.NotifyTry{Target: t.ID, ID: id, At: at(minutes), Error: why, Remedy: remedy, Next: next}))
		return k.state()
	}
	put("one", 3)
	same(k, "failed", end("one", "away", 1, at(60)),
		notice.State{Undelivered: true, Tries: 1, Next: at(60), Tried: at(1), Error: "away", Remedy: "repair it", Folded: base()})
	same(k, "a test failed", end("", "away", 2, time.Time{}),
		notice.State{Undelivered: true, Tries: 1, Next: at(60), Tried: at(2), Error: "away", Remedy: "repair it", Folded: base()})
	same(k, "a test got through: it is due", end("", "", 3, time.Time{}),
		notice.State{Undelivered: true, Tries: 1, Next: at(3), Tried: at(3), Delivered: at(3), Folded: base()})
	same(k, "given up", end("one", "away", 4, time.Time{}),
		notice.State{Tried: at(4), Delivered: at(3), Error: "away", Remedy: "repair it", Dead: 1, Folded: base()})
	put("two", 1)
	same(k, "delivered", end("two", "", 5, time.Time{}), notice.State{Tried: at(5), Delivered: at(5), Dead: 1, Folded: base()})
	k.ok(k.st.EndNotifyTry(k.ctx, store.NotifyTry{Target: 999, ID: "none", At: base()}))
}

func newsCases() []testCase {
	return []testCase{
		{"the first comparison is news of its own", func(k *kit) {
			k.scanned(1)
			k.findings(1, 0)
			k.scanned(2)
			k.findings(2, 1, found("CVE-1", "zlib", finding.High), found("CVE-2", "zlib", finding.Low))
			all := k.news()
			if len(all) != 2 || !all[0].First || all[0].ImageID != imageID(1) || len(all[0].Findings) != 0 || !all[1].First || all[1].Total != 2 {
				k.Fatalf("news %+v", all)
			}
			same(k, "findings", toldOf(all[1]), []string{"new CVE-1", "new CVE-2"})
			k.ok(k.st.TakeNews(k.ctx, all[0].ID, nil))
			if left := k.news(); len(left) != 1 || left[0].ImageID != imageID(2) {
				k.Errorf("left %+v", left)
			}
		}},
		{"what is new, graver, exploited, fixed or no longer accepted", whatIsNews},
		{"a finding in another place is none", func(k *kit) {
			k.scanned(1)
			k.findings(1, 0, found("CVE-1", "zlib", finding.High))
			k.wantNews("first", "new CVE-1")
			moved := found("CVE-1", "zlib", finding.High)
			moved.Package.Places[0].Path = "/elsewhere"
			moved.Print()
			k.findings(1, 1, moved)
			k.wantNews("moved")
		}},
		{"what is gone when it is read is left out, and news of a forgotten image", func(k *kit) {
			k.scanned(1)
			k.findings(1, 0, found("CVE-1", "zlib", finding.High), found("CVE-2", "zlib", finding.High))
			k.findings(1, 1, found("CVE-2", "zlib", finding.High))
			k.wantNews("news", "new CVE-2")
			k.findings(1, 2, found("CVE-3", "zlib", finding.High))
			k.started("w1", "a", 1, asset.Exited)
			t := k.target("t")
			k.tell(t.ID, 1, finding.High)
			_, err := k.st.Prune(k.ctx, store.Retention{Workloads: time.Hour}, base().Add(1000*time.Hour))
			k.ok(err)
			k.wantNews("of an image that is gone")
		}},
	}
}

func whatIsNews(k *kit) {
	k.scanned(1)
	was := found("CVE-1", "zlib", finding.Medium)
	was.State, was.Fixed = finding.Unfixed, ""
	k.findings(1, 0, was)
	k.wantNews("first", "new CVE-1")
	v := was
	change := func(hours int, reason string, change func(*finding.Vulnerability)) {
		k.Helper()
		change(&v)
		k.findings(1, time.Duration(hours)*time.Hour, v)
		if reason == "" {
			k.wantNews(fmt.Sprint("after ", hours))
			return
		}
		k.wantNews(reason, reason+" CVE-1")
	}
	change(1, "graver", func(v *finding.Vulnerability) { v.Severity = finding.High })
	change(2, "", func(v *finding.Vulnerability) { v.Severity = finding.Low })
	change(3, "", func(v *finding.Vulnerability) { v.Summary = "another text" })
	change(4, "fix", func(v *finding.Vulnerability) { v.State, v.Fixed = finding.Fixable, "2" })
	change(5, "", func(v *finding.Vulnerability) { v.Accepted = &finding.Acceptance{Reason: "r"} })
	change(6, "", func(v *finding.Vulnerability) { v.Severity = finding.Critical })
	change(7, "reopened", func(v *finding.Vulnerability) { v.Accepted = nil })
	change(8, "", func(v *finding.Vulnerability) { v.InUse = true })
	another := found("CVE-2", "zlib", finding.Low)
	k.findings(1, 9, v, another)
	k.wantNews("another", "new CVE-2")
	hidden := found("CVE-3", "zlib", finding.Critical)
	hidden.State = finding.NotAffected
	k.findings(1, 10, v, another, hidden)
	k.wantNews("not affected")
}
