package registries_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/server/direct"
	"github.com/castellan-security/castellan/internal/server/images"
	"github.com/castellan-security/castellan/internal/server/live"
	"github.com/castellan-security/castellan/internal/server/registries"
	"github.com/castellan-security/castellan/internal/store"
)

var (
	operator = access.Identity{Actor: "user:otto", Scopes: access.Operator.Scopes()}
	viewer   = access.Identity{Actor: "user:vera", Scopes: access.Viewer.Scopes()}
)

// digest is the digest of manifest n; the image's own id has another first digit.
func digest(n int) string  { return fmt.Sprintf("sha256:a%063x", n) }
func imageID(n int) string { return fmt.Sprintf("sha256:b%063x", n) }

// crowd counts who is somewhere at once.
type crowd struct {
	mu        sync.Mutex
	now, most int
}

func (c *crowd) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now++
	c.most = max(c.most, c.now)
}

func (c *crowd) counts() (now, most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now, c.most
}

func (c *crowd) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now--
}

// hub is a registry as doors show it: repositories with tags of images, which are
// numbers.
type hub struct {
	mu       sync.Mutex
	holds    map[string]map[string]int
	built    map[int]time.Time
	failing  map[string]error // by repository; "" is the catalogue; "scan" the scans
	asked    map[string]int   // by repository; "" is the catalogue
	resolved int
	scanned  []int
	wanted   []inventory.Platform // of the last resolve
	changes  chan []asset.RegistryChange
	taken    int
	analysis int // of what the scans find
	budget   int // of resolves until they are refused; below zero there is none
	listing  crowd
	reading  crowd // of readers of queues
	// slow keeps listings from ending until it is closed; nil doesn't.
	slow chan struct{}
	// stuck keeps scans from ending until it is closed; nil doesn't.
	stuck chan struct{}
}

func newHub() *hub {
	return &hub{
		holds: map[string]map[string]int{}, built: map[int]time.Time{}, failing: map[string]error{}, asked: map[string]int{},
		changes: make(chan []asset.RegistryChange, 1), analysis: scan.Analysis, budget: -1,
	}
}

// push makes a tag name an image.
func (h *hub) push(repository, tag string, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.holds[repository] == nil {
		h.holds[repository] = map[string]int{}
	}
	h.holds[repository][tag] = n
}

func (h *hub) remove(repository, tag string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.holds[repository], tag)
	if len(h.holds[repository]) == 0 {
		delete(h.holds, repository)
	}
}

// fail has something end in an error: the listing of a repository, the catalogue
// (""), the scans ("scan"), all that is read ("resolve"), of one repository
// ("resolve shop") or of one image ("resolve #1"). The listing goes on after a tag
// ("tag shop:1").
func (h *hub) fail(what string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failing[what] = err
}

// change changes anything of a hub.
func (h *hub) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

// lookups returns how often images were looked up.
func (h *hub) lookups() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.resolved
}

func (h *hub) times(repository string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked[repository]
}

// Repositories is registries.Lister.
func (h *hub) Repositories(context.Context, asset.Registry) iter.Seq2[string, error] {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked[""]++
	names, err := slices.Sorted(maps.Keys(h.holds)), h.failing[""]
	return func(yield func(string, error) bool) {
		if err != nil {
			yield("", err)
			return
		}
		for _, n := range names {
			if !yield(n, nil) {
				return
			}
		}
	}
}

// Images is registries.Lister.
func (h *hub) Images(_ context.Context, _ asset.Registry, repository string, want func(string) bool) iter.Seq2[asset.RegistryImage, error] {
	h.mu.Lock()
	slow := h.slow
	h.mu.Unlock()
	if slow != nil {
		h.listing.begin()
		<-slow // whatever becomes of who asks
		h.listing.end()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked[repository]++
	all, err := maps.Clone(h.holds[repository]), h.failing[repository]
	for tag := range all {
		if lost := h.failing["tag "+repository+":"+tag]; lost != nil {
			delete(all, tag)
			return some(repository, all, lost, want)
		}
	}
	if err != nil {
		return some(repository, nil, err, want)
	}
	return some(repository, all, nil, want)
}

// some yields images, and then an error unless that is nil.
func some(repository string, all map[string]int, err error, want func(string) bool) iter.Seq2[asset.RegistryImage, error] {
	return func(yield func(asset.RegistryImage, error) bool) {
		for _, tag := range slices.Sorted(maps.Keys(all)) {
			if want(tag) && !yield(asset.RegistryImage{Repository: repository, Digest: digest(all[tag]), Tags: []string{tag}}, nil) {
				return
			}
		}
		if err != nil {
			yield(asset.RegistryImage{}, err)
		}
	}
}

// Receive is registries.Queue.
func (h *hub) Receive(ctx context.Context, _ asset.Registry) ([]asset.RegistryChange, func(context.Context) error, error) {
	h.reading.begin()
	defer h.reading.end()
	select {
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case c := <-h.changes:
		return c, func(context.Context) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.taken++
			return nil
		}, nil
	}
}

// Resolve is registries.Images.
func (h *hub) Resolve(_ context.Context, _ asset.Registry, repository, d string, wanted []inventory.Platform) ([]registries.Found, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.resolved++
	h.wanted = wanted
	if h.budget == 0 {
		return nil, fault.New(fault.Exhausted, "429 Too Many Requests")
	}
	h.budget--
	var n int
	if _, err := fmt.Sscanf(d, "sha256:a%x", &n); err != nil {
		return nil, err
	}
	if err := cmp.Or(h.failing["resolve"], h.failing["resolve "+repository], h.failing[fmt.Sprint("resolve #", n)]); err != nil {
		return nil, err
	}
	return []registries.Found{{ID: imageID(n), Manifest: d, Platform: wanted[0], Created: h.built[n]}}, nil
}

