package match_test

import (
	"archive/zip"
	"cmp"
	"encoding/json"
	"io"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/scan/version"
	"github.com/castellan-security/castellan/internal/scan/vulndb"
)

// osv is as much of OSV's form as these tests need; adapter/feeds reads it for
// the product.
type osv struct {
	ID                         string
	Aliases, Upstream, Related []string
	Published, Modified        time.Time
	Withdrawn                  time.Time
	Summary, Details           string
	Severity                   []struct{ Type, Score string }
	References                 []struct{ Type, URL string }
	Affected                   []struct {
		Package  struct{ Ecosystem, Name string }
		Versions []string
		Ranges   []struct {
			Type   string
			Events []map[string]string
		}
	}
}

func (o *osv) advisory() advisory.Advisory {
	a := advisory.Advisory{ID: o.ID, Aliases: o.Aliases, Upstream: o.Upstream, Related: o.Related, Published: o.Published, Modified: o.Modified,
		Withdrawn: o.Withdrawn, Summary: o.Summary, Details: o.Details}
	for _, s := range o.Severity {
		a.Scores = append(a.Scores, advisory.Score{Vector: s.Score})
	}
	for _, r := range o.References {
		a.References = append(a.References, advisory.Reference{Kind: strings.ToLower(r.Type), URL: r.URL})
	}
	for _, x := range o.Affected {
		y := advisory.Affected{Ecosystem: x.Package.Ecosystem, Package: x.Package.Name, Versions: x.Versions}
		switch base, _, _ := strings.Cut(y.Ecosystem, ":"); base {
		case "Debian", "Alpine":
			y.Of = advisory.OfSource
		case "AlmaLinux":
			y.Of = advisory.OfBinary
			a.Upstream = o.Related
		}
		for _, r := range x.Ranges {
			if r.Type != "GIT" {
				y.Ranges = append(y.Ranges, ranges(y.Ecosystem, r.Events)...)
			}
		}
		a.Affected = append(a.Affected, y)
	}
	return a
}

// ranges cuts the events of a range into stretches, as OSV evaluates them.
func ranges(ecosystem string, events []map[string]string) (list []advisory.Range) {
	at := func(e map[string]string) string { return cmp.Or(e["introduced"], e["fixed"], e["last_affected"]) }
	slices.SortStableFunc(events, func(a, b map[string]string) int {
		if a["introduced"] == "0" || b["introduced"] == "0" {
			return cmp.Compare(b["introduced"], a["introduced"])
		}
		c, _ := version.Compare(ecosystem, at(a), at(b))
		return c
	})
	open, from := false, ""
	for _, e := range events {
		switch {
		case e["introduced"] != "" && !open:
			open, from = true, e["introduced"]
		case e["fixed"] != "" && open:
			open, list = false, append(list, advisory.Range{Introduced: from, Fixed: e["fixed"]})
		case e["last_affected"] != "" && open:
			open, list = false, append(list, advisory.Range{Introduced: from, Last: e["last_affected"]})
		}
	}
	if open {
		list = append(list, advisory.Range{Introduced: from})
	}
	return list
}

// feedsDir has real feeds in the layout of the osv.dev bucket.
const feedsDir = "../../../../shared/feeds/osv"

// feeds reads all feeds that are beside the work tree, or skips.
func feeds(t testing.TB) map[string][]advisory.Advisory {
	t.Helper()
	files, err := filepath.Glob(feedsDir + "/*/all.zip")
	if err != nil || len(files) == 0 {
		t.Skip("no feeds beside the work tree")
	}
	all := map[string][]advisory.Advisory{}
	for _, file := range files {
		name := filepath.Base(filepath.Dir(file))
		z, err := zip.OpenReader(file)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		for _, f := range z.File {
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			all[name] = append(all[name], read(t, r))
			r.Close()
		}
	}
	return all
}

func read(t testing.TB, r io.Reader) advisory.Advisory {
	t.Helper()
	var o osv
	if err := json.NewDecoder(r).Decode(&o); err != nil {
		t.Fatal(err)
	}
	return o.advisory()
}

func seq[T any](list []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range list {
			if !yield(v, nil) {
				return
			}
		}
	}
}

// database compiles feeds and opens the file.
func database(t testing.TB, feeds map[string][]advisory.Advisory, more ...func(*vulndb.Builder)) *vulndb.DB {
	t.Helper()
	path := build(t, feeds, more...)
	db, err := vulndb.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

func build(t testing.TB, feeds map[string][]advisory.Advisory, more ...func(*vulndb.Builder)) string {
	t.Helper()
	b, err := vulndb.NewBuilder(vulndb.Options{Dir: t.TempDir(), Built: time.Unix(1_700_000_000, 0)})
	must(t, err)
	for name, list := range feeds {
		must(t, b.AddAll(t.Context(), vulndb.Source{Name: name}, seq(list)))
	}
	for _, f := range more {
		f(b)
	}
	path := filepath.Join(t.TempDir(), "db")
	must(t, b.Write(t.Context(), path))
	must(t, b.Close())
	return path
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
