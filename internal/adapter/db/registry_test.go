package db_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/store"
)

// A repository of many images ends in several transactions, so that others write
// meanwhile; what an error leaves, the next look ends.
func TestALargeRepositoryEndsInParts(t *testing.T) {
	d := openFor(t, db.Options{Path: filepath.Join(t.TempDir(), "c.db"), ProcessCrashOnly: true})
	ctx, now := t.Context(), time.Date(2026, 11, 28, 6, 0, 0, 0, time.UTC)
	if err := d.CreateRegistry(ctx, store.WatchedRegistry{Registry: asset.Registry{Name: "hub", Host: "registry.example"}, Created: now}); err != nil {
		t.Fatal(err)
	}
	const images = 2_500
	l := store.Listing{Registry: "hub", Repository: "shop", At: now}
	for n := range images {
		l.Images = append(l.Images, store.ListedImage{RegistryImage: asset.RegistryImage{Digest: fmt.Sprintf("sha256:%064x", n), Pushed: now.Add(time.Duration(n) * time.Second)}})
	}
	if _, err := d.PutListing(ctx, l); err != nil {
		t.Fatal(err)
	}
	count := func(what string) int64 {
		t.Helper()
		n, err := d.Count(ctx, what)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	last := fmt.Sprintf("sha256:%064x", 0) // the oldest is ended last
	if err := d.Exec(ctx, `CREATE TRIGGER broken BEFORE UPDATE ON registry_images WHEN NEW.digest = '`+last+`' BEGIN SELECT RAISE(ABORT, 'broken'); END`); err != nil {
		t.Fatal(err)
	}
	ended, err := d.EndRepositories(ctx, "hub", nil, now)
	if gone := count("SELECT count(*) FROM registry_images WHERE state = 'gone'"); err == nil || ended != 2_000 || gone != 2_000 {
		t.Errorf("ended %d, %d are gone, %v; want 2,000 and an error", ended, gone, err)
	}
	if known := count("SELECT count(*) FROM registry_repositories"); known != 1 {
		t.Error("the repository is forgotten before its images are gone")
	}
	if err := d.Exec(ctx, "DROP TRIGGER broken"); err != nil {
		t.Fatal(err)
	}
	ended, err = d.EndRepositories(ctx, "hub", nil, now)
	if known := count("SELECT count(*) FROM registry_repositories"); err != nil || ended != images-2_000 || known != 0 {
		t.Errorf("the rest: ended %d, %v; %d repositories are known", ended, err, known)
	}
}
