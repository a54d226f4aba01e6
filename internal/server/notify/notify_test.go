package notify_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/server/notify"
)

const (
	high     = finding.High
	critical = finding.Critical
)

func TestImageThatBecomesVulnerable(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.add("soc", notice.Filter{})
		p.image(1, "prod/web/app", found("CVE-1", high))
		later(time.Hour)
		if got := p.took(); got != "" {
			t.Fatalf("of the first comparison it was told %q", got)
		}
		at := time.Now()
		p.compared(1, found("CVE-1", high), found("CVE-2", critical), found("CVE-3", finding.Low, unfixed))
		later(10 * time.Second)
		if got := p.took(); got != "" {
			t.Fatalf("before it settled it was told %q", got)
		}
		later(time.Minute)
		all := p.takes()
		if len(all) != 1 || all[0].failed {
			t.Fatalf("sent %+v, want one", all)
		}
		got := all[0].notification(t)
		title := "shop/1:1 has 2 more vulnerabilities: critical CVE-2 in zlib, …"
		want := notice.Notification{
			Version: 1, ID: got.ID, Created: at.Add(15 * time.Second).UTC(), Severity: critical, Title: title, Link: "https://c/images/" + imageID(1),
			Notices: []notice.Notice{{
				Kind: notice.ImageVulnerable, Time: at.UTC(), Severity: critical, Title: title, Remedy: "move zlib to 2",
				Link: "https://c/images/" + imageID(1),
				Image: &notice.Image{
					ID: imageID(1), References: []string{"shop/1:1"}, Running: 1, Groups: []string{"prod/web/app"},
					Counts: notice.Counts{Critical: 1, High: 1, Low: 1, Fixable: 2},
				},
				Findings: []notice.Finding{
					{Fingerprint: found("CVE-2", critical).Fingerprint, ID: "CVE-2", Reason: notice.New, Severity: critical, Package: "zlib", Version: "1", Fixed: "2", Remedy: "move zlib to 2."},
					{Fingerprint: found("CVE-3", finding.Low).Fingerprint, ID: "CVE-3", Reason: notice.New, Severity: finding.Low, Package: "zlib", Version: "1", Remedy: "move zlib to 2."},
				},
			}},
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("notification (-got +want):\n%s", diff)
		}
		if d := all[0].d; d.URL != "https://soc" || len(d.Secret) < 40 {
			t.Errorf("sent to %+v", d)
		}
		if s := p.state(); s.Delivered.IsZero() || s.Error != "" || s.Undelivered || s.Waiting != 0 {
			t.Errorf("state %+v", s)
		}
	})
}

// TestOneDigestForManyImages: a new advisory database bears on 500 images.
func TestOneDigestForManyImages(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.add("soc", notice.Filter{})
		const images = 500
		for i := range images {
			p.image(i, "")
		}
		for i := range images {
			s := high
			if i%100 == 99 {
				s = critical
			}
			p.compared(i, found("CVE-1", s))
			time.Sleep(100 * time.Millisecond) // one after the other, as they are compared
		}
		later(time.Minute)
		all := p.takes()
		if len(all) != 1 {
			t.Fatalf("%d notifications, want one", len(all))
		}
		n := all[0].n
		if n.Title != "500 images: more is known to be wrong with them, critical in 5" || n.Link != "https://c/images" || n.LeftOut != 450 || len(n.Notices) != 50 {
			t.Errorf("%q with %d notices and %d left out", n.Title, len(n.Notices), n.LeftOut)
		}
		if n.Severity != critical || n.Notices[4].Severity != critical || n.Notices[5].Severity != high {
			t.Error("the gravest are not first")
		}
		if len(all[0].body) > 300<<10 {
			t.Errorf("it has %d bytes", len(all[0].body))
		}
		// What comes within the interval waits for its end, and is one again.
		p.compared(1, found("CVE-1", high), found("CVE-2", high))
		p.compared(2, found("CVE-1", high), found("CVE-2", high))
		later(10 * time.Minute)
		if got := p.took(); got != "" {
			t.Errorf("within the interval it was told %q", got)
		}
		later(10 * time.Minute)
		if got := p.took(); got != "1:1 new CVE-2; 2:1 new CVE-2" {
			t.Errorf("after the interval it was told %q", got)
		}
	})
}

