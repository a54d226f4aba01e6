package match_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/match"
)

const (
	v31High = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"                          // 7.5
	v31Crit = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"                          // 9.8
	v40High = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:N/VA:N/SC:N/SI:N/SA:N"       // 8.7
	v2High  = "AV:N/AC:L/Au:N/C:C/I:C/A:C"                                            // 10.0
	v31None = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N"                          // 0
	noScore = "CVSS:3.1/AV:N"                                                         // not one
	v31Low  = "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N/E:H/RL:U/RC:C/CR:H/MPR:N" // 1.8
)

func TestSeverity(t *testing.T) {
	score := func(vectors ...string) (s []advisory.Score) {
		for _, v := range vectors {
			s = append(s, advisory.Score{Vector: v, By: "nvd"})
		}
		return s
	}
	debian := func(change func(*advisory.Advisory)) map[string][]advisory.Advisory {
		a := advisory.Advisory{ID: "CVE-1-1", Affected: []advisory.Affected{source("openssl", "9")}}
		change(&a)
		return map[string][]advisory.Advisory{"debian": {a}}
	}
	with := func(feeds map[string][]advisory.Advisory, more ...advisory.Advisory) map[string][]advisory.Advisory {
		feeds["nvd"] = more
		return feeds
	}
	pip := func(change func(*advisory.Advisory)) map[string][]advisory.Advisory {
		a := advisory.Advisory{ID: "PYSEC-1", Aliases: []string{"CVE-1-1"}, Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "p", Ranges: []advisory.Range{{Fixed: "9"}}}}}
		change(&a)
		return map[string][]advisory.Advisory{"osv/PyPI": {a}}
	}
	for _, tc := range []struct {
		name  string
		feeds map[string][]advisory.Advisory
		want  finding.Severity
		by    string
		score float64
	}{
		{"nobody says", debian(func(*advisory.Advisory) {}), finding.Unknown, "", 0},
		{"the distribution's word before any score", debian(func(a *advisory.Advisory) { a.Rating, a.Scores = advisory.Low, score(v31Crit) }), finding.Low, "Debian", 9.8},
		{"unimportant", debian(func(a *advisory.Advisory) { a.Affected[0].Rating, a.Scores = advisory.Negligible, score(v31Crit) }), finding.Negligible, "Debian", 9.8},
		{"for this package", debian(func(a *advisory.Advisory) { a.Rating, a.Affected[0].Rating = advisory.Low, advisory.High }), finding.High, "Debian", 0},
		{"what tracks it before what announces an update", map[string][]advisory.Advisory{"debian": {
			{ID: "DSA-1", Upstream: []string{"CVE-1-1", "CVE-1-2"}, Rating: advisory.Critical, Affected: []advisory.Affected{source("openssl", "9")}},
			{ID: "CVE-1-1", Rating: advisory.Low, Affected: []advisory.Affected{source("openssl", "9")}},
			{ID: "CVE-1-2", Affected: []advisory.Affected{source("openssl", "1")}},
		}}, finding.Low, "Debian", 0},
		{"a score of somebody else about the CVE", with(debian(func(*advisory.Advisory) {}), advisory.Advisory{ID: "CVE-1-1", Scores: score(v31High)}), finding.High, "CVSS 3.1 by nvd", 7.5},
		{"not of one that has it among several", with(debian(func(*advisory.Advisory) {}),
			advisory.Advisory{ID: "GHSA-a", Aliases: []string{"CVE-1-1", "CVE-1-2"}, Scores: score(v31High)}), finding.Unknown, "", 0},
		{"not of another package's announcement", with(debian(func(*advisory.Advisory) {}),
			advisory.Advisory{ID: "ALAS-1", Upstream: []string{"CVE-1-1"}, Scores: score(v31High)}), finding.Unknown, "", 0},
		{"not of one that was withdrawn", with(debian(func(*advisory.Advisory) {}),
			advisory.Advisory{ID: "CVE-1-1", Scores: score(v31High), Withdrawn: time.Unix(9e8, 0)}), finding.Unknown, "", 0},
		{"the highest of a language's", pip(func(a *advisory.Advisory) { a.Scores = score(v31High, v40High) }), finding.High, "CVSS 4.0 by nvd", 8.7},
		{"version 2 only where there is no other", pip(func(a *advisory.Advisory) { a.Scores = score(v2High, v31Low) }), finding.Low, "CVSS 3.1 by nvd", 1.8},
		{"version 2", pip(func(a *advisory.Advisory) { a.Scores = score(v2High) }), finding.High, "CVSS 2.0 by nvd", 10},
		{"its own before somebody else's", with(pip(func(a *advisory.Advisory) { a.Scores = score(v31High) }), advisory.Advisory{ID: "CVE-1-1", Scores: score(v31Crit)}),
			finding.High, "CVSS 3.1 by nvd", 7.5},
		{"a score before the publisher's word", pip(func(a *advisory.Advisory) { a.Rating, a.Scores = advisory.Low, score(v31High) }), finding.High, "CVSS 3.1 by nvd", 7.5},
		{"the publisher's word", pip(func(a *advisory.Advisory) { a.Rating = advisory.Medium }), finding.Medium, "osv/PyPI", 0},
		{"of this package", pip(func(a *advisory.Advisory) { a.Affected[0].Scores, a.Scores = score(v31High), score(v31Crit) }), finding.High, "CVSS 3.1 by nvd", 7.5},
		{"nobody named", pip(func(a *advisory.Advisory) { a.Scores = []advisory.Score{{Vector: v31High}} }), finding.High, "CVSS 3.1 by osv/PyPI", 7.5},
		{"what is no vector", pip(func(a *advisory.Advisory) { a.Scores = score(noScore) }), finding.Unknown, "", 0},
		{"no impact", pip(func(a *advisory.Advisory) { a.Scores = score(v31None) }), finding.Negligible, "CVSS 3.1 by nvd", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := matched(t, tc.feeds, match.Options{}, deb("libssl3", "1", "openssl", ""), pypi("p", "1"))
			if len(r.Vulnerabilities) != 1 {
				t.Fatalf("findings: %q, want one", brief(r.Vulnerabilities))
			}
			v := r.Vulnerabilities[0]
			if v.Severity != tc.want || v.SeverityBy != tc.by {
				t.Errorf("severity %v by %q, want %v by %q", v.Severity, v.SeverityBy, tc.want, tc.by)
			}
			found := tc.score == 0
			for _, s := range v.Scores {
				found = found || s.Base == tc.score
			}
			if !found {
				t.Errorf("scores %+v, want %v among them", v.Scores, tc.score)
			}
		})
	}
}

