package report_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/report"
)

// Readers of Trivy's form see secrets as Trivy tells them: by file, with the
// fields that their parsers ask for, and never the value. What is accepted stands
// apart, what is doubtful or known is left out.
func TestTrivySecrets(t *testing.T) {
	var got struct {
		Results []struct {
			Target, Class string
			Secrets       []map[string]any
			Modified      []struct {
				Type, Status, Statement string
				Finding                 map[string]any
			} `json:"ExperimentalModifiedFindings"`
		}
	}
	if err := json.Unmarshal(write(t, report.Trivy, example()), &got); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, r := range got.Results {
		if r.Class != "secret" {
			continue
		}
		for _, s := range r.Secrets {
			for _, field := range []string{"RuleID", "Category", "Severity", "Title", "StartLine", "EndLine", "Match", "Layer"} {
				if _, ok := s[field]; !ok {
					t.Errorf("%s lacks %s: %v", r.Target, field, s)
				}
			}
			if _, ok := s["Code"]; ok {
				t.Errorf("%s tells the lines around it", r.Target)
			}
			lines = append(lines, strings.Join([]string{r.Target, s["RuleID"].(string), s["Category"].(string), s["Severity"].(string), s["Match"].(string)[:3]}, " "))
		}
		for _, m := range r.Modified {
			lines = append(lines, strings.Join([]string{r.Target, m.Type, m.Status, m.Statement, m.Finding["Match"].(string)[:14]}, " "))
		}
	}
	want := []string{"/app/id_rsa private-key AsymmetricPrivateKey MEDIUM ***", "/deploy.sh url-credentials Password HIGH ***", "/root/.aws/credentials aws-secret-access-key AWS CRITICAL ***",
		"config.json secret ignored of a test DB_PASSWORD=**"}
	if d := cmp.Diff(lines, want); d != "" {
		t.Errorf("differs (-got +want):\n%s", d)
	}
}

// GitHub refuses a file in which two runs have one category, which is what stands
// before the last slash: each has its own, the same for the next version.
func TestCategories(t *testing.T) {
	image := func(reference string, p inventory.Platform) report.Report {
		r := example()
		r.Inventory.Subject.Name = reference
		i := *r.Inventory.Image
		i.Reference, i.Platform = reference, p
		r.Inventory.Image = &i
		return r
	}
	amd, arm := inventory.Platform{OS: "linux", Architecture: "amd64"}, inventory.Platform{OS: "linux", Architecture: "arm64"}
	categories := func(rs ...report.Report) []string {
		var log struct {
			Runs []struct{ AutomationDetails struct{ ID string } }
		}
		if err := json.Unmarshal(write(t, report.SARIF, rs...), &log); err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, r := range log.Runs {
			id := r.AutomationDetails.ID
			out = append(out, id[:strings.LastIndexByte(id, '/')])
		}
		return out
	}
	// Each image of a matrix is uploaded by a job of its own.
	if got := categories(image("r.example/a/shop:1", amd)); !slices.Equal(got, []string{"castellan/image/r.example_a_shop_linux_amd64"}) {
		t.Errorf("one: %q", got)
	}
	first := categories(image("r.example/a/shop:1", amd), image("r.example/a/shop:1", arm), image("r.example/b/shop:1", amd), image("r.example/b/shop:2", amd), faulty())
	next := categories(image("r.example/a/shop:2", amd), image("r.example/a/shop:2", arm), image("r.example/b/shop:3", amd), image("r.example/b/shop:4", amd), faulty())
	if d := cmp.Diff(first, next); d != "" {
		t.Errorf("they differ with the version:\n%s", d)
	}
	if all := slices.Compact(slices.Sorted(slices.Values(first))); len(all) != 5 {
		t.Errorf("categories %q, want five", first)
	}
}
