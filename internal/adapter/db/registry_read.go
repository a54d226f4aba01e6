package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// RegistryRepositories implements store.RegistryReads.
func (d *DB) RegistryRepositories(ctx context.Context, q store.RegistryRepositoryQuery) (all []store.RegistryRepository, err error) {
	if len(q.Text) > maxTextBytes {
		return nil, fault.New(fault.Invalid, "at most %d bytes of text can be asked for", maxTextBytes)
	}
	err = d.read(ctx, "read repositories", func(s *snapshot) error {
		return s.query(ctx, `SELECT name, listed, images, excluded, error, remedy, tries, next FROM registry_repositories
			WHERE registry = ? AND name LIKE ? ESCAPE '\' ORDER BY failing DESC, name LIMIT ? OFFSET ?`,
			[]any{q.Registry, likePattern(q.Text), pageSizeOf(q.Limit), max(q.Offset, 0)}, func(r *sql.Rows) (bool, error) {
				v := store.RegistryRepository{Registry: q.Registry}
				var listed, next int64
				err := r.Scan(&v.Name, &listed, &v.Images, &v.Left, &v.Error, &v.Remedy, &v.Tries, &next)
				v.Listed, v.Next = fromNanos(listed), fromNanos(next)
				all = append(all, v)
				return true, err
			})
	})
	return all, err
}

const entryColumns = `number, registry, repository, digest, pushed, created, first, gone, state, tries, next, error, analysis, body`

func scanEntry(scan func(...any) error) (v store.RegistryImage, err error) {
	var pushed, created, first, gone, next int64
	var state string
	var body []byte
	if err := scan(&v.ID, &v.Registry, &v.Repository, &v.Digest, &pushed, &created, &first, &gone, &state, &v.Tries, &next,
		&v.Error, &v.Analysis, &body); err != nil {
		return v, err
	}
	v.Pushed, v.Created, v.First, v.Gone, v.Next = fromNanos(pushed), fromNanos(created), fromNanos(first), fromNanos(gone), fromNanos(next)
	v.State = store.RegistryState(state)
	var b entryBody
	if err := json.Unmarshal(body, &b); err != nil {
		return v, fmt.Errorf("decode image %d of a registry: %w", v.ID, err)
	}
	v.Tags, v.Size = b.Tags, b.Size
	return v, nil
}

// RegistryImages implements store.RegistryReads. An After that retention has
// removed meanwhile is Invalid: start again from the first page.
func (d *DB) RegistryImages(ctx context.Context, q store.RegistryImageQuery) (all []store.RegistryImage, err error) {
	if len(q.Text) > maxTextBytes {
		return nil, fault.New(fault.Invalid, "at most %d bytes of text can be asked for", maxTextBytes)
	}
	err = d.read(ctx, "read images of registries", func(s *snapshot) error {
		f, err := s.entryFilter(ctx, q)
		if err != nil {
			return err
		}
		query := "SELECT " + entryColumns + " FROM registry_images WHERE " + strings.Join(f.parts, " AND ") +
			" ORDER BY idle, age DESC, number DESC LIMIT ?"
		if q.State != "" { // which idle follows from: the index of states has it not
			query = strings.Replace(query, "ORDER BY idle, ", "ORDER BY ", 1)
		}
		all, err = s.entries(ctx, query, append(f.args, pageSizeOf(q.Limit)))
		return err
	})
	return all, err
}

// entryFilter makes conditions of a query.
func (s *snapshot) entryFilter(ctx context.Context, q store.RegistryImageQuery) (f fragments, err error) {
	f.add("number > 0")
	if q.Registry != "" {
		f.add("registry = ?", q.Registry)
	}
	if q.Repository != "" {
		f.add("repository = ?", q.Repository)
	}
	if q.State != "" {
		f.add("state = ?", string(q.State))
	}
	if q.Severity > 0 {
		f.add("idle = 0 AND gravest >= ?", q.Severity)
	}
	if q.Text != "" {
		f.add(`search LIKE ? ESCAPE '\'`, likePattern(q.Text))
	}
	if q.After == 0 {
		return f, nil
	}
	var idle, age int64
	err = s.row(ctx, "SELECT idle, age FROM registry_images WHERE number = ?", []any{q.After}, &idle, &age)
	if errors.Is(err, sql.ErrNoRows) {
		return f, fault.New(fault.Invalid, "no image %d of a registry to continue behind", q.After)
	}
	if err != nil {
		return f, err
	}
	if q.State != "" {
		f.add("(age < ? OR age = ? AND number < ?)", age, age, q.After)
		return f, nil
	}
	f.add("(idle > ? OR idle = ? AND (age < ? OR age = ? AND number < ?))", idle, idle, age, age, q.After)
	return f, nil
}

