package console_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/server/notify"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// fakeNotify refuses as notify.Service does and remembers what it was asked.
type fakeNotify struct {
	*fakeAccount
	added  []notify.NewTarget
	edited []notify.TargetChange
}

func (f *fakeNotify) Targets(_ context.Context, who access.Identity) ([]notice.Target, error) {
	return []notice.Target{
		{
			ID: 1, Name: "soc", Type: notice.Webhook, Address: "https://soc.example.org/hook", Signed: true, Interval: 15 * time.Minute,
			Filter: notice.Filter{Severity: finding.High, Running: true, Repositories: []string{consoletest.HostileName}},
			By:     "user:mira", Created: f.now.Add(-time.Hour), State: notice.State{Delivered: f.now.Add(-time.Minute), Tried: f.now.Add(-time.Minute)},
		},
		{
			ID: 2, Name: "team", Type: notice.Slack, Address: "https://hooks.slack.com/…", Interval: 7 * time.Minute, By: consoletest.HostileName,
			Created: f.now.Add(-48 * time.Hour), State: notice.State{
				Waiting: 3, Undelivered: true, Tries: 4, Next: f.now.Add(time.Minute), Tried: f.now.Add(-time.Minute),
				Error: "hooks.slack.com answered 404 Not Found, " + consoletest.HostileName, Remedy: "see that the address is still the right one", Lost: 7,
			},
		},
		{ID: 3, Name: "siem", Type: notice.Syslog, Address: "tls://logs.example.org:6514", Interval: time.Hour, Filter: notice.Filter{Kinds: notice.Kinds()}, By: "user:mira", Created: f.now},
	}, f.allow(who, access.ReadNotify)
}

func (f *fakeNotify) Add(_ context.Context, who access.Identity, n notify.NewTarget) (notice.Target, string, error) {
	if err := f.allow(who, access.ManageNotify); err != nil {
		return notice.Target{}, "", err
	}
	f.added = append(f.added, n)
	return notice.Target{ID: 9, Name: n.Name}, "cws_SECRET", f.did("add " + n.Name)
}

func (f *fakeNotify) Edit(_ context.Context, who access.Identity, id int64, c notify.TargetChange) (notice.Target, string, error) {
	if err := f.allow(who, access.ManageNotify); err != nil {
		return notice.Target{}, "", err
	}
	f.edited = append(f.edited, c)
	secret := ""
	if c.NewSecret {
		secret = "cws_SECRET"
	}
	return notice.Target{ID: id, Name: *c.Name}, secret, f.did("edit")
}

func (f *fakeNotify) Remove(_ context.Context, who access.Identity, id int64) error {
	if err := f.allow(who, access.ManageNotify); err != nil {
		return err
	}
	return f.did("remove")
}

func (f *fakeNotify) Test(_ context.Context, who access.Identity, id int64) error {
	if err := f.allow(who, access.ManageNotify); err != nil {
		return err
	}
	return f.did("test")
}

func TestNotificationTargetsAreShown(t *testing.T) {
	h := shopHouse(t)
	for _, role := range []access.Role{access.Viewer, access.Operator} {
		body := h.shows(t, role, "/notify", "soc", "webhook https://soc.example.org/hook", "reached", "high or graver", "images that run",
			"at most four times an hour", "at most every 7m0s", "not reached", "7 lost", "A notification is on its way, after 4 tries.",
			"3 notices wait for the next one.", "answered 404 Not Found", "see that the address is still the right one", "nothing sent yet", "images scanned first")
		if manages := strings.Contains(body, "New target"); manages != (role == access.Operator) {
			t.Errorf("%s is shown the form: %v", role, manages)
		}
	}
}

func TestAddTarget(t *testing.T) {
	h := shopHouse(t)
	form := "name=soc2&type=webhook&url=https%3A%2F%2Fsoc.example.org%2Fsecret&secret=0123456789abcdef&severity=critical&interval=1h&vulnerable=true&running=true&groups=prod%2F*+test%2F*"
	w := h.post(t, access.Operator, "/notify", form)
	if body := w.Body.String(); w.Code != http.StatusCreated || strings.Count(body, "cws_SECRET") != 1 || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("got %d: %.300s", w.Code, body)
	}
	want := []notify.NewTarget{{
		Name: "soc2", Interval: time.Hour,
		Destination: notice.Destination{Type: notice.Webhook, URL: "https://soc.example.org/secret", Secret: "0123456789abcdef"},
		Filter:      notice.Filter{Kinds: []notice.Kind{notice.ImageVulnerable}, Severity: finding.Critical, Running: true, Repositories: []string{}, Groups: []string{"prod/*", "test/*"}},
	}}
	if diff := cmp.Diff(h.notify.added, want); diff != "" {
		t.Errorf("added (-got +want):\n%s", diff)
	}
	h.accounts.err = fault.New(fault.Invalid, "url: http is not encrypted").With("use https://host/path")
	w = h.post(t, access.Operator, "/notify", form)
	body := w.Body.String()
	if w.Code != http.StatusUnprocessableEntity || !strings.Contains(body, "Url: http is not encrypted. Use https://host/path.") || !strings.Contains(body, `value="soc2"`) {
		t.Errorf("refused: got %d: %.300s", w.Code, plainText(body))
	}
	if strings.Contains(body, "0123456789abcdef") || strings.Contains(body, "soc.example.org/secret") {
		t.Error("what may be a secret is shown again")
	}
	for name, form := range map[string]string{
		"told of nothing": "name=x&type=webhook&url=https%3A%2F%2Fx&severity=high&interval=1h",
		"no severity":     "name=x&type=webhook&url=https%3A%2F%2Fx&interval=1h&vulnerable=true&severity=x",
		"no interval":     "name=x&type=webhook&url=https%3A%2F%2Fx&severity=high&vulnerable=true&interval=x",
	} {
		if w := h.post(t, access.Operator, "/notify", form); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "Choose ") {
			t.Errorf("%s: got %d", name, w.Code)
		}
	}
}

