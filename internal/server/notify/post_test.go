package notify_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/server/live"
	"github.com/castellan-security/castellan/internal/server/notify"
	"github.com/castellan-security/castellan/internal/store"
)

var (
	operator = access.Identity{Actor: "user:otto", Scopes: access.Operator.Scopes()}
	viewer   = access.Identity{Actor: "user:vera", Scopes: access.Viewer.Scopes()}
)

// post is a server's notifications with a real database, in a bubble of
// synctest: when everybody waits, all that follows from something has happened.
type post struct {
	t   *testing.T
	dir string
	*notify.Service
	st         *db.DB
	conditions *live.Conditions
	stop       context.CancelFunc
	ended      chan struct{}
	scans      int

	mu   sync.Mutex
	away error // what every sending ends with
	sent []sending
	slow map[string]chan struct{}
}

// sending is one that got through, or, with failed, did not.
type sending struct {
	d      notice.Destination
	n      notice.Notification
	body   string
	at     time.Time
	failed bool
}

func inBubble(t *testing.T, play func(t *testing.T, p *post)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := &post{t: t, dir: dir, slow: map[string]chan struct{}{}}
		p.start()
		defer p.end()
		play(t, p)
	})
}

// Check is notify.Sender.
func (p *post) Check(d notice.Destination) (string, error) {
	if d.URL == "" {
		return "", fault.New(fault.Invalid, "url: there is none")
	}
	return "shown", nil
}