func TestNothingIsToldTwice(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.add("soc", notice.Filter{})
		p.image(1, "")
		step := func(when, want string, vs ...finding.Vulnerability) {
			t.Helper()
			p.compared(1, vs...)
			later(time.Hour)
			if got := p.took(); got != want {
				t.Errorf("%s: told %q, want %q", when, got, want)
			}
		}
		one := found("CVE-1", high)
		step("new", "1:1 new CVE-1", one)
		step("gone", "")
		step("again, with older advisories", "", one)
		p.restart()
		step("gone after a restart", "")
		step("and again", "", one)
		step("less grave", "", found("CVE-1", finding.Low))
		step("as grave as it was told", "", one)
		step("graver", "1:1 graver CVE-1", found("CVE-1", critical))
		kev := func(v *finding.Vulnerability) { v.KEV = &advisory.Exploited{} }
		step("exploited", "1:1 exploited CVE-1", found("CVE-1", critical, kev))
		step("accepted, and another beside it", "1:1 new CVE-2", found("CVE-1", critical, kev, accepted), found("CVE-2", high))
		step("no longer accepted: told before", "", found("CVE-1", critical, kev), found("CVE-2", high))
	})
}

func TestWhatIsAcceptedIsNotTold(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.add("soc", notice.Filter{})
		p.image(1, "")
		vex := func(v *finding.Vulnerability) { v.State = finding.NotAffected }
		p.compared(1, found("CVE-1", high, accepted), found("CVE-2", high, vex))
		later(time.Hour)
		if got := p.took(); got != "" {
			t.Errorf("told %q", got)
		}
		p.compared(1, found("CVE-1", high), found("CVE-2", high))
		later(time.Hour)
		if got := p.took(); got != "1:1 reopened CVE-1 new CVE-2" {
			t.Errorf("when that ended: told %q", got)
		}
	})
}

func TestFilters(t *testing.T) {
	for _, tc := range []struct {
		name   string
		filter notice.Filter
		want   string
	}{
		{"none", notice.Filter{}, "1:1 new CVE-1 new CVE-2; 2:1 new CVE-1"},
		{"severity", notice.Filter{Severity: critical}, "1:1 new CVE-2"},
		{"fixable", notice.Filter{Fixable: true}, "1:1 new CVE-1; 2:1 new CVE-1"},
		{"exploited", notice.Filter{Exploited: true}, ""},
		{"running", notice.Filter{Running: true}, "1:1 new CVE-1 new CVE-2"},
		{"repository", notice.Filter{Repositories: []string{"*/2"}}, "2:1 new CVE-1"},
		{"group", notice.Filter{Groups: []string{"prod/*"}}, "1:1 new CVE-1 new CVE-2"},
		{"scanned first", notice.Filter{Kinds: []notice.Kind{notice.ImageScanned}}, "2:1 new CVE-0; 1:1"},
		{"scanned first, and bad", notice.Filter{Kinds: []notice.Kind{notice.ImageScanned}, Severity: high}, "2:1 new CVE-0"},
		{"both kinds", notice.Filter{Kinds: notice.Kinds(), Severity: critical}, "1:1 new CVE-2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, p *post) {
				p.add("soc", tc.filter)
				p.image(1, "prod/web/app")
				p.image(2, "", found("CVE-0", high))
				p.compared(1, found("CVE-1", high), found("CVE-2", critical, unfixed))
				p.compared(2, found("CVE-0", high), found("CVE-1", high))
				later(time.Hour)
				if got := p.took(); got != tc.want {
					t.Errorf("told %q, want %q", got, tc.want)
				}
			})
		})
	}
}

func TestFirstScanSaysWhatWasFound(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.add("soc", notice.Filter{Kinds: []notice.Kind{notice.ImageScanned}})
		p.image(1, "", found("CVE-1", critical), found("CVE-2", high), found("CVE-3", high))
		p.image(2, "")
		later(time.Hour)
		all := p.takes()
		if len(all) != 1 || len(all[0].n.Notices) != 2 {
			t.Fatalf("sent %+v", all)
		}
		for i, want := range []string{"shop/1:1 is scanned: 1 critical, 2 high", "shop/2:1 is scanned: no vulnerability is known"} {
			if got := all[0].n.Notices[i].Title; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	})
}

