package feeds_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/feeds"
)

// fileOf names a file that a source has.
func fileOf(t *testing.T, s feeds.Source) string {
	t.Helper()
	switch s.Format {
	case feeds.OSV:
		return "A-1.json"
	case feeds.DebianTracker:
		return "data.json"
	case feeds.SecDB:
		return "v3.20/main.json"
	case feeds.UpdateInfo:
		return "core/updateinfo.xml.gz"
	case feeds.AmazonCVE, feeds.UbuntuVEX:
		return "CVE-2025-0001.json"
	case feeds.UbuntuTracker:
		return "cves-000000.json"
	case feeds.CSAF:
		return "2025/cve-2025-0001.json"
	case feeds.KEV:
		return "known_exploited_vulnerabilities.json"
	case feeds.EPSS:
		return "epss_scores-current.csv.gz"
	}
	t.Fatalf("%s: no file is known of %v", s.Name, s.Format)
	return ""
}

// readsOf reads all that a source has, and counts what comes out and what is told
// to be wrong.
func readsOf(t *testing.T, s feeds.Source, content string) (good int, wrong []string) {
	t.Helper()
	fsys := fstest.MapFS{s.Dir + "/" + fileOf(t, s): {Data: []byte(content)}}
	tally := &feeds.Tally{}
	saw := func(err error) {
		if err == nil {
			good++
			return
		}
		wrong = append(wrong, err.Error())
	}
	switch s.Format {
	case feeds.KEV:
		for _, err := range feeds.Exploited(t.Context(), fsys, tally) {
			saw(err)
		}
	case feeds.EPSS:
		for _, err := range feeds.Probabilities(t.Context(), fsys, tally) {
			saw(err)
		}
	default:
		for _, err := range feeds.Parse(t.Context(), s, fsys, tally) {
			saw(err)
		}
	}
	if len(wrong) == 0 && tally.Failed > 0 {
		wrong = append(wrong, tally.Failures[0].Err.Error())
	}
	return good, wrong
}

// TestEverySourceBearsTheWorst gives each source what is none of its files: it says
// so, naming the file, and nothing comes out.
func TestEverySourceBearsTheWorst(t *testing.T) {
	long := strings.Repeat("x", 2<<20)
	for _, tc := range []struct{ name, content string }{
		{"nothing", ""},
		{"noise", strings.Repeat("\x00\xff\x9c\x07PK\x01", 5000)},
		{"a page that wants a login", "<!DOCTYPE html><html><head><title>Sign in</title></head><body><form action=login><input name=user/></form></body></html>"},
		{"cut off", `{"id":"CVE-2025-0001","cve_id":"CVE-2025-0001","packages":[{"name":"a","stat`},
		{"lists without end", strings.Repeat("[", 1<<20)},
		{"objects without end", strings.Repeat(`{"a":`, 1<<18)},
		{"tags without end", strings.Repeat("<a>", 1<<18)},
		{"a text without end", `{"id":"` + long},
		{"a name without end", `{"` + long + `":1}`},
		{"a tag without end", "<updates><update " + long},
		{"what is no UTF-8", "{\"\xff\":\"\xfe\"}"},
		{"numbers", strings.Repeat("9", 1<<20)},
		{"an empty object", "{}"},
		{"half of gzip", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"},
		{"half of zstd", "\x28\xb5\x2f\xfd\x04"},
		{"half of xz", "\xfd7zXZ\x00\x00\x04"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, s := range feeds.All() {
				if s.Format == feeds.OSV && s.Name != "osv/Go" {
					continue // read alike
				}
				begun := time.Now()
				good, wrong := readsOf(t, s, tc.content)
				if good > 0 || len(wrong) == 0 {
					t.Errorf("%s: %d came out, and %.200q is told", s.Name, good, wrong)
				}
				for _, w := range wrong {
					if len(w) > 4096 || s.Advisories() && !strings.Contains(w, fileOf(t, s)) && !strings.Contains(w, s.Dir) {
						t.Errorf("%s: %.300q of %d bytes doesn't name the file, or much too much", s.Name, w, len(w))
					}
				}
				if took := time.Since(begun); took > 20*time.Second {
					t.Errorf("%s: took %v", s.Name, took)
				}
			}
		})
	}
}

// TestMillions gives sources documents of their own form that are far beyond what
// anybody publishes: each is refused by a limit, with its name.
func TestMillions(t *testing.T) {
	const million = 1_000_000
	many := func(head, one, tail string, n int) string { return head + one + strings.Repeat(","+one, n-1) + tail }
	numbered := func(head, format, tail string, n int) string {
		var b strings.Builder
		b.WriteString(head)
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, format, i)
		}
		return b.String() + tail
	}
	for _, tc := range []struct{ name, source, content, want string }{
		{"states in Ubuntu's tracker", "ubuntu", many(`{"id":"CVE-2025-0001","packages":[{"name":"a","statuses":[`, `{"release_codename":"noble","status":"needed"}`, `]}]}`, million/10), "affected packages"},
		{"releases in Debian's tracker", "debian", numbered(`{"a":{"CVE-2025-0001":{"releases":{`, `"r%d":{"status":"open"}`, `}}}}`, million/10), "releases"},
		{"products of Red Hat", "redhat/vex", numbered(`{"document":{"tracking":{"id":"CVE-2025-0001"}},"product_tree":{"branches":[`, `{"product":{"product_id":"p%d"}}`, `]}}`, million), "products"},
		{"a catalogue that is too large", "kev", `{"vulnerabilities":[` + strings.Repeat(" ", 65<<20) + `]}`, "larger than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, ok := feeds.Named(tc.source)
			if !ok {
				t.Fatalf("no source %s", tc.source)
			}
			good, wrong := readsOf(t, s, tc.content)
			if good > 0 || len(wrong) == 0 || !strings.Contains(strings.Join(wrong, "; "), tc.want) {
				t.Errorf("%d came out, and %.300q is told, want %q", good, wrong, tc.want)
			}
		})
	}
	statement := `{"vulnerability":"CVE-1","products":["pkg:npm/a"],"status":"fixed"}`
	if _, err := feeds.Statements(strings.NewReader(many(`{"@context":"https://openvex.dev/ns","statements":[`, statement, `]}`, 100_001))); err == nil || !strings.Contains(err.Error(), "statements") {
		t.Errorf("a hundred thousand statements: %v", err)
	}
}

// TestArchivesWithoutDocuments wants it told that there is nothing in an archive.
func TestArchivesWithoutDocuments(t *testing.T) {
	zeros, err := os.ReadFile("xz/testdata/zeros.xz")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, source, file, content string }{
		{"a tar of zeros, packed", "ubuntu/vex", "vex-all.tar.xz", string(zeros)},
		{"a tar of zeros", "ubuntu/vex", "vex-all.tar", strings.Repeat("\x00", 10240)},
		{"an empty zip", "osv/Go", "all.zip", "PK\x05\x06" + strings.Repeat("\x00", 18)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _ := feeds.Named(tc.source)
			var told []string
			for _, err := range feeds.Parse(t.Context(), s, fstest.MapFS{s.Dir + "/" + tc.file: {Data: []byte(tc.content)}}, &feeds.Tally{}) {
				if err != nil {
					told = append(told, err.Error())
				}
			}
			if len(told) != 1 || !strings.Contains(told[0], "no document") || !strings.Contains(told[0], tc.file) {
				t.Errorf("told %q", told)
			}
		})
	}
}
