package server_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/adapter/db"
	sender "github.com/castellan-security/castellan/internal/adapter/notify"
	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/server"
	"github.com/castellan-security/castellan/internal/server/notify"
	"github.com/castellan-security/castellan/internal/store"
)

// publish puts an advisory database in place, as castellan scan db update does.
func publish(t *testing.T, path string, weaknesses ...string) {
	t.Helper()
	b, err := scan.NewDatabase(scan.DatabaseOptions{Built: time.Now(), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	err = b.AddAll(t.Context(), scan.DatabaseSource{Name: "test"}, func(yield func(advisory.Advisory, error) bool) {
		for _, id := range weaknesses {
			a := advisory.Advisory{
				ID: id, Source: "test", Rating: advisory.Critical, Modified: time.Now(),
				Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "alpha", Ranges: []advisory.Range{{Introduced: "0", Fixed: "9"}}}},
			}
			if !yield(a, nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Write(t.Context(), path); err != nil {
		t.Fatal(err)
	}
}

// endpoint is a stand-in for somebody's receiver of webhooks.
type endpoint struct {
	*httptest.Server
	got    chan received
	answer chan int // the status of the next answers; then 200
}

type received struct {
	header http.Header
	body   []byte
}

func newEndpoint(t *testing.T) *endpoint {
	e := &endpoint{got: make(chan received, 100), answer: make(chan int, 100)}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		status := http.StatusOK
		select {
		case status = <-e.answer:
		default:
		}
		w.WriteHeader(status)
		e.got <- received{r.Header, b}
	}))
	t.Cleanup(e.Close)
	return e
}

// signed fails the test unless the request is signed with the secret, as
// docs/notifications.md says.
func (r received) signed(t *testing.T, secret string) notice.Notification {
	t.Helper()
	var at, sum string
	if _, err := fmt.Sscanf(strings.ReplaceAll(r.header.Get("Castellan-Signature"), ",", " "), "t=%s v1=%s", &at, &sum); err != nil {
		t.Fatalf("signature %q: %v", r.header.Get("Castellan-Signature"), err)
	}
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(at + "." + string(r.body)))
	if sum != hex.EncodeToString(m.Sum(nil)) {
		t.Error("the signature is not that of the body")
	}
	var n notice.Notification
	if err := json.Unmarshal(r.body, &n); err != nil || r.header.Get("Castellan-Notification") != n.ID {
		t.Errorf("body %s of %s, %v", r.body, r.header.Get("Castellan-Notification"), err)
	}
	return n
}

