package images

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/store"
)

// large is an inventory of 450 packages as those of a service on Debian: the
// sources have many advisories, and each package owns some files.
func large() inventory.Inventory {
	sources := strings.Fields("openssl curl glibc krb5 systemd python3.9 perl libxml2 tiff imagemagick gnutls28 expat zlib sqlite3 git " +
		"openldap bind9 libtasn1-6 ncurses nss gcc-10 util-linux shadow tar gzip bash dpkg apt freetype libpng1.6 cairo icu")
	inv := inventory.Inventory{
		Subject: inventory.Subject{Kind: inventory.KindImage, Name: "shop/web:1"}, Analysis: scan.Analysis,
		OS: inventory.OS{ID: "debian", Version: "11", Codename: "bullseye"},
	}
	for i := range 450 {
		p := inventory.Package{
			Type: "deb", Namespace: "debian", Name: fmt.Sprintf("package-%d", i), Version: "1.0-1", Arch: "amd64", Ecosystem: "Debian:11",
			Source: inventory.Source{Name: fmt.Sprintf("source-%d", i), Version: "1.0-1"}, Found: inventory.Installed,
			Places: []inventory.Place{{Path: "/var/lib/dpkg/status", Layer: 1}},
		}
		if i%3 == 0 {
			p.Source.Name = sources[i/3%len(sources)]
			p.Source.Version, p.Version = "0", "0"
		}
		for n := range 12 {
			p.Files = append(p.Files, fmt.Sprintf("/usr/lib/x86_64-linux-gnu/package-%d/lib%d.so.1", i, n))
		}
		inv.Packages = append(inv.Packages, p)
	}
	inventory.SortPackages(inv.Packages)
	return inv
}

// BenchmarkRefresh compares one stored inventory and stores what is found: when
// that is what was known, and when all of it is new.
func BenchmarkRefresh(b *testing.B) {
	ctx := context.Background()
	st, err := db.Open(ctx, db.Options{Path: filepath.Join(b.TempDir(), "castellan.db")}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	s, err := New(Options{Store: st, Clock: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := s.advisories.look(ctx); err != nil {
		b.Fatal(err)
	}
	id := "sha256:" + strings.Repeat("1", 64)
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	must(st.PutWorkloads(ctx, []asset.Workload{{ID: strings.Repeat("a", 64), AgentID: "AGENTAAAAAAAA", State: asset.Running, Image: asset.Image{ID: id}}}))
	_, err = st.NoteImages(ctx, []store.Image{{ID: id}}, time.Now())
	must(err)
	_, err = st.LeaseScan(ctx, store.Lease{AgentID: "AGENTAAAAAAAA", Job: "j", Now: time.Now(), Until: time.Now().Add(time.Hour)})
	must(err)
	must(st.PutInventory(ctx, id, "j", large(), time.Now()))
	var uses []string
	for i := range 500 {
		uses = append(uses, fmt.Sprintf("/lib/x86_64-linux-gnu/package-%d/lib1.so.1", i))
	}
	_, err = st.NoteUses(ctx, id, uses)
	must(err)
	must(s.refresh(ctx, id))
	m, err := st.Image(ctx, id)
	must(err)
	found := m.Counts.Unknown + m.Counts.Low + m.Counts.Medium + m.Counts.High + m.Counts.Critical
	if found < 500 || m.Counts.InUse == 0 {
		b.Fatalf("%+v", m.Counts)
	}
	b.Run("compare", func(b *testing.B) {
		for b.Loop() {
			f, err := s.compare(ctx, id)
			must(err)
			b.ReportMetric(float64(len(f.Vulnerabilities)), "findings")
		}
	})
	b.Run("as before", func(b *testing.B) {
		for b.Loop() {
			must(s.refresh(ctx, id))
		}
	})
	b.Run("all new", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			must(st.PutFindings(ctx, store.ImageFindings{ImageID: id}))
			b.StartTimer()
			must(s.refresh(ctx, id))
		}
	})
}