func TestRemedy(t *testing.T) {
	affected := func(ecosystem, name, fixed string, of advisory.Of) advisory.Affected {
		return advisory.Affected{Ecosystem: ecosystem, Package: name, Of: of, Ranges: []advisory.Range{{Fixed: fixed}}}
	}
	state := func(s advisory.Status) advisory.Affected {
		return advisory.Affected{Ecosystem: "Debian:12", Package: "openssl", Of: advisory.OfSource, Status: s, Ranges: []advisory.Range{{}}}
	}
	libssl := deb("libssl3", "3.0.9-1", "openssl", "3.0.9-1")
	golang := func(name, version string, found inventory.Evidence) inventory.Package {
		return inventory.Package{Type: "golang", Name: name, Version: version, Ecosystem: "Go", Found: found}
	}
	for _, tc := range []struct {
		name     string
		affected advisory.Affected
		p        inventory.Package
		want     string
	}{
		{"distribution", affected("Debian:12", "openssl", "3.0.11-1~deb12u2", advisory.OfSource), libssl, "upgrade libssl3 to 3.0.11-1~deb12u2"},
		{"rebuilt", affected("Debian:12", "openssl", "3.0.11-1", advisory.OfSource), deb("libssl3", "3.0.9-1+b1", "openssl", "3.0.9-1"), "upgrade libssl3 to 3.0.11-1"},
		{"in the versions of the source", affected("Debian:12", "gcc-defaults", "1.204", advisory.OfSource), deb("gcc", "4:12.2.0-3", "gcc-defaults", "1.203"),
			"upgrade gcc to one built from gcc-defaults 1.204"},
		{"language", affected("PyPI", "urllib3", "2.0.6", 0), pypi("urllib3", "2.0.1"), "upgrade urllib3 to 2.0.6"},
		{"module of Go", affected("Go", "golang.org/x/net", "0.17.0", 0), golang("golang.org/x/net", "v0.1.0", inventory.Declared), "upgrade golang.org/x/net to v0.17.0"},
		{"module of a program", affected("Go", "golang.org/x/net", "0.17.0", 0), golang("golang.org/x/net", "v0.1.0", inventory.Compiled), "rebuild with golang.org/x/net v0.17.0"},
		{"Go itself", affected("Go", "stdlib", "1.21.3", 0), golang("stdlib", "1.21.1", inventory.Compiled), "rebuild with Go 1.21.3"},
		{"unfixed", state(advisory.IsAffected), libssl, "remove or shield libssl3 until there is a fix"},
		{"won't", state(advisory.WontFix), libssl, "remove libssl3 or shield it: Debian 12 will not get a fix"},
		{"deferred", state(advisory.Deferred), libssl, "wait for the next update of libssl3: the fix is put off"},
		{"end of life", state(advisory.EndOfLife), libssl, "move to a release that is still maintained: Debian 12 gets no fix for libssl3"},
		{"investigated", state(advisory.UnderInvestigation), libssl, "watch CVE-1-1: it is being looked into"},
		{"not affected", state(advisory.NotAffected), libssl, "nothing: libssl3 is not affected"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := matched(t, map[string][]advisory.Advisory{"s": {{ID: "CVE-1-1", Affected: []advisory.Affected{tc.affected}}}}, match.Options{All: true}, tc.p)
			if len(r.Vulnerabilities) != 1 || r.Vulnerabilities[0].Remedy != tc.want {
				t.Errorf("%q: %+v, want %q", brief(r.Vulnerabilities), r.Vulnerabilities, tc.want)
			}
		})
	}
}

