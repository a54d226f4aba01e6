package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/store"
)

// newsItem is a finding that is news, as it is kept.
type newsItem struct {
	Fingerprint string        `json:"f"`
	Reason      notice.Reason `json:"r"`
}

// newsOf returns which findings of an image are news against those of before: at
// most store.MaxNews of total. A finding in another place, as a newer analysis
// may tell it, is none.
func newsOf(before map[string]known, set lines) (items []newsItem, total int) {
	type place struct{ weakness, pkg string }
	moved := map[place]bool{}
	stays := make(map[string]bool, len(set.all))
	for i := range set.all {
		stays[set.all[i].v.Fingerprint] = true
	}
	for print, k := range before {
		if !stays[print] {
			moved[place{k.weakness, k.pkg}] = true
		}
	}
	for i := range set.all {
		l := &set.all[i]
		was, there := before[l.v.Fingerprint]
		if !there && moved[place{l.v.ID, l.v.Package.Name}] {
			continue
		}
		why := l.reason(was, there)
		if why == "" {
			continue
		}
		if total++; len(items) < store.MaxNews {
			items = append(items, newsItem{l.v.Fingerprint, why})
		}
	}
	return items, total
}

// reason says why a finding is news; "" for one that is not.
func (l *line) reason(was known, there bool) notice.Reason {
	severity, _, exploited, _ := parseRank(was.rank)
	switch {
	case l.v.Accepted != nil:
		return ""
	case !there:
		return notice.New
	case was.accepted:
		return notice.Reopened
	case l.v.KEV != nil && !exploited:
		return notice.Exploited
	case l.v.Severity > severity:
		return notice.Graver
	case l.fixable() && !was.fixable:
		return notice.Fix
	}
	return ""
}

// putNews notes what of an image's findings is news; first says that it was not
// compared before.
func (w *writer) putNews(ctx context.Context, image int64, now time.Time, before map[string]known, set lines, first bool) error {
	first = first && len(before) == 0
	items, total := newsOf(before, set)
	if total == 0 && !first {
		return nil
	}
	body, err := json.Marshal(items)
	if err != nil {
		return fmt.Errorf("encode news: %w", err)
	}
	_, err = w.exec(ctx, "INSERT INTO news (image, time, first, total, body) VALUES (?,?,?,?,?)", image, nanos(now), first, total, string(body))
	return err
}

