package feeds_test

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/feeds"
	"github.com/castellan-security/castellan/internal/advisory"
)

// show writes an advisory as lines that a table can hold: one for itself, one for
// each package.
func show(a advisory.Advisory) []string {
	head := a.ID
	add := func(name string, ids []string) {
		if len(ids) > 0 {
			head += " " + name + "=" + strings.Join(ids, ",")
		}
	}
	add("aliases", a.Aliases)
	add("upstream", a.Upstream)
	add("related", a.Related)
	add("weaknesses", a.Weaknesses)
	for _, s := range a.Scores {
		head += " " + s.Vector
		if s.By != "" {
			head += " by " + s.By
		}
	}
	if a.Rating != advisory.Unrated {
		head += " " + a.Rating.String()
	}
	if !a.Withdrawn.IsZero() {
		head += " withdrawn " + a.Withdrawn.Format("2006-01-02")
	}
	lines := []string{head}
	for _, p := range a.Affected {
		lines = append(lines, showPackage(p))
	}
	return lines
}

func showPackage(p advisory.Affected) string {
	line := "  " + p.Ecosystem + " " + map[advisory.Of]string{advisory.OfPackage: "package", advisory.OfSource: "source", advisory.OfBinary: "binary"}[p.Of] + " " + p.Package
	if p.Repository != "" {
		line += " of " + p.Repository
	}
	if len(p.Arches) > 0 {
		line += " (" + strings.Join(p.Arches, ",") + ")"
	}
	for _, r := range p.Ranges {
		switch {
		case r.Last != "":
			line += fmt.Sprintf(" [%s, %s]", r.Introduced, r.Last)
		default:
			line += fmt.Sprintf(" [%s, %s)", r.Introduced, r.Fixed)
		}
	}
	if len(p.Versions) > 0 {
		line += fmt.Sprintf(" %d versions", len(p.Versions))
	}
	if p.Status != advisory.IsAffected {
		line += " " + p.Status.String()
	}
	if p.Rating != advisory.Unrated {
		line += " " + p.Rating.String()
	}
	if p.Note != "" {
		line += " " + fmt.Sprintf("%q", p.Note)
	}
	return line
}

// parseAll reads files of a source and shows what is in them.
func parseAll(t *testing.T, s feeds.Source, fsys fs.FS, names ...string) ([]string, *feeds.Tally) {
	t.Helper()
	tally := &feeds.Tally{}
	var lines []string
	for _, name := range names {
		for a, err := range feeds.ParseFile(context.Background(), s, fsys, name, tally) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if a.Source != s.Name {
				t.Errorf("%s: source %q, want %q", a.ID, a.Source, s.Name)
			}
			lines = append(lines, show(a)...)
		}
	}
	return lines, tally
}

// textLines are the lines of a table entry, without the tabs in front.
func textLines(text string) []string {
	lines := strings.Split(strings.Trim(text, "\n\t"), "\n")
	for i := range lines {
		lines[i] = strings.TrimLeft(lines[i], "\t")
	}
	return slices.DeleteFunc(lines, func(l string) bool { return l == "" })
}
