package feeds_test

import (
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
