package vulndb_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/scan/vulndb"
)

func day(n int) time.Time { return time.Date(2024, 1, n, 10, 0, 0, 0, time.UTC) }

// feeds are small, but have one of everything.
func feeds() map[string][]advisory.Advisory {
	return map[string][]advisory.Advisory{
		"debian": {
			{ID: "CVE-2023-0286", Published: day(1), Modified: day(3), Rating: advisory.High, Summary: "Type confusion in X.400",
				Weaknesses: []string{"CWE-843", "CWE-704", "NVD-noinfo"},
				Scores:     []advisory.Score{{Vector: "CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:H/I:N/A:H", By: "nvd"}},
				References: []advisory.Reference{{Kind: "web", URL: "https://example.org/w"}, {Kind: "advisory", URL: "https://example.org/a"}},
				Affected: []advisory.Affected{
					{Ecosystem: "Debian:12", Package: "openssl", Of: advisory.OfSource, Ranges: []advisory.Range{{Introduced: "0", Fixed: "3.0.8-1"}}},
					{Ecosystem: "Debian:11", Package: "openssl", Of: advisory.OfSource, Rating: advisory.Critical,
						Ranges: []advisory.Range{{Fixed: "1.1.1n-0+deb11u4"}}},
				}},
			{ID: "CVE-2011-3389", Modified: day(2), Affected: []advisory.Affected{
				{Ecosystem: "Debian:12", Package: "gnutls28", Of: advisory.OfSource, Status: advisory.NotAffected, Note: "only TLS 1.0"},
				{Ecosystem: "Debian:12", Package: "python3.11", Of: advisory.OfSource, Status: advisory.Deferred, Note: "Minor issue",
					Ranges: []advisory.Range{{}}, Rating: advisory.Negligible},
			}},
			{ID: "DSA-1", Upstream: []string{"CVE-2024-1", "CVE-2023-0286", "CVE-2024-1"}, Modified: day(9), Affected: []advisory.Affected{
				{Ecosystem: "Debian:12", Package: "openssl", Of: advisory.OfBinary, Arches: []string{"arm64", "amd64"}, Repository: "extra",
					Ranges: []advisory.Range{{Fixed: "3.0.9-1"}}, Scores: []advisory.Score{{Vector: "AV:N/AC:L/Au:N/C:N/I:N/A:C"}}},
			}},
		},
		"osv/PyPI": {
			{ID: "PYSEC-2023-1", Aliases: []string{"CVE-2023-43804", "GHSA-v845-jxx5-vc9f"}, Modified: day(4), Published: day(2),
				Details: "## Impact\n\nurllib3 sends cookies across redirects. More is said here.",
				Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "URLLib3",
					Ranges:   []advisory.Range{{Introduced: "2.0.0", Fixed: "2.0.6"}, {Fixed: "1.26.17"}, {Introduced: "3", Last: "3.1"}},
					Versions: []string{"1.26.0", "1.0.0", "2.0.5", "1.26.17", "2.5", "2.5.0", "not a version"}}}},
			{ID: "PYSEC-2022-7", Withdrawn: day(5), Modified: day(5), Affected: []advisory.Affected{
				{Ecosystem: "PyPI", Package: "urllib3", Ranges: []advisory.Range{{Introduced: "1.0", Fixed: "1.1"}}}}},
			{ID: "GHSA-none", Modified: day(1), Related: []string{"CVE-2000-1"}},
		},
	}
}

var kev = []advisory.Exploited{
	{CVE: "CVE-2021-44228", Name: "Log4Shell", Added: day(1), Due: day(14), Ransomware: true, Action: "Patch."},
	{CVE: "CVE-2014-0160", Name: "Heartbleed", Added: day(2)},
}

var epss = []advisory.Probability{{CVE: "CVE-2021-44228", EPSS: 0.97, Percentile: 0.999}, {CVE: "CVE-2014-0160", EPSS: 0.5, Percentile: 0.9}}

func seq[T any](list []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range list {
			if !yield(v, nil) {
				return
			}
		}
	}
}

