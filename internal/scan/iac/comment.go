package iac

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/check"
)

// ignoreMark begins what a comment accepts:
//
//	# castellan:ignore=CAST-TASK-001,CAST-TASK-005 until=2026-12-31 the reason
//
// It holds for the line that it stands in, or the next one that is no comment;
// where a resource or a container begins there, for all of it.
const ignoreMark = "castellan:ignore="

// acceptance is what one comment accepts.
type acceptance struct {
	line   int // that it is about
	checks []string
	accept finding.Acceptance
}

// heedComments accepts what comments in the files say, and tells of those that
// say no reason or hold no longer.
func (s *scan) heedComments(r *Result) {
	comments := map[string]map[int][]acceptance{} // by file and line
	for i := range s.faults {
		f := s.faults[i]
		byLine, read := comments[f.File]
		if !read {
			byLine = map[int][]acceptance{}
			for _, a := range s.comments(f.File, r) {
				byLine[a.line] = append(byLine[a.line], a)
			}
			comments[f.File] = byLine
		}
		about := byLine[f.Start.Line]
		for _, scope := range f.Scopes {
			if scope.File == f.File {
				about = append(slices.Clip(about), byLine[scope.Start.Line]...)
			}
		}
		for k := range about {
			if about[k].names(f) {
				f.Accepted = &about[k].accept
				break
			}
		}
	}
}

// names says whether a comment accepts the check that found a fault.
func (a *acceptance) names(f *check.Fault) bool {
	for _, id := range a.checks {
		if id == f.Check || id == "all" {
			return true
		}
		for _, elsewhere := range f.Elsewhere.Checkov {
			if id == elsewhere {
				return true
			}
		}
	}
	return false
}

// comments reads the comments of a file that accept something.
func (s *scan) comments(name string, r *Result) []acceptance {
	if path.Ext(name) == ".json" { // it has none
		return nil
	}
	b, err := fs.ReadFile(s.files, name)
	if err != nil || !bytes.Contains(b, []byte(ignoreMark)) {
		return nil
	}
	lines := strings.Split(string(b), "\n")
	var out []acceptance
	for i, line := range lines {
		before, after, ok := strings.Cut(line, ignoreMark)
		if !ok || !strings.Contains(before, "#") && !strings.Contains(before, "//") && !strings.Contains(before, "/*") {
			continue
		}
		a, err := parseIgnore(strings.TrimSuffix(strings.TrimSpace(after), "*/"), s.o.Now)
		if err != nil {
			r.Problems = append(r.Problems, inventory.Problem{Place: inventory.Place{Path: name}, What: fmt.Sprintf("line %d: %v", i+1, err)})
			continue
		}
		a.line = i + 1
		if strings.Trim(before, "#/* \t") == "" { // it has the line for itself
			for a.line++; a.line <= len(lines); a.line++ {
				if next := strings.TrimSpace(lines[a.line-1]); next != "" && !strings.HasPrefix(next, "#") && !strings.HasPrefix(next, "//") {
					break
				}
			}
		}
		a.accept.By = path.Base(name)
		out = append(out, a)
	}
	return out
}

// parseIgnore reads what follows the mark.
func parseIgnore(text string, now time.Time) (acceptance, error) {
	ids, reason, _ := strings.Cut(text, " ")
	a := acceptance{checks: strings.Split(ids, ",")}
	reason = strings.TrimSpace(reason)
	if rest, ok := strings.CutPrefix(reason, "until="); ok {
		day, after, _ := strings.Cut(rest, " ")
		t, err := time.Parse(time.DateOnly, day)
		if err != nil {
			return a, fmt.Errorf("%suntil=%.20q: want a date, as until=2026-12-31", ignoreMark, day)
		}
		a.accept.Expires, reason = t.AddDate(0, 0, 1), strings.TrimSpace(after)
		if !a.accept.Expires.After(now) {
			return a, fmt.Errorf("%s%.100s held until %s, and accepts nothing any more", ignoreMark, ids, day)
		}
	}
	if reason == "" {
		return a, fmt.Errorf("%s%.100s gives no reason, and accepts nothing", ignoreMark, ids)
	}
	a.accept.Reason = reason
	return a, nil
}
