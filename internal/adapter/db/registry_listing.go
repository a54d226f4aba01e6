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

	"github.com/castellan-security/castellan/internal/store"
)

// listingRows is how many images one transaction of a listing writes: some 20 ms
// in which batches of events wait.
const listingRows = 1_000

// entryBody is what is kept of an image of a registry that nobody asks for by.
type entryBody struct {
	Tags []string `json:"tags,omitempty"`
	Size int64    `json:"size,omitempty"`
}

// entryRow is one row as a listing finds it.
type entryRow struct {
	number          int64
	state           store.RegistryState
	pushed, created int64
	body            string
}

// entryChange is what a listing does to a row; a number of 0 is a new one.
type entryChange struct {
	entryRow
	digest, search string
	age            int64
	gone           int64
}

// idle is the column of that name.
func (c *entryChange) idle() int {
	if c.state == store.RegistryGone || c.state == store.RegistryLeft {
		return 1
	}
	return 0
}

// PutListing implements store.RegistryListings. What is as it was is not written
// again.
func (d *DB) PutListing(ctx context.Context, l store.Listing) (change store.ListingChange, err error) {
	known, err := d.entries(ctx, l.Registry, l.Repository)
	if err != nil {
		return change, err
	}
	changes, err := compareListing(&l, known, &change)
	if err != nil {
		return change, err
	}
	for part := range slices.Chunk(changes, listingRows) {
		err := d.write(ctx, "store a listing", func(ctx context.Context, w *writer) error { return w.putEntries(ctx, &l, part) })
		if err != nil {
			return store.ListingChange{}, err
		}
	}
	if l.Partial {
		return change, nil // FailListing says when it was listed, and what it holds
	}
	left := 0
	for i := range l.Images {
		if l.Images[i].Left {
			left++
		}
	}
	err = d.write(ctx, "store a listing", func(ctx context.Context, w *writer) error {
		return w.putRepository(ctx, &store.RegistryRepository{
			Registry: l.Registry, Name: l.Repository, Listed: l.At, Images: len(l.Images) - left, Left: left,
		})
	})
	return change, err
}

// entries returns what is known of a repository, by digest.
func (d *DB) entries(ctx context.Context, registry, repository string) (map[string]entryRow, error) {
	known := map[string]entryRow{}
	err := d.read(ctx, "read a listing", func(s *snapshot) error {
		return s.query(ctx, "SELECT digest, number, state, pushed, created, body FROM registry_images WHERE registry = ? AND repository = ?",
			[]any{registry, repository}, func(r *sql.Rows) (bool, error) {
				var digest, state string
				var e entryRow
				err := r.Scan(&digest, &e.number, &state, &e.pushed, &e.created, &e.body)
				e.state = store.RegistryState(state)
				known[digest] = e
				return true, err
			})
	})
	return known, err
}

// compareListing returns what is to be written, and leaves what is not listed.
func compareListing(l *store.Listing, known map[string]entryRow, change *store.ListingChange) ([]entryChange, error) {
	var changes []entryChange
	now := nanos(l.At)
	if err := keepTags(l, known); err != nil {
		return nil, err
	}
	for i := range l.Images {
		m := &l.Images[i]
		b, err := json.Marshal(entryBody{Tags: m.Tags, Size: m.Size})
		if err != nil {
			return nil, fmt.Errorf("encode image %s: %w", m.Digest, err)
		}
		old, is := known[m.Digest]
		delete(known, m.Digest)
		c := entryChange{entryRow: old, digest: m.Digest}
		c.body, c.pushed = string(b), nanos(m.Pushed)
		if !m.Created.IsZero() {
			c.created = nanos(m.Created)
		}
		switch {
		case m.Left, l.Partial && old.state == store.RegistryLeft:
			c.state = store.RegistryLeft
		case !is || old.state == store.RegistryLeft || old.state == store.RegistryGone:
			c.state = store.RegistryWaiting
			change.New++
		}
		if is && c.entryRow == old {
			continue
		}
		c.search = strings.Join(append([]string{l.Repository, m.Digest}, m.Tags...), "\n")
		if c.age = c.pushed; c.age == 0 {
			c.age = now
		}
		changes = append(changes, c)
	}
	if l.Partial {
		return changes, nil
	}
	for digest, old := range known {
		if old.state != store.RegistryGone {
			if old.state != store.RegistryLeft {
				change.Gone++
			}
			old.state = store.RegistryGone
			changes = append(changes, entryChange{entryRow: old, digest: digest, gone: now})
		}
	}
	return changes, nil
}

// keepTags leaves the images of a partial listing the tags that they had, but those
// that other images have now.
func keepTags(l *store.Listing, known map[string]entryRow) error {
	if !l.Partial {
		return nil
	}
	listed := map[string]bool{}
	for i := range l.Images {
		for _, t := range l.Images[i].Tags {
			listed[t] = true
		}
	}
	for i := range l.Images {
		m := &l.Images[i]
		old, is := known[m.Digest]
		if !is {
			continue
		}
		var b entryBody
		if err := json.Unmarshal([]byte(old.body), &b); err != nil {
			return fmt.Errorf("decode image %s: %w", m.Digest, err)
		}
		tags := slices.Clone(m.Tags)
		for _, t := range b.Tags {
			if !listed[t] {
				tags = append(tags, t)
			}
		}
		slices.Sort(tags)
		m.Tags = tags
	}
	return nil
}

