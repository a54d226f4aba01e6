package console_test

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/server/images"
	"github.com/castellan-security/castellan/internal/store"
)

// imageOf is an image of the shop as a store has it.
func (f *fakeStore) imageOf(m consoletest.Image) store.Image {
	out := store.Image{ID: m.ID, References: []string{m.Reference}, Digest: m.Digest, Seen: m.Seen, Scan: store.Scan{State: store.ScanWaiting}}
	for _, w := range f.shop.Workloads {
		if w.Image.ID == m.ID {
			out.Workloads++
			if w.State == asset.Running {
				out.Running++
			}
		}
	}
	switch {
	case m.Inside != nil:
		out.OS, out.Platform, out.Layers, out.Packages, out.Problems = m.Inside.OS, m.Inside.Image.Platform, len(m.Inside.Image.Layers), len(m.Inside.Packages), m.Inside.Problems
		out.Scan = store.Scan{State: store.ScanDone, Agent: consoletest.AgentID, Done: m.Seen.Add(time.Minute), Matched: m.Seen.Add(2 * time.Minute), Database: "g1", Gaps: 1, Analysis: m.Inside.Analysis}
	case m.Gone:
		out.Scan = store.Scan{State: store.ScanGone}
	case m.Scanning:
		out.Scan = store.Scan{State: store.ScanRunning, Agent: consoletest.AgentID, Tries: 1, Next: m.Seen.Add(31 * time.Hour)}
	case m.Final:
		out.Scan = store.Scan{State: store.ScanFailed, Agent: consoletest.AgentID, Tries: 3, Error: m.Failed}
	case m.Failed != "":
		out.Scan = store.Scan{State: store.ScanWaiting, Agent: consoletest.Agent2ID, Tries: 1, Error: m.Failed, Next: m.Seen.Add(3 * time.Hour)}
	}
	for i := range f.judged(m) {
		switch j := &f.judged(m)[i]; {
		case j.Accepted != nil:
		case j.Kind == store.KindSecret:
			out.Counts.Secrets++
		case j.Kind == store.KindFault:
			out.Counts.Faults++
		case j.Kind == store.KindMalware:
			out.Counts.Malware++
		}
	}
	for i := range m.Findings {
		f.count(&out.Counts, m.ID, &m.Findings[i])
	}
	return out
}

func (f *fakeStore) count(c *store.Counts, imageID string, v *finding.Vulnerability) {
	if f.acceptedBy(v, imageID) != nil {
		c.Accepted++
		return
	}
	*map[finding.Severity]*int{
		finding.Critical: &c.Critical, finding.High: &c.High, finding.Medium: &c.Medium,
		finding.Low: &c.Low, finding.Negligible: &c.Negligible, finding.Unknown: &c.Unknown,
	}[v.Severity]++
	for n, yes := range map[*int]bool{&c.Fixable: v.Fixed != "", &c.Exploited: v.KEV != nil, &c.InUse: v.InUse} {
		if yes {
			*n++
		}
	}
}

// acceptedBy returns the acceptance that holds for a finding, nil for none.
func (f *fakeStore) acceptedBy(v *finding.Vulnerability, imageID string) *finding.Acceptance {
	for _, a := range f.acceptances {
		if a.Kind == "" && a.Ended.IsZero() && a.Vulnerability == v.ID && (a.Package == "" || a.Package == v.Package.FullName()) && (a.Image == "" || a.Image == imageID) && a.Expires.After(f.now) {
			return &finding.Acceptance{Reason: a.Reason, By: a.By, Expires: a.Expires}
		}
	}
	return nil
}

func (f *fakeStore) Image(_ context.Context, id string) (store.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(); err != nil {
		return store.Image{}, err
	}
	for _, m := range f.shop.Images {
		if m.ID == id {
			return f.imageOf(m), nil
		}
	}
	return store.Image{}, fault.New(fault.NotFound, "no image has the id %q", id)
}

