package console_test

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/account"
	"github.com/castellan-security/castellan/internal/server/console"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/server/gate"
	"github.com/castellan-security/castellan/internal/server/live"
	"github.com/castellan-security/castellan/internal/server/verify"
)

var show = flag.String("show", "", "serve the shop at this address (127.0.0.1:8700) instead of testing, to look at pages while they are made")

func TestMain(m *testing.M) {
	flag.Parse()
	if *show == "" {
		os.Exit(m.Run())
	}
	if err := showShop(*show); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// house is a console over fakes.
type house struct {
	*console.Console
	store    *fakeStore
	accounts *fakeAccount
	images   *fakeImages
	notify   *fakeNotify
	trust    *fakeTrust
	gate     *fakeGate
	tables   *live.Tables
	feed     *live.Feed
	wrong    *live.Conditions
	now      time.Time
}

// status is what the server does with kinds, as far as these tests need it.
func status(err error) int {
	switch fault.Of(err) {
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Denied:
		return http.StatusForbidden
	case fault.Invalid:
		return http.StatusUnprocessableEntity
	case fault.Conflict:
		return http.StatusConflict
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Exhausted:
		return http.StatusTooManyRequests
	}
	return http.StatusInternalServerError
}

// newHouse returns a console that shows shop, with a clock that stands still,
// or goes when now is zero.
func newHouse(shop consoletest.Shop, now time.Time, with ...func(*console.Deps)) (*house, error) {
	clock := func() time.Time { return now }
	if now.IsZero() {
		clock = time.Now
	}
	h := &house{
		store: &fakeStore{shop: shop, now: clock()}, accounts: &fakeAccount{now: clock()},
		tables: live.NewTables(clock), feed: live.NewFeed(), wrong: live.NewConditions(clock), now: clock(),
	}
	if len(shop.Images) > 0 {
		h.store.acceptances = shopAcceptances(h.now)
	}
	h.images = newImages(h.store, h.accounts)
	h.notify = &fakeNotify{fakeAccount: h.accounts}
	for _, a := range shop.Agents {
		h.tables.Apply(a.ID, link.Report{Agent: a, Snapshot: true, Processes: runningOn(shop, a.ID)})
	}
	var trusting *verify.Service
	trusting, h.trust = newTrust(h.store, h.now)
	var deciding *gate.Service
	deciding, h.gate = newGate(h.trust, h.now)
	var err error
	d := console.Deps{
		Store: h.store, Account: h.accounts, Tables: h.tables, Feed: h.feed, Conditions: h.wrong,
		Images: h.images, Registries: newRegistries(h.accounts, h.now), Enrolment: fakeEnrolment{h.accounts}, Notify: h.notify, Trust: trusting, Admission: deciding, Fingerprint: "sha256:0f3c",
		Status: status, Version: "0.1.0-test", Clock: clock,
	}
	for _, set := range with {
		set(&d)
	}
	h.Console, err = console.New(d)
	return h, err
}

func runningOn(shop consoletest.Shop, agentID string) []event.Running {
	if agentID != consoletest.AgentID {
		return nil
	}
	return shop.Running
}

const csrfToken = "csrf-of-this-session"

// as returns a context that carries a signed-in user of a role.
func as(ctx context.Context, role access.Role) context.Context {
	return account.With(ctx, access.Identity{
		Actor: "user:admin", UserID: 1, Name: "admin", Role: role, Scopes: role.Scopes(), Address: "10.0.1.24",
	}, csrfToken)
}

// get asks for a page as a role; no role is nobody.
func (h *house) get(t *testing.T, role access.Role, path string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	if role != "" {
		r = r.WithContext(as(r.Context(), role))
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// post sends a form as a role, with the right CSRF token unless the form has one.
func (h *house) post(t *testing.T, role access.Role, path, form string) *httptest.ResponseRecorder {
	t.Helper()
	if !strings.Contains(form, "csrf=") {
		form += "&csrf=" + csrfToken
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if role != "" {
		r = r.WithContext(as(r.Context(), role))
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func shopHouse(t testing.TB) *house {
	t.Helper()
	now := testNow()
	h, err := newHouse(consoletest.New(now), now)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// showShop serves the shop, and lets something happen in it, until it is
// killed. The query parameters of the development server's own are in its
// path: /as/viewer signs in as a viewer, /empty/… has nothing in it.
func showShop(address string) error {
	full, err := newHouse(consoletest.New(time.Now()), time.Time{})
	if err != nil {
		return err
	}
	empty, err := newHouse(consoletest.Shop{}, time.Time{})
	if err != nil {
		return err
	}
	full.wrong.Set("disk", fault.New(fault.Exhausted, "the disk of the data folder is full: events are refused").With("free space below /var/lib/castellan, or shorten the retention"))
	go full.busy()
	fmt.Println("listening on http://" + address)
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := full
		if k, err := r.Cookie("shop"); err == nil && k.Value == "empty" {
			h = empty
		}
		if k, err := r.Cookie("nobody"); err != nil || k.Value == "" {
			ctx := as(r.Context(), access.Administrator)
			if k, err := r.Cookie("must"); err == nil && k.Value != "" {
				who, csrf, _ := account.From(ctx)
				who.MustChange = true
				ctx = account.With(ctx, who, csrf)
			}
			r = r.WithContext(ctx)
		}
		h.ServeHTTP(w, r)
	}))
}

// busy lets a process come and go every few seconds.
func (h *house) busy() {
	for i := range uint32(1 << 30) {
		time.Sleep(2 * time.Second)
		for j := range h.store.shop.Agents {
			h.store.shop.Agents[j].Seen = time.Now()
		}
		h.happen(90_000 + i)
	}
}

// happen appends the exec of a new process in the storefront and ends the one
// before it.
func (h *house) happen(pid uint32) event.Event {
	k := func(pid uint32) event.Key { return event.Key{PID: pid, Start: uint64(pid) * 1_000_003} }
	h.store.mu.Lock()
	e := event.Event{
		ID: int64(len(h.store.shop.Events) + 1), AgentID: consoletest.AgentID, Boot: consoletest.Boot, Seq: uint64(pid),
		Time: time.Now(), Kind: event.KindExec, WorkloadID: consoletest.Storefront, Group: "shop/storefront/storefront",
		Process: event.Process{Key: k(pid), Parent: k(4_012), Name: "convert", Executable: "/usr/bin/convert", UID: 1000},
		Exec:    &event.Exec{Args: []string{"convert", fmt.Sprint(pid)}, Origin: event.OriginImage},
	}
	h.store.shop.Events = append(h.store.shop.Events, e)
	h.store.mu.Unlock()
	gone := event.Event{
		AgentID: consoletest.AgentID, Time: time.Now(), Kind: event.KindExit, WorkloadID: consoletest.Storefront,
		Process: event.Process{Key: k(pid - 1), Name: "convert"}, Exit: &event.Exit{},
	}
	h.tables.Apply(consoletest.AgentID, link.Report{Agent: asset.Agent{ID: consoletest.AgentID, Boot: consoletest.Boot}, Events: []event.Event{gone, e}})
	h.feed.Publish([]event.Event{e})
	h.feed.Touch(consoletest.Storefront)
	return e
}