func builder(t testing.TB, o vulndb.Options) *vulndb.Builder {
	t.Helper()
	if o.Built.IsZero() {
		o.Built, o.Generation = day(20), 7
	}
	o.Dir = t.TempDir()
	b, err := vulndb.NewBuilder(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// addAll adds the feeds of the sources that are named.
func addAll(t testing.TB, b *vulndb.Builder, sources ...string) {
	t.Helper()
	for _, name := range sources {
		s := vulndb.Source{Name: name, URL: "https://example.org/" + name, License: "CC-BY-4.0", Fetched: day(15)}
		var err error
		switch name {
		case "kev":
			err = b.AddExploited(s, kev)
		case "epss":
			err = b.AddProbabilities(s, day(14), seq(epss))
		default:
			err = b.AddAll(t.Context(), s, seq(feeds()[name]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

var allSources = []string{"debian", "osv/PyPI", "kev", "epss"}

func write(t testing.TB, b *vulndb.Builder) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "advisories.db")
	if err := b.Write(context.Background(), path); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, path string) *vulndb.DB {
	t.Helper()
	db, err := vulndb.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func example(t testing.TB) *vulndb.DB {
	t.Helper()
	b := builder(t, vulndb.Options{Details: 1000})
	addAll(t, b, allSources...)
	return open(t, write(t, b))
}

func contents(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheSameFeedsMakeTheSameBytes(t *testing.T) {
	b := builder(t, vulndb.Options{})
	addAll(t, b, allSources...)
	want := contents(t, write(t, b))
	for _, tc := range []struct {
		name string
		run  int // bytes sorted in memory
	}{
		{"in memory", 0},
		{"a run for each advisory", 1},
		{"some runs", 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := builder(t, vulndb.Options{Run: tc.run})
			r := rand.New(rand.NewPCG(3, uint64(tc.run)))
			for _, i := range r.Perm(len(allSources)) {
				name := allSources[i]
				s := vulndb.Source{Name: name, URL: "https://example.org/" + name, License: "CC-BY-4.0", Fetched: day(15)}
				switch name {
				case "kev":
					must(t, b.AddExploited(s, []advisory.Exploited{kev[1], kev[0]}))
				case "epss":
					must(t, b.AddProbabilities(s, day(14), seq([]advisory.Probability{epss[1], epss[0]})))
				default:
					list := feeds()[name]
					r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
					must(t, b.AddAll(t.Context(), s, seq(list)))
				}
			}
			if got := contents(t, write(t, b)); !bytes.Equal(got, want) {
				t.Errorf("%d bytes that differ from the other %d", len(got), len(want))
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsKeptIsAsIfReadAgain(t *testing.T) {
	for _, details := range []int{0, 1000} {
		b := builder(t, vulndb.Options{Details: details})
		addAll(t, b, allSources...)
		path := write(t, b)
		want := contents(t, path)
		old := open(t, path)
		for _, tc := range []struct{ kept, read []string }{
			{allSources, nil},
			{[]string{"debian", "epss"}, []string{"osv/PyPI", "kev"}},
			{[]string{"osv/PyPI", "kev"}, []string{"debian", "epss"}},
		} {
			t.Run(fmt.Sprint(tc.kept, details), func(t *testing.T) {
				b := builder(t, vulndb.Options{Details: details, Run: 300})
				addAll(t, b, tc.read...)
				must(t, b.Keep(t.Context(), old, tc.kept...))
				if got := contents(t, write(t, b)); !bytes.Equal(got, want) {
					t.Errorf("%d bytes that differ from the other %d", len(got), len(want))
				}
			})
		}
	}
}

func TestNewerReplacesOlder(t *testing.T) {
	older := advisory.Advisory{ID: "CVE-1", Modified: day(1), Summary: "old", Affected: []advisory.Affected{
		{Ecosystem: "npm", Package: "gone", Versions: []string{"1.0.0"}}}}
	newer := advisory.Advisory{ID: "CVE-1", Modified: day(2), Summary: "new", Affected: []advisory.Affected{
		{Ecosystem: "npm", Package: "here", Versions: []string{"1.0.0"}}}}
	for name, list := range map[string][]advisory.Advisory{"in order": {older, newer}, "the other way": {newer, older}, "twice": {newer, older, newer}} {
		t.Run(name, func(t *testing.T) {
			b := builder(t, vulndb.Options{})
			must(t, b.AddAll(t.Context(), vulndb.Source{Name: "a"}, seq(list)))
			must(t, b.AddAll(t.Context(), vulndb.Source{Name: "b"}, seq([]advisory.Advisory{older}))) // another source's own
			db := open(t, write(t, b))
			var got []string
			for _, r := range db.Named("CVE-1") {
				x, err := db.Texts().Read(r)
				must(t, err)
				got = append(got, r.Source+" "+x.Summary)
			}
			if want := []string{"a new", "b old"}; !cmp.Equal(got, want) {
				t.Errorf("Named() = %q, want %q", got, want)
			}
			here, _ := db.Lookup("npm", "here")
			gone, _ := db.Lookup("npm", "gone")
			if n, m := entries(t, here), entries(t, gone); n != 1 || m != 1 {
				t.Errorf("%d entries for here, %d for gone, want 1 and, by the other source, 1", n, m)
			}
		})
	}
}

func entries(t *testing.T, p vulndb.Package) int {
	t.Helper()
	n := 0
	var e vulndb.Entries
	for e.Of(p); e.Next(); {
		n++
	}
	must(t, e.Err())
	return n
}

func TestWritingReplacesWhole(t *testing.T) {
	b := builder(t, vulndb.Options{})
	addAll(t, b, "debian")
	path := write(t, b)
	old := open(t, path)

	ended, end := context.WithCancel(t.Context())
	end()
	b = builder(t, vulndb.Options{})
	addAll(t, b, "osv/PyPI")
	if err := b.Write(ended, path); err == nil {
		t.Fatal("Write() with an ended context = nil error")
	}
	if got := open(t, path).Info().Sources[0].Name; got != "debian" {
		t.Errorf("after a failed write the file is of %s", got)
	}
	if err := b.Write(t.Context(), path); err == nil {
		t.Error("a second Write() = nil error")
	}

	b = builder(t, vulndb.Options{})
	addAll(t, b, "osv/PyPI")
	must(t, b.Write(t.Context(), path))
	if got := open(t, path).Info().Sources[0].Name; got != "osv/PyPI" {
		t.Errorf("after a write the file is of %s", got)
	}
	if _, ok := old.Lookup("Debian:12", "openssl"); !ok {
		t.Error("who had the old file open cannot read it any more")
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
