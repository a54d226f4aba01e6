package rpm_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/rpm"
)

func take(ctx context.Context, file string, db []byte) (analyse.Shown, error) {
	var shown analyse.Shown
	err := rpm.Analyser{}.Take(ctx, &analyse.Entry{Path: "var/lib/rpm/" + file, Size: int64(len(db))}, bytes.NewReader(db), &shown)
	inventory.SortPackages(shown.Packages)
	return shown, err
}

// one is a package with the version and the source that it was built with.
func one(name, version, source, license string, files ...string) inventory.Package {
	return inventory.Package{Type: "rpm", Name: name, Version: version, Arch: "x86_64", Licenses: []string{license}, Files: files,
		Source: inventory.Source{Name: source, Version: version}, Found: inventory.Installed}
}

func packages() []inventory.Package {
	node := one("nodejs", "18.20.2-1.module+el8.9.0+21767", "nodejs", "ISC")
	node.Arch, node.Repository = "noarch", "nodejs:18"
	return []inventory.Package{
		one("liba", "2:1.2.3-4.amzn2023", "liba", "MIT and GPLv2+", "/usr/lib64/liba.so.1"),
		one("liba-tools", "2:1.2.3-4.amzn2023", "liba", "MIT", "/usr/bin/atool"),
		node,
		one("plain", "1.2.3-1.el9", "plain", "MIT and GPLv2+", "/usr/lib64/liba.so.1"),
		one("plain-tools", "1.2.3-1.el9", "plain", "MIT", "/usr/bin/atool"),
	}
}

func TestTake(t *testing.T) {
	headers := headersOf(t)
	for _, tc := range []struct {
		name, file string
		db         []byte
	}{
		{"SQLite", "rpmdb.sqlite", rpm.Unpacked(t, "rpmdb.sqlite")},
		{"Berkeley DB", "Packages", rpm.Unpacked(t, "Packages")},
		{"ndb", "Packages.db", ndb(headers)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := take(t.Context(), tc.file, tc.db)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(got, analyse.Shown{Packages: packages()}); d != "" {
				t.Errorf("Take() differs (-got +want):\n%s", d)
			}
		})
	}
}

// What is damaged is told, and the rest is read.
func TestDamage(t *testing.T) {
	headers := headersOf(t)
	short := slices.Clone(headers)
	short[1] = short[1][:len(short[1])/2]
	for _, tc := range []struct {
		name, file string
		db         []byte
		packages   int
		problem    string
		err        string
	}{
		{"a header that is cut off", "Packages.db", ndb(short), 4, "1 records of RPM's database are damaged", ""},
		{"a database that is cut off", "rpmdb.sqlite", rpm.Unpacked(t, "rpmdb.sqlite")[:40<<10], 0, "", "page"},
		{"another file under its name", "rpmdb.sqlite", []byte("what is this"), 0, "", "not a database of SQLite"},
		{"another file under its name", "Packages", []byte("what is this"), 0, "", "not a database of Berkeley DB"},
		{"another file under its name", "Packages.db", []byte("what is this"), 0, "", "not a database of the form ndb"},
		{"a circle of pages", "Packages", circle(rpm.Unpacked(t, "Packages")), 3, "2 records of RPM's database are damaged, the first: page ", ""},
		{"a row that goes on nowhere", "rpmdb.sqlite", nowhere(rpm.Unpacked(t, "rpmdb.sqlite")), 4, "1 records of RPM's database are damaged, the first: a row that goes on: page 0 of", ""},
		{"a schema that is damaged", "rpmdb.sqlite", schemaless(rpm.Unpacked(t, "rpmdb.sqlite")), 0, "", "there is no table Packages in a schema that is damaged: the head of a row"},
	} {
		t.Run(tc.name+" "+tc.file, func(t *testing.T) {
			got, err := take(t.Context(), tc.file, tc.db)
			if len(got.Packages) < tc.packages {
				t.Errorf("%d packages, want %d", len(got.Packages), tc.packages)
			}
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			if tc.problem != "" && (len(got.Problems) != 1 || !strings.HasPrefix(got.Problems[0].What, tc.problem)) {
				t.Errorf("problems %v, want %q", got.Problems, tc.problem)
			}
		})
	}
}