func TestWhatThereIsToRead(t *testing.T) {
	web := func(urls ...string) (refs []advisory.Reference) {
		for _, u := range urls {
			refs = append(refs, advisory.Reference{Kind: "web", URL: u})
		}
		return refs
	}
	feeds := map[string][]advisory.Advisory{
		"debian": {
			{ID: "DSA-1", Upstream: []string{"CVE-1-1", "CVE-1-2"}, Summary: "openssl - security update", References: web("https://d/1"), Weaknesses: []string{"CWE-9"},
				Published: time.Unix(2e9, 0).UTC(), Modified: time.Unix(3e9, 0).UTC(), Affected: []advisory.Affected{source("openssl", "9")}}},
		"nvd": {{ID: "CVE-1-1", Summary: "Type confusion", References: web("https://n/1", "https://d/1"), Weaknesses: []string{"CWE-843"}, Published: time.Unix(1e9, 0).UTC()}},
	}
	r := matched(t, feeds, match.Options{}, deb("libssl3", "1", "openssl", ""))
	type said struct {
		Summary    string
		URLs, CWEs []string
		Published  time.Time
	}
	got := map[string]said{}
	for _, v := range r.Vulnerabilities {
		got[v.ID] = said{v.Summary, v.References, v.Weaknesses, v.Published}
		if !v.Modified.Equal(time.Unix(3e9, 0)) {
			t.Errorf("%s modified %v", v.ID, v.Modified)
		}
	}
	want := map[string]said{
		"CVE-1-1": {"Type confusion", []string{"https://n/1", "https://d/1"}, []string{"CWE-843"}, time.Unix(1e9, 0).UTC()},
		"CVE-1-2": {"openssl - security update", []string{"https://d/1"}, nil, time.Unix(2e9, 0).UTC()},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("differs (-want +got):\n%s", diff)
	}
	r = matched(t, feeds, match.Options{Brief: true}, deb("libssl3", "1", "openssl", ""))
	for _, v := range r.Vulnerabilities {
		if v.Summary != "" || v.References != nil {
			t.Errorf("brief: %s has texts", v.ID)
		}
	}
}
