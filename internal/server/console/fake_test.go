package console_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/account"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

// fakeStore keeps a shop in memory. It counts questions, so that a test can
// hold pages to one a panel.
type fakeStore struct {
	mu      sync.Mutex
	shop    consoletest.Shop
	asked   int
	broken  error
	partial bool
	// acceptances are newest first; now is when they hold.
	acceptances []store.Acceptance
	now         time.Time
}

func (f *fakeStore) ask() error {
	f.asked++
	return f.broken
}

func (f *fakeStore) Events(_ context.Context, q store.EventQuery) (store.EventPage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(); err != nil {
		return store.EventPage{}, err
	}
	match := query.Match(q)
	var out []event.Event
	for _, e := range slices.Backward(f.shop.Events) {
		if match(&e) && (q.Before == 0 || e.ID < q.Before) && e.ID > q.After {
			out = append(out, e)
		}
	}
	if q.After > 0 {
		slices.Reverse(out)
	}
	limit := q.Limit
	if limit == 0 {
		limit = store.DefaultPage
	}
	page := store.EventPage{Events: out[:min(len(out), limit)], Partial: f.partial}
	if f.partial && len(page.Events) > 0 {
		page.Reached = &page.Events[len(page.Events)-1].Time
	}
	if len(out) > limit || len(out) > 0 && (q.After > 0 || f.partial) {
		page.Next = page.Events[len(page.Events)-1].ID
	}
	return page, nil
}

func (f *fakeStore) Event(_ context.Context, id int64) (event.Event, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(); err != nil {
		return event.Event{}, err
	}
	for _, e := range f.shop.Events {
		if e.ID == id {
			return e, nil
		}
	}
	return event.Event{}, fault.New(fault.NotFound, "no event has the number %d", id).With("retention may have removed it")
}

func (f *fakeStore) EventRate(_ context.Context, workload string, since, until time.Time, step time.Duration) ([]store.Rate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(); err != nil {
		return nil, err
	}
	counts := map[store.Rate]int64{}
	for _, e := range f.shop.Events {
		if (workload == "" || e.WorkloadID == workload) && !e.Time.Before(since) && e.Time.Before(until) {
			counts[store.Rate{Start: e.Time.Truncate(step), Kind: e.Kind}]++
		}
	}
	var out []store.Rate
	for r, n := range counts {
		r.Count = n
		out = append(out, r)
	}
	return out, nil
}

func (f *fakeStore) Notable(_ context.Context, since time.Time, limit int) ([]event.Event, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(); err != nil {
		return nil, err
	}
	var out []event.Event
	for _, e := range slices.Backward(f.shop.Events) {
		x := e.Exec
		if x != nil && e.WorkloadID != "" && !e.Time.Before(since) && (x.Entered || x.Origin != event.OriginImage) && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}

func (f *fakeStore) Workload(_ context.Context, id string) (asset.Workload, error) {
	if err := f.ask(); err != nil {
		return asset.Workload{}, err
	}
	for _, w := range f.shop.Workloads {
		if w.ID == id {
			return w, nil
		}
	}
	return asset.Workload{}, fault.New(fault.NotFound, "no workload has the id %q", id)
}

func (f *fakeStore) Workloads(_ context.Context, q store.WorkloadQuery) ([]asset.Workload, error) {
	if err := f.ask(); err != nil {
		return nil, err
	}
	var out []asset.Workload
	behind := q.After == ""
	for _, w := range f.shop.Workloads {
		if behind && (len(q.States) == 0 || slices.Contains(q.States, w.State)) &&
			(q.Group == "" || q.Group == string(w.Group)) && (q.AgentID == "" || q.AgentID == w.AgentID) && (q.ImageID == "" || q.ImageID == w.Image.ID) &&
			strings.Contains(w.Name+string(w.Group)+w.Image.Reference+w.ID, q.Text) {
			out = append(out, w)
		}
		behind = behind || w.ID == q.After
	}
	if !behind {
		return nil, fault.New(fault.Invalid, "no workload %q to continue behind", q.After)
	}
	return out[:min(len(out), q.Limit)], nil
}

func (f *fakeStore) Agent(_ context.Context, id string) (asset.Agent, error) {
	if err := f.ask(); err != nil {
		return asset.Agent{}, err
	}
	for _, a := range f.shop.Agents {
		if a.ID == id {
			return a, nil
		}
	}
	return asset.Agent{}, fault.New(fault.NotFound, "no agent has the id %q", id)
}

func (f *fakeStore) Agents(context.Context) ([]asset.Agent, error) {
	return f.shop.Agents, f.ask()
}

// fakeAccount refuses as account.Service does and remembers what it was asked.
type fakeAccount struct {
	mu    sync.Mutex
	now   time.Time
	calls []string
	err   error
}

func (f *fakeAccount) did(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, what)
	return f.err
}

func (f *fakeAccount) allow(who access.Identity, s access.Scope) error {
	if who.May(s) {
		return nil
	}
	return fault.New(fault.Denied, "%s lacks the right %s", who.Actor, s)
}