func TestTargetThatIsDown(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.add("soc", notice.Filter{})
		p.image(1, "")
		p.fails(errAway)
		p.compared(1, found("CVE-1", high))
		later(16 * time.Second)
		if s := p.state(); !s.Undelivered || s.Tries != 1 || s.Error != "soc answered 500" || s.Remedy != "look at its log" {
			t.Errorf("after the first try: %+v", s)
		}
		if got := p.condition(notify.PartTarget + "soc"); got != "" {
			t.Errorf("one try is a condition: %s", got)
		}
		later(2 * time.Minute)
		p.restart()
		later(10 * time.Minute)
		if got := p.condition(notify.PartTarget + "soc"); got != "soc answered 500" {
			t.Errorf("condition %q", got)
		}
		var pauses []time.Duration
		all := p.takes()
		for i := 1; i < len(all); i++ {
			pauses = append(pauses, all[i].at.Sub(all[i-1].at))
			if all[i].body != all[0].body {
				t.Error("what is sent again is not the same")
			}
		}
		want := []time.Duration{15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute}
		if diff := cmp.Diff(pauses, want); diff != "" {
			t.Errorf("pauses (-got +want):\n%s", diff)
		}
		p.compared(1, found("CVE-1", high), found("CVE-2", high)) // waits for the next one
		p.fails(nil)
		later(time.Hour)
		if got := p.took(); got != "1:1 new CVE-1 | 1:1 new CVE-2" {
			t.Errorf("when it is there again it is told %q", got)
		}
		if s := p.state(); s.Error != "" || s.Lost != 0 || p.condition(notify.PartTarget+"soc") != "" {
			t.Errorf("state %+v, condition %q", s, p.condition(notify.PartTarget+"soc"))
		}
	})
}

func TestTargetThatStaysDown(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		target := p.add("soc", notice.Filter{})
		p.image(1, "")
		p.fails(errAway)
		p.compared(1, found("CVE-1", high))
		later(71 * time.Hour)
		if s := p.state(); s.Dead != 0 || !s.Undelivered {
			t.Errorf("on the third day: %+v", s)
		}
		later(2 * time.Hour)
		s := p.state()
		if s.Dead != 1 || s.Undelivered || p.condition(notify.PartTarget+"soc") == "" {
			t.Errorf("after it: %+v, condition %q", s, p.condition(notify.PartTarget+"soc"))
		}
		if n := len(p.takes()); n < 70 || n > 100 {
			t.Errorf("%d tries in three days", n)
		}
		if err := p.Remove(t.Context(), operator, target.ID); err != nil {
			t.Fatal(err)
		}
		if got := p.condition(notify.PartTarget + "soc"); got != "" {
			t.Errorf("after its removal: %s", got)
		}
	})
}

func TestATargetThatIsRemovedWhileItFailsIsNoCondition(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		target := p.add("soc", notice.Filter{})
		p.image(1, "")
		p.fails(errAway)
		p.compared(1, found("CVE-1", high))
		later(10 * time.Minute)
		if got := p.condition(notify.PartTarget + "soc"); got == "" {
			t.Fatal("it is no condition that it fails")
		}
		slow := make(chan struct{})
		p.slows("soc", slow)
		later(time.Hour) // a try has begun
		if err := p.Remove(t.Context(), operator, target.ID); err != nil {
			t.Fatal(err)
		}
		later(time.Hour) // with turns of the loop, which know it no more
		close(slow)
		later(time.Hour)
		if got := p.condition(notify.PartTarget + "soc"); got != "" {
			t.Errorf("after its removal: %s", got)
		}
		if got := p.condition(notify.Part); got != "" {
			t.Errorf("notifications: %s", got)
		}
		p.slows("soc", nil)
		p.add("soc", notice.Filter{})
		p.compared(1, found("CVE-1", high), found("CVE-2", high))
		later(time.Hour)
		if got := p.condition(notify.PartTarget + "soc"); got == "" {
			t.Error("that another of its name fails is no condition")
		}
	})
}

// TestTargetThatHangsDelaysNoOther: what others are told meanwhile they are told as
// ever, and what waits for it is sent once, when it has answered.
func TestTargetThatHangsDelaysNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.add("hangs", notice.Filter{})
		p.add("soc", notice.Filter{})
		slow := make(chan struct{})
		p.slows("hangs", slow)
		p.image(1, "")
		var vs []finding.Vulnerability
		for n := range 4 {
			vs = append(vs, found(fmt.Sprint("CVE-", n), high))
			p.compared(1, vs...)
			later(time.Hour)
			if got, want := p.took(), fmt.Sprintf("1:1 new CVE-%d", n); got != want {
				t.Errorf("the other is told %q, want %q", got, want)
			}
		}
		close(slow)
		later(time.Hour)
		if got, want := p.took(), "1:1 new CVE-0 | 1:1 new CVE-1; 1:1 new CVE-2; 1:1 new CVE-3"; got != want {
			t.Errorf("when it answers it is told %q, want %q", got, want)
		}
	})
}

