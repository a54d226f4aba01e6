package console_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/server/console"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/server/topology"
	"github.com/castellan-security/castellan/internal/watch"
)

// watchHouse is a console over the real service of behaviour, which knows the shop's
// groups.
func watchHouse(t *testing.T, keys ...crypto.PublicKey) *house {
	t.Helper()
	now, log := testNow(), slog.New(slog.DiscardHandler)
	st, err := db.Open(t.Context(), db.Options{Path: filepath.Join(t.TempDir(), "castellan.db"), ProcessCrashOnly: true}, log)
	if err != nil {
		t.Fatal(err)
	}
	shop := consoletest.New(now)
	if err := shop.FillBehaviour(t.Context(), st, now); err != nil {
		t.Fatal(err)
	}
	s := behaviour.New(behaviour.Options{Store: st, Map: topology.New(), Keys: keys, Clock: func() time.Time { return now }, Log: log})
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	t.Cleanup(func() {
		stop()
		wg.Wait()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	h, err := newHouse(shop, now, func(d *console.Deps) { d.Watch = s })
	if err != nil {
		t.Fatal(err)
	}
	// The owner has read what is kept once it answers.
	h.shows(t, access.Viewer, watchAt("group", string(consoletest.Web)), "shop/web/nginx")
	for agentID, held := range consoletest.Held(now) {
		if _, err := s.Behaviour(t.Context(), link.BehaviourAsk{AgentID: agentID, Held: held}); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func watchAt(page, group string) string { return "/watch/" + page + "?group=" + url.QueryEscape(group) }

func TestGroupsAreListed(t *testing.T) {
	h := watchHouse(t)
	h.shows(t, access.Viewer, "/watch", "shop/web/", "protect", "settled, 97 %", "protect is proposed", "5 open violations", "blocked (BPF LSM) on 1 host",
		"1 host doesn't hold it", "no BPF LSM", "41 % settled", "nothing new for two hours is waited for", "not looked for while it learns", "Modes change by people alone")
	for _, c := range []struct {
		asked string
		want  int // groups
	}{
		{"", 3}, {"mode=protect", 1}, {"mode=discover", 1}, {"cluster=shop", 2}, {"cluster=sho", 0}, {"text=cron", 1}, {"outside=true", 1}, {"proposed=true", 1},
	} {
		if got := strings.Count(h.get(t, access.Viewer, "/watch?"+c.asked).Body.String(), `<tr id="g`); got != c.want {
			t.Errorf("%q: got %d groups, want %d", c.asked, got, c.want)
		}
	}
	if w := h.get(t, access.Viewer, "/watch?mode=odd"); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("no mode: got %d", w.Code)
	}
	h.shows(t, access.Viewer, "/", "groups protect", "violations in 24 h that nobody permitted")
}

func TestViewersOfGroupsOnlySee(t *testing.T) {
	h := watchHouse(t)
	web := string(consoletest.Web)
	for _, path := range []string{"/watch", watchAt("group", web), watchAt("profile", web), watchAt("changes", web), watchAt("hosts", web), "/watch/violations/1"} {
		if body := h.get(t, access.Viewer, path).Body.String(); strings.Contains(body, `action="/watch/`) && strings.Contains(body, `method="post" action="/watch/`) {
			t.Errorf("%s offers a viewer to change something", path)
		}
	}
	for _, path := range []string{"/watch/group/mode", "/watch/profile/add", "/watch/profile/remove", "/watch/violations/1/permit", "/watch/promotion"} {
		if w := h.post(t, access.Viewer, path, "group="+web+"&mode=discover&comment=x"); w.Code != http.StatusForbidden {
			t.Errorf("%s: a viewer got %d", path, w.Code)
		}
	}
	if w := h.post(t, access.Operator, "/watch/group/mode", "csrf=wrong&mode=discover&group="+web); w.Code != http.StatusForbidden {
		t.Errorf("a form of elsewhere: got %d", w.Code)
	}
}

func TestAViolationIsMadeNormalAndUndone(t *testing.T) {
	h := watchHouse(t)
	h.shows(t, access.Viewer, "/watch/violations", "nginx ran /bin/dash, and was killed", "killed", "denied", "reported")
	if whole := h.get(t, access.Operator, "/watch/violations/4").Body.String(); strings.Contains(whole, "<img src=x") {
		t.Error("somebody's text is markup")
	}
	h.shows(t, access.Operator, "/watch/violations/5", "No profile can say what this was")
	h.shows(t, access.Operator, "/watch/violations/2", "This is added to the profile, and nothing else", "Writes /etc/nginx/nginx.conf")
	if w := h.post(t, access.Operator, "/watch/violations/2/permit", "comment="); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "Say why it is normal") {
		t.Errorf("without a reason: got %d", w.Code)
	}
	if w := h.post(t, access.Operator, "/watch/violations/2/permit", "comment=the+new+template"); w.Code != http.StatusSeeOther {
		t.Fatalf("got %d: %s", w.Code, plainText(w.Body.String()))
	}
	h.shows(t, access.Operator, "/watch/violations/2?done=permitted", "It is normal now", "the new template")
	h.shows(t, access.Operator, watchAt("profile", string(consoletest.Web)), "/etc/nginx/nginx.conf", "permitted by admin")
	if w := h.post(t, access.Operator, "/watch/permits/1/undo", "comment="); w.Code != http.StatusSeeOther {
		t.Fatalf("undo: got %d", w.Code)
	}
	h.shows(t, access.Operator, "/watch/violations/2", "This is added to the profile, and nothing else")
	if w := h.post(t, access.Operator, "/watch/permits/1/undo", "comment="); w.Code != http.StatusConflict {
		t.Errorf("undone twice: got %d", w.Code)
	}
}

func TestEntriesOfAProfileAreChanged(t *testing.T) {
	h := watchHouse(t)
	web := string(consoletest.Web)
	h.shows(t, access.Operator, watchAt("profile", web), "1,204 times", "such as /var/cache/nginx/client_temp/0000000001", "only older versions do it", "permitted by mira", "from nginx/nginx:1.27 to nginx/nginx:1.28")
	add := func(form string) int {
		return h.post(t, access.Operator, "/watch/profile/add", "group="+url.QueryEscape(web)+"&"+form).Code
	}
	for _, c := range []struct {
		form string
		want int
	}{
		{"what=writes&value=relative&comment=x", http.StatusUnprocessableEntity}, {"what=writes&value=/opt/own/**", http.StatusUnprocessableEntity},
		{"what=odd&value=x&comment=x", http.StatusUnprocessableEntity}, {"what=writes&value=/opt/own/**&comment=x", http.StatusSeeOther},
		{"what=writes&value=/opt/own/**&comment=x", http.StatusConflict}, {"what=peers&value=10.9.0.0/16&port=tcp/5432&comment=x", http.StatusSeeOther},
		{"what=peers&value=*.example.com&port=tcp/443&comment=x", http.StatusSeeOther}, {"what=listens&port=tcp/9000&comment=x", http.StatusSeeOther},
	} {
		if got := add(c.form); got != c.want {
			t.Errorf("%s: got %d, want %d", c.form, got, c.want)
		}
	}
	h.shows(t, access.Operator, watchAt("profile", web)+"&text=10.9.0.0", "10.9.0.0/16", "tcp/5432", "1 of")
	remove := "group=" + url.QueryEscape(web) + "&what=writes&name=" + url.QueryEscape("/opt/own/**")
	if w := h.post(t, access.Operator, "/watch/profile/remove", remove); w.Code != http.StatusSeeOther {
		t.Errorf("remove: got %d", w.Code)
	}
	if w := h.post(t, access.Operator, "/watch/profile/remove", remove); w.Code != http.StatusConflict {
		t.Errorf("removed twice: got %d", w.Code)
	}
	if w := h.post(t, access.Operator, "/watch/group/limits", "group="+url.QueryEscape(web)+"&memory=1+GiB&processes=96"); w.Code != http.StatusSeeOther {
		t.Errorf("limits: got %d", w.Code)
	}
	h.shows(t, access.Operator, watchAt("group", web), "set by a person")
	if w := h.post(t, access.Operator, "/watch/group/limits", "group="+url.QueryEscape(web)+"&memory=lots"); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("no limit: got %d", w.Code)
	}
}

func TestAGroupWithoutAnything(t *testing.T) {
	h := watchHouse(t)
	young := string(consoletest.Young)
	h.shows(t, access.Operator, watchAt("profile", young), "The profile permits nothing yet.", "That of python fits")
	h.shows(t, access.Operator, watchAt("violations", young), "Nothing lies outside while the group learns.")
	h.shows(t, access.Operator, watchAt("hosts", young), "No host has told how it holds the group.")
	h.shows(t, access.Operator, watchAt("harden", young), "nothing to write")
	if w := h.post(t, access.Operator, "/watch/group/mode", "group="+url.QueryEscape(young)+"&mode=monitor"); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("monitored with nothing learned: got %d", w.Code)
	}
	if w := h.get(t, access.Operator, watchAt("group", "no/such/group")); w.Code != http.StatusNotFound {
		t.Errorf("got %d, want 404", w.Code)
	}
}