// again runs a server on the data of one that has stopped, until stop.
func again(t *testing.T, dir string, change func(*server.Config), wrap func(store.Store) store.Store) (stop func()) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := db.Open(t.Context(), db.Options{Path: filepath.Join(dir, "c.db"), ProcessCrashOnly: true}, log)
	if err != nil {
		t.Fatal(err)
	}
	cfg := server.Config{DataDir: dir, Listen: "127.0.0.1:0", Version: "test"}
	change(&cfg)
	s, err := server.New(cfg, wrap(st), log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-s.Ready()
	return func() {
		t.Helper()
		cancel()
		if err := await(t, "the end of the server", done); err != nil {
			t.Error(err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}
}

// scanned has an image with one package scanned by an agent in the server's
// process, and waits until it is compared.
func (h *house) scanned(t *testing.T, findings <-chan store.ImageFindings) string {
	t.Helper()
	imageID := "sha256:" + strings.Repeat("1", 64)
	r := reportOf(agentID)
	r.Agent.Abilities = []string{link.AbilityScan}
	r.Workloads = []asset.Workload{{ID: shop, Name: "shop", Group: "docker/shop", State: asset.Running, Image: asset.Image{Reference: "shop/web:1", ID: imageID}}}
	if _, err := h.Intake().Report(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	wishes := make(chan link.ScanWish, 8)
	ctx, cancel := context.WithCancel(t.Context())
	listening := make(chan error, 1)
	go func() {
		listening <- h.Intake().Directives(ctx, link.Caller{AgentID: agentID, Boot: r.Agent.Boot}, func(d link.Directive) {
			if d.Kind == link.DirectiveScan {
				wishes <- *d.Scan
			}
		})
	}()
	defer func() { cancel(); <-listening }()
	w := await(t, "the wish", wishes)
	inv := inventory.Inventory{Analysis: scan.Analysis, Packages: []inventory.Package{{
		Type: "pypi", Name: "alpha", Version: "1", Ecosystem: "PyPI", Places: []inventory.Place{{Path: "/alpha", Layer: 1}},
	}}}
	if err := h.Intake().Inventory(t.Context(), link.Scanned{AgentID: agentID, Job: w.Job, ImageID: imageID, Inventory: squeezed(t, inv)}); err != nil {
		t.Fatal(err)
	}
	if f := await(t, "the comparison", findings); len(f.Vulnerabilities) != 1 {
		t.Fatalf("compared with %d findings, want 1", len(f.Vulnerabilities))
	}
	return imageID
}

// TestImageThatBecomesVulnerableIsTold goes the whole way: advisories that are
// newer than a scan, a restart, a receiver that is down at first, one signed
// notification, and no second one.
func TestImageThatBecomesVulnerableIsTold(t *testing.T) {
	findings := make(chan store.ImageFindings, 8)
	var data store.Store
	wrap := func(st store.Store) store.Store { data = st; return compared{st, findings} }
	advisories := filepath.Join(t.TempDir(), "advisories.db")
	publish(t, advisories, "CVE-2026-0001")
	change := func(c *server.Config) {
		c.Advisories, c.Sender, c.URL = advisories, sender.New("test", nil), "https://castellan.example/"
		c.Pace = notify.Pace{Settle: time.Millisecond, Again: 10 * time.Millisecond}
	}
	h := open(t, wrap, change)
	e := newEndpoint(t)
	a := h.ask(t, "POST", "/api/v1/notify/targets", map[string]any{
		"name": "soc", "type": "webhook", "url": e.URL + "/hook", "severity": "high", "running": true, "groups": []string{"docker/*"},
	}, h.as(access.Operator)...)
	d := h.document(t)
	d.hold(t, d.Paths["/api/v1/notify/targets"]["post"], a)
	var made struct {
		Target notice.Target
		Secret string
	}
	a.into(t, &made)
	if a.status != http.StatusCreated || len(made.Secret) < 40 || made.Target.Address != e.URL+"/…" {
		t.Fatalf("added: %d %s", a.status, a.body)
	}
	imageID := h.scanned(t, findings)
	h.close(t)
	if err := data.Close(); err != nil {
		t.Fatal(err)
	}

	publish(t, advisories, "CVE-2026-0001", "CVE-2026-0002")
	e.answer <- http.StatusServiceUnavailable
	e.answer <- http.StatusInternalServerError
	stop := again(t, h.dir, change, wrap)
	await(t, "the comparison with newer advisories", findings)
	var ids []string
	for range 3 {
		n := await(t, "the notification", e.got).signed(t, made.Secret)
		ids = append(ids, n.ID)
		if len(n.Notices) != 1 || n.Link != "https://castellan.example/images/"+imageID {
			t.Fatalf("told %+v", n)
		}
		x := n.Notices[0]
		if x.Image.ID != imageID || x.Image.Running != 1 || x.Image.Groups[0] != "docker/shop" || len(x.Findings) != 1 || x.Findings[0].ID != "CVE-2026-0002" {
			t.Errorf("told %+v", x)
		}
	}
	for c := localClient(h.dir); ; { // until the server knows that it got through
		var page struct{ Targets []notice.Target }
		ask(t, c, "http://castellan", "GET", "/api/v1/notify/targets", nil).into(t, &page)
		if len(page.Targets) != 1 {
			t.Fatalf("targets %+v", page.Targets)
		}
		if !page.Targets[0].State.Undelivered {
			break
		}
	}
	if ids[0] != ids[1] || ids[1] != ids[2] {
		t.Errorf("tries of one notification have the ids %v", ids)
	}
	stop()

	stop = again(t, h.dir, change, wrap)
	c := localClient(h.dir)
	a = ask(t, c, "http://castellan", "GET", "/api/v1/notify/targets", nil)
	var page struct{ Targets []notice.Target }
	a.into(t, &page)
	d.hold(t, d.Paths["/api/v1/notify/targets"]["get"], a)
	if len(page.Targets) != 1 || page.Targets[0].State.Waiting != 0 || page.Targets[0].State.Undelivered || page.Targets[0].State.Error != "" || page.Targets[0].State.Delivered.IsZero() {
		t.Errorf("targets %s", a.body)
	}
	if strings.Contains(string(a.body), made.Secret) {
		t.Error("the secret is shown again")
	}
	a = ask(t, c, "http://castellan", "PATCH", fmt.Sprintf("/api/v1/notify/targets/%d", made.Target.ID), map[string]any{"name": "siren", "fixable": true})
	d.hold(t, d.Paths["/api/v1/notify/targets/{id}"]["patch"], a)
	var changed struct {
		Target notice.Target
		Secret string
	}
	a.into(t, &changed)
	if a.status != http.StatusOK || changed.Secret != "" || changed.Target.Name != "siren" || !changed.Target.Filter.Fixable || !changed.Target.Filter.Running || changed.Target.Address != made.Target.Address {
		t.Errorf("changed: %d %s", a.status, a.body)
	}
	if a := ask(t, c, "http://castellan", "POST", fmt.Sprintf("/api/v1/notify/targets/%d/test", made.Target.ID), nil); a.status != http.StatusNoContent {
		t.Errorf("test: %d %s", a.status, a.body)
	}
	if n := await(t, "the test", e.got).signed(t, made.Secret); n.Notices[0].Kind != notice.Test {
		t.Errorf("after a restart it is told again: %+v", n)
	}
	if a := ask(t, c, "http://castellan", "DELETE", fmt.Sprintf("/api/v1/notify/targets/%d", made.Target.ID), nil); a.status != http.StatusNoContent {
		t.Errorf("remove: %d %s", a.status, a.body)
	}
	stop()
	if len(e.got) != 0 {
		t.Errorf("%d more came", len(e.got))
	}
	for _, secret := range []string{made.Secret, e.URL + "/hook?"} {
		if strings.Contains(h.log.String(), secret) {
			t.Errorf("%s is in the log", secret)
		}
	}
}

// links is a notify.Sender that keeps where notifications lead.
type links chan string

func (links) Check(notice.Destination) (string, error) { return "there", nil }

func (l links) Send(_ context.Context, _ notice.Destination, n notice.Notification, _ []byte) error {
	l <- n.Link
	return nil
}

func TestLinksLeadToTheConsole(t *testing.T) {
	for name, tc := range map[string]struct {
		url   string
		names []string
		want  string // PORT stands for the port
	}{
		"address":   {"", nil, "https://127.0.0.1:PORT/notify"},
		"name":      {"", []string{"castellan.example", "other.example"}, "https://castellan.example:PORT/notify"},
		"given":     {"https://castellan.example/behind", []string{"other.example"}, "https://castellan.example/behind/notify"},
		"with a /":  {"https://castellan.example/", nil, "https://castellan.example/notify"},
		"IPv6 name": {"", []string{"::1"}, "https://[::1]:PORT/notify"},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(links, 1)
			h := open(t, nil, func(c *server.Config) { c.URL, c.Names, c.Sender = tc.url, tc.names, got })
			a := h.ask(t, "POST", "/api/v1/notify/targets", map[string]any{"name": "n", "type": "slack", "url": "https://x"}, h.as(access.Operator)...)
			if a.status != http.StatusCreated {
				t.Fatalf("added: %d %s", a.status, a.body)
			}
			if a := h.ask(t, "POST", "/api/v1/notify/targets/1/test", nil, h.as(access.Operator)...); a.status != http.StatusNoContent {
				t.Fatalf("tested: %d %s", a.status, a.body)
			}
			_, port, _ := strings.Cut(strings.TrimPrefix(h.base, "https://"), ":")
			if got, want := await(t, "the test", got), strings.ReplaceAll(tc.want, "PORT", port); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}
