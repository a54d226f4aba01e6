package feeds

import (
	"cmp"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func seedFiles(t *testing.T) fstest.MapFS {
	t.Helper()
	kev, err := os.ReadFile("testdata/kev/" + kevFile)
	if err != nil {
		t.Fatal(err)
	}
	document := func(id, modified string) string {
		return strings.Replace(osvDocument(id, "1"), `{`, `{"modified":"`+modified+`",`, 1)
	}
	return fstest.MapFS{
		"osv/Go/all.zip":     {Data: []byte(zipOf(t, map[string]string{"GO-1.json": document("GO-1", "2026-08-01T00:00:00Z"), "GO-2.json": document("GO-2", "2025-08-01T00:00:00Z")}))},
		"osv/PyPI/all.zip":   {Data: []byte(zipOf(t, map[string]string{"PYSEC-1.json": document("PYSEC-1", "2024-10-10T00:00:00Z")}))},
		"osv/Debian/all.zip": {Data: []byte(zipOf(t, map[string]string{"DSA-1.json": document("DSA-1", "2023-04-01T00:00:00Z")}))},
		"osv/npm/all.zip":    {Data: []byte("not for a seed")},
		"kev/" + kevFile:     {Data: kev},
	}
}

func TestSeed(t *testing.T) {
	origins, err := Seed(t.Context(), seedFiles(t))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range origins {
		got = append(got, o.Notice())
	}
	want := []string{
		"Go (OSV): 2 entries as of 2026-08-01. Go vulnerability database (https://vuln.go.dev), the Go authors, CC-BY 4.0. Licence: CC-BY-4.0.",
		"PyPI (OSV): 1 entries as of 2024-10-10. PyPI advisory database (https://github.com/pypa/advisory-database), CC-BY 4.0; Advisories of the GitHub Advisory Database (https://github.com/advisories), CC-BY 4.0. Licence: CC-BY-4.0.",
		"Debian (OSV): 1 entries as of 2023-04-01. Debian security advisories (https://www.debian.org/security), converted by osv.dev. Licence: MIT or GPL-2.0-or-later, before 2012 OPL-1.0.",
		"Known exploited vulnerabilities: 2 entries as of 2025-08-25. Known exploited vulnerabilities catalogue (https://www.cisa.gov), CISA. Licence: CC0-1.0.",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if files := origins[3].Files; !slices.Equal(files, []string{"kev/" + kevFile}) {
		t.Errorf("files %q", files)
	}
}

func TestSeedOfWhatIsBroken(t *testing.T) {
	for name, change := range map[string]func(fstest.MapFS){
		"a document":  func(m fstest.MapFS) { m["osv/Go/bad.json"] = &fstest.MapFile{Data: []byte("{")} },
		"an archive":  func(m fstest.MapFS) { m["osv/PyPI/all.zip"].Data = []byte("PK") },
		"a catalogue": func(m fstest.MapFS) { m["kev/"+kevFile].Data = []byte("[]") },
		"no catalogue": func(m fstest.MapFS) {
			maps.DeleteFunc(m, func(n string, _ *fstest.MapFile) bool { return strings.HasPrefix(n, "kev/") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			files := seedFiles(t)
			change(files)
			if origins, err := Seed(t.Context(), files); err == nil {
				t.Errorf("got %v", origins)
			}
		})
	}
}

func TestHowOldAFeedWithoutDatesIs(t *testing.T) {
	for id, want := range map[string]string{"GO-2026-6249": "2026-01-01", "CVE-2024-0001": "2024-01-01", "XSA-207": "0001-01-01", "A-1998-1": "0001-01-01"} {
		var tally Tally
		ids, _ := read(t, "osv/npm", map[string]string{"a.json": osvDocument(id, "1")}, &tally)
		if got := tally.Newest.Format("2006-01-02"); got != want || len(ids) != 1 {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
}

// TestWhatIsPassedOnMayBe holds the seed against licences that permit it.
func TestWhatIsPassedOnMayBe(t *testing.T) {
	for _, name := range seedSources() {
		s, ok := Named(name)
		if !ok || s.Attribution == "" || !slices.Contains([]string{ccBy4, cc0, debianText}, s.Licence) || (Origin{Source: s}).Terms() == "" {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// TestSourcesAreDocumented wants every source in the page for users.
func TestSourcesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../../docs/feeds.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range All() {
		name := "`" + s.Name + "`"
		if s.Format == OSV {
			name = s.Ecosystems[0]
		}
		if !strings.Contains(string(page), name) {
			t.Errorf("docs/feeds.md doesn't tell of %s", s.Name)
		}
	}
}

// TestSeedOfRealFeeds reads the real ones, where they are.
func TestSeedOfRealFeeds(t *testing.T) {
	dir := cmp.Or(os.Getenv("CASTELLAN_TEST_FEEDS"), "../../../../shared/feeds")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no feeds to read: %v", err)
	}
	origins, err := Seed(t.Context(), os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range origins {
		t.Log(o.Notice())
		if o.Advisories < 1000 || o.Newest.IsZero() {
			t.Errorf("%s: %d advisories, newest %v", o.Source.Name, o.Advisories, o.Newest)
		}
	}
}