func TestWants(t *testing.T) {
	for file, want := range map[string]bool{
		"var/lib/rpm/Packages":              true,
		"usr/lib/sysimage/rpm/rpmdb.sqlite": true,
		"usr/share/rpm/Packages.db":         true,
		"var/lib/rpm/Name":                  false,
		"srv/var/lib/rpm/Packages":          false,
		"var/lib/rpm/deep/Packages":         false,
	} {
		t.Run(file, func(t *testing.T) {
			if got := (rpm.Analyser{}).Wants(&analyse.Entry{Path: file, Size: 1}, []byte{0}); got != want {
				t.Errorf("Wants() = %v, want %v", got, want)
			}
		})
	}
}

func FuzzTake(f *testing.F) {
	for _, name := range []string{"rpmdb.sqlite", "Packages"} {
		f.Add(name, rpm.Unpacked(f, name))
	}
	f.Add("Packages.db", ndb(headersOf(f)))
	f.Fuzz(func(t *testing.T, file string, db []byte) {
		var a rpm.Analyser
		if !a.Wants(&analyse.Entry{Path: path.Join("var/lib/rpm", file), Size: int64(len(db))}, []byte{}) {
			return
		}
		got, err := take(context.Background(), file, db)
		if err != nil {
			return
		}
		for _, p := range got.Packages {
			if p.Name == "" || p.Version == "" {
				t.Errorf("a package without name or version: %+v", p)
			}
		}
	})
}

// headersOf returns the headers of the packages, as the database of Berkeley DB
// has them: long values, each on pages that follow one another.
func headersOf(t testing.TB) [][]byte {
	t.Helper()
	const page = 4096
	db := rpm.Unpacked(t, "Packages")
	var headers [][]byte
	for n := 1; n < len(db)/page; n++ {
		p := db[n*page:][:page]
		kind, before := p[25], binary.LittleEndian.Uint32(p[12:])
		if kind != 7 || before != 0 {
			continue
		}
		var value []byte
		for {
			value = append(value, p[26:26+binary.LittleEndian.Uint16(p[22:])]...)
			next := binary.LittleEndian.Uint32(p[16:])
			if next == 0 {
				break
			}
			p = db[int(next)*page:][:page]
		}
		headers = append(headers, value)
	}
	if len(headers) != len(packages()) {
		t.Fatalf("%d headers, want %d", len(headers), len(packages()))
	}
	return headers
}

// ndb puts headers together as RPM's own simple database does.
func ndb(headers [][]byte) []byte {
	const page, block = 4096, 16
	le := binary.LittleEndian
	db := make([]byte, page)
	copy(db, "RpmP")
	le.PutUint32(db[12:], 1) // page of slots
	for at := 32; at < page; at += block {
		copy(db[at:], "Slot")
	}
	for i, h := range headers {
		slot := db[32+16*i:]
		le.PutUint32(slot[4:], uint32(i+1))
		le.PutUint32(slot[8:], uint32(len(db)/block))
		blob := make([]byte, 16, 16+len(h)+2*block)
		copy(blob, "BlbS")
		le.PutUint32(blob[4:], uint32(i+1))
		le.PutUint32(blob[12:], uint32(len(h)))
		blob = append(blob, h...)
		blob = append(blob, make([]byte, (block-len(blob)%block)%block)...)
		db = append(db, blob...)
	}
	return db
}

// circle makes the first page of each long value go on with itself.
func circle(db []byte) []byte {
	const page = 4096
	for n := 1; n < len(db)/page; n++ {
		if p := db[n*page:][:page]; p[25] == 7 {
			binary.LittleEndian.PutUint32(p[16:], uint32(n))
		}
	}
	return db
}

// schemaless damages the row of the schema that says where the packages are.
func schemaless(db []byte) []byte {
	const head = 9 // bytes before its texts: its size, its number, and what columns it has
	for at := range db {
		if bytes.HasPrefix(db[at:], []byte("tablePackages")) { // also where it was before
			clear(db[at-head : at])
		}
	}
	return db
}

// nowhere makes the first row that goes on elsewhere go on with no page. It is
// alone in its leaf, and the page's number stands behind it.
func nowhere(db []byte) []byte {
	const page = 4096
	for n := 1; n < len(db)/page; n++ {
		p := db[n*page:][:page]
		if rows, at := binary.BigEndian.Uint16(p[3:]), binary.BigEndian.Uint16(p[8:]); p[0] == 0x0d && rows == 1 && at < page/2 {
			clear(p[page-4:])
			break
		}
	}
	return db
}
