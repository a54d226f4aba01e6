package console

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

// Sizes of the chart: one bar a minute over the last hour. The drawing is
// stretched to its box, so the units are bars across and per mille up.
const (
	chartMinutes = 60
	chartHeight  = 1000
	barWidth     = 0.74 // of its minute
)

// chart is events per minute, stacked by sensor.
type chart struct {
	Layers []layer
	Bars   []bar
	Top    int64 // what the upper edge stands for
	Total  int64
	Peak   bar
	Start  time.Time
	End    time.Time
}

// layer is the part of all bars that one sensor has, as one path.
type layer struct {
	Sensor string
	Path   string
	Total  int64
}

// bar is one minute.
type bar struct {
	Start   time.Time
	Count   int64
	Sensors map[string]int64
}

// lastHour is the full minutes that the chart shows at now, and the one that
// has begun.
func lastHour(now time.Time) (since, until time.Time) {
	until = now.Truncate(time.Minute).Add(time.Minute)
	return until.Add(-chartMinutes * time.Minute), until
}

// newChart lays the counts out; rates outside [since, until) are left out.
func newChart(rates []store.Rate, since, until time.Time) chart {
	c := chart{Start: since, End: until, Bars: make([]bar, chartMinutes)}
	for i := range c.Bars {
		c.Bars[i] = bar{Start: since.Add(time.Duration(i) * time.Minute), Sensors: map[string]int64{}}
	}
	for _, r := range rates {
		i := int(r.Start.Sub(since) / time.Minute)
		if r.Start.Before(since) || i >= len(c.Bars) {
			continue
		}
		c.Bars[i].Sensors[r.Kind.Sensor()] += r.Count
		c.Bars[i].Count += r.Count
		c.Total += r.Count
	}
	for _, b := range c.Bars {
		if b.Count > c.Peak.Count {
			c.Peak = b
		}
	}
	c.Top = roundUp(c.Peak.Count)
	c.stack()
	return c
}

// stack draws the sensors upon each other, the first at the bottom. Those that
// saw nothing are left out, but for the first.
func (c *chart) stack() {
	floor := make([]int64, len(c.Bars))
	for n, sensor := range query.Sensors() {
		l := layer{Sensor: sensor}
		var b strings.Builder
		for i, bar := range c.Bars {
			n := bar.Sensors[sensor]
			if n == 0 {
				continue
			}
			l.Total += n
			low, high := c.height(floor[i]), c.height(floor[i]+n)
			floor[i] += n
			x := float64(i) + (1-barWidth)/2
			fmt.Fprintf(&b, "M%.2f %dH%.2fV%dH%.2fZ", x, low, x+barWidth, high, x)
		}
		if l.Path = b.String(); l.Total > 0 || n == 0 {
			c.Layers = append(c.Layers, l)
		}
	}
}

func (c *chart) height(n int64) int64 { return chartHeight - n*chartHeight/c.Top }

// roundUp returns the next of 10, 20, 50, 100, … that is not below n, so that
// the axis ends at a number that reads well.
func roundUp(n int64) int64 {
	for step := int64(10); ; step *= 10 {
		for _, m := range []int64{1, 2, 5} {
			if n <= step*m || step >= 1_000_000_000_000_000 {
				return max(step*m, n)
			}
		}
	}
}

// title says of one bar what it shows.
func (b bar) title() string {
	if b.Count == 0 {
		return b.Start.UTC().Format("15:04") + " no events"
	}
	var parts []string
	for _, sensor := range query.Sensors() {
		if n := b.Sensors[sensor]; n > 0 {
			parts = append(parts, count(n)+" "+sensorWord(sensor))
		}
	}
	return b.Start.UTC().Format("15:04") + " " + strings.Join(parts, ", ")
}

// summary is the chart in words.
func (c chart) summary() string {
	if c.Total == 0 {
		return "No events in the last hour."
	}
	return plural(c.Total, "event", "events") + " in the last hour, at most " + count(c.Peak.Count) +
		" in a minute, at " + c.Peak.Start.UTC().Format("15:04") + " UTC."
}

// tens is the chart as a table of ten minutes a row, newest first.
func (c chart) tens() []bar {
	var out []bar
	for group := range slices.Chunk(c.Bars, 10) {
		sum := bar{Start: group[0].Start, Sensors: map[string]int64{}}
		for _, b := range group {
			sum.Count += b.Count
			for sensor, n := range b.Sensors {
				sum.Sensors[sensor] += n
			}
		}
		out = append(out, sum)
	}
	slices.Reverse(out)
	return out
}

func chartBox() string { return "0 0 " + strconv.Itoa(chartMinutes) + " " + strconv.Itoa(chartHeight) }
