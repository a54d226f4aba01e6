package peers_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/test/peers/answer"
	"github.com/castellan-security/castellan/test/peers/sample"
)

// peersOfImages are the tools whose answers were recorded, and whether they speak
// of vulnerabilities rather than packages.
var peersOfImages = []struct {
	tool            string
	vulnerabilities bool
}{{"syft", false}, {"osv-scanner", true}, {"grype", true}}

// TestImages holds what Castellan says of the sample images against what peers
// answered, whose programs are too large to be built in each run: `make compare`
// asks them anew. Each difference has its reason in imageDifferences, and each
// reason a difference.
func TestImages(t *testing.T) {
	images, err := sample.All(os.DirFS("testdata/images"))
	if err != nil {
		t.Fatal(err)
	}
	program, db := prepare(t)
	used := make([]bool, len(imageDifferences))
	ran := 0
	for _, img := range images {
		t.Run(img.Name, func(t *testing.T) {
			ran++
			packages, vulnerabilities := scanBoth(t, program, db, img)
			for _, p := range peersOfImages {
				ours := packages
				if p.vulnerabilities {
					ours = vulnerabilities
				}
				compare(t, img, p.tool, ours, used)
			}
		})
	}
	for i, d := range imageDifferences {
		if !used[i] && !t.Failed() && ran == len(images) {
			t.Errorf("nothing differs any more as %+v says", d)
		}
	}
}

// compare reports every line that only one of the two has and no reason explains.
func compare(t *testing.T, img sample.Image, tool string, ours []string, used []bool) {
	t.Helper()
	recorded, theirs, err := answer.Read("testdata/recorded", img.Name, tool)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if digest != recorded {
		t.Fatalf("%s answered for %s, and the image is %s now: make compare", tool, recorded, digest)
	}
	differ := 0
	check := func(side string, lines []string) {
		for _, l := range lines {
			differ++
			i := reason(img.Name, tool, side, l)
			if i < 0 {
				t.Errorf("%s %s: %s", tool, side, l)
				continue
			}
			used[i] = true
		}
	}
	check("theirs", without(theirs, ours))
	check("ours", without(ours, theirs))
	t.Logf("%s: %d lines are theirs, %d ours, %d differ", tool, len(theirs), len(ours), differ)
}

// reason returns the first difference that explains a line, or -1.
func reason(image, tool, side, line string) int {
	return slices.IndexFunc(imageDifferences, func(d imageDifference) bool {
		return d.side == side && regexp.MustCompile("^(?:"+d.tool+")$").MatchString(tool) && regexp.MustCompile("^(?:"+d.image+")$").MatchString(image) && regexp.MustCompile(d.line).MatchString(line)
	})
}

// prepare builds the program, and its database of the same advisories.
func prepare(t *testing.T) (program, db string) {
	t.Helper()
	dir := t.TempDir()
	program, db = filepath.Join(dir, "castellan"), filepath.Join(dir, "advisories.db")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/castellan")
	build.Dir = "../.." // the program's own module
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build castellan: %v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), program, "scan", "db", "build", "--feeds", "testdata/advisories", "--db", db).CombinedOutput(); err != nil {
		t.Fatalf("build the database: %v\n%s", err, out)
	}
	return program, db
}

// scanBoth scans both forms of an image, which must say the same.
func scanBoth(t *testing.T, program, db string, img sample.Image) (packages, vulnerabilities []string) {
	t.Helper()
	dir := t.TempDir()
	layout, archive := filepath.Join(dir, "layout"), filepath.Join(dir, "archive.tar")
	if err := errors.Join(img.WriteLayout(layout), img.WriteArchive(archive)); err != nil {
		t.Fatal(err)
	}
	scan := func(target string) (packages, vulnerabilities []string) {
		c := exec.CommandContext(t.Context(), program, "scan", target, "--db", db, "--no-cache", "-o", "json")
		c.Stderr = os.Stderr
		out, err := c.Output()
		if err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		if packages, vulnerabilities, err = answer.Castellan(out); err != nil {
			t.Fatal(err)
		}
		return packages, vulnerabilities
	}
	packages, vulnerabilities = scan("oci:" + layout)
	again, found := scan("archive:" + archive)
	if diff := cmp.Diff(packages, again); diff != "" {
		t.Errorf("packages of the layout and of the archive differ:\n%s", diff)
	}
	if diff := cmp.Diff(vulnerabilities, found); diff != "" {
		t.Errorf("vulnerabilities of the layout and of the archive differ:\n%s", diff)
	}
	return packages, vulnerabilities
}

// TestDebianIsIdentical is stricter than the table: of Debian's own packages not
// one may differ, for whatever reason.
func TestDebianIsIdentical(t *testing.T) {
	for _, d := range imageDifferences {
		for _, line := range []string{"deb libssl3 3.0.9-1 amd64 openssl 3.0.9-1", "deb tzdata 2024a-0+deb12u1 all tzdata 2024a-0+deb12u1"} {
			if d.tool == "syft" && (regexp.MustCompile(d.line).MatchString(line) || strings.HasPrefix(d.line, "^deb")) {
				t.Errorf("a difference in Debian's packages is explained away: %+v", d)
			}
		}
	}
}
