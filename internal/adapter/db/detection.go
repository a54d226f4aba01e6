package db

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// PutDetectionDocument implements store.DetectionDocuments.
func (d *DB) PutDetectionDocument(ctx context.Context, x store.DetectionDocument, after int64) (store.DetectionDocument, error) {
	if len(x.Text) > store.MaxDetectionDocument {
		return store.DetectionDocument{}, fault.New(fault.Invalid, "document %s has %d bytes, at most %d are kept", x.Name, len(x.Text), store.MaxDetectionDocument).
			With("divide it into several")
	}
	err := d.write(ctx, "store rules of detection", func(ctx context.Context, w *writer) error {
		var newest, holds int64
		if err := w.row(ctx, "SELECT coalesce(max(version), 0), coalesce(max(holds = 1), 0) FROM detection_documents WHERE name = ?", []any{x.Name}, &newest, &holds); err != nil {
			return err
		}
		if newest != after {
			return fault.New(fault.Conflict, "document %s is at version %d, the change is of version %d", x.Name, newest, after).
				With("somebody else has changed it meanwhile: read it again, and make the change anew")
		}
		if err := w.roomForDocument(ctx, newest == 0, holds == 0 && !x.Removed); err != nil {
			return err
		}
		x.Version = newest + 1
		if _, err := w.exec(ctx, "UPDATE detection_documents SET holds = 0 WHERE name = ? AND holds <> 0", x.Name); err != nil {
			return err
		}
		if _, err := w.exec(ctx, "INSERT INTO detection_documents (name, version, holds, removed, actor, comment, created, text) VALUES (?,?,?,?,?,?,?,?)",
			x.Name, x.Version, 1+oneIf(x.Removed), oneIf(x.Removed), x.Actor, x.Comment, nanos(x.Created), x.Text); err != nil {
			return err
		}
		_, err := w.exec(ctx, "DELETE FROM detection_documents WHERE name = ? AND version <= ?", x.Name, x.Version-store.MaxDetectionVersions)
		return err
	})
	if err != nil {
		return store.DetectionDocument{}, err
	}
	return x, nil
}

// roomForDocument says whether there is room for one more name, or for one more
// document that holds.
func (w *writer) roomForDocument(ctx context.Context, name, holds bool) error {
	var names, holding int
	if err := w.row(ctx, "SELECT count(name) FROM detection_documents WHERE holds IN (1, 2)", nil, &names); err != nil {
		return err
	}
	if err := w.row(ctx, "SELECT count(name) FROM detection_documents WHERE holds = 1", nil, &holding); err != nil {
		return err
	}
	if name && names >= store.MaxDetectionNames || holds && holding >= store.MaxDetectionDocuments {
		return fault.New(fault.Exhausted, "there are %d documents of rules already, and were %d altogether", holding, names).
			With("put rules into documents that there are, or use a name again")
	}
	return nil
}

func oneIf(b bool) int {
	if b {
		return 1
	}
	return 0
}

// DetectionDocuments implements store.DetectionDocuments.
func (d *DB) DetectionDocuments(ctx context.Context) (all []store.DetectionDocument, err error) {
	err = d.read(ctx, "read rules of detection", func(s *snapshot) error {
		return s.query(ctx, "SELECT name, version, removed, actor, comment, created, text FROM detection_documents WHERE holds = 1 ORDER BY name", nil, func(r *sql.Rows) (bool, error) {
			x, err := scanDetection(r.Scan)
			all = append(all, x)
			return true, err
		})
	})
	return all, err
}

func scanDetection(scan func(...any) error) (x store.DetectionDocument, err error) {
	var removed, created int64
	err = scan(&x.Name, &x.Version, &removed, &x.Actor, &x.Comment, &created, &x.Text)
	x.Removed, x.Created = removed == 1, fromNanos(created)
	return x, err
}

