package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/store"
)

func responsePolicies() *policyTable {
	return &policyTable{
		name: "response", command: "respond rules", max: store.MaxResponsePolicy, keeps: store.MaxResponsePolicies,
		newest: "SELECT coalesce(max(version), 0) FROM response_policies",
		insert: "INSERT INTO response_policies (digest, text, actor, comment, created) VALUES (?,?,?,?,?)",
		prune:  "DELETE FROM response_policies WHERE version <= ?",
		one:    "SELECT version, digest, text, actor, comment, created FROM response_policies WHERE version = ?",
		last:   "SELECT version, digest, text, actor, comment, created FROM response_policies WHERE version = (SELECT max(version) FROM response_policies)",
		page:   "SELECT version, digest, actor, comment, created FROM response_policies WHERE version < ? ORDER BY version DESC LIMIT ?",
	}
}

// PutResponsePolicy implements store.ResponsePolicies.
func (d *DB) PutResponsePolicy(ctx context.Context, p store.ResponsePolicy, after int64) (store.ResponsePolicy, error) {
	v, err := responsePolicies().put(ctx, d, policyVersion(p), after, nil)
	return store.ResponsePolicy(v), err
}

// ResponsePolicy implements store.ResponsePolicies.
func (d *DB) ResponsePolicy(ctx context.Context, version int64) (store.ResponsePolicy, error) {
	v, err := responsePolicies().get(ctx, d, version)
	return store.ResponsePolicy(v), err
}

// ResponsePolicies implements store.ResponsePolicies.
func (d *DB) ResponsePolicies(ctx context.Context, before int64, limit int) (all []store.ResponsePolicy, err error) {
	err = responsePolicies().list(ctx, d, before, limit, func(v policyVersion) { all = append(all, store.ResponsePolicy(v)) })
	return all, err
}

// PutResponseRun implements store.ResponseRuns.
func (d *DB) PutResponseRun(ctx context.Context, r store.ResponseRun) (store.ResponseRun, error) {
	undo := int64(0)
	if !r.UndoAt.IsZero() {
		undo = nanos(r.UndoAt)
	}
	id := r.ID
	r.ID = 0 // the column has it
	body, err := json.Marshal(r)
	r.ID = id
	if err != nil {
		return r, fmt.Errorf("encode what rule %s did: %w", r.Rule, err)
	}
	err = d.write(ctx, "store what a response rule did", func(ctx context.Context, w *writer) error {
		if r.ID != 0 {
			_, err := w.exec(ctx, "UPDATE response_runs SET undo_at = ?, body = ? WHERE id = ?", undo, string(body), r.ID)
			return err
		}
		var err error
		r.ID, err = w.insert(ctx, "INSERT INTO response_runs (at, rule, workload, undo_at, body) VALUES (?,?,?,?,?)",
			nanos(r.At), r.Rule, r.Workload, undo, string(body))
		if err != nil {
			return err
		}
		_, err = w.exec(ctx, "DELETE FROM response_runs WHERE id <= ? AND undo_at = 0", r.ID-store.MaxResponseRuns)
		return err
	})
	return r, err
}

// ResponseRuns implements store.ResponseRuns.
func (d *DB) ResponseRuns(ctx context.Context, q store.ResponseRunQuery) (all []store.ResponseRun, err error) {
	where, args := []string{"id < ?"}, []any{int64(1 << 62)}
	if q.Before > 0 {
		args[0] = q.Before
	}
	and := func(condition string, value any) { where, args = append(where, condition), append(args, value) }
	if q.Rule != "" {
		and("rule = ?", q.Rule)
	}
	if q.Workload != "" {
		and("workload = ?", q.Workload)
	}
	if !q.Since.IsZero() {
		and("at >= ?", nanos(q.Since))
	}
	order := "id DESC"
	if !q.Undo.IsZero() {
		order = "undo_at, id" // as the index has it: what is due first
		and("undo_at > 0 AND undo_at <= ?", nanos(q.Undo))
	}
	query := "SELECT id, body FROM response_runs WHERE " + strings.Join(where, " AND ") + " ORDER BY " + order + " LIMIT ?"
	err = d.read(ctx, "read what response rules did", func(s *snapshot) error {
		return s.query(ctx, query, append(args, pageSizeOf(q.Limit)), func(rows *sql.Rows) (bool, error) {
			var r store.ResponseRun
			var id int64
			var body []byte
			if err := rows.Scan(&id, &body); err != nil {
				return false, err
			}
			if err := json.Unmarshal(body, &r); err != nil {
				return false, fmt.Errorf("decode what a rule did, %d: %w", id, err)
			}
			r.ID = id
			all = append(all, r)
			return true, nil
		})
	})
	return all, err
}

// CountResponseRuns implements store.ResponseRuns.
func (d *DB) CountResponseRuns(ctx context.Context, rule string) (n int, last time.Time, err error) {
	err = d.read(ctx, "count what a response rule did", func(s *snapshot) error {
		var at int64
		if err := s.row(ctx, "SELECT count(id), coalesce(max(at), 0) FROM response_runs WHERE rule = ?", []any{rule}, &n, &at); err != nil {
			return err
		}
		if at > 0 {
			last = fromNanos(at)
		}
		return nil
	})
	return n, last, err
}
