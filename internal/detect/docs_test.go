package detect_test

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/threat"
)

const (
	page      = "../../docs/detect.md"
	rulesPage = "../../docs/detect-rules.md"
)

// golden holds a page to what it should be; CASTELLAN_GOLDEN=write (make golden)
// writes it.
func golden(t *testing.T, page, want string) {
	t.Helper()
	if os.Getenv("CASTELLAN_GOLDEN") == "write" {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatalf("%v: make golden writes it", err)
	}
	if diff := cmp.Diff(string(have), want); diff != "" {
		t.Errorf("%s is not what the rules say: run make golden and commit the page with the rules (-page +rules):\n%s", page, diff)
	}
}

// cell is a text as a cell of a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func TestPageListsFieldsAndFunctions(t *testing.T) {
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- begin: made from internal/detect/rule by make golden; change it there -->\n", "<!-- end -->"
	head, rest, found := strings.Cut(string(b), begin)
	_, tail, foundEnd := strings.Cut(rest, end)
	if !found || !foundEnd {
		t.Fatalf("%s has not both marks, %q and %q", page, begin, end)
	}
	var w bytes.Buffer
	part := ""
	of := func(f *rule.Field) string { part, _, _ := strings.Cut(f.Name, "."); return part }
	var parts []string
	for _, f := range rule.Fields() {
		if !slices.Contains(parts, of(f)) {
			parts = append(parts, of(f))
		}
	}
	fields := slices.Clone(rule.Fields())
	slices.SortStableFunc(fields, func(a, b *rule.Field) int {
		return slices.Index(parts, of(a)) - slices.Index(parts, of(b))
	})
	for _, f := range fields {
		if of(f) != part {
			part = of(f)
			fmt.Fprint(&w, "\n| field | type | what it is |\n|---|---|---|\n")
		}
		if f.Doc == "" {
			t.Errorf("field %s says not what it is", f.Name)
		}
		fmt.Fprintf(&w, "| `%s` | %s | %s |\n", f.Name, f.Type, cell(f.Doc))
	}
	fmt.Fprint(&w, "\n| function | is true if |\n|---|---|\n")
	for _, f := range rule.Functions() {
		fmt.Fprintf(&w, "| `%s` | %s |\n", f.Form, cell(f.Doc))
	}
	fmt.Fprint(&w, "\n| function | what it gives |\n|---|---|\n")
	for _, f := range rule.LineFunctions() {
		fmt.Fprintf(&w, "| `%s` | %s |\n", f.Form, cell(f.Doc))
	}
	golden(t, page, head+begin+w.String()+"\n"+end+tail)
}

func TestPageListsTheBuiltInRules(t *testing.T) {
	e, err := detect.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	var w bytes.Buffer
	fmt.Fprint(&w, "# Built-in rules of detection\n\n"+
		"The rules that come with [detection](detect.md). Each agent holds what happens on its host against them.\n\n"+
		"<!-- Made from internal/detect/library and pattern by make golden; change the rules there. -->\n")
	theme := ""
	rules := e.Rules()
	slices.SortStableFunc(rules, func(a, b *threat.Rule) int { return strings.Compare(a.Theme, b.Theme) })
	for _, r := range rules {
		if r.Theme != theme {
			theme = r.Theme
			fmt.Fprintf(&w, "\n## %s\n", theme)
		}
		fmt.Fprintf(&w, "\n### %s\n\n%s. %s, %s, %s.\n\n", r.ID, r.Title, r.Severity, r.Tactic, strings.Join(named(r.Techniques), ", "))
		fmt.Fprintf(&w, "- What it means: %s\n- False alarms: %s\n- Tuning: %s\n- What to do: %s\n", r.Meaning, r.FalseAlarm, r.Tuning, r.Remedy)
		for _, p := range r.Parameters {
			fmt.Fprintf(&w, "- Parameter `%s`, %s, `%s`: %s.\n", p.Name, p.Type, p.Default, strings.TrimSuffix(p.Meaning, "."))
		}
	}
	golden(t, rulesPage, w.String())
}

// named are techniques with their names, where those are known.
func named(ids []string) []string {
	var out []string
	for _, id := range ids {
		if t, ok := threat.TechniqueOf(id); ok {
			id += " " + t.Name
		}
		out = append(out, id)
	}
	return out
}

// What the page for users shows is read with the built-in rules.
func TestDocumentsOfThePageAreRead(t *testing.T) {
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(b), "```yaml\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("the page shows no document")
	}
	for _, block := range blocks {
		text, _, _ := strings.Cut(block, "```")
		if err := detect.Check([]detect.Text{{Name: "docs/detect.md", Body: []byte(text)}}); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}
