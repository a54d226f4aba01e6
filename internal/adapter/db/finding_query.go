package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/store"
)

// Vulnerabilities implements store.ImageReads.
func (d *DB) Vulnerabilities(ctx context.Context, q store.VulnerabilityQuery) (vs []store.ImageVulnerability, err error) {
	err = d.read(ctx, "read vulnerabilities", func(s *snapshot) error {
		f, err := s.filterFacets(ctx, q)
		if err != nil {
			return err
		}
		if q.Running {
			f.add("i.idle = 0")
		}
		f.owner("i.owner", q.Owner)
		query := `SELECT i.id, n.first, n.body, d.body FROM facets v CROSS JOIN vulnerabilities n ON n.facet = v.number
			CROSS JOIN images i ON i.number = n.image CROSS JOIN details d ON d.id = n.detail WHERE ` + strings.Join(f.parts, " AND ") +
			" ORDER BY v.rank DESC, v.number, n.position, n.number LIMIT ? OFFSET ?"
		if q.ImageID != "" {
			f.add("v.image = (SELECT number FROM images WHERE id = ?)", q.ImageID)
			query = `SELECT i.id, v.first, v.body, d.body FROM vulnerabilities v CROSS JOIN images i ON i.number = v.image
				CROSS JOIN details d ON d.id = v.detail WHERE ` + strings.Join(f.parts, " AND ") +
				" ORDER BY v.rank DESC, v.position, v.number LIMIT ? OFFSET ?"
		}
		return s.query(ctx, query, append(f.args, pageSizeOf(q.Limit), max(q.Offset, 0)), func(r *sql.Rows) (bool, error) {
			v, err := s.scanFinding(r)
			vs = append(vs, v)
			return true, err
		})
	})
	return vs, err
}

func (s *snapshot) scanFinding(r *sql.Rows) (v store.ImageVulnerability, err error) {
	var first int64
	var body, shared []byte
	if err := r.Scan(&v.ImageID, &first, &body, &shared); err != nil {
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

// filterFacets puts what a query asks of a finding or a facet, v, into conditions;
// those on its image are not among them.
func (s *snapshot) filterFacets(ctx context.Context, q store.VulnerabilityQuery) (f fragments, err error) {
	if len(q.Text) > maxTextBytes {
		return f, fault.New(fault.Invalid, "at most %d bytes of text can be asked for", maxTextBytes)
	}
	f.add("v.accepted = ?", q.Accepted)
	if q.ID != "" {
		names, err := s.weaknessesNamed(ctx, q.ID)
		if err != nil {
			return f, err
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
	}{{q.Fixable, "v.fixable = 1"}, {q.Exploited, "v.exploited = 1"}, {q.InUse, "v.in_use = 1"}} {
		if e.wanted {
			f.add(e.part)
		}
	}
	if q.Text != "" {
		f.add(`v.search LIKE ? ESCAPE '\'`, likePattern(q.Text))
	}
	return f, nil
}

// owner asks for what is of an owner, or of nobody.
func (f *fragments) owner(column, name string) {
	switch name {
	case "":
	case store.NoOwner:
		f.add(column + " = ''")
	default:
		f.add(column+" = ?", name)
	}
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