// Scan is registries.Images: every image has a package with known vulnerabilities.
func (h *hub) Scan(ctx context.Context, _ asset.Registry, _ string, f registries.Found) ([]byte, error) {
	h.mu.Lock()
	stuck := h.stuck
	h.mu.Unlock()
	if stuck != nil {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-stuck:
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var n int
	if _, err := fmt.Sscanf(f.ID, "sha256:b%x", &n); err != nil {
		return nil, err
	}
	if err := h.failing["scan"]; err != nil {
		return nil, err
	}
	h.scanned = append(h.scanned, n)
	b, err := json.Marshal(inventory.Inventory{Analysis: h.analysis, Packages: []inventory.Package{{
		Type: "golang", Name: "golang.org/x/net", Version: "v0.7.0", Ecosystem: "Go", Places: []inventory.Place{{Path: "/app", Layer: 1}},
	}}})
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return z.EncodeAll(b, nil), nil
}

// flaky is a store that does not do some things a number of times.
type flaky struct {
	*db.DB
	mu    sync.Mutex
	fails map[string]int
	read  chan struct{} // closed to let go on who has read a registry
}

func (f *flaky) fail(what string, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails[what] = times
}

func (f *flaky) meet(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails[what]--; f.fails[what] >= 0 {
		return fault.New(fault.Unavailable, "the store is busy")
	}
	return nil
}

// Registry is store.RegistrySettings.
func (f *flaky) Registry(ctx context.Context, name string) (store.WatchedRegistry, error) {
	r, err := f.DB.Registry(ctx, name)
	if f.meet("registry") != nil {
		<-f.read
	}
	return r, err
}

// EndRegistryScan is store.RegistryScans.
func (f *flaky) EndRegistryScan(ctx context.Context, id int64, e store.RegistryScanEnd) error {
	if err := f.meet("end"); err != nil {
		return err
	}
	return f.DB.EndRegistryScan(ctx, id, e)
}

// unstored is what takes the images' scans, with a store that is flaky.
type unstored struct {
	*images.Service
	flaky *flaky
}

// Inventory is registries.Answers.
func (u unstored) Inventory(ctx context.Context, a link.Scanned) error {
	if err := u.flaky.meet("inventory"); err != nil {
		return err
	}
	return u.Service.Inventory(ctx, a)
}

// world is a server's watch over one hub, with a real database and the real
// service of images, in a bubble of synctest.
type world struct {
	t   *testing.T
	dir string
	*hub
	*registries.Service
	st         *db.DB
	flaky      *flaky
	images     *images.Service
	conditions *live.Conditions
	stop       context.CancelFunc
	ended      sync.WaitGroup
}

func inBubble(t *testing.T, play func(t *testing.T, w *world)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC))) // a bubble begins before there were images
		w := &world{t: t, dir: dir, hub: newHub(), flaky: &flaky{fails: map[string]int{}}}
		w.start()
		defer w.end()
		play(t, w)
	})
}

func (w *world) start() {
	w.t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := db.Open(context.Background(), db.Options{Path: filepath.Join(w.dir, "c.db"), ProcessCrashOnly: true}, log)
	if err != nil {
		w.t.Fatal(err)
	}
	w.st, w.conditions = st, live.NewConditions(time.Now)
	condition := func(ctx context.Context, part string, err error) {
		if err == nil || ctx.Err() == nil {
			w.conditions.Set(part, err)
		}
	}
	directions := direct.New(st, time.Now, log)
	w.images, err = images.New(images.Options{
		Store: st, Directions: directions, Joined: directions.Joined(), Condition: condition, Clock: time.Now, Log: log,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.flaky.DB = st
	w.Service = registries.New(registries.Options{
		Store: w.flaky, Scanning: unstored{w.images, w.flaky}, Scans: 1, Analysis: scan.Analysis, Condition: condition, Clock: time.Now, Log: log,
		Doors: registries.Doors{
			Listers: map[asset.RegistryKind]registries.Lister{asset.RegistryOCI: w.hub, asset.RegistryECR: w.hub}, Queue: w.hub, Images: w.hub,
			Webhook: func(body []byte, _ string) (all []asset.RegistryChange, err error) {
				err = json.Unmarshal(body, &all)
				return all, err
			},
		},
	})
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.ended.Go(func() { w.images.Run(ctx) })
	w.ended.Go(func() { w.Service.Run(ctx) })
	synctest.Wait()
}

func (w *world) end() {
	w.stop()
	w.ended.Wait()
	if err := w.st.Close(); err != nil {
		w.t.Error(err)
	}
}

// pass lets time go by and everything happen that is due then.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// watch has the hub watched.
func (w *world) watch(change ...func(*registries.Spec)) (token string) {
	w.t.Helper()
	s := registries.Spec{Name: "hub", Host: "hub.example"}
	for _, f := range change {
		f(&s)
	}
	_, token, err := w.Create(w.t.Context(), operator, s, true)
	if err != nil {
		w.t.Fatal(err)
	}
	w.pass(time.Minute)
	return token
}

// entries returns repository, number, tags and state of what is known.
func (w *world) entries() (out []string) {
	w.t.Helper()
	all, err := w.st.RegistryImages(w.t.Context(), store.RegistryImageQuery{Limit: store.MaxPage})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range all {
		var n int
		if _, err := fmt.Sscanf(e.Digest, "sha256:a%x", &n); err != nil {
			w.t.Fatal(err)
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %d %s %s", e.Repository, n, strings.Join(e.Tags, ","), e.State)))
	}
	slices.Sort(out)
	return out
}

func (w *world) want(what string, want ...string) {
	w.t.Helper()
	if got := w.entries(); !slices.Equal(got, want) {
		w.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}
