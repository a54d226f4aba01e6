package db

import (
	"context"
	"database/sql"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/store"
)

const day = 24 * time.Hour

// daySum is what one line of a day gets.
type daySum struct {
	kind     string
	severity int64
}

// NoteTrend implements store.Trends.
func (d *DB) NoteTrend(ctx context.Context, now time.Time) error {
	weak, err := d.openWeaknesses(ctx)
	if err != nil {
		return err
	}
	return d.write(ctx, "count what is open today", func(ctx context.Context, w *writer) error {
		today := now.Unix() / int64(day/time.Second)
		// Of the lines of today that have nothing any more the count must fall to 0.
		if _, err := w.exec(ctx, "UPDATE finding_days SET open = 0 WHERE day = ?", today); err != nil {
			return err
		}
		for severity, n := range weak {
			if err := w.addDay(ctx, today, daySum{string(store.KindVulnerability), severity}, "open", n); err != nil {
				return err
			}
		}
		if err := w.noteRunning(ctx, today); err != nil {
			return err
		}
		_, err := w.exec(ctx, "DELETE FROM finding_days WHERE day < ?", today-int64(store.TrendFor/day))
		return err
	})
}

// runsNow says whether a running workload's image has the finding f.
const runsNow = `EXISTS (SELECT 1 FROM image_findings n CROSS JOIN images i ON i.number = n.image
	WHERE n.finding = f.number AND i.idle = 0)`

// noteRunning counts what began to run and what does no longer, and what is open.
func (w *writer) noteRunning(ctx context.Context, today int64) error {
	for _, c := range [...]struct {
		query  string
		column string
		runs   int
	}{
		{"SELECT f.number, f.kind, f.severity FROM findings f WHERE f.runs = 0 AND " + runsNow, "new", 1},
		{"SELECT f.number, f.kind, f.severity FROM findings f WHERE f.runs = 1 AND NOT " + runsNow, "resolved", 0},
	} {
		sums := map[daySum]int{}
		numbers, err := w.tallyFindings(ctx, c.query, sums)
		if err != nil {
			return err
		}
		for _, n := range numbers {
			if _, err := w.exec(ctx, "UPDATE findings SET runs = ? WHERE number = ?", c.runs, n); err != nil {
				return err
			}
		}
		for s, n := range sums {
			if err := w.addDay(ctx, today, s, c.column, n); err != nil {
				return err
			}
		}
	}
	sums := map[daySum]int{}
	_, err := w.tallyFindings(ctx, `SELECT f.number, f.kind, f.severity FROM findings f WHERE f.runs = 1 AND EXISTS (SELECT 1
		FROM image_findings n CROSS JOIN images i ON i.number = n.image WHERE n.finding = f.number AND n.accepted = 0 AND i.idle = 0)`, sums)
	for s, n := range sums {
		if err == nil {
			err = w.addDay(ctx, today, s, "open", n)
		}
	}
	return err
}

// tallyFindings counts the findings of a statement by what a day tells apart.
func (w *writer) tallyFindings(ctx context.Context, query string, sums map[daySum]int) (numbers []int64, err error) {
	st, err := w.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	rows, err := st.QueryContext(ctx)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		var s daySum
		if err := rows.Scan(&n, &s.kind, &s.severity); err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
		sums[s]++
	}
	return numbers, rows.Err()
}

// addDay adds to one number of a line of a day.
func (w *writer) addDay(ctx context.Context, today int64, s daySum, column string, n int) error {
	add := map[string]int{column: n}
	_, err := w.exec(ctx, `INSERT INTO finding_days (kind, day, severity, open, new, resolved) VALUES (?,?,?,?,?,?)
		ON CONFLICT (kind, day, severity) DO UPDATE SET open = open + excluded.open, new = new + excluded.new,
		resolved = resolved + excluded.resolved`, s.kind, today, s.severity, add["open"], add["new"], add["resolved"])
	return err
}

// openWeaknesses counts the weaknesses of running images by severity.
func (d *DB) openWeaknesses(ctx context.Context) (map[int64]int, error) {
	sums := map[int64]int{}
	err := d.read(ctx, "count weaknesses", func(s *snapshot) error {
		q := store.VulnerabilityQuery{Running: true}
		f, err := s.filterFacets(ctx, q)
		if err != nil {
			return err
		}
		var t tally
		if err := t.readFacets(ctx, s, f); err != nil {
			return err
		}
		if err := t.readImages(ctx, s, q); err != nil {
			return err
		}
		gravest := make([]finding.Severity, len(t.weaknesses))
		has := make([]bool, len(t.weaknesses))
		for i := range t.facets {
			x := &t.facets[i]
			if x.images == 0 {
				continue
			}
			severity, _, _, _ := parseRank(x.rank)
			gravest[x.weakness], has[x.weakness] = max(gravest[x.weakness], severity), true
		}
		for i, severity := range gravest {
			if has[i] {
				sums[int64(severity)]++
			}
		}
		return nil
	})
	return sums, err
}

// Trend implements store.FindingReads.
func (d *DB) Trend(ctx context.Context, kind store.FindingKind, since time.Time) (days []store.TrendDay, err error) {
	err = d.read(ctx, "read the days of findings", func(s *snapshot) error {
		return s.query(ctx, `SELECT day, severity, open, new, resolved FROM finding_days WHERE kind = ? AND day >= ?
			ORDER BY day, severity`, []any{string(kind), since.Unix() / int64(day/time.Second)}, func(r *sql.Rows) (bool, error) {
			var at, severity int64
			var t store.TrendDay
			if err := r.Scan(&at, &severity, &t.Open, &t.New, &t.Resolved); err != nil {
				return false, err
			}
			t.Day, t.Severity = time.Unix(at*int64(day/time.Second), 0).UTC(), finding.Severity(severity)
			days = append(days, t)
			return true, nil
		})
	})
	return days, err
}
