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
	"github.com/castellan-security/castellan/internal/store"
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

func (f *fakeNotify) Preview(who access.Identity, t notice.Template, kind notice.Kind) (title, text string, err error) {
	if err := f.allow(who, access.ManageNotify); err != nil {
		return "", "", err
	}
	return "title of " + string(kind), "text by " + t.Body, f.did("preview")
}

func (f *fakeNotify) Dead(_ context.Context, who access.Identity, _ int64) ([]notice.Dead, error) {
	dead := func(id, title string) notice.Dead {
		return notice.Dead{
			ID: id, Target: 2, Name: "team", Title: title, Severity: finding.High, Notices: 3, Tries: 1, Created: f.now.Add(-2 * time.Hour), Died: f.now.Add(-time.Hour),
			Reason: "hooks.slack.com answered 400 Bad Request, " + consoletest.HostileName, Remedy: "see the channel",
		}
	}
	return []notice.Dead{dead("D1", "3 incidents"), dead("D2", consoletest.HostileName)}, f.allow(who, access.ReadNotify)
}

func (f *fakeNotify) RetryDead(_ context.Context, who access.Identity, q store.DeadQuery) (int, error) {
	if err := f.allow(who, access.ManageNotify); err != nil {
		return 0, err
	}
	return 1, f.did("retry " + q.ID)
}

func (f *fakeNotify) DropDead(_ context.Context, who access.Identity, q store.DeadQuery) (int, error) {
	if err := f.allow(who, access.ManageNotify); err != nil {
		return 0, err
	}
	return 1, f.did("drop " + q.ID)
}

func TestDeadLettersAreShownAndEnded(t *testing.T) {
	h := shopHouse(t)
	for _, role := range []access.Role{access.Viewer, access.Operator} {
		body := h.shows(t, role, "/notify", "Given up", "3 incidents", "for team, 3 notices, 1 try", "answered 400 Bad Request", "see the channel")
		if ends := strings.Contains(body, "Drop all"); ends != (role == access.Operator) {
			t.Errorf("%s may end them: %v", role, ends)
		}
	}
	for _, tc := range []struct{ deed, form, call, done string }{
		{"retry", "id=D1", "retry D1", "dead-retried"}, {"drop", "id=D1", "drop D1", "dead-dropped"}, {"retry", "all=true", "retry ", "dead-retried"},
	} {
		h := shopHouse(t)
		w := h.post(t, access.Operator, "/notify/dead/"+tc.deed, tc.form)
		if got := w.Header().Get("Location"); got != "/notify?done="+tc.done {
			t.Errorf("%s: got %d to %q", tc.deed, w.Code, got)
		}
		if diff := cmp.Diff(h.accounts.calls, []string{tc.call}); diff != "" {
			t.Errorf("calls (-got +want):\n%s", diff)
		}
		h.shows(t, access.Operator, "/notify?done="+tc.done, "What was given up is ")
		if w := h.post(t, access.Viewer, "/notify/dead/"+tc.deed, tc.form); w.Code != http.StatusForbidden {
			t.Errorf("%s by a viewer: got %d", tc.deed, w.Code)
		}
		if w := h.post(t, access.Operator, "/notify/dead/"+tc.deed, ""); w.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s of none: got %d", tc.deed, w.Code)
		}
		h.accounts.err = fault.New(fault.NotFound, "no dead letter has the id D1")
		if w := h.post(t, access.Operator, "/notify/dead/"+tc.deed, tc.form); w.Code != http.StatusNotFound {
			t.Errorf("%s of one that is gone: got %d", tc.deed, w.Code)
		}
	}
}

