package console

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/store"
)

// trendShown is how many days a trend shows.
const trendShown = 60

// trend is what was open each day, stacked by severity.
type trend struct {
	Layers []trendLayer
	Days   []trendDay
	Top    int64 // what the upper edge stands for
	Known  int   // days of which something is known
}

// trendLayer is the part of all bars that one severity has, as one path.
type trendLayer struct {
	Severity finding.Severity
	Path     string
	Now      int // on the last day
}

// trendDay is one day.
type trendDay struct {
	Day           time.Time
	Known         bool
	Open          bySeverity
	New, Resolved int
}

func (c *Console) readTrend(ctx context.Context, kind store.FindingKind, now time.Time) (trend, error) {
	today := now.UTC().Truncate(24 * time.Hour)
	first := today.AddDate(0, 0, 1-trendShown)
	days, err := c.Store.Trend(ctx, kind, first)
	if err != nil {
		return trend{}, err
	}
	return newTrend(days, first), nil
}

// newTrend lays days out from the first one on.
func newTrend(days []store.TrendDay, first time.Time) trend {
	t := trend{Days: make([]trendDay, trendShown)}
	for i := range t.Days {
		t.Days[i].Day = first.AddDate(0, 0, i)
	}
	most := 0
	for _, d := range days {
		i := int(d.Day.Sub(first) / (24 * time.Hour))
		if i < 0 || i >= len(t.Days) {
			continue
		}
		x := &t.Days[i]
		if !x.Known {
			x.Known = true
			t.Known++
		}
		x.Open[min(d.Severity, finding.Critical)] += d.Open
		x.New += d.New
		x.Resolved += d.Resolved
		most = max(most, x.Open.total())
	}
	t.Top = roundUp(int64(most))
	t.stack()
	return t
}

// stack draws the severities upon each other, the gravest at the bottom.
func (t *trend) stack() {
	floor := make([]int64, len(t.Days))
	for _, s := range worstFirst() {
		l := trendLayer{Severity: s}
		var b strings.Builder
		for i, d := range t.Days {
			n := int64(d.Open[s])
			if n == 0 {
				continue
			}
			low, high := chartHeight-floor[i]*chartHeight/t.Top, chartHeight-(floor[i]+n)*chartHeight/t.Top
			floor[i] += n
			x := float64(i) + (1-barWidth)/2
			fmt.Fprintf(&b, "M%.2f %dH%.2fV%dH%.2fZ", x, low, x+barWidth, high, x)
		}
		l.Now = t.Days[len(t.Days)-1].Open[s]
		if l.Path = b.String(); l.Path != "" {
			t.Layers = append(t.Layers, l)
		}
	}
}

// sums adds up what a trend saw come and go.
func (t trend) sums() (fresh, resolved int) {
	for _, d := range t.Days {
		fresh += d.New
		resolved += d.Resolved
	}
	return fresh, resolved
}

// summary is the trend in words.
func (t trend) summary() string {
	last := t.Days[len(t.Days)-1]
	fresh, resolved := t.sums()
	says := "Open in what runs today: " + count(last.Open.total())
	if fresh+resolved > 0 {
		says += "; in " + plural(t.Known, "day", "days") + " " + count(fresh) + " new, " + count(resolved) + " resolved"
	}
	return says + "."
}

// title says of one bar what it shows.
func (d trendDay) title() string {
	if !d.Known {
		return day(d.Day) + ": not counted"
	}
	parts := []string{count(d.Open.total()) + " open"}
	if d.New > 0 {
		parts = append(parts, count(d.New)+" new")
	}
	if d.Resolved > 0 {
		parts = append(parts, count(d.Resolved)+" resolved")
	}
	return day(d.Day) + ": " + strings.Join(parts, ", ")
}

// known are the days of which something is known, the newest first.
func (t trend) known() (days []trendDay) {
	for i := len(t.Days) - 1; i >= 0; i-- {
		if t.Days[i].Known {
			days = append(days, t.Days[i])
		}
	}
	return days
}

func trendBox() string { return fmt.Sprintf("0 0 %d %d", trendShown, chartHeight) }