// platforms completes entries by the images that they are of.
func (s *snapshot) platforms(ctx context.Context, all []store.RegistryImage) error {
	for i := range all {
		err := s.query(ctx, `SELECT p.image, p.platform, coalesce(i.state, ''), coalesce(i.matched, 0), coalesce(i.counts, '{}')
			FROM registry_platforms p LEFT JOIN images i ON i.id = p.image WHERE p.entry = ? ORDER BY p.position`,
			[]any{all[i].ID}, func(r *sql.Rows) (bool, error) {
				var v store.RegistryPlatform
				var platform, counts []byte
				var scan string
				var matched int64
				if err := r.Scan(&v.ImageID, &platform, &scan, &matched, &counts); err != nil {
					return false, err
				}
				v.Scan, v.Matched = store.ScanState(scan), fromNanos(matched)
				all[i].Platforms = append(all[i].Platforms, v)
				p := &all[i].Platforms[len(all[i].Platforms)-1]
				return true, errors.Join(json.Unmarshal(platform, &p.Platform), json.Unmarshal(counts, &p.Counts))
			})
		if err != nil {
			return fmt.Errorf("read the platforms of image %d of a registry: %w", all[i].ID, err)
		}
	}
	return nil
}

// RegistryEntry implements store.RegistryReads.
func (d *DB) RegistryEntry(ctx context.Context, id int64) (v store.RegistryImage, err error) {
	err = d.read(ctx, "read an image of a registry", func(s *snapshot) error {
		st, err := s.stmt(ctx, "SELECT "+entryColumns+" FROM registry_images WHERE number = ?")
		if err != nil {
			return err
		}
		v, err = scanEntry(st.QueryRowContext(ctx, id).Scan)
		if errors.Is(err, sql.ErrNoRows) {
			return noEntry(id)
		}
		if err != nil {
			return err
		}
		one := []store.RegistryImage{v}
		err = s.platforms(ctx, one)
		v = one[0]
		return err
	})
	return v, err
}

// RegistryTimes implements store.RegistryReads.
func (d *DB) RegistryTimes(ctx context.Context, registry, repository string) (map[string]time.Time, error) {
	times := map[string]time.Time{}
	err := d.read(ctx, "read when images were made", func(s *snapshot) error {
		return s.query(ctx, "SELECT digest, created FROM registry_images WHERE registry = ? AND repository = ? AND created > 0",
			[]any{registry, repository}, func(r *sql.Rows) (bool, error) {
				var digest string
				var created int64
				err := r.Scan(&digest, &created)
				times[digest] = fromNanos(created)
				return true, err
			})
	})
	return times, err
}

// RegistryTotals implements store.RegistryReads.
func (d *DB) RegistryTotals(ctx context.Context, registry string) (t store.RegistryTotals, err error) {
	t.States = map[store.RegistryState]int{}
	err = d.read(ctx, "count the images of a registry", func(s *snapshot) error {
		by := [...]*int{1: &t.Unrated, 2: &t.Low, 3: &t.Medium, 4: &t.High, 5: &t.Critical}
		err := s.query(ctx, "SELECT state, gravest, count(*) FROM registry_images WHERE registry = ? GROUP BY state, gravest",
			[]any{registry}, func(r *sql.Rows) (bool, error) {
				var state string
				var gravest, n int
				err := r.Scan(&state, &gravest, &n)
				of := store.RegistryState(state)
				t.States[of] += n
				if gravest > 0 && gravest < len(by) && of != store.RegistryGone && of != store.RegistryLeft {
					*by[gravest] += n
				}
				return true, err
			})
		if err != nil {
			return err
		}
		return s.row(ctx, "SELECT count(name), coalesce(sum(failing), 0) FROM registry_repositories WHERE registry = ?",
			[]any{registry}, &t.Repositories, &t.Failing)
	})
	return t, err
}

// ImageEntries implements store.RegistryReads.
func (d *DB) ImageEntries(ctx context.Context, imageID string) (all []store.RegistryImage, err error) {
	err = d.read(ctx, "read where registries hold an image", func(s *snapshot) error {
		all, err = s.entries(ctx, "SELECT "+entryColumns+` FROM registry_images WHERE number IN
			(SELECT entry FROM registry_platforms WHERE image = ?) ORDER BY idle, age DESC, number DESC LIMIT ?`,
			[]any{imageID, store.MaxPage})
		return err
	})
	return all, err
}

// entries reads entries with their platforms.
func (s *snapshot) entries(ctx context.Context, query string, args []any) (all []store.RegistryImage, err error) {
	err = s.query(ctx, query, args, func(r *sql.Rows) (bool, error) {
		v, err := scanEntry(r.Scan)
		all = append(all, v)
		return true, err
	})
	if err != nil {
		return nil, err
	}
	return all, s.platforms(ctx, all)
}
