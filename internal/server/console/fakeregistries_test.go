package console_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/server/registries"
	"github.com/castellan-security/castellan/internal/store"
)

// fakeRegistries shows two registries of the shop, and remembers what it was
// asked.
type fakeRegistries struct {
	accounts *fakeAccount
	now      time.Time
	list     []registries.View
}

func newRegistries(accounts *fakeAccount, now time.Time) *fakeRegistries {
	return &fakeRegistries{accounts: accounts, now: now, list: []registries.View{
		{
			Spec:    registries.Spec{Name: "hub", Kind: "oci", Host: "registry.example", Tags: []string{"v*"}},
			Created: now.Add(-time.Hour),
			Poll:    store.RegistryPoll{Ended: now.Add(-time.Minute), Next: now.Add(9 * time.Minute), Error: consoletest.HostileArg, Remedy: "log in: docker login registry.example", Tries: 3},
		},
		{
			Spec: registries.Spec{
				Name: "shop", Kind: "ecr", Host: "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
				Repositories: []string{"shop/**", "!shop/*-test"}, Keep: 10, MaxAge: "180d", Every: "1h",
			},
			Created: now.Add(-24 * time.Hour), Webhook: true,
			Paused: &registries.Pause{Until: now.Add(12 * time.Minute), Error: "429 Too Many Requests " + consoletest.HostileArg, Remedy: "ask it less often"},
			Poll:   store.RegistryPoll{Ended: now.Add(-2 * time.Minute), Next: now.Add(58 * time.Minute)},
			Totals: store.RegistryTotals{
				States:   map[store.RegistryState]int{store.RegistryDone: 1_204, store.RegistryWaiting: 31, store.RegistryRunning: 1, store.RegistryFailed: 2, store.RegistryLeft: 4_310, store.RegistryGone: 77},
				Critical: 12, High: 140, Medium: 322, Low: 90, Unrated: 8, Repositories: 40, Failing: 1,
			},
		},
	}}
}

func (f *fakeRegistries) Registries(context.Context) ([]registries.View, error) { return f.list, nil }

func (f *fakeRegistries) Registry(_ context.Context, name string) (registries.View, error) {
	i := slices.IndexFunc(f.list, func(v registries.View) bool { return v.Name == name })
	if i < 0 {
		return registries.View{}, fault.New(fault.NotFound, "no registry is called %q", name)
	}
	return f.list[i], nil
}

func (f *fakeRegistries) Check(_ context.Context, _ access.Identity, name string) error {
	return f.accounts.did(fmt.Sprintf("check %s", name))
}

func (f *fakeRegistries) Rescan(_ context.Context, _ access.Identity, id int64) error {
	return f.accounts.did(fmt.Sprintf("rescan entry %d", id))
}

func (f *fakeRegistries) Create(_ context.Context, who access.Identity, s registries.Spec, webhook bool) (v registries.View, token string, err error) {
	if err := f.accounts.allow(who, access.ManageRegistries); err != nil {
		return v, "", err
	}
	if _, err := s.Registry(); err != nil {
		return v, "", err
	}
	if err := f.accounts.did(fmt.Sprintf("create %s %s %v %s", s.Name, s.Host, s.Repositories, who.Role)); err != nil {
		return v, "", err
	}
	if webhook {
		token = "csw_SECRET"
	}
	return registries.View{Spec: s, Webhook: webhook}, token, nil
}

func (f *fakeRegistries) Update(_ context.Context, _ access.Identity, s registries.Spec, hook registries.Webhook) (v registries.View, token string, err error) {
	if _, err := s.Registry(); err != nil {
		return v, "", err
	}
	if err := f.accounts.did(fmt.Sprintf("update %s %v keep %d", s.Name, s.Tags, s.Keep)); err != nil {
		return v, "", err
	}
	if hook == registries.WebhookAnew {
		token = "csw_SECRET"
	}
	return registries.View{Spec: s}, token, nil
}

func (f *fakeRegistries) Delete(_ context.Context, _ access.Identity, name string) error {
	return f.accounts.did(fmt.Sprintf("delete %s", name))
}

// shopEntries are what the shop's registry holds.
func (f *fakeStore) shopEntries() []store.RegistryImage {
	var all []store.RegistryImage
	for i, m := range f.shop.Images {
		one := f.imageOf(m)
		e := store.RegistryImage{
			ID: int64(i + 1), Registry: "shop", State: store.RegistryDone, First: f.now.Add(-time.Hour),
			RegistryImage: asset.RegistryImage{Repository: "shop/web", Digest: "sha256:" + strings.Repeat(fmt.Sprint(i), 64), Tags: []string{fmt.Sprintf("v1.%d", i), "latest"}, Pushed: f.now.Add(-time.Duration(i+1) * time.Hour)},
			Platforms:     []store.RegistryPlatform{{ImageID: one.ID, Platform: inventory.Platform{OS: "linux", Architecture: "arm64"}, Scan: one.Scan.State, Matched: one.Scan.Matched, Counts: one.Counts}},
		}
		switch i {
		case 1:
			e.State, e.Tries, e.Error = store.RegistryFailed, 5, "read layer 3: the registry closed the connection"
		case 2:
			e.Repository, e.Tags = consoletest.HostileName, []string{"a", "b", "c", "d", "e", "f", "g"}
			e.Platforms = append(e.Platforms, store.RegistryPlatform{ImageID: consoletest.ImageID("hostile"), Platform: inventory.Platform{OS: "linux", Architecture: "amd64"}})
		case 3:
			e.State, e.Platforms, e.Pushed, e.Tags = store.RegistryWaiting, nil, time.Time{}, nil
		case 4:
			e.State, e.Gone = store.RegistryGone, f.now.Add(-time.Minute)
		}
		all = append(all, e)
	}
	return all
}

func (f *fakeStore) RegistryImages(_ context.Context, q store.RegistryImageQuery) ([]store.RegistryImage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(); err != nil || q.Registry != "shop" {
		return nil, err
	}
	return slices.DeleteFunc(f.shopEntries(), func(e store.RegistryImage) bool {
		return q.State != "" && e.State != q.State || !strings.Contains(e.Repository+strings.Join(e.Tags, " ")+e.Digest, q.Text) || e.ID <= q.After
	}), nil
}

func (f *fakeStore) RegistryRepositories(_ context.Context, q store.RegistryRepositoryQuery) ([]store.RegistryRepository, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(); err != nil || q.Registry != "shop" {
		return nil, err
	}
	return []store.RegistryRepository{
		{Registry: "shop", Name: consoletest.HostileName, Error: "403 Forbidden", Remedy: "may the role call ecr:DescribeImages?", Tries: 2, Next: f.now.Add(4 * time.Minute)},
		{Registry: "shop", Name: "shop/web", Listed: f.now.Add(-2 * time.Minute), Images: 12, Left: 40},
	}, nil
}

func (f *fakeStore) ImageEntries(_ context.Context, imageID string) ([]store.RegistryImage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(f.shopEntries(), func(e store.RegistryImage) bool {
		return !slices.ContainsFunc(e.Platforms, func(p store.RegistryPlatform) bool { return p.ImageID == imageID })
	}), nil
}