// DetectionDocument implements store.DetectionDocuments.
func (d *DB) DetectionDocument(ctx context.Context, name string, version int64) (x store.DetectionDocument, err error) {
	err = d.read(ctx, "read rules of detection", func(s *snapshot) error {
		query, args := "SELECT name, version, removed, actor, comment, created, text FROM detection_documents WHERE name = ? AND version = ?", []any{name, version}
		if version == 0 {
			query, args = "SELECT name, version, removed, actor, comment, created, text FROM detection_documents WHERE name = ? ORDER BY version DESC LIMIT 1", args[:1]
		}
		x, err = scanDetection(func(to ...any) error { return s.row(ctx, query, args, to...) })
		if errors.Is(err, sql.ErrNoRows) {
			if version != 0 {
				return fault.New(fault.NotFound, "there is no version %d of document %s", version, name).With("castellan detect history " + name + " lists those that are kept")
			}
			return fault.New(fault.NotFound, "there is no document of rules %s", name).With("castellan detect documents lists those that there are")
		}
		return err
	})
	return x, err
}

// DetectionVersions implements store.DetectionDocuments.
func (d *DB) DetectionVersions(ctx context.Context, name string, before int64, limit int) (all []store.DetectionDocument, err error) {
	if before <= 0 {
		before = 1 << 62
	}
	err = d.read(ctx, "read versions of rules of detection", func(s *snapshot) error {
		return s.query(ctx, "SELECT name, version, removed, actor, comment, created, '' FROM detection_documents WHERE name = ? AND version < ? ORDER BY version DESC LIMIT ?",
			[]any{name, before, pageSizeOf(limit)}, func(r *sql.Rows) (bool, error) {
				x, err := scanDetection(r.Scan)
				all = append(all, x)
				return true, err
			})
	})
	return all, err
}

// PutDetectionSilence implements store.DetectionSilences.
func (d *DB) PutDetectionSilence(ctx context.Context, x store.DetectionSilence) (store.DetectionSilence, error) {
	x.ID, x.Ended, x.EndedBy = 0, time.Time{}, ""
	body, err := json.Marshal(x)
	if err != nil {
		return x, fmt.Errorf("encode silence: %w", err)
	}
	err = d.write(ctx, "store a silence", func(ctx context.Context, w *writer) error {
		var holding int
		if err := w.row(ctx, "SELECT count(id) FROM detection_silences WHERE over > ?", []any{nanos(x.Created)}, &holding); err != nil {
			return err
		}
		if holding >= store.MaxDetectionSilences {
			return fault.New(fault.Exhausted, "%d silences hold already", holding).With("end some that are not needed any more: castellan detect silences")
		}
		var err error
		x.ID, err = w.insert(ctx, "INSERT INTO detection_silences (over, body) VALUES (?,?)", nanos(x.Until), string(body))
		return err
	})
	return x, err
}

// EndDetectionSilence implements store.DetectionSilences.
func (d *DB) EndDetectionSilence(ctx context.Context, id int64, by string, now time.Time) (x store.DetectionSilence, err error) {
	err = d.write(ctx, "end a silence", func(ctx context.Context, w *writer) error {
		var body string
		err := w.row(ctx, "SELECT body FROM detection_silences WHERE id = ?", []any{id}, &body)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "there is no silence %d", id).With("castellan detect silences lists those that there are")
		}
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(body), &x); err != nil {
			return corrupt(d.path, err)
		}
		x.ID = id
		if !x.Holds(now) {
			return fault.New(fault.Conflict, "silence %d is over already", id)
		}
		x.Ended, x.EndedBy = now, by
		b, err := json.Marshal(x)
		if err != nil {
			return fmt.Errorf("encode silence: %w", err)
		}
		_, err = w.exec(ctx, "UPDATE detection_silences SET over = ?, body = ? WHERE id = ?", nanos(now), string(b), id)
		return err
	})
	return x, err
}

// DetectionSilences implements store.DetectionSilences.
func (d *DB) DetectionSilences(ctx context.Context, at time.Time) (all []store.DetectionSilence, err error) {
	query, args := "SELECT id, body FROM detection_silences WHERE id > 0 ORDER BY id DESC LIMIT ?", []any{2 * store.MaxDetectionSilences}
	if !at.IsZero() {
		query, args = "SELECT id, body FROM detection_silences WHERE over > ? LIMIT ?", []any{nanos(at), 2 * store.MaxDetectionSilences}
	}
	err = d.read(ctx, "read silences", func(s *snapshot) error {
		return s.query(ctx, query, args, func(r *sql.Rows) (bool, error) {
			var x store.DetectionSilence
			var id int64
			var body string
			if err := r.Scan(&id, &body); err != nil {
				return false, err
			}
			if err := json.Unmarshal([]byte(body), &x); err != nil {
				return false, corrupt(d.path, err)
			}
			x.ID = id
			all = append(all, x)
			return true, nil
		})
	})
	slices.SortFunc(all, func(a, b store.DetectionSilence) int { return cmp.Compare(b.ID, a.ID) })
	return all, err
}