// TestFormsOfTargets: each type has the fields that it needs, and no others.
func TestFormsOfTargets(t *testing.T) {
	h := shopHouse(t)
	for kind, fields := range map[notice.Type][3]bool{ // a secret, addresses of mail, a format
		notice.Webhook: {true, false, true}, notice.Slack: {}, notice.Teams: {}, notice.PagerDuty: {true, false, false}, notice.Email: {true, true, false}, notice.Syslog: {},
		notice.SNS: {}, notice.EventBridge: {false, false, true}, notice.CloudWatchLogs: {}, notice.CloudWatchMetrics: {}, notice.SecurityHub: {},
	} {
		body := h.get(t, access.Operator, "/notify?type="+string(kind)).Body.String()
		_, form, _ := strings.Cut(body, `action="/notify" class="stack"`)
		for i, field := range []string{`name="secret"`, `name="to"`, `name="format"`} {
			if has := strings.Contains(form, field); has != fields[i] {
				t.Errorf("%s has %s: %v", kind, field, has)
			}
		}
		if !strings.Contains(form, `name="type" value="`+string(kind)+`"`) {
			t.Errorf("the form is not of %s", kind)
		}
	}
	w := h.post(t, access.Operator, "/notify", "name=people&type=email&url=smtps%3A%2F%2Fm%3A465&secret=p&from=a%40example.org&to=b%40example.org%2C+c%40example.org&user=u&severity=high&interval=1h"+
		"&kind=incident&kind=response&owners=shop+team%2C+payments&clusters=prod-*&at=08%3A00+17%3A00&quiet=22%3A00-06%3A00%3B+Sat%2CSun+00%3A00-24%3A00&zone=Europe%2FVienna&urgent=critical&title=T&text=a%0D%0Ab")
	if w.Code != http.StatusCreated {
		t.Fatalf("got %d: %.300s", w.Code, plainText(w.Body.String()))
	}
	critical := finding.Critical
	want := notify.NewTarget{
		Name: "people", Interval: time.Hour, Urgent: &critical, Template: notice.Template{Title: "T", Body: "a\nb"},
		Destination: notice.Destination{Type: notice.Email, URL: "smtps://m:465", Secret: "p", Settings: notice.Settings{User: "u", From: "a@example.org", To: []string{"b@example.org", "c@example.org"}}},
		Filter: notice.Filter{
			Kinds: []notice.Kind{notice.Incident, notice.Response}, Severity: finding.High, Repositories: []string{}, Groups: []string{}, Clusters: []string{"prod-*"}, Owners: []string{"shop team", "payments"},
		},
		Schedule: notice.Schedule{At: []string{"08:00", "17:00"}, Quiet: []string{"22:00-06:00", "Sat,Sun 00:00-24:00"}, Zone: "Europe/Vienna"},
	}
	if diff := cmp.Diff(h.notify.added[len(h.notify.added)-1], want); diff != "" {
		t.Errorf("added (-got +want):\n%s", diff)
	}
}

func TestPreviewOfTemplates(t *testing.T) {
	h := shopHouse(t)
	w := h.post(t, access.Operator, "/notify/preview", "kind=incident&kind=image.scanned&text=%3Cb%3E&secret=typed-secret&url=typed-secret")
	if body := w.Body.String(); w.Code != http.StatusOK || !strings.Contains(body, "title of incident") || !strings.Contains(body, "title of image.scanned") ||
		!strings.Contains(body, "text by &lt;b&gt;") || strings.Contains(body, "typed-secret") {
		t.Errorf("got %d: %.500s", w.Code, plainText(body))
	}
	h.accounts.err = fault.New(fault.Invalid, "template: body: unclosed action")
	if w := h.post(t, access.Operator, "/notify/preview", "text=%7B%7B"); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "unclosed action") {
		t.Errorf("got %d: %.300s", w.Code, plainText(w.Body.String()))
	}
	if w := h.post(t, access.Viewer, "/notify/preview", ""); w.Code != http.StatusForbidden {
		t.Errorf("by a viewer: %d", w.Code)
	}
}

func TestNotificationTargetsAreShown(t *testing.T) {
	h := shopHouse(t)
	for _, role := range []access.Role{access.Viewer, access.Operator} {
		body := h.shows(t, role, "/notify", "soc", "webhook https://soc.example.org/hook", "reached", "high or graver", "images that run",
			"at most four times an hour", "at most every 7m0s", "not reached", "7 lost", "A notification did not get through in 4 tries; the next is at ",
			"3 notices wait for the next one.", "answered 404 Not Found", "see that the address is still the right one", "nothing sent yet", "images scanned first")
		if manages := strings.Contains(body, "New target"); manages != (role == access.Operator) {
			t.Errorf("%s is shown the form: %v", role, manages)
		}
	}
}

