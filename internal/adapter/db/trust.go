package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// Kinds of trust_terms.
const (
	termSigner = 1 // a name or an identity of one who has signed
	termImage  = 2 // an engine's id
)

// idleWatched is the column idle of images that run nowhere, and that a registry
// holds; 0 is of those that run, 1 of all others.
const idleWatched = 2

// trustBody is what is kept of a verdict that nobody asks for by.
type trustBody struct {
	Reason  string              `json:"reason,omitempty"`
	Remedy  string              `json:"remedy,omitempty"`
	Signers []store.TrustSigner `json:"signers,omitempty"`
	Agent   string              `json:"agent,omitempty"`
}

// trustRank is a state as a number, by which lists are ordered.
func trustRank(s store.TrustState) int { return slices.Index(store.TrustStates(), s) }

// trustRow is what is noted of an image that runs.
type trustRow struct {
	id, running    int64
	idle           int
	images, groups string
}

// NoteTrustImages implements store.TrustVerdicts. What is as it was is not written
// again.
func (d *DB) NoteTrustImages(ctx context.Context, seen []store.TrustSeen, now, forget time.Time) error {
	known, err := d.trustRunning(ctx)
	if err != nil {
		return err
	}
	return d.write(ctx, "note what runs", func(ctx context.Context, w *writer) error {
		for i := range seen {
			s := &seen[i]
			name := [2]string{s.Repository, s.Digest}
			if err := w.noteTrust(ctx, s, known[name], now); err != nil {
				return err
			}
			delete(known, name)
		}
		for _, gone := range known {
			if _, err := w.exec(ctx, "UPDATE trust_images SET running = 0, idle = 1, last = ?, groups = '[]' WHERE id = ?", nanos(now), gone.id); err != nil {
				return err
			}
		}
		old, err := w.ids(ctx, "SELECT id FROM trust_images WHERE idle = 1 AND last < ?", nanos(forget))
		if err != nil {
			return err
		}
		for _, id := range old {
			for _, statement := range [...]string{"DELETE FROM trust_terms WHERE image = ?", "DELETE FROM trust_images WHERE id = ?"} {
				if _, err := w.exec(ctx, statement, id); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// trustRunning returns what is known to run, by repository and digest.
func (d *DB) trustRunning(ctx context.Context) (map[[2]string]trustRow, error) {
	known := map[[2]string]trustRow{}
	err := d.read(ctx, "read what runs", func(s *snapshot) error {
		const query = "SELECT id, repository, digest, images, running, groups, idle FROM trust_images WHERE idle IN (0, 2)"
		return s.query(ctx, query, nil, func(r *sql.Rows) (bool, error) {
			var row trustRow
			var name [2]string
			err := r.Scan(&row.id, &name[0], &name[1], &row.images, &row.running, &row.groups, &row.idle)
			known[name] = row
			return true, err
		})
	})
	return known, err
}

func (w *writer) noteTrust(ctx context.Context, s *store.TrustSeen, was trustRow, now time.Time) error {
	groups, err := json.Marshal(s.Groups[:min(len(s.Groups), store.MaxTrustGroups)])
	if err != nil {
		return fmt.Errorf("encode groups: %w", err)
	}
	ids := s.Images[:min(len(s.Images), store.MaxTrustGroups)]
	row := trustRow{id: was.id, running: int64(s.Running), images: strings.Join(ids, "\n"), groups: string(groups)}
	if s.Running == 0 {
		row.idle = idleWatched
	}
	if was.id != 0 && row == was {
		return nil
	}
	state, due := store.TrustWaiting, int64(0)
	if s.Local {
		state, due = store.TrustLocal, math.MaxInt64
	}
	_, err = w.exec(ctx, `INSERT INTO trust_images
		(repository, digest, images, running, idle, rank, policy, seen, last, checked, due, tries, groups, body, details)
		VALUES (?,?,?,?,?,?,'',?,0,0,?,0,?,'{}','')
		ON CONFLICT (repository, digest) DO UPDATE SET images = excluded.images, running = excluded.running, groups = excluded.groups,
			due = CASE WHEN trust_images.idle = 2 AND excluded.idle = 0 THEN 0 ELSE trust_images.due END, idle = excluded.idle`,
		s.Repository, s.Digest, row.images, row.running, row.idle, trustRank(state), nanos(now), due, row.groups)
	if err != nil {
		return err
	}
	if err := w.row(ctx, "SELECT id FROM trust_images WHERE repository = ? AND digest = ?", []any{s.Repository, s.Digest}, &row.id); err != nil {
		return err
	}
	if row.images == was.images {
		return nil
	}
	return w.putTerms(ctx, row.id, termImage, ids)
}

// putTerms replaces what an image is found by.
func (w *writer) putTerms(ctx context.Context, image int64, kind int, terms []string) error {
	if _, err := w.exec(ctx, "DELETE FROM trust_terms WHERE image = ? AND kind = ?", image, kind); err != nil {
		return err
	}
	for _, t := range terms {
		if _, err := w.exec(ctx, "INSERT OR IGNORE INTO trust_terms (term, image, kind) VALUES (?,?,?)", t, image, kind); err != nil {
			return err
		}
	}
	return nil
}

// PutTrustVerdict implements store.TrustVerdicts.
func (d *DB) PutTrustVerdict(ctx context.Context, v store.TrustVerdict) error {
	if len(v.Details) > store.MaxTrustVerdict || trustRank(v.State) < 0 {
		return fault.New(fault.Invalid, "a verdict %q with %d bytes of details can't be kept", v.State, len(v.Details))
	}
	signers := v.Signers[:min(len(v.Signers), store.MaxTrustSigners)]
	body, err := json.Marshal(trustBody{Reason: v.Reason, Remedy: v.Remedy, Signers: signers, Agent: v.Agent})
	if err != nil {
		return fmt.Errorf("encode verdict: %w", err)
	}
	var terms []string
	for _, s := range signers {
		terms = append(append(terms, s.Names...), s.Identity)
	}
	return d.write(ctx, "store verdict", func(ctx context.Context, w *writer) error {
		var policy string
		err := w.row(ctx, "SELECT digest FROM trust_policies WHERE version = (SELECT max(version) FROM trust_policies)", nil, &policy)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if policy == "" || policy != v.Policy {
			return fault.New(fault.Conflict, "the verdict is by a trust policy that is in force no more")
		}
		var id int64
		err = w.row(ctx, "SELECT id FROM trust_images WHERE repository = ? AND digest = ?", []any{v.Repository, v.Digest}, &id)
		if errors.Is(err, sql.ErrNoRows) {
			return noTrustImage(v.Repository, v.Digest)
		}
		if err != nil {
			return err
		}
		if _, err := w.exec(ctx, "UPDATE trust_images SET rank = ?, policy = ?, checked = ?, due = ?, tries = ?, body = ?, details = ? WHERE id = ?",
			trustRank(v.State), v.Policy, nanos(v.Checked), nanos(v.Next), v.Tries, string(body), append([]byte{}, v.Details...), id); err != nil {
			return err
		}
		return w.putTerms(ctx, id, termSigner, terms)
	})
}

func noTrustImage(repository, digest string) error {
	return fault.New(fault.NotFound, "no image %s@%s is known", repository, digest).
		With("castellan trust images --all lists those that run or ran")
}

const trustColumns = "t.id, t.repository, t.digest, t.images, t.running, t.rank, t.policy, t.seen, t.checked, t.due, t.tries, t.groups, t.body, t.idle"

// scanTrust reads the columns above.
func scanTrust(scan func(...any) error, more ...any) (v store.TrustImage, err error) {
	var rank, idle int
	var seen, checked, due int64
	var images string
	var groups, body []byte
	dest := []any{&v.ID, &v.Repository, &v.Digest, &images, &v.Running, &rank, &v.Policy, &seen, &checked, &due, &v.Tries, &groups, &body, &idle}
	if err := scan(append(dest, more...)...); err != nil {
		return v, err
	}
	var b trustBody
	if err := errors.Join(json.Unmarshal(groups, &v.Groups), json.Unmarshal(body, &b)); err != nil {
		return v, fmt.Errorf("decode the verdict of %s@%s: %w", v.Repository, v.Digest, err)
	}
	if all := store.TrustStates(); rank >= 0 && rank < len(all) {
		v.State = all[rank]
	}
	if v.Groups == nil {
		v.Groups = []asset.Group{}
	}
	v.Images = []string{}
	if images != "" {
		v.Images = strings.Split(images, "\n")
	}
	v.Reason, v.Remedy, v.Signers, v.Agent = b.Reason, b.Remedy, b.Signers, b.Agent
	v.Watched = idle == idleWatched
	v.Seen, v.Checked = fromNanos(seen), fromNanos(checked)
	if due != math.MaxInt64 {
		v.Next = fromNanos(due)
	}
	return v, nil
}