// PutDetectionStats implements store.DetectionStats.
func (d *DB) PutDetectionStats(ctx context.Context, agentID, boot string, stats []threat.RuleStats) error {
	return d.write(ctx, "store how rules fare", func(ctx context.Context, w *writer) error {
		for i := range stats {
			st := &stats[i]
			// The sums of the start before are kept when another start tells.
			_, err := w.exec(ctx, `INSERT INTO detection_stats (rule, agent, boot, looked, hits, silenced, errors, spent,
				former_looked, former_hits, former_silenced, former_errors, former_spent, last) VALUES (?,?,?,?,?,?,?,?,0,0,0,0,0,?)
				ON CONFLICT (rule, agent) DO UPDATE SET
				former_looked = former_looked + CASE WHEN boot = excluded.boot THEN 0 ELSE looked END,
				former_hits = former_hits + CASE WHEN boot = excluded.boot THEN 0 ELSE hits END,
				former_silenced = former_silenced + CASE WHEN boot = excluded.boot THEN 0 ELSE silenced END,
				former_errors = former_errors + CASE WHEN boot = excluded.boot THEN 0 ELSE errors END,
				former_spent = former_spent + CASE WHEN boot = excluded.boot THEN 0 ELSE spent END,
				boot = excluded.boot, looked = excluded.looked, hits = excluded.hits, silenced = excluded.silenced, errors = excluded.errors,
				spent = excluded.spent, last = max(last, excluded.last)`,
				st.Rule, agentID, boot, int64(st.Looked), int64(st.Hits), int64(st.Silenced), int64(st.Errors), int64(st.Spent), nanosOrZero(st.Last))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func nanosOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return nanos(t)
}

// DetectionStats implements store.DetectionStats.
func (d *DB) DetectionStats(ctx context.Context, rules []string) (all []threat.RuleStats, err error) {
	err = d.read(ctx, "read how rules fare", func(s *snapshot) error {
		for _, rule := range rules {
			st := threat.RuleStats{Rule: rule}
			var hosts, spent, last int64
			err := s.row(ctx, `SELECT count(rule), coalesce(sum(looked + former_looked), 0), coalesce(sum(hits + former_hits), 0),
				coalesce(sum(silenced + former_silenced), 0), coalesce(sum(errors + former_errors), 0), coalesce(sum(spent + former_spent), 0),
				coalesce(max(last), 0) FROM detection_stats WHERE rule = ?`, []any{rule}, &hosts, &st.Looked, &st.Hits, &st.Silenced, &st.Errors, &spent, &last)
			if err != nil {
				return err
			}
			if hosts == 0 {
				continue
			}
			st.Spent = time.Duration(spent)
			if last != 0 {
				st.Last = fromNanos(last)
			}
			all = append(all, st)
		}
		return nil
	})
	return all, err
}

// PutDetectionMemories implements store.DetectionMemories.
func (d *DB) PutDetectionMemories(ctx context.Context, memories map[string]json.RawMessage) error {
	return d.write(ctx, "store what rules learned", func(ctx context.Context, w *writer) error {
		for rule, body := range memories {
			_, err := w.exec(ctx, "INSERT INTO detection_memories (rule, body) VALUES (?,?) ON CONFLICT (rule) DO UPDATE SET body = excluded.body", rule, body)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// DetectionMemories implements store.DetectionMemories.
func (d *DB) DetectionMemories(ctx context.Context) (map[string]json.RawMessage, error) {
	memories := map[string]json.RawMessage{}
	err := d.read(ctx, "read what rules learned", func(s *snapshot) error {
		return s.query(ctx, "SELECT rule, body FROM detection_memories WHERE rule > '' ORDER BY rule", nil, func(r *sql.Rows) (bool, error) {
			var rule string
			var body []byte
			if err := r.Scan(&rule, &body); err != nil {
				return false, err
			}
			memories[rule] = body
			return true, nil
		})
	})
	return memories, err
}