func TestAddTarget(t *testing.T) {
	h := shopHouse(t)
	form := "name=soc2&type=webhook&url=https%3A%2F%2Fsoc.example.org%2Fsecret&secret=0123456789abcdef&severity=critical&interval=1h&kind=image.vulnerable&running=true&groups=prod%2F*+test%2F*"
	w := h.post(t, access.Operator, "/notify", form)
	if body := w.Body.String(); w.Code != http.StatusCreated || strings.Count(body, "cws_SECRET") != 1 || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("got %d: %.300s", w.Code, body)
	}
	want := []notify.NewTarget{{
		Name: "soc2", Interval: time.Hour,
		Destination: notice.Destination{Type: notice.Webhook, URL: "https://soc.example.org/secret", Secret: "0123456789abcdef"},
		Filter:      notice.Filter{Kinds: []notice.Kind{notice.ImageVulnerable}, Severity: finding.Critical, Running: true, Repositories: []string{}, Groups: []string{"prod/*", "test/*"}, Clusters: []string{}, Owners: []string{}},
		Schedule:    notice.Schedule{At: []string{}, Quiet: []string{}},
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
		"no severity":     "name=x&type=webhook&url=https%3A%2F%2Fx&interval=1h&kind=image.vulnerable&severity=x",
		"no interval":     "name=x&type=webhook&url=https%3A%2F%2Fx&severity=high&kind=image.vulnerable&interval=x",
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
	const form = "name=siren&type=webhook&url=&secret=&severity=critical&interval=7m0s&kind=image.vulnerable&repositories=shop%2F*"
	w := h.post(t, access.Operator, "/notify/1/edit", form)
	if got := w.Header().Get("Location"); got != "/notify?done=target-changed" {
		t.Errorf("got %d to %q", w.Code, got)
	}
	name, severity, interval, no, none := "siren", finding.Critical, 7*time.Minute, false, ""
	want := []notify.TargetChange{{Name: &name, Plain: &no, Interval: &interval, Kinds: &[]notice.Kind{notice.ImageVulnerable}, Severity: &severity, Fixable: &no, Exploited: &no, Running: &no,
		Repositories: &[]string{"shop/*"}, At: &[]string{}, Quiet: &[]string{}, Zone: &none, Title: &none, Body: &none, Format: &none}}
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

func TestATargetHasAnAuthorityOfItsOwn(t *testing.T) {
	const form = "name=soc&type=webhook&url=https%3A%2F%2Fsoc.internal&severity=high&interval=15m&kind=incident"
	none := notify.NoCA
	pem := "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
	typed := "&ca=" + url.QueryEscape(strings.ReplaceAll(pem, "\n", "\r\n")+"\r\n")
	h := shopHouse(t)
	h.shows(t, access.Operator, "/notify", "Certificate of an authority of your own")
	if w := h.post(t, access.Operator, "/notify", form+typed); w.Code != http.StatusCreated || h.notify.added[0].Destination.CA != pem {
		t.Errorf("got %d, and the authority %q", w.Code, h.notify.added[0].Destination.CA)
	}
	for name, c := range map[string]struct {
		more string
		want *string
	}{"another": {typed, &pem}, "that of the system": {"&no-ca=true", &none}, "as it is": {"", nil}} {
		h := shopHouse(t)
		h.post(t, access.Operator, "/notify/1/edit", form+c.more)
		if len(h.notify.edited) != 1 {
			t.Fatalf("%s: it was changed %d times", name, len(h.notify.edited))
		}
		if diff := cmp.Diff(h.notify.edited[0].CA, c.want); diff != "" {
			t.Errorf("%s (-got +want):\n%s", name, diff)
		}
	}
}
