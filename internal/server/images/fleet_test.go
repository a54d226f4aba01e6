package images_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strconv"
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
	"github.com/castellan-security/castellan/internal/server/intake"
	"github.com/castellan-security/castellan/internal/server/live"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	one   = "AGENTAAAAAAAA"
	two   = "AGENTBBBBBBBB"
	lease = 10 * time.Minute
)

var (
	operator = access.Identity{Actor: "user:otto", Scopes: access.Operator.Scopes()}
	viewer   = access.Identity{Actor: "user:vera", Scopes: access.Viewer.Scopes()}
	web      = imageID("1")
	worker   = imageID("2")
)

// theSalt is the installation's.
var theSalt = link.Salt("a salt of 27 bytes, of tests")

func imageID(digit string) string      { return "sha256:" + strings.Repeat(digit, 64) }
func containerID(letter string) string { return strings.Repeat(letter, 64) }

// fleet is what a server has of images, with a real database, in a bubble of
// synctest: when everybody waits, everything that an input causes has happened.
type fleet struct {
	t   *testing.T
	dir string
	*images.Service
	st         *db.DB
	hub        *direct.Hub
	intake     *intake.Intake
	conditions *live.Conditions
	stop       context.CancelFunc
	ended      chan struct{}
	nodes      []*node
	analysis   int          // that agents have; 0: they do not say
	moving     func(*db.DB) // behind each page that is read; nil: nothing
}

func inBubble(t *testing.T, play func(t *testing.T, f *fleet)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{t: t, dir: dir, analysis: scan.Analysis}
		f.start()
		defer f.end()
		play(t, f)
	})
}

// seen is the store as the service sees it.
func (f *fleet) seen(st *db.DB) images.Store {
	if f.moving == nil {
		return st
	}
	return movingStore{st, f.moving}
}

// movingStore is a store in which something happens behind each page that is read.
type movingStore struct {
	*db.DB
	moving func(*db.DB)
}

func (m movingStore) Images(ctx context.Context, q store.ImageQuery) ([]store.Image, error) {
	defer m.moving(m.DB)
	return m.DB.Images(ctx, q)
}

func (m movingStore) OwnedImages(ctx context.Context, after string) ([]store.OwnedImage, error) {
	defer m.moving(m.DB)
	return m.DB.OwnedImages(ctx, after)
}