// Send is notify.Sender.
func (p *post) Send(ctx context.Context, d notice.Destination, n notice.Notification, body []byte) error {
	p.mu.Lock()
	slow := p.slow[d.URL]
	p.mu.Unlock()
	if slow != nil {
		select {
		case <-slow:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, sending{d, n, string(body), time.Now(), p.away != nil})
	return p.away
}

func (p *post) fails(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = err
}

// slows keeps sendings to a webhook from ending until the channel is closed; nil
// doesn't.
func (p *post) slows(name string, until chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slow["https://"+name] = until
}

// takes returns what was sent since the last time.
func (p *post) takes() []sending {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.sent
	p.sent = nil
	return all
}

// took returns the notices that got through since the last time, in short.
func (p *post) took() string {
	var out []string
	for _, s := range p.takes() {
		var of []string
		for _, n := range s.n.Notices {
			one := ""
			if n.Image != nil {
				one = strings.TrimPrefix(n.Image.References[0], "shop/")
			}
			for _, f := range n.Findings {
				one += fmt.Sprintf(" %s %s", f.Reason, f.ID)
			}
			of = append(of, one)
		}
		out = append(out, strings.Join(of, "; "))
	}
	return strings.Join(out, " | ")
}

func (p *post) start() {
	p.t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := db.Open(context.Background(), db.Options{Path: filepath.Join(p.dir, "castellan.db"), ProcessCrashOnly: true}, log)
	if err != nil {
		p.t.Fatal(err)
	}
	p.st, p.conditions = st, live.NewConditions(time.Now)
	p.Service, err = notify.New(notify.Options{
		Store: st, Sender: p, KeyFile: filepath.Join(p.dir, "notify.key"), Console: func() string { return "https://c" }, Clock: time.Now, Log: log,
		Condition: func(ctx context.Context, part string, err error) {
			if err == nil || ctx.Err() == nil {
				p.conditions.Set(part, err)
			}
		},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop, p.ended = stop, make(chan struct{})
	go func() {
		defer close(p.ended)
		p.Run(ctx)
	}()
	synctest.Wait()
}

func (p *post) end() {
	p.stop()
	<-p.ended
	if err := p.st.Close(); err != nil {
		p.t.Error(err)
	}
}

func (p *post) restart() {
	p.end()
	p.start()
}

// later lets time pass.
func later(d time.Duration) {
	time.Sleep(d) // of the bubble
	synctest.Wait()
}

// add adds a webhook with a filter.
func (p *post) add(name string, f notice.Filter) notice.Target {
	p.t.Helper()
	return p.addTarget(notify.NewTarget{Name: name, Filter: f})
}

// addTarget adds a webhook.
func (p *post) addTarget(n notify.NewTarget) notice.Target {
	p.t.Helper()
	n.Destination = notice.Destination{Type: notice.Webhook, URL: "https://" + n.Name}
	t, _, err := p.Add(p.t.Context(), operator, n)
	if err != nil {
		p.t.Fatal(err)
	}
	return t
}

func (p *post) state() notice.State {
	p.t.Helper()
	all, err := p.Targets(p.t.Context(), viewer)
	if err != nil || len(all) != 1 {
		p.t.Fatalf("targets %v, %v", all, err)
	}
	return all[0].State
}

// condition returns what is wrong with a part; "" when it is well.
func (p *post) condition(part string) string {
	for _, c := range p.conditions.List() {
		if c.Name == part {
			return c.What
		}
	}
	return ""
}

func imageID(n int) string { return fmt.Sprintf("sha256:%064d", n) }

// image makes a scanned image that runs in a group, if there is one, and was
// compared before.
func (p *post) image(n int, group string, vs ...finding.Vulnerability) {
	p.t.Helper()
	ctx, now := context.Background(), time.Now()
	w := asset.Workload{
		ID: fmt.Sprintf("%064d", n), AgentID: "a", State: asset.Exited, Created: now, Updated: now, Group: asset.Group(group),
		Image: asset.Image{ID: imageID(n), Reference: fmt.Sprintf("shop/%d:1", n)},
	}
	if group != "" {
		w.State = asset.Running
	}
	if err := p.st.PutWorkloads(ctx, []asset.Workload{w}); err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.st.NoteImages(ctx, []store.Image{{ID: imageID(n), References: []string{w.Image.Reference}}}, now); err != nil {
		p.t.Fatal(err)
	}
	m, err := p.st.LeaseScan(ctx, store.Lease{AgentID: "a", Job: "j", Now: now, Until: now.Add(time.Hour)})
	if err != nil || m.ID != imageID(n) {
		p.t.Fatalf("leased %s, %v", m.ID, err)
	}
	if err := p.st.PutInventory(ctx, m.ID, "j", inventory.Inventory{Packages: []inventory.Package{}}, now); err != nil {
		p.t.Fatal(err)
	}
	p.compared(n, vs...)
}

// compared stores what a comparison found.
func (p *post) compared(n int, vs ...finding.Vulnerability) {
	p.t.Helper()
	p.scans++
	f := store.ImageFindings{ImageID: imageID(n), Database: fmt.Sprint("g", p.scans), Matched: time.Now(), Vulnerabilities: vs}
	if err := p.st.PutFindings(context.Background(), f); err != nil {
		p.t.Fatal(err)
	}
	p.Nudge()
	synctest.Wait()
}

func found(id string, s finding.Severity, change ...func(*finding.Vulnerability)) finding.Vulnerability {
	v := finding.Vulnerability{
		ID: id, Severity: s, State: finding.Fixable, Fixed: "2", Remedy: "move zlib to 2.",
		Package: inventory.Package{Type: "deb", Name: "zlib", Version: "1"},
	}
	for _, f := range change {
		f(&v)
	}
	v.Print()
	return v
}

func unfixed(v *finding.Vulnerability)  { v.State, v.Fixed = finding.Unfixed, "" }
func accepted(v *finding.Vulnerability) { v.Accepted = &finding.Acceptance{Reason: "r"} }

var errAway = fault.New(fault.Unavailable, "soc answered 500").With("look at its log")

func (s sending) notification(t *testing.T) (n notice.Notification) {
	t.Helper()
	if err := json.Unmarshal([]byte(s.body), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func wantKind(t *testing.T, err error, k fault.Kind) {
	t.Helper()
	if !fault.Is(err, k) {
		t.Errorf("got %v, want %s", err, k)
	}
}
