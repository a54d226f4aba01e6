package iac_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/check"
	"github.com/castellan-security/castellan/internal/scan/iac"
)

// now is when everything here is scanned.
var now = time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)

// scan scans files that are given as text.
func scan(t *testing.T, files map[string]string) iac.Result {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	r, err := iac.Scan(t.Context(), fsys, ".", iac.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// faultsOf returns the ids of what is found in an example.
func faultsOf(t *testing.T, name, text string) (ids map[string]int, faults []finding.Misconfiguration) {
	t.Helper()
	if name == "inventory.json" {
		var inv inventory.Inventory
		if err := json.Unmarshal([]byte(text), &inv); err != nil {
			t.Fatal(err)
		}
		b, ok := blueprint.OfImage(&inv)
		if !ok {
			t.Fatal("the inventory is not of an image")
		}
		for _, f := range check.Run(&blueprint.Document{Builds: []blueprint.Build{b}}) {
			faults = append(faults, f.Misconfiguration)
		}
	} else {
		r := scan(t, map[string]string{name: text})
		if len(r.Problems) > 0 || r.Files != 1 {
			t.Fatalf("%d files understood, problems %v", r.Files, r.Problems)
		}
		faults = r.Faults
	}
	ids = map[string]int{}
	for _, f := range faults {
		ids[f.Check]++
	}
	return ids, faults
}

// Every check says what it must, finds its example, and leaves alone the one
// beside it.
func TestChecks(t *testing.T) {
	examples := map[string]map[string]txtar.File{}
	archive, err := txtar.ParseFile("testdata/checks.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive.Files {
		parts := strings.Split(f.Name, "/")
		if examples[parts[0]] == nil {
			examples[parts[0]] = map[string]txtar.File{}
		}
		examples[parts[0]][parts[1]] = txtar.File{Name: parts[2], Data: f.Data}
	}
	form := regexp.MustCompile(`^CAST-(TASK|SERVICE|CLUSTER|ROLE|IMAGE)-\d{3}$`)
	seen := map[string]bool{}
	for _, c := range check.All() {
		t.Run(c.ID, func(t *testing.T) {
			if !form.MatchString(c.ID) || seen[c.ID] || c.Topic() == "" {
				t.Errorf("id %q is taken, or is none", c.ID)
			}
			seen[c.ID] = true
			if c.Title == "" || c.Severity == finding.Unknown || !sentence(c.Why) || !sentence(c.Remedy) {
				t.Errorf("title %q, severity %v, why %q, remedy %q: something is missing", c.Title, c.Severity, c.Why, c.Remedy)
			}
			bad, good := examples[c.ID]["bad"], examples[c.ID]["good"]
			if bad.Name == "" || good.Name == "" {
				t.Fatal("it lacks an example that fails or one that passes")
			}
			ids, faults := faultsOf(t, bad.Name, string(bad.Data))
			if ids[c.ID] == 0 {
				t.Errorf("it does not find its example; found %v", ids)
			}
			for _, f := range faults {
				if f.Check == c.ID && bad.Name != "inventory.json" && (f.Start.Line < 1 || f.Resource == "" || f.Evidence == "" || f.File != bad.Name || f.Fingerprint == "") {
					t.Errorf("incomplete: %+v", f)
				}
				if strings.Contains(f.Evidence+f.Subject, "hunter2") || strings.Contains(f.Evidence+f.Subject, "q8Zr4Lw2Vn7Xc1Bm5Ty9") {
					t.Errorf("the value of a secret is told: %+v", f)
				}
			}
			if ids, _ := faultsOf(t, good.Name, string(good.Data)); ids[c.ID] > 0 {
				t.Errorf("it finds %d in the example that passes", ids[c.ID])
			}
		})
	}
	if len(seen) < 60 {
		t.Errorf("%d checks are listed", len(seen))
	}
}

func sentence(s string) bool { return len(s) > 20 && strings.HasSuffix(s, ".") }

// A task definition, a Dockerfile and a cluster as they should be are clean.
func TestNothingIsFoundInWhatIsRight(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/checks.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive.Files {
		if f.Name != "CAST-TASK-002/good/task.json" && f.Name != "CAST-IMAGE-001/good/Dockerfile" && f.Name != "CAST-CLUSTER-001/good/template.yaml" && f.Name != "CAST-SERVICE-001/good/main.tf" {
			continue
		}
		name := f.Name[strings.LastIndexByte(f.Name, '/')+1:]
		if ids, _ := faultsOf(t, name, string(f.Data)); len(ids) > 0 {
			t.Errorf("%s: %v", f.Name, ids)
		}
	}
}