func (f *fakeStore) Images(_ context.Context, q store.ImageQuery) ([]store.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(); err != nil {
		return nil, err
	}
	var out []store.Image
	behind := q.After == ""
	for _, m := range f.shop.Images {
		one := f.imageOf(m)
		if behind && (q.State == "" || q.State == one.Scan.State) && (!q.Running || one.Running > 0) && strings.Contains(m.ID+m.Reference+m.Digest, q.Text) {
			out = append(out, one)
		}
		behind = behind || m.ID == q.After
	}
	if !behind {
		return nil, fault.New(fault.Invalid, "no image %q to continue behind", q.After)
	}
	return out[:min(len(out), q.Limit)], nil
}

func (f *fakeStore) Inventory(_ context.Context, id string) (inventory.Inventory, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(); err != nil {
		return inventory.Inventory{}, err
	}
	for _, m := range f.shop.Images {
		if m.ID == id && m.Inside != nil {
			return *m.Inside, nil
		}
	}
	return inventory.Inventory{}, fault.New(fault.NotFound, "the image was not scanned yet")
}

// find returns the findings that a query asks for, in the order of the shop.
func (f *fakeStore) find(q store.VulnerabilityQuery) (out []store.ImageVulnerability) {
	for _, m := range f.shop.Images {
		runs := f.imageOf(m).Running > 0
		for _, v := range m.Findings {
			v.Accepted = f.acceptedBy(&v, m.ID)
			if (q.ImageID == "" || q.ImageID == m.ID) && (q.ID == "" || q.ID == v.ID || slices.Contains(v.Aliases, q.ID)) &&
				(q.Package == "" || q.Package == v.Package.FullName()) && v.Severity >= q.Severity && (!q.Fixable || v.Fixed != "") &&
				(!q.Exploited || v.KEV != nil) && (!q.InUse || v.InUse) && (!q.Running || runs) && q.Accepted == (v.Accepted != nil) &&
				strings.Contains(v.ID+v.Package.FullName()+v.Summary, q.Text) {
				out = append(out, store.ImageVulnerability{Vulnerability: v, ImageID: m.ID, First: m.Seen})
			}
		}
	}
	return out
}

func (f *fakeStore) Vulnerabilities(_ context.Context, q store.VulnerabilityQuery) ([]store.ImageVulnerability, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(); err != nil {
		return nil, err
	}
	out := f.find(q)
	out = out[min(q.Offset, len(out)):]
	return out[:min(len(out), q.Limit)], nil
}

func (f *fakeStore) Weaknesses(_ context.Context, q store.VulnerabilityQuery) ([]store.Weakness, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(); err != nil {
		return nil, err
	}
	sum := map[string]*store.Weakness{}
	where := map[string]map[string]bool{}
	for _, v := range f.find(q) {
		w := sum[v.ID]
		if w == nil {
			w = &store.Weakness{ID: v.ID, Summary: v.Summary, First: v.First}
			sum[v.ID], where[v.ID] = w, map[string]bool{}
		}
		w.Severity = max(w.Severity, v.Severity)
		w.Exploited, w.InUse, w.Fixable = w.Exploited || v.KEV != nil, w.InUse || v.InUse, w.Fixable || v.Fixed != ""
		if v.EPSS != nil {
			w.EPSS = float64(v.EPSS.EPSS)
		}
		if name := v.Package.FullName(); !slices.Contains(w.Packages, name) {
			w.Packages = append(w.Packages, name)
			if v.Fixed != "" {
				w.Fixed = append(w.Fixed, name+" "+v.Fixed)
			}
		}
		where[v.ID][v.ImageID] = true
	}
	for _, m := range f.shop.Images {
		for id, w := range sum {
			if where[id][m.ID] {
				w.Images++
				w.Workloads += f.imageOf(m).Running
			}
		}
	}
	out := make([]store.Weakness, 0, len(sum))
	for _, id := range slices.Sorted(maps.Keys(sum)) {
		out = append(out, *sum[id])
	}
	slices.SortStableFunc(out, func(a, b store.Weakness) int { return cmp.Compare(b.Severity, a.Severity) })
	out = out[min(q.Offset, len(out)):]
	return out[:min(len(out), q.Limit)], nil
}

// fakeImages keeps acceptances in the fake store and remembers what it was asked.
type fakeImages struct {
	store    *fakeStore
	accounts *fakeAccount
	status   images.Status
	refuse   error

	mu      sync.Mutex
	waiting []chan struct{}
}