func TestProfilesAreDownloaded(t *testing.T) {
	h := watchHouse(t)
	web := string(consoletest.Web)
	for path, want := range map[string]string{
		watchAt("profile/text", web): "profile: 1", watchAt("harden/apparmor", web): "nginx", watchAt("harden/seccomp", web): "defaultAction",
	} {
		w := h.get(t, access.Viewer, path)
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) || !strings.HasPrefix(w.Header().Get("Content-Disposition"), "attachment; filename=") {
			t.Errorf("%s: got %d, %s, %.200s", path, w.Code, w.Header().Get("Content-Disposition"), w.Body.String())
		}
	}
}

// Where profiles must be signed, the editor asks for the signature, and takes a text
// that has one.
func TestASignedProfileIsTyped(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	h, web := watchHouse(t, public), string(consoletest.Web)
	h.shows(t, access.Operator, watchAt("profile/edit", web), "Signature", "castellan watch profile sign", "sha256:")
	text := "profile: 1\ngroup: " + web + "\nexecutables:\n  - path: /usr/sbin/nginx\n"
	signature, err := watch.SignProfile([]byte(text), private)
	if err != nil {
		t.Fatal(err)
	}
	revisions := regexp.MustCompile(`name="after" value="(\d+)"`).FindStringSubmatch(h.get(t, access.Operator, watchAt("profile/edit", web)).Body.String())
	if revisions == nil {
		t.Fatal("the editor does not say which revision it changes")
	}
	form := url.Values{"do": {"save"}, "text": {text}, "after": {revisions[1]}, "comment": {"approved"}}
	if w := h.post(t, access.Operator, watchAt("profile/edit", web), form.Encode()); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "must be signed") {
		t.Errorf("not signed: got %d", w.Code)
	}
	form.Set("signature", string(signature))
	if w := h.post(t, access.Operator, watchAt("profile/edit", web), form.Encode()); w.Code != http.StatusSeeOther {
		t.Errorf("signed: got %d: %s", w.Code, plainText(w.Body.String()))
	}
}
