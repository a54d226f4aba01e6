package version_test

import (
	"archive/zip"
	"bufio"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/osv-scalibr/semantic"

	"github.com/castellan-security/castellan/internal/scan/version"
)

// explained says why our order and that of osv-scalibr may differ on a pair, or
// "" if they must not.
func explained(ecosystem, a, b string, ours int) string {
	again := func(change func(string) string) bool {
		theirs, ok := compareByThem(ecosystem, change(a), change(b))
		return ok && theirs == ours
	}
	switch ecosystem {
	case "Alpine":
		// apk-tools takes 1.2.0 for higher than 1.2: a version with a further
		// number is. osv-scalibr pads with zeros.
		if numbers(a) != numbers(b) {
			return "apk does not pad with zeros"
		}
	case "Packagist":
		// Composer pads to four numbers before it compares; osv-scalibr compares
		// what PHP's version_compare makes of the text.
		if again(composerPadded) {
			return "Composer pads with zeros"
		}
	case "Maven":
		// Since Maven 3.9.1 a word is the same behind a dot as behind a hyphen,
		// and zeros in front of it mean nothing (MNG-7644, MNG-7714). osv-scalibr
		// follows the older rule, by which 1.0.0.RC2 is lower than 1.0.0-RC1.
		if dotWord.MatchString(a) || dotWord.MatchString(b) {
			return "words behind dots"
		}
	case "PyPI":
		// Both are lower than all that PEP 440 knows; among them there is no rule
		// any more.
		if !pep440.MatchString(a) && !pep440.MatchString(b) {
			return "not of PEP 440"
		}
	}
	return ""
}

var (
	dotWord = regexp.MustCompile(`\.[A-Za-z]`)
	// pep440 is only as exact as telling the feeds' legacy versions needs.
	pep440  = regexp.MustCompile(`(?i)^v?(\d+!)?\d+(\.\d+)*([-_.]?(a|b|c|rc|alpha|beta|pre|preview)[-_.]?\d*)?(-\d+|[-_.]?(post|rev|r)[-_.]?\d*)?([-_.]?dev[-_.]?\d*)?(\+[a-z0-9]+([-_.][a-z0-9]+)*)?$`)
	leading = regexp.MustCompile(`^v?\d+(\.\d+)*`)
)

func numbers(v string) int { return strings.Count(leading.FindString(v), ".") }

func composerPadded(v string) string {
	n := leading.FindString(v)
	return n + strings.Repeat(".0", max(0, 3-strings.Count(n, "."))) + strings.ToLower(v[len(n):])
}

func compareByThem(ecosystem, a, b string) (int, bool) {
	v, err := semantic.Parse(a, ecosystem)
	if err != nil {
		return 0, false
	}
	c, err := v.CompareStr(b)
	return c, err == nil
}

// TestLikeOSVScalibr compares real versions, of the samples in testdata or, if
// they are there, of whole feeds, pair by pair with another implementation.
func TestLikeOSVScalibr(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("testdata: %d files, %v", len(files), err)
	}
	for _, file := range files {
		ecosystem := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(ecosystem, func(t *testing.T) { compareAll(t, ecosystem, lines(t, file), 2_000) })
		t.Run(ecosystem+", the whole feed", func(t *testing.T) {
			feed := "../../../../shared/feeds/osv/" + ecosystem + "/all.zip"
			if _, err := os.Stat(feed); err != nil {
				t.Skip("no feeds beside the work tree")
			}
			if testing.Short() {
				t.Skip("reading whole feeds takes seconds")
			}
			compareAll(t, ecosystem, fed(t, feed), 20_000)
		})
	}
}

// compareAll compares neighbours, which are close, and pairs at random.
func compareAll(t *testing.T, ecosystem string, vs []string, pairs int) {
	r := rand.New(rand.NewPCG(1, 2))
	why := map[string]int{}
	compared := 0
	check := func(a, b string) {
		got, err := version.Compare(ecosystem, a, b)
		want, ok := compareByThem(ecosystem, a, b)
		if err != nil || !ok {
			t.Errorf("Compare(%q, %q) = %v; osv-scalibr can: %v", a, b, err, ok)
			return
		}
		compared++
		if got == want {
			return
		}
		reason := explained(ecosystem, a, b, got)
		if reason == "" {
			t.Errorf("Compare(%q, %q) = %d, osv-scalibr says %d", a, b, got, want)
		}
		why[reason]++
	}
	for i := range len(vs) - 1 {
		check(vs[i], vs[i+1])
	}
	for range pairs {
		check(vs[r.IntN(len(vs))], vs[r.IntN(len(vs))])
	}
	t.Logf("%d versions, %d pairs, different: %v", len(vs), compared, why)
}

func lines(t *testing.T, name string) (vs []string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		vs = append(vs, s.Text())
	}
	return vs
}

// fed returns all versions that a feed in OSV's form mentions, sorted as text.
func fed(t *testing.T, name string) (vs []string) {
	t.Helper()
	z, err := zip.OpenReader(name)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for _, f := range z.File {
		var a struct {
			Affected []struct {
				Versions []string
				Ranges   []struct {
					Type   string
					Events []map[string]string
				}
			}
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.NewDecoder(r).Decode(&a); err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		r.Close()
		for _, af := range a.Affected {
			vs = append(vs, af.Versions...)
			for _, r := range af.Ranges {
				for _, event := range r.Events {
					for _, v := range event {
						if r.Type != "GIT" && v != "0" {
							vs = append(vs, v)
						}
					}
				}
			}
		}
	}
	slices.Sort(vs)
	return slices.Compact(vs)
}