// shopAcceptances are what was decided in the shop.
func shopAcceptances(now time.Time) []store.Acceptance {
	day := 24 * time.Hour
	return []store.Acceptance{
		{ID: 4, Vulnerability: "CVE-2020-0001", Reason: consoletest.HostileArg, By: consoletest.HostileName, Package: consoletest.HostileName, Image: consoletest.HostileReference, Created: now.Add(-day), Expires: now.Add(90 * day)},
		{ID: 3, Vulnerability: "CVE-2024-0727", Package: "openssl", Reason: "the program never opens PKCS12 files", By: "user:mira", Created: now.Add(-25 * day), Expires: now.Add(5 * day)},
		{ID: 2, Vulnerability: "CVE-2023-3817", Image: consoletest.ImageID("storefront:2.4.1"), Reason: "waits for the next base image", By: "user:mira", Created: now.Add(-90 * day), Expires: now.Add(-2 * day)},
		{ID: 1, Vulnerability: "CVE-2023-5363", Reason: "thought to be unreachable", By: "user:admin", Created: now.Add(-120 * day), Expires: now.Add(30 * day), Ended: now.Add(-80 * day), EndedBy: "user:mira"},
	}
}

func (f *fakeImages) Accept(_ context.Context, who access.Identity, n images.NewAcceptance) (store.Acceptance, error) {
	if err := f.accounts.allow(who, access.ManageImages); err != nil {
		return store.Acceptance{}, err
	}
	if f.refuse != nil {
		return store.Acceptance{}, f.refuse
	}
	f.store.mu.Lock()
	a := store.Acceptance{ID: int64(len(f.store.acceptances) + 1), Kind: n.Kind, Rule: n.Rule, Path: n.Path, Vulnerability: n.Vulnerability, Package: n.Package, Image: n.Image, Reason: n.Reason, By: who.Actor, Expires: n.Expires}
	f.store.acceptances = append([]store.Acceptance{a}, f.store.acceptances...)
	f.store.mu.Unlock()
	f.touch()
	return a, f.accounts.did("accept " + n.Vulnerability + n.Rule + n.Path + " in " + n.Package + " of " + n.Image + " until " + n.Expires.UTC().Format(time.DateTime) + ": " + n.Reason)
}

func (f *fakeImages) EndAcceptance(_ context.Context, who access.Identity, id int64) (store.Acceptance, error) {
	if err := f.accounts.allow(who, access.ManageImages); err != nil {
		return store.Acceptance{}, err
	}
	return store.Acceptance{}, f.accounts.did("end " + strconv.FormatInt(id, 10))
}

func (f *fakeImages) Acceptances(_ context.Context, who access.Identity) ([]store.Acceptance, error) {
	return f.store.acceptances, f.accounts.allow(who, access.ReadImages)
}

func (f *fakeImages) Rescan(_ context.Context, who access.Identity, id string) error {
	if err := f.accounts.allow(who, access.ManageImages); err != nil {
		return err
	}
	return f.accounts.did("scan " + id)
}

func (f *fakeImages) Status(context.Context) (images.Status, error) { return f.status, nil }

func (f *fakeImages) Changed(context.Context, string) (<-chan struct{}, error) {
	c := make(chan struct{}, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting = append(f.waiting, c)
	return c, nil
}

// touch tells who follows that something changed.
func (f *fakeImages) touch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.waiting {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// newImages is the shop's scanning: its advisories are three days old.
func newImages(s *fakeStore, accounts *fakeAccount) *fakeImages {
	f := &fakeImages{store: s, accounts: accounts, status: images.Status{
		Database: images.Database{Generation: "g1", Built: s.now.Add(-3 * 24 * time.Hour)},
	}}
	for _, m := range s.shop.Images {
		switch one := s.imageOf(m); one.Scan.State {
		case store.ScanDone:
			f.status.Done++
		case store.ScanRunning:
			f.status.Running++
		case store.ScanFailed:
			f.status.Failed++
		case store.ScanWaiting:
			f.status.Waiting++
		}
	}
	return f
}
