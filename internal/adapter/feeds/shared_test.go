package feeds_test

import (
	"archive/zip"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/feeds"
	"github.com/castellan-security/castellan/internal/advisory"
)

// shared returns the folder of real feeds that stands beside the work tree, and
// skips the test where there is none.
func shared(t testing.TB) fs.FS {
	t.Helper()
	dir := os.Getenv("CASTELLAN_TEST_FEEDS")
	if dir == "" {
		dir = "../../../../shared/feeds"
	}
	if _, err := os.Stat(filepath.Join(dir, "osv")); err != nil {
		t.Skipf("no feeds to read: %v (CASTELLAN_TEST_FEEDS names a folder in the layout of docs/feeds.md)", err)
	}
	return os.DirFS(dir)
}

func source(t testing.TB, name string) feeds.Source {
	t.Helper()
	s, ok := feeds.Named(name)
	if !ok {
		t.Fatalf("no source %s", name)
	}
	return s
}

// plain is an OSV document as encoding/json reads it.
type plain struct {
	ID        string
	Withdrawn string
	Aliases   []string
	Upstream  []string
	Related   []string
	Summary   string
	Affected  []struct {
		Package  struct{ Ecosystem, Name string }
		Versions []string
		Ranges   []struct {
			Type   string
			Events []map[string]string
		}
	}
}

// affected is what a plain document says, worked out the long way; ok is false
// where events are not pairs.
func (p plain) affected(t *testing.T) (all []advisory.Affected, ok bool) {
	t.Helper()
	for _, a := range p.Affected {
		out := advisory.Affected{Ecosystem: a.Package.Ecosystem, Package: advisory.Normalize(a.Package.Ecosystem, a.Package.Name), Versions: a.Versions}
		for _, r := range a.Ranges {
			if r.Type == "GIT" {
				continue
			}
			for i := 0; i < len(r.Events); i += 2 {
				from, is := r.Events[i]["introduced"]
				if !is {
					return nil, false
				}
				s := advisory.Range{Introduced: from}
				if from == "0" {
					s.Introduced = ""
				}
				if i+1 < len(r.Events) {
					s.Fixed, s.Last = r.Events[i+1]["fixed"], r.Events[i+1]["last_affected"]
					if s.Fixed == "" && s.Last == "" {
						return nil, false
					}
				}
				if s.Fixed != "" && s.Fixed == s.Introduced {
					continue
				}
				out.Ranges = append(out.Ranges, s)
			}
		}
		if len(out.Ranges)+len(out.Versions) > 0 {
			all = append(all, out)
		}
	}
	return all, true
}

// TestWholeFeedsAgainstEncodingJSON reads whole feeds as they were published, and
// holds every document against what encoding/json reads in it.
func TestWholeFeedsAgainstEncodingJSON(t *testing.T) {
	fsys := shared(t)
	for _, name := range []string{"Go", "PyPI", "npm", "Maven", "NuGet", "Packagist", "Debian", "AlmaLinux", "Alpine"} {
		t.Run(name, func(t *testing.T) {
			var tally feeds.Tally
			got := map[string]advisory.Advisory{}
			for a, err := range feeds.Parse(context.Background(), source(t, "osv/"+name), fsys, &tally) {
				if err != nil {
					t.Fatal(err)
				}
				got[a.ID] = a
			}
			documents, compared, empty := 0, 0, 0
			for _, doc := range plainDocuments(t, fsys, "osv/"+name+"/all.zip") {
				documents++
				a, there := got[doc.ID]
				want, pairs := doc.affected(t)
				if len(want) == 0 && pairs {
					empty++
					continue
				}
				if !there {
					t.Fatalf("%s is missing", doc.ID)
				}
				if !pairs {
					continue
				}
				compared++
				for i := range a.Affected { // these are not in the documents
					a.Affected[i].Of, a.Affected[i].Repository = 0, ""
				}
				if d := cmp.Diff(want, a.Affected); d != "" {
					t.Fatalf("%s: -encoding/json +feeds:\n%s", doc.ID, d)
				}
				if a.Withdrawn.IsZero() != (doc.Withdrawn == "") || a.Summary != doc.Summary && len(a.Summary) < 1000 {
					t.Errorf("%s: withdrawn %v, summary %q", doc.ID, a.Withdrawn, a.Summary)
				}
				for _, id := range slices.Concat(doc.Aliases, doc.Upstream, doc.Related) {
					if !slices.Contains(slices.Concat(a.Aliases, a.Upstream, a.Related), id) {
						t.Errorf("%s: its other name %s is lost", doc.ID, id)
					}
				}
			}
			if tally.Failed != 0 || tally.Documents != documents || tally.Advisories != documents-empty || compared < documents*99/100 {
				t.Errorf("%d documents, %d empty, %d compared, but %+v", documents, empty, compared, tally)
			}
			t.Logf("%d documents, %d advisories, newest %s, skipped %v", tally.Documents, tally.Advisories, tally.Newest.Format("2006-01-02"), tally.Skipped)
		})
	}
}

func plainDocuments(t *testing.T, fsys fs.FS, name string) []plain {
	t.Helper()
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(strings.NewReader(string(data)), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	var all []plain
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		var p plain
		if err := json.Unmarshal(b, &p); err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		all = append(all, p)
	}
	return all
}

// TestWholeSecDB counts fixes in Alpine's own files, with encoding/json too.
func TestWholeSecDB(t *testing.T) {
	fsys := shared(t)
	want := 0
	weaknesses := map[string]bool{}
	names, err := fs.Glob(fsys, "alpine-secdb/*/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Packages []struct {
				Pkg struct{ Secfixes map[string][]string }
			}
		}
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatal(err)
		}
		for _, p := range doc.Packages {
			for _, ids := range p.Pkg.Secfixes {
				for _, id := range ids {
					if strings.TrimSpace(id) != "" {
						want++
						first, _, _ := strings.Cut(strings.TrimSpace(id), " ")
						weaknesses[first] = true
					}
				}
			}
		}
	}
	var tally feeds.Tally
	branches := map[string]int{}
	notAffected, fixes := 0, 0
	seen := map[string]bool{}
	for a, err := range feeds.Parse(context.Background(), source(t, "alpine"), fsys, &tally) {
		if err != nil {
			t.Fatal(err)
		}
		if seen[a.ID] {
			t.Errorf("%s came twice", a.ID)
		}
		seen[a.ID] = true
		fixes += len(a.Affected)
		for _, p := range a.Affected {
			branches[p.Ecosystem]++
			if p.Status == advisory.NotAffected {
				notAffected++
			}
		}
	}
	if fixes != want || tally.Advisories != len(weaknesses) || tally.Failed != 0 || notAffected == 0 || branches["Alpine:v3.11"] == 0 {
		t.Errorf("%d weaknesses of %d, %d fixes of %d, %d not affected, %v, %+v", tally.Advisories, len(weaknesses), fixes, want, notAffected, branches, tally)
	}
}

func TestWholeCatalogue(t *testing.T) {
	var tally feeds.Tally
	ransomware := 0
	for e, err := range feeds.Exploited(context.Background(), shared(t), &tally) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Added.IsZero() || e.Due.IsZero() || e.Name == "" {
			t.Errorf("%+v", e)
		}
		if e.Ransomware {
			ransomware++
		}
	}
	if tally.Failed != 0 || tally.Advisories < 1000 || ransomware < 100 {
		t.Errorf("%+v, %d in ransomware", tally, ransomware)
	}
}