func TestTargetThatIsBusySaysWhen(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.add("soc", notice.Filter{})
		p.image(1, "")
		p.fails(&notice.Busy{After: 10 * time.Minute, Err: errAway})
		p.compared(1, found("CVE-1", high))
		later(16 * time.Second)
		p.fails(nil)
		p.takes()
		later(9 * time.Minute)
		if got := p.took(); got != "" {
			t.Errorf("before that: %q", got)
		}
		later(2 * time.Minute)
		if got := p.took(); got != "1:1 new CVE-1" {
			t.Errorf("after it: %q", got)
		}
	})
}

// TestOneTargetDoesNotKeepAnother: each has its own queue.
func TestOneTargetDoesNotKeepAnother(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.add("grave", notice.Filter{Severity: critical})
		p.add("all", notice.Filter{})
		p.image(1, "")
		p.compared(1, found("CVE-1", critical), found("CVE-2", high))
		later(time.Minute)
		got := map[string]string{}
		for _, s := range p.takes() {
			for _, f := range s.n.Notices[0].Findings {
				got[s.d.URL] += f.ID + " "
			}
		}
		if diff := cmp.Diff(got, map[string]string{"https://grave": "CVE-1 ", "https://all": "CVE-1 CVE-2 "}); diff != "" {
			t.Errorf("told (-got +want):\n%s", diff)
		}
	})
}

func TestRestartBetween(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.add("soc", notice.Filter{})
		p.image(1, "")
		p.stop() // what is found now is told by the next start
		<-p.ended
		p.compared(1, found("CVE-1", high))
		p.restart()
		later(5 * time.Second)
		p.restart() // before it settled
		later(time.Minute)
		p.restart()
		later(time.Hour)
		if got := p.took(); got != "1:1 new CVE-1" {
			t.Errorf("told %q", got)
		}
	})
}

func TestOneTest(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		target := p.add("soc", notice.Filter{})
		p.image(1, "")
		p.fails(errAway)
		p.compared(1, found("CVE-1", high))
		later(2 * time.Hour)
		p.takes()
		wantKind(t, p.Test(t.Context(), operator, target.ID), fault.Unavailable)
		for range 19 {
			wantKind(t, p.Test(t.Context(), operator, target.ID), fault.Unavailable)
		}
		wantKind(t, p.Test(t.Context(), operator, target.ID), fault.Exhausted)
		if all := p.takes(); len(all) != 20 || all[0].n.Notices[0].Kind != notice.Test || all[0].n.Version != 1 {
			t.Errorf("sent %+v", all)
		}
		later(61 * time.Second)
		p.fails(nil)
		p.takes()
		if err := p.Test(t.Context(), operator, target.ID); err != nil {
			t.Fatal(err)
		}
		later(time.Second)
		if all := p.takes(); len(all) != 2 || all[1].n.Notices[0].Kind != notice.ImageVulnerable {
			t.Errorf("sent %+v, want the test and at once what waited", all)
		}
		wantKind(t, p.Test(t.Context(), operator, 999), fault.NotFound)
		lines, err := p.st.Audit(t.Context(), 0, 100)
		if err != nil || len(lines) != 22 || lines[0].Action != "notify.test" || lines[0].Outcome != "done" || lines[1].Outcome != "failed" || lines[21].Action != "notify.add" {
			t.Errorf("audit %+v, %v", lines, err)
		}
	})
}

