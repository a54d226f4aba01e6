package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// Incident implements store.Incidents.
func (d *DB) Incident(ctx context.Context, id int64) (i threat.Incident, err error) {
	b, at, revision, err := d.incidentBody(ctx, id, "body")
	if err != nil {
		return i, err
	}
	if err := json.Unmarshal(b, &i); err != nil {
		return i, corrupt(d.path, fmt.Errorf("decode incident %d: %w", at, err))
	}
	i.ID, i.Revision = at, revision
	return i, nil
}

// IncidentMemory implements store.Incidents.
func (d *DB) IncidentMemory(ctx context.Context, id int64) ([]byte, error) {
	b, _, _, err := d.incidentBody(ctx, id, "memory")
	return b, err
}

// incidentBody opens a body of an incident, or of that of which it became part.
func (d *DB) incidentBody(ctx context.Context, id int64, column string) (plain []byte, at, revision int64, err error) {
	var o bodyOpener
	defer o.close()
	err = d.read(ctx, "read incident", func(s *snapshot) error {
		at = id
		err := s.row(ctx, "SELECT incident FROM incident_merges WHERE id = ?", []any{id}, &at)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		var packed []byte
		err = s.row(ctx, "SELECT "+column+", revision FROM incidents WHERE id = ?", []any{at}, &packed, &revision)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "no incident %d is kept", id).With("castellan detect incidents lists those that are")
		}
		if err != nil {
			return err
		}
		if plain, err = o.open(packed); err != nil {
			return corrupt(d.path, err)
		}
		return nil
	})
	return plain, at, revision, err
}

// Incidents implements store.Incidents.
func (d *DB) Incidents(ctx context.Context, q store.IncidentQuery) (all []threat.Incident, err error) {
	if max(len(q.Text), len(q.Group), len(q.Rule), len(q.Technique), len(q.AgentID), len(q.Workload), len(q.Assignee)) > maxTextBytes || len(q.States) > maxChoices {
		return nil, fault.New(fault.Invalid, "at most %d bytes of text and %d states can be asked for", maxTextBytes, maxChoices)
	}
	f := incidentFilter(q)
	err = d.read(ctx, "read incidents", func(s *snapshot) error {
		query := "SELECT i.id, i.revision, i.head FROM incidents i WHERE " + strings.Join(f.parts, " AND ") + " ORDER BY i.id DESC LIMIT ?"
		return s.query(ctx, query, append(f.args, pageSizeOf(q.Limit)), func(r *sql.Rows) (bool, error) {
			var i threat.Incident
			var id, revision int64
			var head []byte
			if err := r.Scan(&id, &revision, &head); err != nil {
				return false, err
			}
			if err := s.decode(head, &i); err != nil {
				return false, err
			}
			i.ID, i.Revision = id, revision
			all = append(all, i)
			return true, nil
		})
	})
	return all, err
}

// incidentFilter leads by the order of the page. The pluses keep indexes out of it
// that have another order.
func incidentFilter(q store.IncidentQuery) (f fragments) {
	before := q.Before
	if before <= 0 {
		before = 1 << 62
	}
	f.add("i.id < ?", before)
	if len(q.States) > 0 {
		args := make([]any, len(q.States))
		for k, s := range q.States {
			args[k] = string(s)
		}
		if !slices.Contains(q.States, threat.Resolved) {
			f.add("i.active = 1")
		}
		f.add("i.state || '' IN ("+marks(len(args))+")", args...)
	}
	if q.Severity > finding.Unknown {
		f.add("+i.severity >= ?", int(q.Severity))
	}
	if q.Assignee != "" {
		f.add("i.assignee = ?", q.Assignee)
	}
	if !q.Since.IsZero() {
		f.add("i.last >= ?", nanos(q.Since))
	}
	if !q.Until.IsZero() {
		f.add("i.last < ?", nanos(q.Until))
	}
	if q.Text != "" {
		f.add(`i.search LIKE ? ESCAPE '\'`, likePattern(q.Text))
	}
	if q.Technique != "" { // each name of an incident has a line of its own
		f.add(`i.search LIKE ? ESCAPE '\'`, likePattern("\n"+q.Technique))
	}
	if rest, ok := strings.CutSuffix(q.Group, "*"); ok {
		f.add("EXISTS (SELECT 1 FROM incident_terms g WHERE g.incident = i.id AND g.kind = ? AND substr(g.term, 1, length(?)) = ?)", incidentGroup, rest, rest)
		q.Group = ""
	}
	for _, t := range [...]struct {
		kind int
		term string
	}{{incidentGroup, q.Group}, {incidentRule, q.Rule}, {incidentAgent, q.AgentID}, {incidentWorkload, q.Workload}} {
		if t.term != "" {
			f.add("EXISTS (SELECT 1 FROM incident_terms t WHERE t.kind = ? AND t.term = ? AND t.incident = i.id)", t.kind, clip(t.term))
		}
	}
	return f
}

