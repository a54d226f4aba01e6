package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

const sqlPutWorkload = `INSERT INTO workloads
	(id, agent, grp, cluster, state, rank, created, ended, partial, search, image, body) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)
	ON CONFLICT (id) DO UPDATE SET agent = excluded.agent, grp = excluded.grp, cluster = excluded.cluster,
	state = excluded.state, rank = excluded.rank, created = excluded.created, ended = excluded.ended,
	partial = excluded.partial, search = excluded.search, image = excluded.image, body = excluded.body
	WHERE excluded.partial = 0 OR workloads.partial = 1`

// PutWorkloads implements store.Workloads.
func (d *DB) PutWorkloads(ctx context.Context, ws []asset.Workload) error {
	if len(ws) == 0 {
		return nil
	}
	return d.writeAlong(ctx, func(ctx context.Context, w *writer) error {
		for i := range ws {
			if err := w.putWorkload(ctx, &ws[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *writer) putWorkload(ctx context.Context, v *asset.Workload) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode workload %s: %w", v.ID, err)
	}
	rank, ended, partial := int64(1), int64(0), int64(0)
	if v.State == asset.Running {
		rank = 0
	}
	if v.State == asset.Exited || v.State == asset.Lost {
		if ended = nanosOf(v.Finished); ended == 0 {
			ended = nanos(v.Updated)
		}
	}
	if v.Partial {
		partial = 1
	}
	var wasImage string
	var wasRank int64
	err = w.row(ctx, "SELECT image, rank FROM workloads WHERE id = ?", []any{v.ID}, &wasImage, &wasRank)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	known := err == nil
	n, err := w.exec(ctx, sqlPutWorkload, v.ID, v.AgentID, string(v.Group), v.ECS.Cluster, string(v.State),
		rank, nanos(v.Created), ended, partial, searchText(v), v.Image.ID, string(body))
	if err != nil || n == 0 || known && wasImage == v.Image.ID && wasRank == rank {
		return err
	}
	if err := w.countWorkloads(ctx, v.Image.ID); err != nil || wasImage == v.Image.ID {
		return err
	}
	return w.countWorkloads(ctx, wasImage)
}

// searchText is what WorkloadQuery.Text looks at.
func searchText(v *asset.Workload) string {
	return strings.Join([]string{v.Name, string(v.Group), v.Image.Reference, v.ID}, "\n")
}

// Workload implements store.Workloads.
func (d *DB) Workload(ctx context.Context, id string) (v asset.Workload, err error) {
	err = d.read(ctx, "read workload", func(s *snapshot) error {
		var body []byte
		err := s.row(ctx, "SELECT body FROM workloads WHERE id = ?", []any{id}, &body)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "no workload %q", id)
		}
		if err != nil {
			return err
		}
		return s.decode(body, &v)
	})
	return v, err
}

// decode reads JSON that this package wrote.
func (s *snapshot) decode(body []byte, dest any) error {
	if err := json.Unmarshal(body, dest); err != nil {
		return corrupt(s.d.path, fmt.Errorf("decode a row: %w", err))
	}
	return nil
}

// Workloads implements store.Workloads. An After that retention has removed
// meanwhile is Invalid: start again from the first page.
func (d *DB) Workloads(ctx context.Context, q store.WorkloadQuery) (ws []asset.Workload, err error) {
	if len(q.States) > maxChoices || len(q.Text) > maxTextBytes {
		return nil, fault.New(fault.Invalid, "at most %d states and %d bytes of text can be asked for", maxChoices, maxTextBytes)
	}
	err = d.read(ctx, "read workloads", func(s *snapshot) error {
		var f fragments
		filterWorkloads(&f, q)
		if q.After != "" {
			var rank, created int64
			err := s.row(ctx, "SELECT rank, created FROM workloads WHERE id = ?", []any{q.After}, &rank, &created)
			if errors.Is(err, sql.ErrNoRows) {
				return fault.New(fault.Invalid, "no workload %q to continue behind", q.After)
			}
			if err != nil {
				return err
			}
			// rank >= ? lets the index skip to the place; the rest is exact.
			f.add("rank >= ?", rank)
			f.add("(rank > ? OR created < ? OR created = ? AND id > ?)", rank, created, created, q.After)
		}
		query := "SELECT body FROM workloads WHERE " + strings.Join(append(f.parts, "rank >= 0"), " AND ") +
			" ORDER BY rank, created DESC, id LIMIT ?"
		return s.query(ctx, query, append(f.args, pageSizeOf(q.Limit)), func(r *sql.Rows) (bool, error) {
			var body []byte
			var v asset.Workload
			if err := r.Scan(&body); err != nil {
				return false, err
			}
			err := s.decode(body, &v)
			ws = append(ws, v)
			return true, err
		})
	})
	return ws, err
}

func filterWorkloads(f *fragments, q store.WorkloadQuery) {
	for _, e := range [...]struct{ part, value string }{
		{"agent = ?", q.AgentID}, {"grp = ?", q.Group}, {"cluster = ?", q.Cluster}, {"image = ?", q.ImageID},
	} {
		if e.value != "" {
			f.add(e.part, e.value)
		}
	}
	if len(q.States) == 1 {
		f.add("state = ?", string(q.States[0])) // in order by its index; several are not
	}
	if len(q.States) > 1 {
		args := make([]any, len(q.States))
		for i, s := range q.States {
			args[i] = string(s)
		}
		// An expression, so that the rows come in order from the other index
		// instead of being sorted.
		f.add("state || '' IN ("+marks(len(args))+")", args...)
	}
	if q.Text != "" {
		f.add(`search LIKE ? ESCAPE '\'`, likePattern(q.Text))
	}
}