func (f *fakeAccount) SignIn(_ context.Context, name, password, address string) (string, access.Session, error) {
	if err := f.did("sign in " + name + " from " + address); err != nil {
		return "", access.Session{}, err
	}
	if password != "right password" {
		return "", access.Session{}, fault.New(fault.Unauthenticated, "the name or the password is wrong")
	}
	return "cookie-of-" + name, access.Session{Expires: f.now.Add(time.Hour)}, nil
}

func (f *fakeAccount) SignOut(_ context.Context, cookie string, _ access.Identity) error {
	return f.did("sign out " + cookie)
}

func (f *fakeAccount) SignOutAll(_ context.Context, who access.Identity) error {
	return f.did("sign out all of " + who.Name)
}

func (f *fakeAccount) ChangePassword(_ context.Context, who access.Identity, old, new string) error {
	return f.did("password of " + who.Name)
}

func (f *fakeAccount) Users(_ context.Context, who access.Identity) ([]access.User, error) {
	seen := f.now.Add(-20 * time.Minute)
	return []access.User{
		{ID: 1, Name: "admin", Role: access.Administrator, Created: f.now.Add(-90 * 24 * time.Hour), LastSignIn: &seen},
		{ID: 2, Name: "mira", Role: access.Operator, Created: f.now.Add(-30 * 24 * time.Hour), LastSignIn: &seen},
		{ID: 3, Name: "auditor", Role: access.Viewer, Disabled: true, Created: f.now.Add(-3 * 24 * time.Hour)},
		{ID: 4, Name: "jun", Role: access.Viewer, MustChange: true, Created: f.now.Add(-time.Hour)},
	}, f.allow(who, access.ManageUsers)
}

func (f *fakeAccount) CreateUser(_ context.Context, who access.Identity, n account.NewUser) (access.User, error) {
	if err := f.allow(who, access.ManageUsers); err != nil {
		return access.User{}, err
	}
	return access.User{}, f.did("create " + n.Name + " as " + string(n.Role))
}

func (f *fakeAccount) UpdateUser(_ context.Context, who access.Identity, id int64, c account.UserChange) (access.User, error) {
	if err := f.allow(who, access.ManageUsers); err != nil {
		return access.User{}, err
	}
	what := "update"
	switch {
	case c.Role != nil:
		what = "role " + string(*c.Role)
	case c.Disabled != nil && *c.Disabled:
		what = "disable"
	case c.Disabled != nil:
		what = "enable"
	case c.Password != nil:
		what = "reset"
	}
	return access.User{}, f.did(what)
}

func (f *fakeAccount) DeleteUser(_ context.Context, who access.Identity, _ int64) error {
	if err := f.allow(who, access.ManageUsers); err != nil {
		return err
	}
	return f.did("delete")
}

func (f *fakeAccount) Tokens(_ context.Context, who access.Identity) ([]access.Token, error) {
	soon, used := f.now.Add(20*24*time.Hour), f.now.Add(-3*time.Minute)
	past := f.now.Add(-24 * time.Hour)
	return []access.Token{
		{ID: 1, Name: "watch ip-10-0-3-17", Owner: "admin", Prefix: "cst_9fQ2", Scopes: []access.Scope{access.ReadAgents}, Created: f.now.Add(-26 * time.Hour), LastUsed: &used},
		{ID: 2, Name: "dashboard " + consoletest.HostileName, Owner: "mira", Prefix: "cst_Zk81", Scopes: []access.Scope{access.ReadEvents, access.ReadWorkloads}, Created: f.now.Add(-70 * 24 * time.Hour), Expires: &soon},
		{ID: 3, Name: "old export", Owner: "mira", Prefix: "cst_1aaB", Scopes: []access.Scope{access.ReadEvents}, Created: f.now.Add(-90 * 24 * time.Hour), Expires: &past},
	}, nil
}

func (f *fakeAccount) CreateToken(_ context.Context, who access.Identity, n account.NewToken) (access.Token, string, error) {
	if err := f.did("token " + n.Name); err != nil {
		return access.Token{}, "", err
	}
	return access.Token{ID: 9, Name: n.Name, Scopes: n.Scopes, Expires: n.Expires}, "cst_Secret-0123456789abcdefghijklmnopqrstuvwxyzAB", nil
}

func (f *fakeAccount) DeleteToken(context.Context, access.Identity, int64) error {
	return f.did("revoke")
}

func (f *fakeAccount) Audit(_ context.Context, who access.Identity, before int64, limit int) ([]access.Audit, error) {
	if err := f.allow(who, access.ReadAudit); err != nil {
		return nil, err
	}
	line := func(id int64, ago time.Duration, actor, action, target, outcome, detail string) access.Audit {
		return access.Audit{ID: id, Time: f.now.Add(-ago), Actor: actor, Address: "10.0.1.24", Action: action, Target: target, Outcome: outcome, Detail: detail}
	}
	return []access.Audit{
		line(7, time.Minute, "user:admin", "session.start", "user:admin", "done", ""),
		line(6, 2*time.Minute, "", "session.refused", consoletest.HostileName, "wrong password", ""),
		line(5, time.Hour, "user:admin", "user.create", "user:jun", "done", "role viewer"),
		line(4, 26*time.Hour, "local:0", "token.create", "watch ip-10-0-3-17", "done", "agents:read"),
		line(3, 27*time.Hour, "user:mira", "user.update", "user:auditor", "denied", "lacks users:manage"),
	}, nil
}