// A target is changed by a form that shows what it is but for what may be secrets,
// which stay where none is typed.
func TestEditTarget(t *testing.T) {
	h := shopHouse(t)
	body := h.get(t, access.Operator, "/notify").Body.String()
	for _, want := range []string{`action="/notify/1/edit"`, `name="name" value="soc"`, `<option value="7m0s" selected>every 7m0s</option>`, `placeholder="as it is"`} {
		if !strings.Contains(body, want) {
			t.Errorf("lacks %s", want)
		}
	}
	const form = "name=siren&type=webhook&url=&secret=&severity=critical&interval=7m0s&vulnerable=true&repositories=shop%2F*"
	w := h.post(t, access.Operator, "/notify/1/edit", form)
	if got := w.Header().Get("Location"); got != "/notify?done=target-changed" {
		t.Errorf("got %d to %q", w.Code, got)
	}
	name, severity, interval, no := "siren", finding.Critical, 7*time.Minute, false
	want := []notify.TargetChange{{Name: &name, Plain: &no, Interval: &interval, Kinds: &[]notice.Kind{notice.ImageVulnerable}, Severity: &severity, Fixable: &no, Exploited: &no, Running: &no,
		Repositories: &[]string{"shop/*"}}}
	if diff := cmp.Diff(h.notify.edited, want); diff != "" {
		t.Errorf("edited (-got +want):\n%s", diff)
	}
	w = h.post(t, access.Operator, "/notify/1/edit", form+"&new-secret=true")
	if body := w.Body.String(); w.Code != http.StatusOK || strings.Count(body, "cws_SECRET") != 1 || !strings.Contains(body, " is changed") || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("a new secret: got %d: %.300s", w.Code, body)
	}
	// A pattern that comes back as it was shown stays what it was.
	h.post(t, access.Operator, "/notify/1/edit", strings.Replace(form, "shop%2F*", url.QueryEscape(untrusted.Text(consoletest.HostileName)), 1))
	if last := h.notify.edited[len(h.notify.edited)-1]; last.Repositories != nil {
		t.Errorf("repositories become %q", *last.Repositories)
	}
	h.accounts.err = fault.New(fault.Invalid, "url: http is not encrypted").With("use https://host/path")
	w = h.post(t, access.Operator, "/notify/1/edit", strings.Replace(form, "url=", "url=http%3A%2F%2Fx%2Fhidden-path", 1))
	if body := w.Body.String(); w.Code != http.StatusUnprocessableEntity || strings.Count(body, `value="siren"`) != 1 || strings.Contains(body, "hidden-path") || !strings.Contains(body, `<details class="more" open>`) {
		t.Errorf("refused: got %d: %.300s", w.Code, plainText(body))
	}
	if w := h.post(t, access.Viewer, "/notify/1/edit", form); w.Code != http.StatusForbidden {
		t.Errorf("by a viewer: got %d", w.Code)
	}
	if w := h.post(t, access.Operator, "/notify/x/edit", form); w.Code != http.StatusNotFound {
		t.Errorf("of no number: got %d", w.Code)
	}
}

func TestTargetsAreTestedAndRemoved(t *testing.T) {
	for deed, done := range map[string]string{"test": "target-tested", "remove": "target-removed"} {
		h := shopHouse(t)
		w := h.post(t, access.Operator, "/notify/2/"+deed, "")
		if got := w.Header().Get("Location"); got != "/notify?done="+done {
			t.Errorf("%s: got %d to %q", deed, w.Code, got)
		}
		if diff := cmp.Diff(h.accounts.calls, []string{deed}); diff != "" {
			t.Errorf("calls (-got +want):\n%s", diff)
		}
		h.shows(t, access.Operator, "/notify?done="+done, "The target ")
		h.accounts.err = fault.New(fault.Unavailable, "soc answered 500").With("look at its log")
		if w := h.post(t, access.Operator, "/notify/2/"+deed, ""); !strings.Contains(w.Body.String(), "Soc answered 500. Look at its log.") {
			t.Errorf("%s: got %d without the reason", deed, w.Code)
		}
		if w := h.post(t, access.Viewer, "/notify/2/"+deed, ""); w.Code != http.StatusForbidden {
			t.Errorf("%s by a viewer: got %d", deed, w.Code)
		}
		if w := h.post(t, access.Operator, "/notify/x/"+deed, ""); w.Code != http.StatusNotFound {
			t.Errorf("%s of no number: got %d", deed, w.Code)
		}
	}
}