// putEntries writes a part of a listing.
func (w *writer) putEntries(ctx context.Context, l *store.Listing, part []entryChange) error {
	var watched bool
	if err := w.row(ctx, "SELECT EXISTS (SELECT 1 FROM registries WHERE name = ?)", []any{l.Registry}, &watched); err != nil {
		return err
	}
	if !watched {
		return noRegistry(l.Registry)
	}
	now := nanos(l.At)
	const width = 17
	var fresh []any
	for i := range part {
		c := &part[i]
		switch {
		case c.number == 0:
			fresh = append(fresh, l.Registry, l.Repository, c.digest, c.search, c.idle(), c.age, c.pushed, c.created, now, 0,
				string(c.state), 0, now, "", 0, 0, c.body)
		case c.gone > 0:
			if err := w.goneEntry(ctx, c.number, c.gone); err != nil {
				return err
			}
		default:
			// One that is scanned, or being scanned, goes on; one that is back waits
			// as a new one does.
			_, err := w.exec(ctx, `UPDATE registry_images SET search = ?, idle = ?, age = CASE WHEN ? > 0 THEN ? ELSE age END, pushed = ?,
				created = ?, gone = 0, body = ?,
				tries = CASE WHEN state IN ('left', 'gone') THEN 0 ELSE tries END,
				next = CASE WHEN state IN ('left', 'gone') THEN ? ELSE next END,
				state = CASE WHEN ? IN ('left', 'waiting') AND (? = 'left' OR state IN ('left', 'gone')) THEN ? ELSE state END
				WHERE number = ?`, c.search, c.idle(), c.pushed, c.pushed, c.pushed, c.created, c.body, now,
				string(c.state), string(c.state), string(c.state), c.number)
			if err != nil {
				return err
			}
		}
	}
	return w.bulk(ctx, `INSERT INTO registry_images (registry, repository, digest, search, idle, age, pushed, created, first, gone,
		state, tries, next, error, analysis, gravest, body) VALUES `, " ON CONFLICT DO NOTHING", width, fresh)
}

func (w *writer) goneEntry(ctx context.Context, number, at int64) error {
	_, err := w.exec(ctx, "UPDATE registry_images SET state = 'gone', idle = 1, gone = ?, next = 0 WHERE number = ? AND state <> 'gone'", at, number)
	return err
}

// putRepository notes how a listing went, as long as the registry is watched.
func (w *writer) putRepository(ctx context.Context, r *store.RegistryRepository) error {
	failing := 0
	if r.Error != "" {
		failing = 1
	}
	n, err := w.exec(ctx, `INSERT INTO registry_repositories (registry, name, listed, images, excluded, failing, error, remedy, tries, next)
		SELECT ?,?,?,?,?,?,?,?,?,? WHERE EXISTS (SELECT 1 FROM registries WHERE name = ?)
		ON CONFLICT (registry, name) DO UPDATE SET listed = excluded.listed, images = excluded.images, excluded = excluded.excluded,
		failing = excluded.failing, error = excluded.error, remedy = excluded.remedy, tries = excluded.tries, next = excluded.next`,
		r.Registry, r.Name, nanos(r.Listed), r.Images, r.Left, failing, r.Error, r.Remedy, r.Tries, nanos(r.Next), r.Registry)
	return someRegistry(n, err, r.Registry)
}

// FailListing implements store.RegistryListings.
func (d *DB) FailListing(ctx context.Context, r store.RegistryRepository) error {
	return d.write(ctx, "note that a listing failed", func(ctx context.Context, w *writer) error {
		var listed int64
		err := w.row(ctx, "SELECT listed FROM registry_repositories WHERE registry = ? AND name = ?", []any{r.Registry, r.Name}, &listed)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		// Some of it may have been listed.
		err = w.row(ctx, "SELECT count(CASE idle WHEN 0 THEN 1 END), count(CASE state WHEN 'left' THEN 1 END) FROM registry_images WHERE registry = ? AND repository = ?",
			[]any{r.Registry, r.Name}, &r.Images, &r.Left)
		if err != nil {
			return err
		}
		r.Listed = fromNanos(listed)
		return w.putRepository(ctx, &r)
	})
}

// EndRepositories implements store.RegistryListings.
func (d *DB) EndRepositories(ctx context.Context, registry string, has []string, now time.Time) (int, error) {
	known := map[string]bool{}
	for _, query := range [...]string{
		"SELECT name FROM registry_repositories WHERE registry = ?",
		"SELECT DISTINCT repository FROM registry_images WHERE registry = ? AND state <> 'gone'",
	} {
		err := d.read(ctx, "read repositories", func(s *snapshot) error {
			return s.query(ctx, query, []any{registry}, func(r *sql.Rows) (bool, error) {
				var name string
				err := r.Scan(&name)
				known[name] = true
				return true, err
			})
		})
		if err != nil {
			return 0, err
		}
	}
	for _, name := range has {
		delete(known, name)
	}
	total := 0
	for name := range known {
		n, err := d.endRepository(ctx, registry, name, nanos(now))
		if total += n; err != nil {
			return total, err
		}
	}
	return total, nil
}

// endRepository makes the images of a repository gone, some in each transaction,
// and at last forgets the repository: what a crash leaves, the next look ends.
func (d *DB) endRepository(ctx context.Context, registry, name string, now int64) (total int, err error) {
	for more := true; more; {
		n := 0
		err := d.write(ctx, "end a repository", func(ctx context.Context, w *writer) error {
			numbers, err := w.ids(ctx, "SELECT number FROM registry_images WHERE registry = ? AND repository = ? AND state <> 'gone' LIMIT ?",
				registry, name, listingRows)
			if err != nil {
				return err
			}
			n, more = len(numbers), len(numbers) == listingRows
			for _, number := range numbers {
				if err := w.goneEntry(ctx, number, now); err != nil {
					return err
				}
			}
			if more {
				return nil
			}
			_, err = w.exec(ctx, "DELETE FROM registry_repositories WHERE registry = ? AND name = ?", registry, name)
			return err
		})
		if err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}
