package db

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// dueAtOnce is how many names one statement is about.
const dueAtOnce = 1000

// DueTrustImages implements store.TrustVerdicts.
func (d *DB) DueTrustImages(ctx context.Context, now time.Time, among []store.TrustName, limit int) ([]store.TrustDue, error) {
	return d.dueTrust(ctx, 0, now, among, limit)
}

// DueTrustWatched implements store.TrustVerdicts.
func (d *DB) DueTrustWatched(ctx context.Context, now time.Time, among []store.TrustName, limit int) ([]store.TrustDue, error) {
	return d.dueTrust(ctx, idleWatched, now, among, limit)
}

func (d *DB) dueTrust(ctx context.Context, idle int, now time.Time, among []store.TrustName, limit int) ([]store.TrustDue, error) {
	type due struct {
		store.TrustDue
		at, id int64
	}
	var found []due
	err := d.read(ctx, "read what is to be verified", func(s *snapshot) error {
		for some := range slices.Chunk(among, dueAtOnce) {
			names, err := json.Marshal(some)
			if err != nil {
				return fmt.Errorf("encode names: %w", err)
			}
			const query = `SELECT t.due, t.id, t.repository, t.digest, t.tries, t.seen FROM trust_images t
				WHERE (t.repository, t.digest) IN (SELECT value ->> '$.Repository', value ->> '$.Digest' FROM json_each(?)) AND +t.idle = ? AND t.due <= ?`
			err = s.query(ctx, query, []any{string(names), idle, nanos(now)}, func(r *sql.Rows) (bool, error) {
				var v due
				var seen int64
				err := r.Scan(&v.at, &v.id, &v.Repository, &v.Digest, &v.Tries, &seen)
				v.Seen = fromNanos(seen)
				found = append(found, v)
				return true, err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	// Sorted here: each of the statements has its own part.
	slices.SortFunc(found, func(a, b due) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.id, b.id)) })
	found = found[:min(len(found), pageSizeOf(limit))]
	all := make([]store.TrustDue, 0, len(found))
	for _, v := range found {
		all = append(all, v.TrustDue)
	}
	return all, err
}

// TrustImages implements store.TrustVerdicts.
func (d *DB) TrustImages(ctx context.Context, q store.TrustQuery) (all []store.TrustImage, err error) {
	if max(len(q.Repository), len(q.Signer), len(q.ImageID)) > maxTextBytes {
		return nil, fault.New(fault.Invalid, "at most %d bytes of text can be asked for", maxTextBytes)
	}
	err = d.read(ctx, "read verdicts", func(s *snapshot) error {
		f, err := s.trustFilter(ctx, q)
		if err != nil {
			return err
		}
		query := "SELECT " + trustColumns + " FROM trust_images t WHERE " + strings.Join(f.parts, " AND ") +
			" ORDER BY t.idle, t.rank, t.repository, t.digest LIMIT ?"
		return s.query(ctx, query, append(f.args, pageSizeOf(q.Limit)), func(r *sql.Rows) (bool, error) {
			v, err := scanTrust(r.Scan)
			all = append(all, v)
			return true, err
		})
	})
	return all, err
}

// hasTerm is looked up for each image in the order of the list, which needs no
// sorting then.
const hasTerm = "EXISTS (SELECT 1 FROM trust_terms x WHERE x.term = ? AND x.kind = ? AND x.image = t.id)"

func (s *snapshot) trustFilter(ctx context.Context, q store.TrustQuery) (f fragments, err error) {
	if q.Running {
		f.add("t.idle = 0")
	} else {
		f.add("t.idle >= 0")
	}
	if q.State != "" {
		if trustRank(q.State) < 0 {
			return f, fault.New(fault.Invalid, "there is no state %q", q.State)
		}
		f.add("t.rank = ?", trustRank(q.State))
	}
	if q.Repository != "" {
		f.add(`t.repository LIKE ? ESCAPE '\'`, likePattern(q.Repository))
	}
	if q.Signer != "" {
		f.add(hasTerm, q.Signer, termSigner)
	}
	if q.ImageID != "" {
		f.add(hasTerm, q.ImageID, termImage)
	}
	if q.After == 0 {
		return f, nil
	}
	var idle, rank int64
	var repository, digest string
	err = s.row(ctx, "SELECT idle, rank, repository, digest FROM trust_images WHERE id = ?", []any{q.After}, &idle, &rank, &repository, &digest)
	if errors.Is(err, sql.ErrNoRows) {
		return f, fault.New(fault.Invalid, "no image %d to continue behind", q.After)
	}
	f.add("(t.idle, t.rank, t.repository, t.digest) > (?,?,?,?)", idle, rank, repository, digest)
	return f, err
}

// TrustImage implements store.TrustVerdicts.
func (d *DB) TrustImage(ctx context.Context, repository, digest string) (v store.TrustImage, err error) {
	err = d.read(ctx, "read verdict", func(s *snapshot) error {
		found := false
		err := s.query(ctx, "SELECT "+trustColumns+", t.details FROM trust_images t WHERE t.repository = ? AND t.digest = ?", []any{repository, digest},
			func(r *sql.Rows) (bool, error) {
				var details []byte
				var err error
				v, err = scanTrust(r.Scan, &details)
				v.Details, found = details, true
				return true, err
			})
		if err == nil && !found {
			return noTrustImage(repository, digest)
		}
		return err
	})
	return v, err
}

// TrustDetails implements store.TrustVerdicts. The plus keeps the index of what
// runs out of it, whose order is another.
func (d *DB) TrustDetails(ctx context.Context, after int64, limit int) (all []store.TrustImage, err error) {
	err = d.read(ctx, "read verdicts", func(s *snapshot) error {
		return s.query(ctx, "SELECT "+trustColumns+", t.details FROM trust_images t WHERE t.id > ? AND +t.idle = 0 ORDER BY t.id LIMIT ?",
			[]any{after, pageSizeOf(limit)}, func(r *sql.Rows) (bool, error) {
				var details []byte
				v, err := scanTrust(r.Scan, &details)
				v.Details = details
				all = append(all, v)
				return true, err
			})
	})
	return all, err
}

// TrustTotals implements store.TrustVerdicts.
func (d *DB) TrustTotals(ctx context.Context) (t store.TrustTotals, err error) {
	t = store.TrustTotals{States: map[store.TrustState]int{}, Workloads: map[store.TrustState]int{}}
	err = d.read(ctx, "count verdicts", func(s *snapshot) error {
		return s.query(ctx, "SELECT rank, count(id), sum(running) FROM trust_images WHERE idle = 0 GROUP BY rank", nil, func(r *sql.Rows) (bool, error) {
			var rank, images, workloads int
			err := r.Scan(&rank, &images, &workloads)
			if all := store.TrustStates(); rank >= 0 && rank < len(all) {
				t.States[all[rank]], t.Workloads[all[rank]] = images, workloads
			}
			return true, err
		})
	})
	return t, err
}
