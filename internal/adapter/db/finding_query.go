package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// maxTold is how many packages and fixed versions a weakness is told with.
	maxTold = 5
	// nameRows is how many findings are read to find them.
	nameRows = 50
	// millionth is the unit in which probabilities are kept.
	millionth = 1e-6
)

// Vulnerabilities implements store.ImageReads.
func (d *DB) Vulnerabilities(ctx context.Context, q store.VulnerabilityQuery) (vs []store.ImageVulnerability, err error) {
	err = d.read(ctx, "read vulnerabilities", func(s *snapshot) error {
		f, none, err := s.filterFindings(ctx, q)
		if err != nil || none {
			return err
		}
		query := `SELECT i.id, v.first, v.accepted, v.body, d.body FROM vulnerabilities v CROSS JOIN images i ON i.number = v.image
			CROSS JOIN details d ON d.id = v.detail WHERE ` + strings.Join(f.parts, " AND ") +
			" ORDER BY v.rank DESC, v.position, v.number LIMIT ? OFFSET ?"
		return s.query(ctx, query, append(f.args, pageSizeOf(q.Limit), max(q.Offset, 0)), func(r *sql.Rows) (bool, error) {
			v, err := s.scanFinding(r)
			vs = append(vs, v)
			return true, err
		})
	})
	return vs, err
}

func (s *snapshot) scanFinding(r *sql.Rows) (v store.ImageVulnerability, err error) {
	var first, accepted int64
	var body, shared []byte
	if err := r.Scan(&v.ImageID, &first, &accepted, &body, &shared); err != nil {
		return v, err
	}
	var d detail
	if err := errors.Join(json.Unmarshal(body, &v.Vulnerability), json.Unmarshal(shared, &d)); err != nil {
		return v, corrupt(s.d.path, fmt.Errorf("decode a finding: %w", err))
	}
	v.First = fromNanos(first)
	v.Aliases, v.SeverityBy, v.Scores, v.Summary, v.Weaknesses = d.Aliases, d.SeverityBy, d.Scores, d.Summary, d.Weaknesses
	v.References, v.Advisories, v.Published, v.Modified = d.References, d.Advisories, d.Published, d.Modified
	return v, nil
}

// filterFindings puts a query into conditions on v and i; none says that
// nothing can meet it.
func (s *snapshot) filterFindings(ctx context.Context, q store.VulnerabilityQuery) (f fragments, none bool, err error) {
	if len(q.Text) > maxTextBytes {
		return f, false, fault.New(fault.Invalid, "at most %d bytes of text can be asked for", maxTextBytes)
	}
	f.add("v.accepted = ?", q.Accepted)
	if q.ImageID != "" {
		var number int64
		err := s.row(ctx, "SELECT number FROM images WHERE id = ?", []any{q.ImageID}, &number)
		if errors.Is(err, sql.ErrNoRows) {
			return f, true, nil
		}
		if err != nil {
			return f, false, err
		}
		f.add("v.image = ?", number)
	}
	if q.ID != "" {
		names, err := s.weaknessesNamed(ctx, q.ID)
		if err != nil {
			return f, false, err
		}
		f.add("v.weakness IN ("+marks(len(names))+")", names...)
	}
	if q.Package != "" {
		f.add("v.package = ?", q.Package)
	}
	if q.Severity > finding.Unknown {
		f.add("v.severity >= ?", int64(q.Severity))
	}
	for _, e := range [...]struct {
		wanted bool
		part   string
	}{{q.Fixable, "v.fixable = 1"}, {q.Exploited, "v.exploited = 1"}, {q.InUse, "v.in_use = 1"}, {q.Running, "i.idle = 0"}} {
		if e.wanted {
			f.add(e.part)
		}
	}
	if q.Text != "" {
		f.add(`v.search LIKE ? ESCAPE '\'`, likePattern(q.Text))
	}
	return f, false, nil
}

// weaknessesNamed returns the ids of what a name stands for: itself, and those
// that have it as an alias.
func (s *snapshot) weaknessesNamed(ctx context.Context, name string) ([]any, error) {
	names := []any{name}
	err := s.query(ctx, "SELECT weakness FROM aliases WHERE alias = ? ORDER BY weakness LIMIT ?", []any{name, maxChoices},
		func(r *sql.Rows) (bool, error) {
			var id string
			err := r.Scan(&id)
			if id != name {
				names = append(names, id)
			}
			return true, err
		})
	return names, err
}

// Weaknesses implements store.ImageReads.
func (d *DB) Weaknesses(ctx context.Context, q store.VulnerabilityQuery) (ws []store.Weakness, err error) {
	err = d.read(ctx, "read weaknesses", func(s *snapshot) error {
		f, none, err := s.filterFindings(ctx, q)
		if err != nil || none {
			return err
		}
		// Twice in one image is one image, whose workloads count once.
		query := `SELECT weakness, max(severity), max(exploited), max(in_use), max(fixable), max(epss), count(running), sum(running),
			min(first) FROM (SELECT v.weakness AS weakness, max(v.rank) AS rank, max(v.severity) AS severity, max(v.exploited) AS exploited,
			max(v.in_use) AS in_use, max(v.fixable) AS fixable, max(v.epss) AS epss, min(v.first) AS first, i.running AS running
			FROM vulnerabilities v CROSS JOIN images i ON i.number = v.image WHERE ` + strings.Join(f.parts, " AND ") +
			` GROUP BY v.weakness, v.image) GROUP BY weakness ORDER BY max(rank) DESC, weakness LIMIT ? OFFSET ?`
		err = s.query(ctx, query, append(f.args, pageSizeOf(q.Limit), max(q.Offset, 0)), func(r *sql.Rows) (bool, error) {
			var w store.Weakness
			var epss, first int64
			err := r.Scan(&w.ID, &w.Severity, &w.Exploited, &w.InUse, &w.Fixable, &epss, &w.Images, &w.Workloads, &first)
			w.EPSS, w.First = float64(epss)*millionth, fromNanos(first)
			ws = append(ws, w)
			return true, err
		})
		for i := range ws {
			err = errors.Join(err, s.nameWeakness(ctx, &ws[i], q.Accepted))
		}
		return err
	})
	return ws, err
}

// nameWeakness adds what people know a weakness by.
func (s *snapshot) nameWeakness(ctx context.Context, w *store.Weakness, accepted bool) error {
	return s.query(ctx, `SELECT v.package, coalesce(json_extract(v.body, '$.fixed'), ''), coalesce(json_extract(d.body, '$.summary'), '')
		FROM vulnerabilities v CROSS JOIN details d ON d.id = v.detail WHERE v.weakness = ? AND v.accepted = ?
		ORDER BY v.rank DESC, v.position, v.number LIMIT ?`, []any{w.ID, accepted, nameRows}, func(r *sql.Rows) (bool, error) {
		var name, fixed, summary string
		if err := r.Scan(&name, &fixed, &summary); err != nil {
			return false, err
		}
		if w.Summary == "" {
			w.Summary = summary
		}
		if len(w.Packages) < maxTold && !slices.Contains(w.Packages, name) {
			w.Packages = append(w.Packages, name)
		}
		if f := name + " " + fixed; fixed != "" && len(w.Fixed) < maxTold && !slices.Contains(w.Fixed, f) {
			w.Fixed = append(w.Fixed, f)
		}
		return true, nil
	})
}
