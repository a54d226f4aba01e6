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

// dayWeakness is a weakness of which something runs.
type dayWeakness struct {
	id       string
	severity finding.Severity
}

// dayCount is what is to be counted into a day: read beside the writer, since
// events wait while it writes.
type dayCount struct {
	begun, ended                   []dayFinding // that run now, and did not; the other way round
	begunWeaknesses, endWeaknesses []dayWeakness
	// unknown says that it was not kept yet which weaknesses ran: all that do now
	// did so before, and are no news.
	unknown bool
	open    map[daySum]int
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
	if err := d.noteWeaknesses(ctx, today, &c); err != nil {
		return err
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
	open, err := s.runningWeaknesses(ctx, false)
	if err != nil {
		return c, err
	}
	c.open = map[daySum]int{}
	for _, severity := range open {
		c.open[weaknessSumOf(severity)]++
	}
	if err := s.movedWeaknesses(ctx, open, &c); err != nil {
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

// weaknessSumOf is the line of a day that a weakness of that severity is in.
func weaknessSumOf(severity finding.Severity) daySum {
	return daySum{string(store.KindVulnerability), int64(severity)}
}

// runningWeaknesses are the weaknesses of running images, each with the severity
// that is the gravest of any of its packages there.
func (s *snapshot) runningWeaknesses(ctx context.Context, accepted bool) (map[string]finding.Severity, error) {
	q := store.VulnerabilityQuery{Running: true, Accepted: accepted}
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
	gravest := map[string]finding.Severity{}
	for i := range t.facets {
		if x := &t.facets[i]; x.images > 0 {
			severity, _, _, _ := parseRank(x.rank)
			id := t.weaknesses[x.weakness].id
			gravest[id] = max(gravest[id], severity)
		}
	}
	return gravest, nil
}

// movedWeaknesses finds what began to run, accepted or not, and what does no
// longer. Accepting something resolves it as little as that of a secret does.
func (s *snapshot) movedWeaknesses(ctx context.Context, open map[string]finding.Severity, c *dayCount) error {
	accepted, err := s.runningWeaknesses(ctx, true)
	if err != nil {
		return err
	}
	before := map[string]bool{}
	err = s.query(ctx, "SELECT weakness, severity FROM running_weaknesses", nil, func(r *sql.Rows) (bool, error) {
		var w dayWeakness
		err := r.Scan(&w.id, &w.severity)
		before[w.id] = true
		_, isOpen := open[w.id]
		_, isAccepted := accepted[w.id]
		if !isOpen && !isAccepted {
			c.endWeaknesses = append(c.endWeaknesses, w)
		}
		return true, err
	})
	if err != nil {
		return err
	}
	for _, some := range []map[string]finding.Severity{open, accepted} {
		for id, severity := range some {
			if !before[id] {
				before[id] = true
				c.begunWeaknesses = append(c.begunWeaknesses, dayWeakness{id, max(severity, accepted[id])})
			}
		}
	}
	c.unknown = before[""] // the mark of the migration, which ends with the others
	return nil
}

// noteWeaknesses counts what moved, and keeps what runs now.
func (d *DB) noteWeaknesses(ctx context.Context, today int64, c *dayCount) error {
	for _, part := range [...]struct {
		weaknesses []dayWeakness
		column     string
	}{{c.begunWeaknesses, "new"}, {c.endWeaknesses, "resolved"}} {
		for some := range slices.Chunk(part.weaknesses, pruneRows) {
			err := d.write(ctx, "count what changed today", func(ctx context.Context, w *writer) error {
				sums := map[daySum]int{}
				for _, x := range some {
					query, args := "DELETE FROM running_weaknesses WHERE weakness = ?", []any{x.id}
					if part.column == "new" {
						query, args = "INSERT INTO running_weaknesses (weakness, severity) VALUES (?,?)", []any{x.id, int64(x.severity)}
					}
					if _, err := w.exec(ctx, query, args...); err != nil {
						return err
					}
					sums[weaknessSumOf(x.severity)]++
				}
				if c.unknown {
					return nil
				}
				for s, n := range sums {
					if err := w.addDay(ctx, today, s, part.column, n); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
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