// News implements store.NewsQueue.
func (d *DB) News(ctx context.Context, limit int) (all []store.ImageNews, err error) {
	err = d.read(ctx, "read news", func(s *snapshot) error {
		var items [][]newsItem
		var images []int64
		err := s.query(ctx, `SELECT n.id, i.number, i.id, n.time, n.first, n.total, n.body FROM news n CROSS JOIN images i ON i.number = n.image
			ORDER BY n.id LIMIT ?`, []any{limit}, func(r *sql.Rows) (bool, error) {
			var n store.ImageNews
			var image, at int64
			var body []byte
			if err := r.Scan(&n.ID, &image, &n.ImageID, &at, &n.First, &n.Total, &body); err != nil {
				return false, err
			}
			var of []newsItem
			if err := json.Unmarshal(body, &of); err != nil {
				return false, corrupt(d.path, fmt.Errorf("decode news: %w", err))
			}
			n.Time = fromNanos(at)
			all, items, images = append(all, n), append(items, of), append(images, image)
			return true, nil
		})
		for i := range all {
			if err == nil {
				all[i].Findings, err = s.newsFindings(ctx, images[i], items[i])
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// newsFindings reads findings as they are now.
func (s *snapshot) newsFindings(ctx context.Context, image int64, items []newsItem) (all []store.FindingNews, err error) {
	for _, it := range items {
		err := s.query(ctx, `SELECT i.id, v.first, v.body, d.body FROM vulnerabilities v CROSS JOIN images i ON i.number = v.image
			CROSS JOIN details d ON d.id = v.detail WHERE v.image = ? AND v.fingerprint = ? AND v.accepted = 0`, []any{image, it.Fingerprint},
			func(r *sql.Rows) (bool, error) {
				v, err := s.scanFinding(r)
				all = append(all, store.FindingNews{ImageVulnerability: v, Reason: it.Reason})
				return true, err
			})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Told implements store.NewsQueue.
func (d *DB) Told(ctx context.Context, target int64, imageID string) (levels map[string]int, err error) {
	levels = map[string]int{}
	err = d.read(ctx, "read what was told", func(s *snapshot) error {
		return s.query(ctx, "SELECT fingerprint, level FROM notices_told WHERE target = ? AND image = (SELECT number FROM images WHERE id = ?)",
			[]any{target, imageID}, func(r *sql.Rows) (bool, error) {
				var print string
				var level int
				err := r.Scan(&print, &level)
				levels[print] = level
				return true, err
			})
	})
	return levels, err
}

// TakeNews implements store.NewsQueue.
func (d *DB) TakeNews(ctx context.Context, through int64, told []store.Telling) error {
	return d.write(ctx, "take news", func(ctx context.Context, w *writer) error {
		if _, err := w.exec(ctx, "DELETE FROM news WHERE id <= ?", through); err != nil {
			return err
		}
		for i := range told {
			if err := w.tell(ctx, &told[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// PutNotices implements store.NewsQueue.
func (d *DB) PutNotices(ctx context.Context, id string, told []store.Telling) (fresh bool, err error) {
	err = d.write(ctx, "store notices", func(ctx context.Context, w *writer) error {
		fresh = false
		if id != "" {
			if heard, err := w.hear(ctx, id); err != nil || heard {
				return err
			}
		}
		for i := range told {
			if err := w.tell(ctx, &told[i]); err != nil {
				return err
			}
		}
		fresh = true
		return nil
	})
	return fresh && err == nil, err
}

// hear notes the id of a notice, or reports that it was there.
func (w *writer) hear(ctx context.Context, id string) (heard bool, err error) {
	var n int
	if err := w.row(ctx, "SELECT count(id) FROM notices_heard WHERE id = ?", []any{id}, &n); err != nil || n > 0 {
		return true, err
	}
	number, err := w.insert(ctx, "INSERT INTO notices_heard (id) VALUES (?)", id)
	if err != nil {
		return false, err
	}
	_, err = w.exec(ctx, "DELETE FROM notices_heard WHERE number <= ?", number-store.MaxHeard)
	return false, err
}

// foldNotice makes a notice stand for the one of its subject that waits for a target,
// which is removed. It has a new number: whoever reads the queue meanwhile does not
// remove what he has not read. since is when the first of them happened.
func (w *writer) foldNotice(ctx context.Context, target int64, n *notice.Notice) (since time.Time, err error) {
	var id, at int64
	var body []byte
	err = w.row(ctx, "SELECT id, time, body FROM notices WHERE target = ? AND fold = ? ORDER BY id LIMIT 1", []any{target, n.Subject}, &id, &at, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return n.Time, nil
	}
	if err != nil {
		return n.Time, err
	}
	var have notice.Notice
	if err := json.Unmarshal(body, &have); err != nil {
		return n.Time, fmt.Errorf("decode notice: %w", err)
	}
	n.Fold(&have)
	if _, err := w.exec(ctx, "DELETE FROM notices WHERE id = ?", id); err != nil {
		return n.Time, err
	}
	return fromNanos(at), nil
}

// tell puts a notice into the queue of a target.
func (w *writer) tell(ctx context.Context, t *store.Telling) error {
	var image, there int64
	err := w.row(ctx, "SELECT count(id) FROM notify_targets WHERE id = ?", []any{t.Target}, &there)
	if err != nil || there == 0 {
		return err
	}
	if err := w.queue(ctx, t); err != nil {
		return err
	}
	lost, err := w.exec(ctx, `DELETE FROM notices WHERE id IN (SELECT id FROM notices WHERE target = ?
		ORDER BY severity DESC, id LIMIT -1 OFFSET ?)`, t.Target, store.MaxNotices)
	if err == nil && lost > 0 {
		_, err = w.exec(ctx, "UPDATE notify_targets SET lost = lost + ? WHERE id = ?", lost, t.Target)
	}
	if err != nil {
		return err
	}
	err = w.row(ctx, "SELECT number FROM images WHERE id = ?", []any{t.ImageID}, &image)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // forgotten meanwhile, and what was told of it with it
	}
	for print, level := range t.Levels {
		if err != nil {
			return err
		}
		_, err = w.exec(ctx, `INSERT INTO notices_told (target, image, fingerprint, level) VALUES (?,?,?,?)
			ON CONFLICT (target, image, fingerprint) DO UPDATE SET level = max(level, excluded.level)`, t.Target, image, print, level)
	}
	return err
}

// queue adds a notice to the queue of a target that is there.
func (w *writer) queue(ctx context.Context, t *store.Telling) error {
	n, since, fold := t.Notice, t.Notice.Time, ""
	if t.Fold && n.Subject != "" {
		fold = n.Subject
		var err error
		if since, err = w.foldNotice(ctx, t.Target, &n); err != nil {
			return err
		}
	}
	body, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("encode notice: %w", err)
	}
	urgency := int64(0)
	if n.Kind.Happens() {
		urgency = int64(n.Severity)
	}
	_, err = w.exec(ctx, "INSERT INTO notices (target, time, severity, urgency, fold, body) VALUES (?,?,?,?,?,?)",
		t.Target, nanos(since), int64(n.Severity), urgency, fold, string(body))
	return err
}

func noTarget(id int64) error { return fault.New(fault.NotFound, "no target %d", id) }