func TestWhoMayWhat(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		n := notify.NewTarget{Name: "soc", Destination: notice.Destination{Type: notice.Slack, URL: "https://x"}}
		_, _, err := p.Add(t.Context(), viewer, n)
		wantKind(t, err, fault.Denied)
		wantKind(t, p.Remove(t.Context(), viewer, 1), fault.Denied)
		wantKind(t, p.Test(t.Context(), viewer, 1), fault.Denied)
		if _, err := p.Targets(t.Context(), viewer); err != nil {
			t.Error(err)
		}
		made, secret, err := p.Add(t.Context(), operator, n)
		if err != nil || secret != "" || made.Address != "shown" || made.By != "user:otto" || made.Interval != 15*time.Minute {
			t.Errorf("added %+v, %q, %v", made, secret, err)
		}
		_, _, err = p.Add(t.Context(), operator, n)
		wantKind(t, err, fault.Conflict)
		for name, change := range map[string]func(*notify.NewTarget){
			"no name":               func(n *notify.NewTarget) { n.Name = " " },
			"hostile name":          func(n *notify.NewTarget) { n.Name = "a\x1b[31m" },
			"no address":            func(n *notify.NewTarget) { n.Destination.URL = "" },
			"secret without use":    func(n *notify.NewTarget) { n.Destination.Secret = strings.Repeat("s", 20) },
			"too often":             func(n *notify.NewTarget) { n.Interval = time.Second },
			"too seldom":            func(n *notify.NewTarget) { n.Interval = 48 * time.Hour },
			"no such kind":          func(n *notify.NewTarget) { n.Filter.Kinds = []notice.Kind{"x"} },
			"a test as kind":        func(n *notify.NewTarget) { n.Filter.Kinds = []notice.Kind{notice.Test} },
			"no such severity":      func(n *notify.NewTarget) { n.Filter.Severity = 9 },
			"blank in a pattern":    func(n *notify.NewTarget) { n.Filter.Groups = []string{"a b"} },
			"empty pattern":         func(n *notify.NewTarget) { n.Filter.Repositories = []string{""} },
			"too many patterns":     func(n *notify.NewTarget) { n.Filter.Groups = make([]string, 51) },
			"pattern that is large": func(n *notify.NewTarget) { n.Filter.Groups = []string{strings.Repeat("a", 600)} },
		} {
			n := n
			n.Name = "other"
			change(&n)
			if _, _, err := p.Add(t.Context(), operator, n); !fault.Is(err, fault.Invalid) {
				t.Errorf("%s: got %v, want invalid", name, err)
			}
		}
	})
}

// TestSecretsAreSealed: who has the database alone knows no secret.
func TestSecretsAreSealed(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		const url, secret = "https://hooks.example/T0/B0/a-secret-path", "a-secret-of-the-webhook"
		target, made, err := p.Add(t.Context(), operator, notify.NewTarget{
			Name: "soc", Destination: notice.Destination{Type: notice.Webhook, URL: url, Secret: secret},
		})
		if err != nil || made != "" {
			t.Fatalf("%q, %v", made, err)
		}
		p.end()
		files, err := filepath.Glob(filepath.Join(p.dir, "castellan.db*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("files %v, %v", files, err)
		}
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(b), "a-secret") {
				t.Errorf("a secret is in %s", name)
			}
		}
		key := filepath.Join(p.dir, "notify.key")
		info, err := os.Stat(key)
		if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 32 {
			t.Errorf("key %v, %v", info, err)
		}
		p.start()
		if err := p.Test(t.Context(), operator, target.ID); err != nil {
			t.Fatal(err)
		}
		if all := p.takes(); len(all) != 1 || all[0].d.URL != url || all[0].d.Secret != secret {
			t.Errorf("after a restart it is sent to %+v", all)
		}
		p.end()
		if err := os.Remove(key); err != nil {
			t.Fatal(err)
		}
		p.start()
		later(time.Minute)
		err = p.Test(t.Context(), operator, target.ID)
		wantKind(t, err, fault.Corrupt)
		if !strings.Contains(fault.Remedy(err), "add it anew") {
			t.Errorf("remedy %q", fault.Remedy(err))
		}
		p.end()
		if err := os.WriteFile(key, []byte("short"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = notify.New(notify.Options{KeyFile: key})
		wantKind(t, err, fault.Corrupt)
		if err := os.Remove(key); err != nil {
			t.Fatal(err)
		}
		p.start()
	})
}

func TestWithoutTargetsNothingIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.image(1, "", found("CVE-1", high))
		p.compared(1, found("CVE-1", high), found("CVE-2", high))
		later(time.Minute)
		if news, err := p.st.News(context.Background(), 10); err != nil || len(news) != 0 {
			t.Errorf("kept %v, %v", news, err)
		}
		p.stop()
		<-p.ended
		p.compared(1, found("CVE-1", high), found("CVE-2", high), found("CVE-3", high))
		time.Sleep(time.Second)
		p.add("soc", notice.Filter{})
		p.restart()
		later(time.Hour)
		if got := p.took(); got != "" {
			t.Errorf("a target that was added later is told %q", got)
		}
	})
}

