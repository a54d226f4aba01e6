package report_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/report"
)

// sarif is what GitHub's code scanning looks at.
type sarif struct {
	Runs []struct {
		AutomationDetails struct{ ID string }
		Invocations       []struct {
			ToolExecutionNotifications []struct{ Message struct{ Text string } }
		}
		Results []sarifResult
	}
}

type sarifResult struct {
	RuleID              string
	Suppressions        []any
	PartialFingerprints map[string]string
	Locations           []struct {
		PhysicalLocation struct{ ArtifactLocation struct{ URI string } }
	}
}

func sarifOf(t *testing.T, b []byte) (s sarif) {
	t.Helper()
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// GitHub refuses a whole file if one result has no place: what stands in no file, as
// a variable of an image, is of the image.
func TestEveryResultHasAPlace(t *testing.T) {
	r := example()
	m := finding.Misconfiguration{Check: "CAST-IMAGE-001", Title: "Image runs as root", Severity: finding.Medium, Resource: "image", Evidence: "no USER is set", Remedy: "Make a user."}
	m.Print(0)
	r.Misconfigurations = []finding.Misconfiguration{m}
	r.Inventory.Problems = append(r.Inventory.Problems, inventory.Problem{What: "layer 2 is damaged", Lost: true})
	r.Gate.Problems = []string{r.Inventory.Problems[1].String()}
	for _, f := range []report.Format{report.SARIF, report.SARIFGitHub} {
		for _, res := range sarifOf(t, write(t, f, r)).Runs[0].Results {
			if len(res.Locations) == 0 || res.Locations[0].PhysicalLocation.ArtifactLocation.URI == "" {
				t.Errorf("%s: %s has no place", f, res.RuleID)
			}
			if res.RuleID == m.Check && res.Locations[0].PhysicalLocation.ArtifactLocation.URI != "registry.example/shop" {
				t.Errorf("%s: it is of %q, want the image without its tag", f, res.Locations[0].PhysicalLocation.ArtifactLocation.URI)
			}
		}
	}
}

// For GitHub nothing is written that it would show although it is accepted, nor
// more than it takes; and each result has the fingerprint that GitHub looks at.
func TestSARIFForGitHub(t *testing.T) {
	full, short := sarifOf(t, write(t, report.SARIF, example())).Runs[0].Results, sarifOf(t, write(t, report.SARIFGitHub, example())).Runs[0].Results
	suppressed := 0
	for _, res := range full {
		suppressed += min(len(res.Suppressions), 1)
	}
	if suppressed == 0 || len(short) != len(full)-suppressed {
		t.Errorf("%d results, want %d without %d", len(short), len(full), suppressed)
	}
	for _, res := range short {
		if len(res.Suppressions) > 0 || res.PartialFingerprints["primaryLocationLineHash"] == "" {
			t.Errorf("%s: %d suppressions, fingerprints %v", res.RuleID, len(res.Suppressions), res.PartialFingerprints)
		}
	}
	many := example()
	for i := range 5_100 {
		many.Vulnerabilities = append(many.Vulnerabilities, vulnerability(fmt.Sprintf("CVE-2020-%d", i), many.Inventory.Packages[0], finding.Low, finding.Unfixed, ""))
	}
	many.Vulnerabilities = append(many.Vulnerabilities, vulnerability("CVE-2021-1", many.Inventory.Packages[0], finding.Critical, finding.Unfixed, ""))
	run := sarifOf(t, write(t, report.SARIFGitHub, many)).Runs[0]
	if len(run.Results) != 5_000 || !slices.ContainsFunc(run.Results, func(r sarifResult) bool { return r.RuleID == "CVE-2021-1" }) {
		t.Errorf("%d results, and the gravest may be missing", len(run.Results))
	}
	if said := fmt.Sprint(run.Invocations); !strings.Contains(said, "the 5000 gravest are here") {
		t.Errorf("it does not say that some are left out: %s", said)
	}
	var b strings.Builder
	if err := report.Write(&b, report.SARIFGitHub, make([]report.Report, 21), options()); err == nil || !strings.Contains(err.Error(), "GitHub takes at most 20") {
		t.Errorf("21 subjects: %v", err)
	}
}

// What a user calls the results is what GitHub knows them by.
func TestGivenCategory(t *testing.T) {
	o := options()
	o.Category = "nightly"
	of := func(rs ...report.Report) (ids []string) {
		var b strings.Builder
		if err := report.Write(&b, report.SARIFGitHub, rs, o); err != nil {
			t.Fatal(err)
		}
		for _, r := range sarifOf(t, []byte(b.String())).Runs {
			ids = append(ids, r.AutomationDetails.ID[:strings.LastIndexByte(r.AutomationDetails.ID, '/')])
		}
		return ids
	}
	if d := cmp.Diff(of(example()), []string{"nightly"}); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(of(example(), faulty()), []string{"nightly/registry.example_shop_linux_amd64", "nightly/infra"}); d != "" {
		t.Error(d)
	}
}

// Annotations are commands to GitHub's runner: no text of an image or a document
// may become another one.
func TestAnnotationsAreOneLineEach(t *testing.T) {
	r := faulty()
	for i := range r.Misconfigurations {
		r.Misconfigurations[i].Evidence = "a\n::add-mask::b\r\n::error::c"
	}
	lines := strings.Split(strings.TrimSuffix(string(write(t, report.GitHub, r)), "\n"), "\n")
	for _, l := range lines {
		if !strings.HasPrefix(l, "::error ") && !strings.HasPrefix(l, "::warning ") {
			t.Errorf("line %q", l)
		}
	}
	if !strings.HasPrefix(lines[0], "::error file=infra/main.tf,line=12,title=CAST-TASK-001 Container is privileged::") {
		t.Errorf("first is %q", lines[0])
	}
	many := faulty()
	for i := range 30 {
		m := many.Misconfigurations[1]
		m.Subject = fmt.Sprint(i)
		m.Print(0)
		many.Misconfigurations = append(many.Misconfigurations, m)
	}
	got := string(write(t, report.GitHub, many))
	if n := strings.Count(got, "::warning "); n != 10 || !strings.Contains(got, "::notice title=Castellan::22 more are in the summary") {
		t.Errorf("%d warnings:\n%s", n, got)
	}
	// A place in an image is none in the repository.
	if got := string(write(t, report.GitHub, example())); strings.Contains(got, "file=") || !strings.Contains(got, "::error title=CVE-2023-0001 in libssl3 3.0.9-1::") {
		t.Errorf("of an image:\n%s", got)
	}
}

// A summary that is too large is not shown at all: it ends where it still is.
func TestMarkdownIsBounded(t *testing.T) {
	r := example()
	for i := range 12_000 {
		r.Vulnerabilities = append(r.Vulnerabilities, vulnerability(fmt.Sprintf("CVE-2020-%d", i), r.Inventory.Packages[0], finding.Low, finding.Unfixed, ""))
	}
	got := string(write(t, report.Markdown, r))
	if len(got) > 1<<20 || !strings.HasSuffix(got, "**The rest is left out here: it is in the other forms of the report.**\n") {
		t.Errorf("%d bytes, ends with %q", len(got), got[max(0, len(got)-80):])
	}
	if strings.Count(got, "<details>") != strings.Count(got, "</details>") {
		t.Error("what is folded does not end")
	}
}

// The same finding has the same identity in the next version of an image, and
// another in another image.
func TestGitLabKnowsFindingsAgain(t *testing.T) {
	ids := func(f report.Format, reference string) []string {
		r := example()
		i := *r.Inventory.Image
		i.Reference = reference
		r.Inventory.Image = &i
		var out []string
		if f == report.GitLabQuality {
			var issues []struct{ Fingerprint string }
			if err := json.Unmarshal(write(t, f, r), &issues); err != nil {
				t.Fatal(err)
			}
			for _, i := range issues {
				out = append(out, i.Fingerprint)
			}
		} else {
			var doc struct{ Vulnerabilities []struct{ ID string } }
			if err := json.Unmarshal(write(t, f, r), &doc); err != nil {
				t.Fatal(err)
			}
			for _, v := range doc.Vulnerabilities {
				out = append(out, v.ID)
			}
		}
		slices.Sort(out)
		if n := len(slices.Compact(slices.Clone(out))); n != len(out) || n == 0 {
			t.Errorf("%s: %d of %d identities", f, n, len(out))
		}
		return out
	}
	for _, f := range []report.Format{report.GitLabContainer, report.GitLabSecret, report.GitLabQuality} {
		first, next, other := ids(f, "r.example/shop:1"), ids(f, "r.example/shop:2"), ids(f, "r.example/web:1")
		if !slices.Equal(first, next) {
			t.Errorf("%s: another version has other identities", f)
		}
		if first[0] == other[0] {
			t.Errorf("%s: another image has the same", f)
		}
	}
}

// A history is the same whatever commits are added to it.
func TestCategoryOfHistory(t *testing.T) {
	of := func(name string) string {
		r := report.Report{Inventory: inventory.Inventory{Subject: inventory.Subject{Kind: inventory.KindHistory, Name: name}}, Made: made}
		id := sarifOf(t, write(t, report.SARIF, r)).Runs[0].AutomationDetails.ID
		return id[:strings.LastIndexByte(id, '/')]
	}
	for name, want := range map[string]string{". (2 commits, 9 contents)": "castellan/history", "shop (3 commits, 10 contents)": "castellan/history/shop"} {
		if got := of(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// A fresh machine makes a new salt for the fingerprints of secrets: others know
// them again all the same.
func TestSecretsAreKnownAgainWithoutSalt(t *testing.T) {
	salted := example()
	for i := range salted.Secrets {
		s := &salted.Secrets[i]
		s.Fingerprint, s.Print, s.Line = s.Fingerprint+"-another", s.Print+"-another", s.Line+1
	}
	prints := func(r report.Report) (out []string) {
		for _, res := range sarifOf(t, write(t, report.SARIFGitHub, r)).Runs[0].Results {
			out = append(out, res.RuleID+" "+res.PartialFingerprints["primaryLocationLineHash"])
		}
		return out
	}
	if d := cmp.Diff(prints(salted), prints(example())); d != "" {
		t.Errorf("GitHub takes them for others:\n%s", d)
	}
	ids := func(r report.Report) (out []string) {
		var doc struct{ Vulnerabilities []struct{ ID string } }
		if err := json.Unmarshal(write(t, report.GitLabSecret, r), &doc); err != nil {
			t.Fatal(err)
		}
		for _, v := range doc.Vulnerabilities {
			out = append(out, v.ID)
		}
		return out
	}
	if d := cmp.Diff(ids(salted), ids(example())); d != "" {
		t.Errorf("GitLab takes them for others:\n%s", d)
	}
}

func FuzzAnnotations(f *testing.F) {
	f.Add("infra/main.tf", "a\n::error::b", "title, with: all%")
	f.Fuzz(func(t *testing.T, file, evidence, title string) {
		r := faulty()
		m := &r.Misconfigurations[0]
		m.File, m.Evidence, m.Title = file, evidence, title
		for _, l := range strings.FieldsFunc(string(write(t, report.GitHub, r)), func(r rune) bool { return r == '\n' || r == '\r' }) {
			if !strings.HasPrefix(l, "::error ") && !strings.HasPrefix(l, "::warning ") {
				t.Fatalf("line %q", l)
			}
		}
	})
}
