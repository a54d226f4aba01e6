package db

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

func someInventory() inventory.Inventory {
	at := time.Date(2026, 4, 5, 6, 7, 8, 9, time.UTC)
	return inventory.Inventory{
		Subject: inventory.Subject{Kind: inventory.KindImage, Name: "shop/web:1"}, Analysis: 3, Made: at,
		Packages: []inventory.Package{
			{},
			{
				Type: "deb", Namespace: "debian", Name: "zlib1g", Version: "1.2.11", Arch: "amd64", Ecosystem: "Debian:11",
				Source: inventory.Source{Name: "zlib", Version: "1:1.2.11"}, Licenses: []string{}, Repository: "main", OwnedBy: "dpkg",
				Places: []inventory.Place{{Path: "/var/lib/dpkg/status", Layer: 1}, {Path: "/b", Layer: -1, Written: true}},
				Files:  []string{"/usr/lib/libz.so.1", ""}, Digests: []string{"sha256:1"}, Dev: true, Found: inventory.Installed, Published: &at,
			},
			{Type: "npm", Name: "a", Indirect: true, Places: []inventory.Place{}},
		},
	}
}

func TestPackedInventoryComesBack(t *testing.T) {
	for name, want := range map[string]inventory.Inventory{"full": someInventory(), "zero": {}, "no packages": {Packages: []inventory.Package{}}} {
		t.Run(name, func(t *testing.T) {
			packed, err := packInventory(want)
			if err != nil {
				t.Fatal(err)
			}
			got, err := unpackInventory("x", packed)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, want); diff != "" {
				t.Errorf("(-got +want):\n%s", diff)
			}
		})
	}
}

func squeezed(t *testing.T, plain []byte) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	return e.EncodeAll(plain, nil)
}

// TestInventoriesOfEarlierBuildsAreRead: they are JSON.
func TestInventoriesOfEarlierBuildsAreRead(t *testing.T) {
	want := someInventory()
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := unpackInventory("x", squeezed(t, b))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, want, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func plainInventory(t testing.TB) []byte {
	t.Helper()
	packed, err := packInventory(someInventory())
	if err != nil {
		t.Fatal(err)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	plain, err := d.DecodeAll(packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func TestCutInventoryIsCorrupt(t *testing.T) {
	plain := plainInventory(t)
	for n := range plain {
		if _, err := unpackInventory("x", squeezed(t, plain[:n])); !fault.Is(err, fault.Corrupt) {
			t.Errorf("the first %d bytes: got %v, want corrupt", n, err)
		}
	}
	if _, err := unpackInventory("x", squeezed(t, append(plain, 0))); !fault.Is(err, fault.Corrupt) {
		t.Errorf("with a byte behind it: got %v, want corrupt", err)
	}
}

func FuzzParseInventory(f *testing.F) {
	f.Add(plainInventory(f))
	f.Add([]byte(`{"packages":[{"name":"a"}]}`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		inv, err := parseInventory(plain)
		if err != nil {
			return
		}
		packed, err := packInventory(inv)
		if err != nil {
			return // a time that JSON can't have
		}
		if _, err := unpackInventory("x", packed); err != nil {
			t.Errorf("packed again: %v", err)
		}
	})
}
