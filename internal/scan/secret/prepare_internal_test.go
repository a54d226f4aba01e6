package secret

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"go/format"
	"os"
	"strings"
	"testing"
)

// preparedFile is what prepareRules finds, as Go source.
func preparedFile(rules []prepared, global *allowText) ([]byte, error) {
	w := &preparedWriter{sets: map[byteSet]int{}}
	for i := range rules {
		w.rule(&rules[i])
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "// Code generated from gitleaks.toml by go generate; DO NOT EDIT.\n\npackage secret\n\n")
	fmt.Fprintf(&b, "const preparedOf = \"%x\"\n\n", sha256.Sum256([]byte(gitleaksTOML)))
	fmt.Fprintf(&b, "var preparedSets = [...]byteSet{\n")
	for _, s := range w.list {
		fmt.Fprintf(&b, "{%#x, %#x, %#x, %#x},\n", s[0], s[1], s[2], s[3])
	}
	fmt.Fprintf(&b, "}\n\nvar preparedGlobal = allowText%s\n\n", allowSource(global))
	fmt.Fprintf(&b, "var preparedRules = []prepared{\n%s}\n", w.rules.String())
	return format.Source(b.Bytes())
}

// preparedWriter writes rules; sets that are alike are one.
type preparedWriter struct {
	sets  map[byteSet]int
	list  []byteSet
	rules strings.Builder
}

func (w *preparedWriter) rule(r *prepared) {
	out := &w.rules
	fmt.Fprintf(out, "{\nid: %q, source: %q,\n", r.id, r.source)
	for _, field := range []struct {
		name string
		set  bool
		v    any
	}{
		{"path", r.path != "", fmt.Sprintf("%q", r.path)}, {"entropy", r.entropy != 0, r.entropy}, {"group", r.group != 0, r.group},
		{"keywords", len(r.keywords) > 0, textsSource(r.keywords)}, {"loose", r.loose, true}, {"generic", r.generic, true},
	} {
		if field.set {
			fmt.Fprintf(out, "%s: %v,\n", field.name, field.v)
		}
	}
	if len(r.allowed) > 0 {
		fmt.Fprint(out, "allowed: []allowText{\n")
		for i := range r.allowed {
			fmt.Fprintf(out, "%s,\n", allowSource(&r.allowed[i]))
		}
		fmt.Fprint(out, "},\n")
	}
	if len(r.probes) > 0 {
		fmt.Fprint(out, "probes: []probe{\n")
		for i := range r.probes {
			w.probe(&r.probes[i])
		}
		fmt.Fprint(out, "},\n")
	}
	fmt.Fprint(out, "},\n")
}

func (w *preparedWriter) probe(p *probe) {
	out := &w.rules
	fmt.Fprintf(out, "{word: %q, back: %d, reach: %d", p.word, p.back, p.reach)
	for _, list := range []struct {
		name  string
		atoms []atom
	}{{"before", p.before}, {"after", p.after}, {"exact", p.exact}} {
		if len(list.atoms) > 0 {
			fmt.Fprintf(out, ",\n%s: []atom{%s}", list.name, w.atoms(list.atoms))
		}
	}
	if p.near != "" {
		fmt.Fprintf(out, ",\nnear: %q, within: %d", p.near, p.within)
	}
	if p.lines != 0 {
		fmt.Fprintf(out, ", lines: %d", p.lines)
	}
	if p.names {
		fmt.Fprint(out, ", names: true")
	}
	if p.sure {
		fmt.Fprint(out, ", sure: true")
	}
	fmt.Fprint(out, "},\n")
}

func (w *preparedWriter) atoms(list []atom) string {
	var out []string
	for _, a := range list {
		s := "{"
		if a.kind != oneByte {
			s += "kind: " + map[atomKind]string{gap: "gap", wordBoundary: "wordBoundary"}[a.kind] + ", "
		}
		if a.set != nil {
			n, known := w.sets[*a.set]
			if !known {
				n = len(w.list)
				w.sets[*a.set] = n
				w.list = append(w.list, *a.set)
			}
			s += fmt.Sprintf("set: &preparedSets[%d], ", n)
		}
		if a.extent != (extent{}) {
			s += fmt.Sprintf("extent: extent{%d, %d, %d}, ", a.min, a.max, a.lines)
		}
		out = append(out, strings.TrimSuffix(s, ", ")+"}")
	}
	return strings.Join(out, ", ")
}

func allowSource(a *allowText) string {
	s := "{"
	for _, field := range []struct{ name, v string }{{"Condition", a.Condition}, {"RegexTarget", a.RegexTarget}} {
		if field.v != "" {
			s += fmt.Sprintf("\n%s: %q,", field.name, field.v)
		}
	}
	for _, field := range []struct {
		name string
		v    []string
	}{{"Paths", a.Paths}, {"Regexes", a.Regexes}, {"Commits", a.Commits}, {"StopWords", a.StopWords}} {
		if len(field.v) > 0 {
			s += "\n" + field.name + ": " + textsSource(field.v) + ","
		}
	}
	return s + "\n}"
}

func textsSource(list []string) string {
	quoted := make([]string, len(list))
	for i, t := range list {
		quoted[i] = fmt.Sprintf("%q", t)
	}
	return "[]string{" + strings.Join(quoted, ", ") + "}"
}

// TestPreparedRules holds what a program has of the rules against the rules.
func TestPreparedRules(t *testing.T) {
	rules, global, err := prepareRules()
	if err != nil {
		t.Fatal(err)
	}
	want, err := preparedFile(rules, &global)
	if err != nil {
		t.Fatal(err)
	}
	const name = "prepared_rules.go"
	if os.Getenv("CASTELLAN_GOLDEN") == "write" {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return // this program has what was written before
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what gitleaks.toml says: go generate ./internal/scan/secret", name)
	}
	if len(preparedRules) != len(rules) {
		t.Errorf("%d rules are in the program, %d in gitleaks.toml", len(preparedRules), len(rules))
	}
	made, everywhere := newRules()
	for _, r := range made { // each panics if it is no expression
		r.re()
		r.files()
		everywhere = append(everywhere, r.allow...)
	}
	for _, a := range everywhere {
		a.paths()
		a.regexes()
		a.stopWords()
	}
}