// FormerIncident implements store.Incidents.
func (d *DB) FormerIncident(ctx context.Context, traces []string, before int64) (id int64, err error) {
	if len(traces) > store.MaxIncidentTraces {
		return 0, fault.New(fault.Invalid, "%d traces are asked for, at most %d can be", len(traces), store.MaxIncidentTraces)
	}
	if before <= 0 {
		before = 1 << 62
	}
	err = d.read(ctx, "look for a former incident", func(s *snapshot) error {
		for _, t := range traces {
			var found int64
			if err := s.row(ctx, "SELECT coalesce(max(incident), 0) FROM incident_terms WHERE kind = ? AND term = ? AND incident < ?",
				[]any{incidentTrace, t, before}, &found); err != nil {
				return err
			}
			id = max(id, found)
		}
		return nil
	})
	return id, err
}

// IncidentTotals implements store.Incidents.
func (d *DB) IncidentTotals(ctx context.Context) (t store.IncidentTotals, err error) {
	t = store.IncidentTotals{States: map[threat.State]int{}, Active: map[finding.Severity]int{}}
	err = d.read(ctx, "count incidents", func(s *snapshot) error {
		for _, state := range [...]threat.State{threat.Open, threat.Assigned, threat.Reopened, threat.Resolved} {
			err := s.query(ctx, "SELECT severity, count(*) FROM incidents WHERE state = ? GROUP BY severity", []any{string(state)}, func(r *sql.Rows) (bool, error) {
				var severity, n int
				err := r.Scan(&severity, &n)
				t.States[state] += n
				if state.Active() {
					t.Active[finding.Severity(severity)] += n
				}
				return true, err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return t, err
}

// IncidentRules implements store.Incidents. The terms lead, which have rules in their
// order.
func (d *DB) IncidentRules(ctx context.Context, resolution threat.Resolution) (rules map[string]int, err error) {
	rules = map[string]int{}
	const query = `SELECT t.term, count(*) FROM incident_terms t CROSS JOIN incidents i ON i.id = t.incident
		WHERE t.kind = ? AND i.state = ? AND json_extract(i.head, '$.resolution') = ? GROUP BY t.term`
	err = d.read(ctx, "count incidents by rule", func(s *snapshot) error {
		return s.query(ctx, query, []any{incidentRule, string(threat.Resolved), string(resolution)}, func(r *sql.Rows) (bool, error) {
			var rule string
			var n int
			err := r.Scan(&rule, &n)
			rules[rule] = n
			return true, err
		})
	})
	return rules, err
}

// pruneIncidents is the step that forgets incidents that were changed last before
// cut, and where those lead that became part of them.
func pruneIncidents(cut time.Time) pruneStep {
	return func(ctx context.Context, w *writer) (int64, bool, error) {
		ids, err := w.ids(ctx, "SELECT id FROM incidents WHERE updated < ? ORDER BY updated LIMIT ?", nanos(cut), pruneGroups)
		if err != nil {
			return 0, false, err
		}
		for _, id := range ids {
			if err := w.dropIncident(ctx, id); err != nil {
				return 0, false, err
			}
			if _, err := w.exec(ctx, "DELETE FROM incident_merges WHERE incident = ?", id); err != nil {
				return 0, false, err
			}
		}
		return int64(len(ids)), len(ids) == pruneGroups, nil
	}
}
