package rule_test

import (
	"testing"

	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/written"
)

// FuzzRead reads and compiles any text as a document of rules. Whatever it is, there
// is either a document or written.Problems within bounds, and compiling says the same
// twice.
func FuzzRead(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := rule.Read("own.yaml", text, threat.Written)
		if err != nil {
			bounded(t, err)
			return
		}
		set, err := rule.Compile([]*rule.Document{d}, nil, nil, true)
		_, again := rule.Compile([]*rule.Document{d}, nil, nil, true)
		if (err == nil) != (again == nil) || err != nil && err.Error() != again.Error() {
			t.Fatalf("compiled twice it says %v, then %v", err, again)
		}
		if err != nil {
			bounded(t, err)
			return
		}
		for _, r := range set.Rules {
			if a := r.About(); a.ID == "" || a.Title == "" || len(r.Entries()) == 0 || a.Severity == 0 {
				t.Fatalf("a rule without what all have: %+v", a)
			}
		}
		for i := range set.Silences {
			if s := &set.Silences[i]; s.Rule == "" || s.Reason == "" || s.Until.IsZero() {
				t.Fatalf("a silence without what all have: %+v", s)
			}
		}
	})
}

// seeds are short documents, one for each form of a rule and each thing to be wrong;
// the library's files would take their time at each start.
func seeds(f *testing.F) {
	const head = "rules:\n- id: own-x\n  title: t\n  severity: low\n  tactic: execution\n  meaning: m.\n"
	for _, s := range []string{
		"", "rules: [", "{}", "a: &a [*a]", "\xff\x00", "rules: {}\n---\nrules: {}",
		head + "  on: [file.write]\n  when: under(file.path, [\"/etc\"]) && process.uid == 0\n  about: [file.path]\n  says: \"{process.name} wrote {file.path}\"\n",
		head + "  params: {n: {type: int, value: 3, meaning: m}, l: {type: list(string), value: [a, b]}}\n  on: [file.write]\n  programs: params.l\n  when: file.path in params.l\n  count: {by: process, within: 1m, reaches: params.n, distinct: file.path}\n",
		head + "  on: process.exec\n  when: |\n    exec.args.exists(a, a.matches(\"^x+$\"))\n  first: {by: group, of: process.program, after: 1h}\n",
		head + "  sequence:\n    by: tree\n    within: 10s\n    any_order: true\n    steps:\n    - {on: network.connect, key: connection.address}\n    - {on: [file.write], programs: [sh], when: 'event.count > 1'}\n",
		"lists: {own: {value: [a], meaning: m}}\nchange:\n- {rule: lists, add: {own: [b]}}\n- {rule: none, off: true, severity: high, params: {x: 1}}\n",
		"theme: x\nsilence:\n- {rule: \"own-*\", groups: [a/*], about: /x, reason: r, by: me, until: 2027-01-01}\n",
	} {
		f.Add([]byte(s))
	}
}

// bounded says whether an error is what people can read.
func bounded(t *testing.T, err error) {
	t.Helper()
	p := written.ProblemsOf(err)
	const longest = 16 << 10 // bytes of one problem: it may quote an expression
	if len(p) == 0 || len(p) > rule.MaxProblems {
		t.Fatalf("%d problems: %v", len(p), err)
	}
	for _, x := range p {
		if x.File != "own.yaml" || x.Text == "" || len(x.Text) > longest {
			t.Fatalf("a problem of %d bytes in %q: %.200s", len(x.Text), x.File, x.Text)
		}
	}
}

// FuzzLike holds texts against patterns: what has no star is of itself only, and ** is
// of all that * is.
func FuzzLike(f *testing.F) {
	f.Add("/proc/1/mem", "/proc/*/mem")
	f.Add("a/b/c", "**/c")
	f.Add("", "*")
	f.Fuzz(func(t *testing.T, text, pattern string) {
		if len(text)*len(pattern) > 1<<20 {
			t.Skip("it takes the product of both")
		}
		is := rule.Like(text, pattern)
		if is && !rule.Like(text, doubled(pattern)) {
			t.Errorf("%q is like %q, and not like it with **", text, pattern)
		}
		if !rule.Like(text, "**") || !rule.Like(text, text+"*") {
			t.Errorf("%q is not like ** or itself", text)
		}
	})
}

func doubled(pattern string) string {
	var out []byte
	for i := range len(pattern) {
		if out = append(out, pattern[i]); pattern[i] == '*' {
			out = append(out, '*', '*')
		}
	}
	return string(out)
}
