package feeds

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

func zipOf(t *testing.T, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func tarZst(t *testing.T, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func osvDocument(id, fixed string) string {
	return fmt.Sprintf(`{"id":%q,"affected":[{"package":{"ecosystem":"npm","name":"a"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":%q}]}]}]}`, id, fixed)
}

// fixes returns what the advisories of a source are fixed by, sorted.
func fixes(t *testing.T, f *Fetcher, name string) []string {
	t.Helper()
	s, _ := Named(name)
	var tally Tally
	var all []string
	for a, err := range Parse(t.Context(), s, os.DirFS(f.dir), &tally) {
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range a.Affected {
			all = append(all, a.ID+" "+p.Ranges[0].Fixed)
		}
	}
	if tally.Failed > 0 {
		t.Errorf("failures: %v", tally.Failures)
	}
	slices.Sort(all)
	return all
}

const npm = "osv-vulnerabilities.storage.googleapis.com/npm/"

func TestFollowsOSV(t *testing.T) {
	p := newPublisher(t)
	p.put(npm+"all.zip", zipOf(t, map[string]string{"A-1.json": osvDocument("A-1", "1"), "A-2.json": osvDocument("A-2", "1")}))
	p.put(npm+"modified_id.csv", "2026-01-02T00:00:00Z,A-2\n2026-01-01T00:00:00Z,A-1\n")
	f := p.fetcher()
	mustUpdate(t, f, "osv/npm")
	if got, want := fixes(t, f, "osv/npm"), []string{"A-1 1", "A-2 1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	p.asked()
	mustUpdate(t, f, "osv/npm")
	if got := p.asked(); len(got) != 1 || got[0] != npm+"modified_id.csv" {
		t.Errorf("nothing has changed, but asked for %q", got)
	}

	p.put(npm+"modified_id.csv", "2026-01-04T00:00:00Z,A-3\n2026-01-03T00:00:00Z,A-2\n2026-01-01T00:00:00Z,A-1\n")
	p.put(npm+"A-2.json", osvDocument("A-2", "2"))
	p.put(npm+"A-3.json", osvDocument("A-3", "1"))
	mustUpdate(t, f, "osv/npm")
	got := p.asked()
	slices.Sort(got)
	if want := []string{npm + "A-2.json", npm + "A-3.json", npm + "modified_id.csv"}; !slices.Equal(got, want) {
		t.Errorf("asked for %q, want %q", got, want)
	}
	if got, want := fixes(t, f, "osv/npm"), []string{"A-1 1", "A-2 2", "A-3 1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}

	// After a week the archive is fetched again, and A-1 is no longer in it.
	p.put(npm+"all.zip", zipOf(t, map[string]string{"A-2.json": osvDocument("A-2", "2"), "A-3.json": osvDocument("A-3", "3")}))
	f.now = func() time.Time { return time.Now().Add(maxAge + time.Hour) }
	u := mustUpdate(t, f, "osv/npm")
	if got, want := fixes(t, f, "osv/npm"), []string{"A-2 2", "A-3 3"}; !slices.Equal(got, want) || u.Removed != 2 {
		t.Errorf("got %q and %+v, want %q", got, u, want)
	}
}

func TestOSVWithMoreChangesThanAnArchiveCosts(t *testing.T) {
	p := newPublisher(t)
	p.put(npm+"all.zip", zipOf(t, map[string]string{"A-1.json": osvDocument("A-1", "1")}))
	p.put(npm+"modified_id.csv", "2026-01-01T00:00:00Z,A-1\n")
	f := p.fetcher()
	mustUpdate(t, f, "osv/npm")
	var list strings.Builder
	for i := range maxFollowed + 1 {
		fmt.Fprintf(&list, "2026-02-01T00:00:00Z,B-%d\n", i)
	}
	p.put(npm+"modified_id.csv", list.String())
	p.put(npm+"all.zip", zipOf(t, map[string]string{"B-1.json": osvDocument("B-1", "1")}))
	p.asked()
	mustUpdate(t, f, "osv/npm")
	if got := p.asked(); len(got) > 3 {
		t.Errorf("asked %d times", len(got))
	}
	if got := fixes(t, f, "osv/npm"); !slices.Equal(got, []string{"B-1 1"}) {
		t.Errorf("got %q", got)
	}
}

func TestOSVFromAMirrorThatHasOnlyArchives(t *testing.T) {
	p := newPublisher(t)
	p.put("mirror/osv/npm/all.zip", zipOf(t, map[string]string{"A-1.json": osvDocument("A-1", "1")}))
	f := p.fetcherIn(t.TempDir(), Options{Mirror: "http://mirror"})
	mustUpdate(t, f, "osv/npm")
	if u := mustUpdate(t, f, "osv/npm"); u.Changed != 0 {
		t.Errorf("got %+v", u)
	}
	p.put("mirror/osv/npm/all.zip", zipOf(t, map[string]string{"A-1.json": osvDocument("A-1", "2")}))
	mustUpdate(t, f, "osv/npm")
	if got := fixes(t, f, "osv/npm"); !slices.Equal(got, []string{"A-1 2"}) {
		t.Errorf("got %q", got)
	}
}

func TestListsNameNothingElsewhere(t *testing.T) {
	for _, id := range []string{"../../../etc/passwd", "a/b", "https://elsewhere/x", ".state", "a b", "", strings.Repeat("x", 300)} {
		t.Run(id, func(t *testing.T) {
			p := newPublisher(t)
			p.put(npm+"all.zip", zipOf(t, nil))
			p.put(npm+"modified_id.csv", "2026-01-02T00:00:00Z,"+id+"\n")
			if u := update1(t, p.fetcher(), "osv/npm"); u.Err == nil || !strings.Contains(u.Err.Error(), "no name of a document") {
				t.Errorf("got %v", u.Err)
			}
		})
	}
}

const vexBase = "security.access.redhat.com/data/csaf/v2/vex-feed/"

func vexDocument(cve, fixed string) string {
	return fmt.Sprintf(`{"document":{"tracking":{"id":%q}},"product_tree":{"branches":[
		{"product":{"product_id":"r","product_identification_helper":{"cpe":"cpe:/o:redhat:enterprise_linux:9"}}},
		{"product":{"product_id":"p","product_identification_helper":{"purl":"pkg:rpm/redhat/a@%s?arch=src"}}}],
		"relationships":[{"full_product_name":{"product_id":"r:p"},"product_reference":"p","relates_to_product_reference":"r"}]},
		"vulnerabilities":[{"cve":%q,"product_status":{"fixed":["r:p"]}}]}`, cve, fixed, cve)
}

func sha(s string) string { sum := sha256.Sum256([]byte(s)); return hex.EncodeToString(sum[:]) }

func TestFollowsRedHat(t *testing.T) {
	p := newPublisher(t)
	archive := tarZst(t, map[string]string{
		"2024/cve-2024-0001.json": vexDocument("CVE-2024-0001", "1"), "2024/cve-2024-0002.json": vexDocument("CVE-2024-0002", "1"),
		"2024/cve-2024-0003.json": vexDocument("CVE-2024-0003", "1"), "2024/cve-2024-0004.json": vexDocument("CVE-2024-0004", "1")})
	p.put(vexBase+"archive_latest.txt", "csaf_vex_2024-08-04.tar.zst\n")
	p.put(vexBase+"csaf_vex_2024-08-04.tar.zst", archive)
	p.put(vexBase+"csaf_vex_2024-08-04.tar.zst.sha256", sha(archive)+"  csaf_vex_2024-08-04.tar.zst\n")
	p.put(vexBase+"changes.csv", `"2024/cve-2024-0002.json","2024-08-05T10:17:22+00:00"`+"\n"+`"2024/cve-2024-0001.json","2024-08-01T10:17:22+00:00"`+"\n")
	p.put(vexBase+"deletions.csv", `"2024/cve-2024-0003.json","2024-08-05T10:17:22+00:00"`+"\n")
	p.put(vexBase+"2024/cve-2024-0002.json", vexDocument("CVE-2024-0002", "2"))
	f := p.fetcher()
	mustUpdate(t, f, "redhat/vex")
	if got, want := fixes(t, f, "redhat/vex"), []string{"CVE-2024-0001 1", "CVE-2024-0002 2", "CVE-2024-0004 1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}

	p.put(vexBase+"changes.csv", `"2024/cve-2024-0004.json","2024-08-06T10:17:22+00:00"`+"\n"+`"2024/cve-2024-0002.json","2024-08-05T10:17:22+00:00"`+"\n")
	p.put(vexBase+"2024/cve-2024-0004.json", vexDocument("CVE-2024-0004", "4"))
	p.asked()
	mustUpdate(t, f, "redhat/vex")
	if got := p.asked(); slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "0002") || strings.Contains(s, ".zst") }) {
		t.Errorf("asked for what has not changed: %q", got)
	}
	if got, want := fixes(t, f, "redhat/vex"), []string{"CVE-2024-0001 1", "CVE-2024-0002 2", "CVE-2024-0004 4"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}

	// A month later another archive takes the place of all that.
	next := tarZst(t, map[string]string{"2024/cve-2024-0005.json": vexDocument("CVE-2024-0005", "5")})
	p.put(vexBase+"archive_latest.txt", "csaf_vex_2024-09-15.tar.zst")
	p.put(vexBase+"csaf_vex_2024-09-15.tar.zst", next)
	f.now = func() time.Time { return time.Now().Add(5 * maxAge) }
	mustUpdate(t, f, "redhat/vex")
	if got, want := fixes(t, f, "redhat/vex"), []string{"CVE-2024-0005 5"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRedHatArchiveThatIsNotWhatItsSumSays(t *testing.T) {
	p := newPublisher(t)
	p.put(vexBase+"archive_latest.txt", "csaf_vex_2024-08-04.tar.zst\n")
	p.put(vexBase+"csaf_vex_2024-08-04.tar.zst", tarZst(t, nil))
	p.put(vexBase+"csaf_vex_2024-08-04.tar.zst.sha256", sha("another"))
	p.put(vexBase+"changes.csv", "")
	f := p.fetcher()
	if u := update1(t, f, "redhat/vex"); u.Err == nil || !strings.Contains(u.Err.Error(), "the publisher says "+sha("another")) {
		t.Errorf("got %v", u.Err)
	}
	if content(t, f, "redhat/vex/csaf_vex_2024-08-04.tar.zst") != "" {
		t.Error("it is there")
	}
}

func TestRedHatNamesNothingElsewhere(t *testing.T) {
	for name, files := range map[string][2]string{
		"archive":  {"../../x.tar.zst", ""},
		"no zst":   {"index.html", ""},
		"document": {"csaf_vex_2024-08-04.tar.zst", `"../x.json","2024-08-05T10:17:22+00:00"`},
		"host":     {"csaf_vex_2024-08-04.tar.zst", `"https://elsewhere/x.json","2024-08-05T10:17:22+00:00"`},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPublisher(t)
			p.put(vexBase+"archive_latest.txt", files[0])
			p.put(vexBase+"csaf_vex_2024-08-04.tar.zst", tarZst(t, nil))
			p.put(vexBase+"changes.csv", files[1])
			u := update1(t, p.fetcher(), "redhat/vex")
			if u.Err == nil || !strings.Contains(u.Err.Error(), "no name of a document") && !strings.Contains(u.Err.Error(), "no archive") {
				t.Errorf("got %v", u.Err)
			}
		})
	}
}

func gzipOf(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const amzn = "cdn.amazonlinux.com/2/"

// amazonRepository publishes a repository with one update.
func amazonRepository(t *testing.T, p *publisher, name, id string) {
	info := gzipOf(t, `<updates><update type="security"><id>`+id+`</id><package name="a" version="1" release="1" arch="noarch"/></update></updates>`)
	base := "cdn.amazonlinux.com/2/" + name + "/2.0/x86_64/abc"
	p.put(amzn+name+"/latest/x86_64/mirror.list", "https://"+base+"/\n")
	p.put(base+"/repodata/repomd.xml", `<repomd xmlns="http://linux.duke.edu/metadata/repo"><data type="primary"><location href="repodata/primary.gz"/></data>
		<data type="updateinfo"><checksum type="sha256">`+sha(info)+`</checksum><location href="repodata/updateinfo.xml.gz"/></data></repomd>`)
	p.put(base+"/repodata/updateinfo.xml.gz", info)
}

func TestFindsTheRepositoriesOfAmazonLinux(t *testing.T) {
	p := newPublisher(t)
	p.put(amzn+"extras-catalog.json", `{"topics":[{"n":"docker","visible":["docker"]},{"n":"python3.8"},{"n":"gone"}]}`)
	amazonRepository(t, p, "core", "ALAS2-1")
	amazonRepository(t, p, "extras/docker", "ALASDOCKER-1")
	p.put(amzn+"extras/python3.8/latest/x86_64/mirror.list", "https://cdn.amazonlinux.com/2/extras/python3.8/x")
	p.put("cdn.amazonlinux.com/2/extras/python3.8/x/repodata/repomd.xml", `<repomd><data type="primary"/></repomd>`)
	f := p.fetcher()
	mustUpdate(t, f, "amazon/2")
	if got, want := fixes(t, f, "amazon/2"), []string{"ALAS2-1 1-1", "ALASDOCKER-1 1-1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	s, _ := Named("amazon/2")
	var tally Tally
	for a := range Parse(t.Context(), s, os.DirFS(f.dir), &tally) {
		if got, want := a.Affected[0].Repository, map[string]string{"ALAS2-1": "", "ALASDOCKER-1": "docker"}[a.ID]; got != want {
			t.Errorf("%s is of %q, want %q", a.ID, got, want)
		}
	}
	if u := mustUpdate(t, f, "amazon/2"); u.Changed != 0 {
		t.Errorf("got %+v", u)
	}
}

func TestTheSameNumberInTwoRepositories(t *testing.T) {
	text := func(id string) string {
		return `<updates><update type="security"><id>` + id + `</id><package name="a" version="1" release="1" arch="noarch"/></update></updates>`
	}
	var tally Tally
	ids, failed := read(t, "amazon/2", map[string]string{"core/updateinfo.xml": text("ALAS-1"), "extras/docker/updateinfo.xml": text("ALAS-1"), "extras/nginx1/updateinfo.xml": text("ALAS-2")}, &tally)
	if want := []string{"ALAS-1", "ALAS-1/docker", "ALAS-2"}; len(failed) > 0 || !slices.Equal(ids, want) {
		t.Errorf("got %q, %v, want %q", ids, failed, want)
	}
}

func TestAmazonRepositoriesThatAreNotWhatTheySay(t *testing.T) {
	for _, tc := range []struct{ name, file, content, want string }{
		{"another file than the index names", "core/2.0/x86_64/abc/repodata/updateinfo.xml.gz", gzipOf(t, "<updates/>"), "the publisher says"},
		{"a mirror without https", "core/latest/x86_64/mirror.list", "http://elsewhere/", "no address with https"},
		{"an index that leads elsewhere", "core/2.0/x86_64/abc/repodata/repomd.xml", `<repomd><data type="updateinfo"><location href="../../../x"/></data></repomd>`, "no place in the repository"},
		{"an index that is none", "core/2.0/x86_64/abc/repodata/repomd.xml", `<repomd><data`, "repomd.xml"},
		{"a catalogue that leads elsewhere", "extras-catalog.json", `{"topics":[{"n":"../x"}]}`, "no name of an extra"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPublisher(t)
			p.put(amzn+"extras-catalog.json", `{"topics":[]}`)
			amazonRepository(t, p, "core", "ALAS2-1")
			p.put(amzn+tc.file, tc.content)
			if u := update1(t, p.fetcher(), "amazon/2"); u.Err == nil || !strings.Contains(u.Err.Error(), tc.want) {
				t.Errorf("got %v, want %q", u.Err, tc.want)
			}
		})
	}
}

const explore = "explore.alas.aws.amazon.com/"

func amazonState(cve, status string) string {
	return fmt.Sprintf(`{"cve_id":%q,"affected_packages":[{"platform":"Amazon Linux 2023","package":"curl","status":%q}]}`, cve, status)
}

func TestFollowsTheStatesOfAmazonLinux(t *testing.T) {
	p := newPublisher(t)
	row := func(cve, rest string) string {
		return "<tr><td><a href=" + cve + ".html>" + cve + "</a></td><td>" + rest + "</td></tr>"
	}
	p.put(explore, "<table>"+row("CVE-2025-0001", "Low")+row("CVE-2025-0002", "Low")+row("CVE-2025-0003", "gone")+"</table>")
	p.put(explore+"CVE-2025-0001.json", amazonState("CVE-2025-0001", "Pending Fix"))
	p.put(explore+"CVE-2025-0002.json", amazonState("CVE-2025-0002", "No Fix Planned"))
	f := p.fetcher()
	mustUpdate(t, f, "amazon/cve")
	if got, want := fixes(t, f, "amazon/cve"), []string{"CVE-2025-0001 ", "CVE-2025-0002 "}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}

	p.put(explore, "<table>"+row("CVE-2025-0001", "Medium")+row("CVE-2025-0002", "Low")+"</table>")
	p.asked()
	mustUpdate(t, f, "amazon/cve")
	// The newest is asked for to see whether its form is still the same.
	if got, want := p.asked(), []string{explore, explore + "CVE-2025-0002.json", explore + "CVE-2025-0001.json"}; !slices.Equal(got, want) {
		t.Errorf("asked for %q, want %q", got, want)
	}
	f.now = func() time.Time { return time.Now().Add(refreshAfter + time.Hour) }
	mustUpdate(t, f, "amazon/cve")
	got := p.asked()
	slices.Sort(got)
	if want := []string{explore, explore + "CVE-2025-0001.json", explore + "CVE-2025-0002.json"}; !slices.Equal(got, want) {
		t.Errorf("after a fortnight asked for %q, want %q", got, want)
	}
	p.put(explore, "<html>a new design</html>")
	if u := update1(t, f, "amazon/cve"); u.Err == nil || !strings.Contains(u.Err.Error(), "its form has changed") {
		t.Errorf("got %v", u.Err)
	}
}

func amazonPage(cve, status string) string {
	return "<html><head><title>" + cve + "</title></head><body><table><tr><th>Platform</th><th>Package</th><th>Status</th></tr>" +
		"<tr><td>Amazon Linux 2023</td><td>curl</td><td>" + status + "</td></tr></table></body></html>"
}

// TestTakesThePagesOfAmazonLinux changes the form of the documents: what can be
// read is kept until there is something else that can, and nobody is asked for
// thousands of documents in vain.
func TestTakesThePagesOfAmazonLinux(t *testing.T) {
	p := newPublisher(t)
	p.put(explore, "<table><tr><td>CVE-2025-0001</td></tr><tr><td>CVE-2025-0002</td></tr></table>")
	for _, cve := range []string{"CVE-2025-0001", "CVE-2025-0002"} {
		p.put(explore+cve+".json", amazonState(cve, "Pending Fix"))
	}
	f := p.fetcher()
	mustUpdate(t, f, "amazon/cve")

	p.put(explore, "<table><tr><td>CVE-2025-0001</td></tr><tr><td>CVE-2025-0002</td></tr><tr><td>CVE-2025-0003</td></tr></table>")
	for _, cve := range []string{"CVE-2025-0001", "CVE-2025-0002", "CVE-2025-0003"} {
		p.put(explore+cve+".json", `{"vulnerability":"`+cve+`"}`)
	}
	p.asked()
	if u := update1(t, f, "amazon/cve"); u.Err == nil || !strings.Contains(u.Err.Error(), "in no form that this version reads") {
		t.Errorf("got %v", u.Err)
	}
	if n := len(p.asked()); n > 10 {
		t.Errorf("%d requests to see that no form can be read", n)
	}

	for _, cve := range []string{"CVE-2025-0001", "CVE-2025-0002", "CVE-2025-0003"} {
		p.put(explore+cve+".html", amazonPage(cve, "No Fix Planned"))
	}
	mustUpdate(t, f, "amazon/cve")
	if got, want := fixes(t, f, "amazon/cve"), []string{"CVE-2025-0001 ", "CVE-2025-0002 ", "CVE-2025-0003 "}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if content(t, f, "amazon/cve/CVE-2025-0001.json") != "" {
		t.Error("the document in the old form is still there")
	}
}

// TestTakesTheOtherAddressOfAmazonLinux gets the documents from where Amazon's own
// scanner says that it has them.
func TestTakesTheOtherAddressOfAmazonLinux(t *testing.T) {
	const other = "alas.aws.amazon.com/cve/json/v1/"
	p := newPublisher(t)
	p.put(explore, "<table><tr><td>CVE-2025-0001</td></tr><tr><td>CVE-2025-0002</td></tr></table>")
	p.put(other+"CVE-2025-0001.json", amazonState("CVE-2025-0001", "Pending Fix"))
	p.put(other+"CVE-2025-0002.json", amazonState("CVE-2025-0002", "Pending Fix"))
	f := p.fetcher()
	mustUpdate(t, f, "amazon/cve")
	if got, want := fixes(t, f, "amazon/cve"), []string{"CVE-2025-0001 ", "CVE-2025-0002 "}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	p.asked()
	mustUpdate(t, f, "amazon/cve")
	if got := p.asked(); slices.Contains(got, other+"CVE-2025-0001.json") {
		t.Errorf("nothing has changed, but asked for %q", got)
	}
}

func TestFetchesThePagesOfUbuntu(t *testing.T) {
	p := newPublisher(t)
	page := func(from, n int) {
		var cves []string
		for i := range n {
			cves = append(cves, fmt.Sprintf(`{"id":"CVE-2025-%04d","packages":[{"name":"a","statuses":[{"release_codename":"noble","status":"needed"}]}]}`, from+i))
		}
		p.put(fmt.Sprintf("ubuntu.com/security/cves.json?limit=20&offset=%d&order=oldest&show_hidden=true", from), `{"cves":[`+strings.Join(cves, ",")+`]}`)
	}
	for from := range 10 {
		page(from*ubuntuPage, map[bool]int{true: ubuntuPage, false: 0}[from < 4])
	}
	page(4*ubuntuPage, 3)
	f := p.fetcher()
	mustUpdate(t, f, "ubuntu")
	if got := len(fixes(t, f, "ubuntu")); got != 4*ubuntuPage+3 {
		t.Errorf("got %d", got)
	}
	if got := p.asked(); len(got) != 8 {
		t.Errorf("asked %d times: %q", len(got), got)
	}
}

func TestFetchesTheBranchesOfAlpine(t *testing.T) {
	p := newPublisher(t)
	f := p.fetcher()
	if u := update1(t, f, "alpine"); u.Err == nil || !strings.Contains(u.Err.Error(), "no branch") {
		t.Errorf("without any: %v", u.Err)
	}
	p.put("secdb.alpinelinux.org/v3.20/main.json", `{"distroversion":"v3.20","packages":[{"pkg":{"name":"a","secfixes":{"1":["CVE-2025-0001"]}}}]}`)
	p.put("secdb.alpinelinux.org/v3.20/community.json", `{"distroversion":"v3.20","packages":[{"pkg":{"name":"b","secfixes":{"2":["CVE-2025-0001"]}}}]}`)
	p.put("secdb.alpinelinux.org/edge/main.json", `{"distroversion":"edge","packages":null}`)
	if u := mustUpdate(t, f, "alpine"); u.Changed != 3 {
		t.Errorf("got %+v", u)
	}
	if got, want := fixes(t, f, "alpine"), []string{"CVE-2025-0001 1", "CVE-2025-0001 2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEverySourceCanBeFetchedFromAMirror(t *testing.T) {
	p := newPublisher(t)
	f := p.fetcherIn(t.TempDir(), Options{Mirror: "http://mirror"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	all, _ := f.Update(ctx, All())
	for _, u := range all {
		if u.Err != nil && strings.Contains(u.Err.Error(), "cannot be fetched") {
			t.Error(u.Err)
		}
	}
	for _, asked := range p.asked() {
		if !strings.HasPrefix(asked, "mirror/") {
			t.Errorf("asked %s beside the mirror", asked)
		}
	}
}

func TestFetchesTheVEXOfUbuntu(t *testing.T) {
	const address = "security-metadata.canonical.com/vex/vex-all.tar.xz"
	archive, err := os.ReadFile("testdata/ubuntu-vex/vex-all.tar.xz")
	if err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t)
	p.put(address, "<html>sign in</html>")
	f := p.fetcher()
	if u := update1(t, f, "ubuntu/vex"); u.Err == nil || !strings.Contains(u.Err.Error(), "not as a xz does") {
		t.Errorf("got %v", u.Err)
	}
	p.put(address, string(archive)).cuts = []int{100}
	mustUpdate(t, f, "ubuntu/vex")
	if got := content(t, f, "ubuntu-vex/vex-all.tar.xz"); got != string(archive) {
		t.Errorf("%d bytes are here, of %d", len(got), len(archive))
	}
	if u := mustUpdate(t, f, "ubuntu/vex"); u.Changed != 0 || u.Unchanged != 1 {
		t.Errorf("got %+v, want nothing changed", u)
	}
}
