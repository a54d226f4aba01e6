package db

import (
	"context"
	"database/sql"
	"slices"
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

// dayFinding is a finding that a day counts.
type dayFinding struct {
	number int64
	daySum
}

// dayCount is what is to be counted into a day: read beside the writer, since
// events wait while it writes.
type dayCount struct {
	begun, ended []dayFinding // that run now, and did not; the other way round
	open         map[daySum]int
}

// runsNow says whether a running workload's image has the finding f, and runsOpen
// whether one has it that nobody accepted.
const (
	runsNow = `EXISTS (SELECT 1 FROM image_findings n CROSS JOIN images i ON i.number = n.image
		WHERE n.finding = f.number AND i.idle = 0)`
	runsOpen = `EXISTS (SELECT 1 FROM image_findings n CROSS JOIN images i ON i.number = n.image
		WHERE n.finding = f.number AND n.accepted = 0 AND i.idle = 0)`
)

// NoteTrend implements store.Trends.
func (d *DB) NoteTrend(ctx context.Context, now time.Time) error {
	var c dayCount
	err := d.read(ctx, "count what is open today", func(s *snapshot) (err error) {
		c, err = s.countDay(ctx)
		return err
	})
	if err != nil {
		return err
	}
	today := now.Unix() / int64(day/time.Second)
	for _, part := range [...]struct {
		findings []dayFinding
		column   string
		runs     bool
	}{{c.begun, "new", true}, {c.ended, "resolved", false}} {
		for some := range slices.Chunk(part.findings, pruneRows) {
			err := d.write(ctx, "count what changed today", func(ctx context.Context, w *writer) error {
				return w.noteRunning(ctx, today, some, part.column, part.runs)
			})
			if err != nil {
				return err
			}
		}
	}
	return d.write(ctx, "count what is open today", func(ctx context.Context, w *writer) error {
		// Of the lines of today that have nothing any more the count must fall to 0.
		if _, err := w.exec(ctx, "UPDATE finding_days SET open = 0 WHERE day = ?", today); err != nil {
			return err
		}
		for s, n := range c.open {
			if err := w.addDay(ctx, today, s, "open", n); err != nil {
				return err
			}
		}
		_, err := w.exec(ctx, "DELETE FROM finding_days WHERE day < ?", today-int64(store.TrendFor/day))
		return err
	})
}

// countDay reads what a day counts.
func (s *snapshot) countDay(ctx context.Context) (c dayCount, err error) {
	if c.open, err = s.openWeaknesses(ctx); err != nil {
		return c, err
	}
	c.begun, err = s.dayFindings(ctx, "f.runs = 0 AND "+runsNow)
	if err != nil {
		return c, err
	}
	if c.ended, err = s.dayFindings(ctx, "f.runs = 1 AND NOT "+runsNow); err != nil {
		return c, err
	}
	for _, runs := range []string{"f.runs = 0", "f.runs = 1"} {
		open, err := s.dayFindings(ctx, runs+" AND "+runsOpen)
		if err != nil {
			return c, err
		}
		for _, f := range open {
			c.open[f.daySum]++
		}
	}
	return c, nil
}

func (s *snapshot) dayFindings(ctx context.Context, where string) (all []dayFinding, err error) {
	err = s.query(ctx, "SELECT f.number, f.kind, f.severity FROM findings f WHERE "+where, nil, func(r *sql.Rows) (bool, error) {
		var f dayFinding
		err := r.Scan(&f.number, &f.kind, &f.severity)
		all = append(all, f)
		return true, err
	})
	return all, err
}

// noteRunning counts what began to run, or does no longer.
func (w *writer) noteRunning(ctx context.Context, today int64, some []dayFinding, column string, runs bool) error {
	sums := map[daySum]int{}
	for _, f := range some {
		if _, err := w.exec(ctx, "UPDATE findings SET runs = ? WHERE number = ?", runs, f.number); err != nil {
			return err
		}
		sums[f.daySum]++
	}
	for s, n := range sums {
		if err := w.addDay(ctx, today, s, column, n); err != nil {
			return err
		}
	}
	return nil
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
func (s *snapshot) openWeaknesses(ctx context.Context) (map[daySum]int, error) {
	q := store.VulnerabilityQuery{Running: true}
	f, err := s.filterFacets(ctx, q)
	if err != nil {
		return nil, err
	}
	var t tally
	if err := t.readFacets(ctx, s, f, true); err != nil {
		return nil, err
	}
	if err := t.readImages(ctx, s, q); err != nil {
		return nil, err
	}
	gravest := map[int]finding.Severity{} // by the weakness's place
	for i := range t.facets {
		if x := &t.facets[i]; x.images > 0 {
			severity, _, _, _ := parseRank(x.rank)
			gravest[x.weakness] = max(gravest[x.weakness], severity)
		}
	}
	sums := map[daySum]int{}
	for _, severity := range gravest {
		sums[daySum{string(store.KindVulnerability), int64(severity)}]++
	}
	return sums, nil
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
