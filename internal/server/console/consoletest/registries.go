package consoletest

import (
	"context"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/store"
)

// FillRegistries puts two registries into a store that Fill has filled: one that
// holds the shop's images, with all that can become of one, and one that can't be
// looked at. Neither is looked at within an hour.
func (s Shop) FillRegistries(ctx context.Context, st store.Registries, now time.Time) error {
	poll := store.RegistryPoll{Begun: now.Add(-2 * time.Minute), Ended: now.Add(-time.Minute), Next: now.Add(time.Hour)}
	shop := store.WatchedRegistry{Created: now.Add(-24 * time.Hour), Webhook: []byte{1}, Registry: asset.Registry{
		Name: "shop", Kind: asset.RegistryECR, Host: "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
		Repositories: []string{"shop/**", "!shop/*-test"}, Keep: 10, MaxAge: 180 * 24 * time.Hour,
	}}
	hub := store.WatchedRegistry{Created: now.Add(-time.Hour), Registry: asset.Registry{Name: "hub", Kind: asset.RegistryOCI, Host: "registry.example", Tags: []string{"v*"}}}
	for _, r := range []store.WatchedRegistry{shop, hub} {
		if err := st.CreateRegistry(ctx, r); err != nil {
			return err
		}
		if err := st.PutRegistryPoll(ctx, r.Name, poll); err != nil {
			return err
		}
	}
	poll.Error, poll.Remedy, poll.Tries = HostileArg, "is the name right? if so, log in with a user who may do that: docker login registry.example", 3
	if err := st.PutRegistryPoll(ctx, "hub", poll); err != nil {
		return err
	}
	if err := s.listShop(ctx, st, now); err != nil {
		return err
	}
	return st.FailListing(ctx, store.RegistryRepository{
		Registry: "shop", Name: "shop/attic", Error: "list images: 403 Forbidden", Remedy: "may the role call ecr:DescribeImages?", Tries: 2, Next: now.Add(4 * time.Minute),
	})
}

// listShop lists the shop's images and ends their scans.
func (s Shop) listShop(ctx context.Context, st store.Registries, now time.Time) error {
	l := store.Listing{Registry: "shop", Repository: "shop/web", At: now.Add(-time.Minute)}
	for i := range s.Images {
		l.Images = append(l.Images, store.ListedImage{Left: i == 6, RegistryImage: asset.RegistryImage{
			Digest: fmt.Sprintf("sha256:%064x", i+1), Tags: []string{fmt.Sprintf("v2.4.%d", i)}, Pushed: now.Add(-time.Duration(i+1) * 5 * time.Hour),
		}})
	}
	l.Images[0].Tags = append(l.Images[0].Tags, "latest")
	if _, err := st.PutListing(ctx, l); err != nil {
		return err
	}
	for i := range s.Images[:5] {
		e, err := st.TakeRegistryScan(ctx, now, nil)
		if err != nil {
			return err
		}
		end := store.RegistryScanEnd{State: store.RegistryDone, Analysis: 1_000, Created: now.Add(-48 * time.Hour), Platforms: []store.RegistryPlatform{
			{ImageID: s.Images[i].ID, Platform: inventory.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}},
		}}
		switch i {
		case 1:
			end.State, end.Error = store.RegistryFailed, "read layer 3: the registry closed the connection; wait, and have it scanned anew"
		case 2:
			end.Platforms = append(end.Platforms, store.RegistryPlatform{ImageID: s.Images[0].ID, Platform: inventory.Platform{OS: "linux", Architecture: "amd64"}})
		case 4:
			end = store.RegistryScanEnd{State: store.RegistrySkipped, Error: "it is a signature"}
		}
		if err := st.EndRegistryScan(ctx, e.ID, end); err != nil {
			return err
		}
	}
	return nil
}