func (f *fleet) start() {
	f.t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := db.Open(context.Background(), db.Options{Path: filepath.Join(f.dir, "castellan.db")}, log)
	if err != nil {
		f.t.Fatal(err)
	}
	f.st, f.conditions = st, live.NewConditions(time.Now)
	f.hub = direct.New(st, time.Now, log)
	f.intake = intake.New(st, live.NewTables(time.Now), live.NewFeed(), f.conditions, time.Now, log)
	f.Service, err = images.New(images.Options{
		Store: f.seen(st), Directions: f.hub, Joined: f.hub.Joined(), Advisories: f.advisories(), Clock: time.Now, Log: log, Salt: theSalt,
		Condition: func(ctx context.Context, part string, err error) {
			if err == nil || ctx.Err() == nil {
				f.conditions.Set(part, err)
			}
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.intake.Tell(f.Service)
	ctx, stop := context.WithCancel(context.Background())
	f.stop, f.ended = stop, make(chan struct{})
	go func() {
		defer close(f.ended)
		f.Run(ctx)
	}()
	synctest.Wait()
}

func (f *fleet) advisories() string { return filepath.Join(f.dir, "advisories.db") }

// end stops the server, as a signal does.
func (f *fleet) end() {
	for _, n := range f.nodes {
		n.leave()
	}
	f.nodes = nil
	f.stop()
	<-f.ended
	if err := f.st.Close(); err != nil {
		f.t.Error(err)
	}
}

func (f *fleet) restart() {
	f.end()
	f.start()
}

// node is an agent, as the server sees one.
type node struct {
	f    *fleet
	id   string
	stop context.CancelFunc
	done chan struct{}

	mu     sync.Mutex
	wishes []link.ScanWish
}

// join has an agent report workloads and listen.
func (f *fleet) join(id string, ws ...asset.Workload) *node {
	f.t.Helper()
	f.report(id, ws...)
	ctx, stop := context.WithCancel(context.Background())
	n := &node{f: f, id: id, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(n.done)
		_ = f.hub.Directives(ctx, link.Caller{AgentID: id}, func(d link.Directive) {
			if d.Kind == link.DirectiveScan {
				n.mu.Lock()
				defer n.mu.Unlock()
				n.wishes = append(n.wishes, *d.Scan)
			}
		})
	}()
	f.nodes = append(f.nodes, n)
	synctest.Wait()
	return n
}

// leave ends its stream: the agent is dead, or its network.
func (n *node) leave() {
	n.stop()
	<-n.done
}

// asked returns the images that it was asked to scan, in order.
func (n *node) asked() (ids []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.wishes {
		ids = append(ids, w.ImageID)
	}
	return ids
}

// wish returns the newest, of which there must be that many.
func (n *node) wish(count int) link.ScanWish {
	n.f.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.wishes) != count {
		n.f.t.Fatalf("agent %s was asked %d times, want %d", n.id, len(n.wishes), count)
	}
	return n.wishes[count-1]
}

func (n *node) wantAsked(count int, when string) {
	n.f.t.Helper()
	if got := len(n.asked()); got != count {
		n.f.t.Errorf("%s: asked %d times, want %d", when, got, count)
	}
}

// answers sends an inventory of packages.
func (n *node) answers(w link.ScanWish, packages ...inventory.Package) {
	n.f.t.Helper()
	if err := n.f.answer(n.id, w, packages...); err != nil {
		n.f.t.Fatal(err)
	}
	synctest.Wait()
}

func (f *fleet) answer(agentID string, w link.ScanWish, packages ...inventory.Package) error {
	f.t.Helper()
	inv := inventory.Inventory{
		Subject: inventory.Subject{Kind: inventory.KindImage, Name: w.Reference}, Analysis: f.analysis, Packages: packages,
		Image: &inventory.Image{ID: w.ImageID, Platform: inventory.Platform{OS: "linux", Architecture: "amd64"}, Layers: make([]inventory.Layer, 3)},
		OS:    inventory.OS{ID: "debian", Version: "11", Codename: "bullseye"},
	}
	return f.Inventory(context.Background(), link.Scanned{AgentID: agentID, Job: w.Job, ImageID: w.ImageID, Inventory: packed(f.t, inv)})
}

// garbage sends what is no inventory.
func (f *fleet) garbage(agentID string, w link.ScanWish) error {
	return f.Inventory(context.Background(), link.Scanned{AgentID: agentID, Job: w.Job, ImageID: w.ImageID, Inventory: []byte("inventory")})
}

// fails says that it could not.
func (n *node) fails(w link.ScanWish, why string, final bool) {
	n.f.t.Helper()
	err := n.f.Inventory(context.Background(), link.Scanned{
		AgentID: n.id, Job: w.Job, ImageID: w.ImageID, Error: why, Remedy: "free some space", Final: final,
	})
	if err != nil {
		n.f.t.Fatal(err)
	}
	synctest.Wait()
}

func packed(t testing.TB, inv inventory.Inventory) []byte {
	t.Helper()
	b, err := json.Marshal(inv)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	return z.EncodeAll(b, nil)
}

func (f *fleet) report(id string, ws ...asset.Workload) {
	f.t.Helper()
	abilities := []string{link.AbilityScan}
	if f.analysis > 0 {
		abilities = append(abilities, link.AbilityAnalysis+strconv.Itoa(f.analysis))
	}
	f.send(link.Report{Agent: asset.Agent{ID: id, Boot: "BOOTBOOT", Hostname: id, Abilities: abilities}, Workloads: ws})
}

func (f *fleet) send(r link.Report) {
	f.t.Helper()
	if _, err := f.intake.Report(context.Background(), r); err != nil {
		f.t.Fatal(err)
	}
	synctest.Wait()
}

func container(letter, image string) asset.Workload {
	return asset.Workload{
		ID: containerID(letter), Name: letter, State: asset.Running, Created: time.Now(), Updated: time.Now(),
		Image: asset.Image{Reference: "shop/" + image[7:8] + ":1", ID: image},
	}
}

// later lets time pass.
func later(d time.Duration) {
	time.Sleep(d) // of the bubble
	synctest.Wait()
}

func (f *fleet) image(id string) store.Image {
	f.t.Helper()
	m, err := f.st.Image(context.Background(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	return m
}

// found returns the findings of an image as "CVE package", in their order.
func (f *fleet) found(q store.VulnerabilityQuery) (all []string) {
	f.t.Helper()
	q.Limit = store.MaxPage
	vs, err := f.st.Vulnerabilities(context.Background(), q)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, v := range vs {
		all = append(all, v.ID+" "+v.Package.Name)
	}
	return all
}

func (f *fleet) status() images.Status {
	f.t.Helper()
	st, err := f.Status(context.Background())
	if err != nil {
		f.t.Fatal(err)
	}
	return st
}

// condition returns what is wrong with a part; "" when it is well.
func (f *fleet) condition(part string) string {
	for _, c := range f.conditions.List() {
		if c.Name == part {
			return c.What
		}
	}
	return ""
}

func wantKind(t *testing.T, err error, k fault.Kind) {
	t.Helper()
	if !fault.Is(err, k) {
		t.Errorf("got %v, want %s", err, k)
	}
}

// Packages that the advisories which come with the program know.
var (
	django  = pypi("django", "2.2.0")
	xnet    = inventory.Package{Type: "golang", Name: "golang.org/x/net", Version: "v0.7.0", Ecosystem: "Go", Places: []inventory.Place{{Path: "/usr/local/bin/app"}}, Found: inventory.Compiled}
	openssl = inventory.Package{
		Type: "deb", Namespace: "debian", Name: "libssl1.1", Version: "1.1.1k-1", Arch: "amd64", Ecosystem: "Debian:11",
		Source: inventory.Source{Name: "openssl", Version: "1.1.1k-1"}, Files: []string{"/usr/lib/x86_64-linux-gnu/libssl.so.1.1"},
		Places: []inventory.Place{{Path: "/var/lib/dpkg/status", Layer: 1}}, Found: inventory.Installed,
	}
	unknown = inventory.Package{Type: "generic", Name: "thing", Version: "1", Places: []inventory.Place{{Path: "/opt/thing"}}}
)

func pypi(name, version string) inventory.Package {
	return inventory.Package{
		Type: "pypi", Name: name, Version: version, Ecosystem: "PyPI", Found: inventory.Installed,
		Places: []inventory.Place{{Path: "/usr/lib/python3/site-packages/" + name + "-" + version + ".dist-info/METADATA", Layer: 2}},
	}
}

// group is that of a workload, as it was stored.
func (f *fleet) group(id string) asset.Group {
	f.t.Helper()
	w, err := f.st.Workload(context.Background(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	return w.Group
}
