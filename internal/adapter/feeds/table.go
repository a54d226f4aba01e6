package feeds

import "github.com/castellan-security/castellan/internal/advisory"

// table collects the states of one weakness from a publisher that may list a
// package of a release more than once: each is said once, and of several states
// the worst counts. The zero value is empty.
type table struct {
	index map[tablePlace]int
	rows  []tableRow
}

type tablePlace struct{ ecosystem, repository, name string }

type tableRow struct {
	advisory.Affected
	fixed bool // by a version that another feed tells
}

// say adds a package with its status. What is fixed leaves nothing, but that it
// is not "not affected": updates that fix it would then be taken for a mistake.
func (t *table) say(p advisory.Affected, fixed bool) error {
	row := tableRow{p, fixed}
	if !fixed && p.Status != advisory.NotAffected {
		row.Ranges = []advisory.Range{{}}
	}
	place := tablePlace{p.Ecosystem, p.Repository, p.Package}
	if i, ok := t.index[place]; ok {
		if row.grave() > t.rows[i].grave() {
			t.rows[i] = row
		}
		return nil
	}
	if len(t.rows) == maxAffected {
		return tooMany("affected packages", maxAffected)
	}
	if t.index == nil {
		t.index = map[tablePlace]int{}
	}
	t.index[place] = len(t.rows)
	t.rows = append(t.rows, row)
	return nil
}

// grave orders what may be said, the worst last.
func (r *tableRow) grave() int {
	if r.fixed {
		return 1
	}
	switch r.Status {
	case advisory.NotAffected:
		return 0
	case advisory.EndOfLife:
		return 2
	case advisory.WontFix:
		return 3
	case advisory.Deferred:
		return 4
	case advisory.UnderInvestigation:
		return 5
	}
	return 6
}

// affected returns what is left to be said, in the order in which it came.
func (t *table) affected() []advisory.Affected {
	var all []advisory.Affected
	for _, r := range t.rows {
		if !r.fixed {
			all = append(all, r.Affected)
		}
	}
	return all
}