// TestManyFindingsOfOneImage: a notice tells the first, and how many more.
func TestManyFindingsOfOneImage(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.add("soc", notice.Filter{})
		p.image(1, "")
		var many []finding.Vulnerability
		for i := range 1500 {
			many = append(many, found(fmt.Sprintf("CVE-%04d", i), high))
		}
		p.compared(1, many...)
		later(time.Minute)
		all := p.takes()
		if len(all) != 1 {
			t.Fatalf("%d notifications", len(all))
		}
		x := all[0].n.Notices[0]
		if len(x.Findings) != 20 || x.LeftOut != 1480 || !strings.HasPrefix(x.Title, "shop/1:1 has 1500 more vulnerabilities: high CVE-0000 in zlib") {
			t.Errorf("%d findings, %d left out, %q", len(x.Findings), x.LeftOut, x.Title)
		}
	})
}

// TestEdit: what is not given stays, the secrets too, and what was told is not told
// again.
func TestEdit(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		const url, secret = "https://hooks.example/T0/a-secret-path", "a-secret-of-the-webhook"
		made, _, err := p.Add(t.Context(), operator, notify.NewTarget{Name: "soc", Destination: notice.Destination{Type: notice.Webhook, URL: url, Secret: secret, CA: "pem"}})
		if err != nil {
			t.Fatal(err)
		}
		p.image(1, "prod/web/app")
		p.compared(1, found("CVE-1", high))
		later(time.Hour)
		p.takes()
		severity, name, groups := critical, "siren", []string{"prod/*/app"}
		edit := func(c notify.TargetChange) (notice.Target, string) {
			t.Helper()
			got, secret, err := p.Edit(t.Context(), operator, made.ID, c)
			if err != nil {
				t.Fatal(err)
			}
			return got, secret
		}
		got, shown := edit(notify.TargetChange{Severity: &severity, Name: &name, Groups: &groups})
		want := made
		want.Name, want.Filter = name, notice.Filter{Severity: critical, Groups: groups}
		got.Sealed, want.Sealed, got.State, want.State = nil, nil, notice.State{}, notice.State{}
		if d := cmp.Diff(got, want); d != "" || shown != "" {
			t.Errorf("secret %q, target (-got +want):\n%s", shown, d)
		}
		p.compared(1, found("CVE-1", high), found("CVE-2", high), found("CVE-3", critical))
		later(time.Hour)
		all := p.takes()
		if len(all) != 1 || all[0].d.URL != url || all[0].d.Secret != secret || all[0].d.CA != "pem" || len(all[0].n.Notices[0].Findings) != 1 {
			t.Errorf("sent %+v", all)
		}
		other, none := "https://hooks.example/other", notify.NoCA
		if _, shown = edit(notify.TargetChange{NewSecret: true, URL: &other, CA: &none}); len(shown) < 40 {
			t.Errorf("new secret %q", shown)
		}
		if err := p.Test(t.Context(), operator, made.ID); err != nil {
			t.Fatal(err)
		}
		if all := p.takes(); len(all) != 1 || all[0].d.URL != other || all[0].d.Secret != shown || all[0].d.CA != "" {
			t.Errorf("sent %+v", all)
		}
		lines, err := p.st.Audit(t.Context(), 0, 100)
		if err != nil || lines[1].Action != "notify.edit" || lines[1].Detail != "address, secret, certificates" || lines[2].Detail != "name, before soc, findings, groups" {
			t.Errorf("audit %+v, %v", lines, err)
		}

		empty, short := "", time.Second
		for why, c := range map[string]notify.TargetChange{
			"no name": {Name: &empty}, "no address": {URL: &empty}, "no secret": {Secret: &empty}, "two secrets": {Secret: &other, NewSecret: true},
			"too often": {Interval: &short}, "no kind": {Kinds: &[]notice.Kind{"nonsense"}}, "no pattern": {Groups: &[]string{"a b"}},
		} {
			_, _, err := p.Edit(t.Context(), operator, made.ID, c)
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%s: %v", why, err)
			}
		}
		_, _, err = p.Edit(t.Context(), viewer, made.ID, notify.TargetChange{})
		wantKind(t, err, fault.Denied)
		_, _, err = p.Edit(t.Context(), operator, 999, notify.TargetChange{})
		wantKind(t, err, fault.NotFound)
		second, _, err := p.Add(t.Context(), operator, notify.NewTarget{Name: "team", Destination: notice.Destination{Type: notice.Slack, URL: "https://x"}})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = p.Edit(t.Context(), operator, second.ID, notify.TargetChange{Name: &name})
		wantKind(t, err, fault.Conflict)
		_, _, err = p.Edit(t.Context(), operator, second.ID, notify.TargetChange{NewSecret: true})
		wantKind(t, err, fault.Invalid)
	})
}
