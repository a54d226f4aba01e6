package storetest

import (
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/store"
)

// watched creates a registry.
func (k *kit) watched(name string) {
	k.Helper()
	k.ok(k.st.CreateRegistry(k.ctx, store.WatchedRegistry{
		Registry: asset.Registry{Name: name, Kind: asset.RegistryOCI, Host: name + ".example"}, Created: base(),
	}))
}

// held is image n of a repository, as a listing has it.
func held(n int, tags ...string) store.ListedImage {
	return store.ListedImage{RegistryImage: asset.RegistryImage{
		Digest: fmt.Sprintf("sha256:%064x", n), Tags: tags, Pushed: base().Add(time.Duration(n) * time.Hour), Size: int64(n),
	}}
}

// listed stores what a repository of the registry "hub" holds.
func (k *kit) listed(after time.Duration, repository string, images ...store.ListedImage) store.ListingChange {
	k.Helper()
	c, err := k.st.PutListing(k.ctx, store.Listing{Registry: "hub", Repository: repository, At: base().Add(after), Images: images})
	k.ok(err)
	return c
}

// entries returns repository, number of the image and state of each.
func (k *kit) entries(q store.RegistryImageQuery) (out []string) {
	k.Helper()
	all, err := k.st.RegistryImages(k.ctx, q)
	k.ok(err)
	for _, e := range all {
		var n int
		if _, err := fmt.Sscanf(e.Digest, "sha256:%x", &n); err != nil {
			k.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %d %s", e.Repository, n, e.State))
	}
	return out
}

func (k *kit) takeEntry(after time.Duration) store.RegistryImage {
	k.Helper()
	e, err := k.st.TakeRegistryScan(k.ctx, base().Add(after), nil)
	k.ok(err)
	return e
}

func registryCases() []testCase {
	return []testCase{
		{"created, changed, deleted", func(k *kit) {
			r := store.WatchedRegistry{
				Registry: asset.Registry{Name: "hub", Kind: asset.RegistryECR, Host: "hub.example", Tags: []string{"v*"}, Keep: 3, MaxAge: time.Hour},
				Webhook:  []byte{1, 2}, Created: base(),
			}
			k.ok(k.st.CreateRegistry(k.ctx, r))
			k.wantFault(k.st.CreateRegistry(k.ctx, r), fault.Conflict)
			k.watched("attic")
			got, err := k.st.Registry(k.ctx, "hub")
			k.ok(err)
			same(k, "registry", got, r)
			poll := store.RegistryPoll{Begun: base(), Ended: base(), Next: base().Add(time.Hour), Error: "away", Remedy: "wait", Tries: 2}
			k.ok(k.st.PutRegistryPoll(k.ctx, "hub", poll))
			r.Tags, r.Webhook = nil, nil
			k.ok(k.st.UpdateRegistry(k.ctx, r))
			r.Poll = poll
			all, err := k.st.Registries(k.ctx)
			k.ok(err)
			if len(all) != 2 || all[0].Name != "attic" {
				k.Fatalf("got %+v", all)
			}
			same(k, "changed registry", all[1], r)
			k.ok(k.st.DeleteRegistry(k.ctx, "hub"))
			_, err = k.st.Registry(k.ctx, "hub")
			k.wantFault(err, fault.NotFound)
			k.wantFault(k.st.DeleteRegistry(k.ctx, "hub"), fault.NotFound)
			k.wantFault(k.st.UpdateRegistry(k.ctx, r), fault.NotFound)
			k.wantFault(k.st.PutRegistryPoll(k.ctx, "hub", poll), fault.NotFound)
		}},
		{"what is deleted is forgotten, and stored no more", func(k *kit) {
			k.watched("hub")
			k.listed(0, "shop", held(1))
			k.ok(k.st.DeleteRegistry(k.ctx, "hub"))
			same(k, "images", len(k.entries(store.RegistryImageQuery{})), 0)
			_, err := k.st.PutListing(k.ctx, store.Listing{Registry: "hub", Repository: "shop", At: base(), Images: []store.ListedImage{held(1)}})
			k.wantFault(err, fault.NotFound)
			k.wantFault(k.st.FailListing(k.ctx, store.RegistryRepository{Registry: "hub", Name: "shop", Error: "x"}), fault.NotFound)
			k.watched("hub")
			repositories, err := k.st.RegistryRepositories(k.ctx, store.RegistryRepositoryQuery{Registry: "hub"})
			k.ok(err)
			same(k, "repositories", len(repositories), 0)
		}},
	}
}

func listingCases() []testCase {
	return []testCase{
		{"new ones wait, missing ones are gone, and come back", func(k *kit) {
			k.watched("hub")
			same(k, "first", k.listed(0, "shop", held(1, "1"), held(2, "2")), store.ListingChange{New: 2})
			same(k, "again", k.listed(time.Hour, "shop", held(1, "1"), held(2, "2", "latest")), store.ListingChange{})
			same(k, "moved", k.listed(2*time.Hour, "shop", held(2, "2"), held(3, "3", "latest")), store.ListingChange{New: 1, Gone: 1})
			same(k, "images", k.entries(store.RegistryImageQuery{Registry: "hub"}), []string{"shop 3 waiting", "shop 2 waiting", "shop 1 gone"})
			all, err := k.st.RegistryImages(k.ctx, store.RegistryImageQuery{Registry: "hub", State: store.RegistryGone})
			k.ok(err)
			if len(all) != 1 || !all[0].Gone.Equal(base().Add(2*time.Hour)) || !all[0].First.Equal(base()) {
				k.Errorf("gone: %+v", all)
			}
			same(k, "back", k.listed(3*time.Hour, "shop", held(1), held(2), held(3)), store.ListingChange{New: 1})
			same(k, "none", k.listed(4*time.Hour, "shop"), store.ListingChange{Gone: 3})
			t, err := k.st.RegistryTotals(k.ctx, "hub")
			k.ok(err)
			same(k, "totals", t.States, map[store.RegistryState]int{store.RegistryGone: 3})
			same(k, "repositories", t.Repositories, 1)
		}},
		{"tags are those of the newest listing", func(k *kit) {
			k.watched("hub")
			k.listed(0, "shop", held(1, "1"))
			k.listed(0, "shop", held(1, "1", "latest"))
			all, err := k.st.RegistryImages(k.ctx, store.RegistryImageQuery{Registry: "hub", Text: "latest"})
			k.ok(err)
			if len(all) != 1 || len(all[0].Tags) != 2 || all[0].Size != 1 || !all[0].Pushed.Equal(base().Add(time.Hour)) {
				k.Errorf("got %+v", all)
			}
		}},
		{"what rules leave out does not wait", func(k *kit) {
			k.watched("hub")
			old := held(1)
			old.Left, old.Created = true, base()
			same(k, "change", k.listed(0, "shop", old, held(2)), store.ListingChange{New: 1})
			same(k, "images", k.entries(store.RegistryImageQuery{}), []string{"shop 2 waiting", "shop 1 left"})
			times, err := k.st.RegistryTimes(k.ctx, "hub", "shop")
			k.ok(err)
			same(k, "times", times, map[string]time.Time{old.Digest: base()})
			old.Left = false
			same(k, "wanted again", k.listed(0, "shop", old, held(2)), store.ListingChange{New: 1})
			left := held(2)
			left.Left = true
			same(k, "left now", k.listed(0, "shop", old, left), store.ListingChange{})
			same(k, "then", k.entries(store.RegistryImageQuery{}), []string{"shop 1 waiting", "shop 2 left"})
		}},
	}
}

func repositoryCases() []testCase {
	return []testCase{
		{"repositories that are gone take their images with them", func(k *kit) {
			k.watched("hub")
			k.listed(0, "shop", held(1))
			k.listed(0, "ops", held(2))
			n, err := k.st.EndRepositories(k.ctx, "hub", []string{"shop"}, base().Add(time.Hour))
			k.ok(err)
			same(k, "gone", n, 1)
			same(k, "images", k.entries(store.RegistryImageQuery{}), []string{"shop 1 waiting", "ops 2 gone"})
		}},
		{"what keeps a repository from being listed", func(k *kit) {
			k.watched("hub")
			k.listed(0, "shop", held(1))
			k.listed(0, "attic")
			failed := store.RegistryRepository{Registry: "hub", Name: "shop", Error: "denied", Remedy: "log in", Tries: 2, Next: base().Add(time.Hour)}
			k.ok(k.st.FailListing(k.ctx, failed))
			failed.Listed, failed.Images = base(), 1
			all, err := k.st.RegistryRepositories(k.ctx, store.RegistryRepositoryQuery{Registry: "hub"})
			k.ok(err)
			same(k, "repositories", all, []store.RegistryRepository{failed, {Registry: "hub", Name: "attic", Listed: base()}})
			t, err := k.st.RegistryTotals(k.ctx, "hub")
			k.ok(err)
			same(k, "failing", t.Failing, 1)
			k.listed(time.Hour, "shop", held(1))
			all, err = k.st.RegistryRepositories(k.ctx, store.RegistryRepositoryQuery{Registry: "hub", Text: "sho"})
			k.ok(err)
			same(k, "well again", all, []store.RegistryRepository{{Registry: "hub", Name: "shop", Listed: base().Add(time.Hour), Images: 1}})
		}},
		{"page by page", func(k *kit) {
			k.watched("hub")
			var all []store.ListedImage
			for n := range 25 {
				all = append(all, held(n+1))
			}
			k.listed(0, "shop", all...)
			k.listed(0, "shop", all[5:]...)
			for _, q := range []store.RegistryImageQuery{{Registry: "hub"}, {Registry: "hub", State: store.RegistryWaiting}, {Registry: "hub", Repository: "shop", Text: "sha256"}} {
				q.Limit = 100
				want := k.entries(q)
				q.Limit = 7
				var got []string
				for {
					page, err := k.st.RegistryImages(k.ctx, q)
					k.ok(err)
					if len(page) == 0 {
						break
					}
					got = append(got, k.entries(q)...)
					q.After = page[len(page)-1].ID
				}
				same(k, "pages", got, want)
			}
			_, err := k.st.RegistryImages(k.ctx, store.RegistryImageQuery{Registry: "hub", After: 1_000})
			k.wantFault(err, fault.Invalid)
		}},
	}
}

func registryPartCases() []testCase {
	return []testCase{
		{"a partial listing adds and takes nothing away", func(k *kit) {
			k.watched("hub")
			left := held(3)
			left.Left = true
			k.listed(0, "shop", held(1, "a", "b"), held(2, "c"), left)
			_, err := k.st.PutListing(k.ctx, store.Listing{
				Registry: "hub", Repository: "shop", At: base().Add(time.Hour), Partial: true,
				Images: []store.ListedImage{held(1, "a", "c"), held(3), held(4, "d")},
			})
			k.ok(err)
			k.ok(k.st.FailListing(k.ctx, store.RegistryRepository{Registry: "hub", Name: "shop", Error: "only some"}))
			same(k, "images", k.entries(store.RegistryImageQuery{}), []string{"shop 4 waiting", "shop 2 waiting", "shop 1 waiting", "shop 3 left"})
			all, err := k.st.RegistryImages(k.ctx, store.RegistryImageQuery{Text: held(1).Digest})
			k.ok(err)
			same(k, "tags", all[0].Tags, []string{"a", "b", "c"})
			names, err := k.st.RegistryRepositories(k.ctx, store.RegistryRepositoryQuery{Registry: "hub"})
			k.ok(err)
			same(k, "repository", names[0], store.RegistryRepository{
				Registry: "hub", Name: "shop", Listed: base(), Images: 3, Left: 1, Error: "only some",
			})
		}},
	}
}

func registryScanCases() []testCase {
	return []testCase{
		{"the newest first, each once, and not before its time", func(k *kit) {
			k.watched("hub")
			k.listed(0, "shop", held(1), held(2))
			e := k.takeEntry(0)
			if e.Digest != held(2).Digest || e.State != store.RegistryRunning || e.Tries != 1 {
				k.Errorf("got %+v", e)
			}
			k.ok(k.st.EndRegistryScan(k.ctx, e.ID, store.RegistryScanEnd{State: store.RegistryWaiting, Next: base().Add(time.Hour), Error: "away"}))
			e1 := k.takeEntry(0)
			same(k, "second", e1.Digest, held(1).Digest)
			_, err := k.st.TakeRegistryScan(k.ctx, base(), nil)
			k.wantFault(err, fault.NotFound)
			next, err := k.st.NextRegistryScan(k.ctx, nil)
			k.ok(err)
			same(k, "next", next, base().Add(time.Hour))
			again := k.takeEntry(time.Hour)
			if again.ID != e.ID || again.Tries != 2 {
				k.Errorf("got %+v", again)
			}
			k.ok(k.st.EndRegistryScan(k.ctx, e.ID, store.RegistryScanEnd{State: store.RegistryFailed, Error: "broken"}))
			same(k, "images", k.entries(store.RegistryImageQuery{}), []string{"shop 2 failed", "shop 1 running"})
			k.ok(k.st.RegistryScanAgain(k.ctx, e.ID, base()))
			if e := k.takeEntry(0); e.Tries != 1 || e.Error != "" {
				k.Errorf("asked for anew: %+v", e)
			}
			k.wantFault(k.st.EndRegistryScan(k.ctx, 1_000, store.RegistryScanEnd{State: store.RegistryDone}), fault.NotFound)
			k.wantFault(k.st.RegistryScanAgain(k.ctx, 1_000, base()), fault.NotFound)
		}},
		{"what is held is passed over, and what was no try does not count", func(k *kit) {
			k.watched("hub")
			k.listed(0, "shop", held(1))
			k.listed(time.Minute, "shop/web", held(2))
			take := func(h ...store.Held) (store.RegistryImage, error) {
				return k.st.TakeRegistryScan(k.ctx, base().Add(time.Hour), h)
			}
			_, err := take(store.Held{Registry: "hub"})
			k.wantFault(err, fault.NotFound)
			next, err := k.st.NextRegistryScan(k.ctx, []store.Held{{Registry: "hub"}})
			k.ok(err)
			same(k, "next of what is held", next, time.Time{})
			next, err = k.st.NextRegistryScan(k.ctx, []store.Held{{Registry: "hub", Repository: "shop"}, {Registry: "bub"}})
			k.ok(err)
			same(k, "next of the other", next, base().Add(time.Minute))
			e, err := take(store.Held{Registry: "hub", Repository: "shop/web"}, store.Held{Registry: "hu", Repository: "b shop"})
			k.ok(err)
			same(k, "taken", e.Repository, "shop")
			end := store.RegistryScanEnd{State: store.RegistryWaiting, Next: base(), Error: "429", Uncounted: true}
			k.ok(k.st.EndRegistryScan(k.ctx, e.ID, end))
			got, err := k.st.RegistryEntry(k.ctx, e.ID)
			k.ok(err)
			if got.Tries != 0 || got.Error != "429" || got.State != store.RegistryWaiting {
				k.Errorf("got %+v", got)
			}
		}},
		{"gone while it is scanned, it stays gone", func(k *kit) {
			k.watched("hub")
			k.listed(0, "shop", held(1))
			e := k.takeEntry(0)
			k.listed(0, "shop")
			k.ok(k.st.EndRegistryScan(k.ctx, e.ID, store.RegistryScanEnd{State: store.RegistryDone, Analysis: 3}))
			same(k, "images", k.entries(store.RegistryImageQuery{}), []string{"shop 1 gone"})
			k.wantFault(k.st.RegistryScanAgain(k.ctx, e.ID, base()), fault.Conflict)
		}},
		{"what ran when the server stopped waits, and what is outdated", func(k *kit) {
			k.watched("hub")
			k.listed(0, "shop", held(1), held(2), held(3))
			k.takeEntry(0)
			e := k.takeEntry(0)
			k.ok(k.st.EndRegistryScan(k.ctx, e.ID, store.RegistryScanEnd{State: store.RegistryDone, Analysis: 3}))
			k.ok(k.st.ResumeRegistryScans(k.ctx, 3, base()))
			same(k, "images", k.entries(store.RegistryImageQuery{}), []string{"shop 3 waiting", "shop 2 done", "shop 1 waiting"})
			k.ok(k.st.ResumeRegistryScans(k.ctx, 4, base()))
			same(k, "images", k.entries(store.RegistryImageQuery{}), []string{"shop 3 waiting", "shop 2 waiting", "shop 1 waiting"})
		}},
	}
}

func entryCases() []testCase {
	return []testCase{
		{"an entry shows how its images are, and an image where it is", func(k *kit) {
			k.watched("hub")
			k.listed(0, "shop", held(1, "1"))
			k.listed(0, "attic/shop", held(1, "old"))
			for range 2 {
				e := k.takeEntry(0)
				k.ok(k.st.EndRegistryScan(k.ctx, e.ID, store.RegistryScanEnd{
					State: store.RegistryDone, Analysis: 3, Created: base(),
					Platforms: []store.RegistryPlatform{{ImageID: imageID(1), Platform: inventory.Platform{OS: "linux", Architecture: "arm64"}}},
				}))
			}
			k.scanned(1)
			k.findings(1, time.Hour, found("CVE-1", "napper", finding.High))
			got, err := k.st.ImageEntries(k.ctx, imageID(1))
			k.ok(err)
			if len(got) != 2 || len(got[0].Platforms) != 1 {
				k.Fatalf("got %+v", got)
			}
			p := got[0].Platforms[0]
			if p.Scan != store.ScanDone || p.Platform.Architecture != "arm64" || p.Matched.IsZero() || p.Counts == (store.Counts{}) {
				k.Errorf("platform %+v", p)
			}
			one, err := k.st.RegistryEntry(k.ctx, got[0].ID)
			k.ok(err)
			same(k, "entry", one, got[0])
			t, err := k.st.RegistryTotals(k.ctx, "hub")
			k.ok(err)
			same(k, "high", t.High, 2)
			same(k, "high at least", len(k.entries(store.RegistryImageQuery{Severity: 4})), 2)
			same(k, "critical", len(k.entries(store.RegistryImageQuery{Severity: 5})), 0)
			k.ok(k.st.ScanAgain(k.ctx, imageID(1), base()))
			same(k, "asked for anew", k.entries(store.RegistryImageQuery{State: store.RegistryWaiting}), []string{"attic/shop 1 waiting", "shop 1 waiting"})
		}},
	}
}

func registryImageCases() []testCase {
	hold := func(k *kit) {
		k.watched("hub")
		k.noted(1, "hub.example/shop:1")
		k.listed(0, "shop", held(1))
		e := k.takeEntry(0)
		k.ok(k.st.EndRegistryScan(k.ctx, e.ID, store.RegistryScanEnd{
			State: store.RegistryWaiting, Next: base(), Platforms: []store.RegistryPlatform{{ImageID: imageID(1)}},
		}))
	}
	const day = 24 * time.Hour
	return []testCase{
		{"the scan of one image is leased", func(k *kit) {
			k.noted(1)
			lease := func(job string, after time.Duration, analysis int) (store.Image, error) {
				now := base().Add(after)
				return k.st.LeaseImage(k.ctx, imageID(1), store.Lease{AgentID: "server", Job: job, Now: now, Until: now.Add(time.Hour), Analysis: analysis})
			}
			_, err := k.st.LeaseImage(k.ctx, imageID(2), store.Lease{AgentID: "server", Job: "j", Now: base()})
			k.wantFault(err, fault.NotFound)
			v, err := lease("j1", 0, 3)
			k.ok(err)
			same(k, "scan", v.Scan, store.Scan{State: store.ScanRunning, Job: "j1", Agent: "server", Tries: 1, Next: base().Add(time.Hour)})
			_, err = lease("j2", time.Minute, 3)
			k.wantFault(err, fault.Conflict)
			k.ok(k.st.ScanFailed(k.ctx, imageID(1), "j1", "away", base().Add(2*time.Hour)))
			_, err = lease("j3", time.Hour, 3)
			k.wantFault(err, fault.Conflict)
			v, err = lease("j4", 2*time.Hour, 3)
			k.ok(err)
			same(k, "tries", v.Scan.Tries, 2)
			k.ok(k.st.PutInventory(k.ctx, imageID(1), "j4", inventory.Inventory{Analysis: 3, Packages: []inventory.Package{}}, base()))
			_, err = lease("j5", 3*time.Hour, 3)
			k.wantFault(err, fault.Conflict)
			_, err = lease("j6", 3*time.Hour, 4)
			k.ok(err)
		}},
		{"never gone while a registry has it", func(k *kit) {
			hold(k)
			gone, _, err := k.st.SweepGone(k.ctx, store.Gone{Before: base().Add(10 * day), Now: base().Add(10 * day)})
			k.ok(err)
			same(k, "gone", len(gone), 0)
			k.listed(day, "shop")
			gone, _, err = k.st.SweepGone(k.ctx, store.Gone{Before: base().Add(10 * day), Now: base().Add(10 * day)})
			k.ok(err)
			same(k, "gone", gone, []string{imageID(1)})
		}},
		{"kept as long as an entry, which goes with the retention", func(k *kit) {
			hold(k)
			prune := func(after time.Duration) {
				_, err := k.st.Prune(k.ctx, store.Retention{Workloads: 30 * day}, base().Add(after))
				k.ok(err)
			}
			prune(100 * day)
			k.image(1)
			k.listed(100*day, "shop")
			prune(120 * day)
			k.image(1)
			same(k, "entries", k.entries(store.RegistryImageQuery{}), []string{"shop 1 gone"})
			prune(131 * day)
			same(k, "entries", len(k.entries(store.RegistryImageQuery{})), 0)
			_, err := k.st.Image(k.ctx, imageID(1))
			k.wantFault(err, fault.NotFound)
		}},
	}
}
