package console

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
)

// The drawing of one chart of samples is stretched to its box: per mille across
// and up.
const plotSize = 1000

// pointsShown is how many points one line has at most: more than the pixels of
// its box are not seen.
const pointsShown = 240

// plot is one quantity over time: one line or two, and its limit.
type plot struct {
	Title  string
	Lines  []plotLine
	Limit  float64 // 0: none
	Top    float64 // what the upper edge stands for
	Marks  []plotMark
	Start  time.Time
	End    time.Time
	unit   func(float64) string
	Gone   bool   // this host cannot tell it
	LimitY string // where the limit's line is, per mille from above; "" beyond the edge
}

// plotLine is one line of a plot, cut where nothing was told.
type plotLine struct {
	Name   string
	Path   string
	Now    float64
	Most   float64
	points []point
}

type point struct {
	at    time.Time
	value float64
}

// plotMark is a moment at which something happened.
type plotMark struct {
	X     string
	Title string
	Bad   bool
}

// quantity is how samples become a line.
type quantity struct {
	name, field string
	gauge       func(asset.Sample) float64 // of the moment; nil for a counter
	counter     func(asset.Sample) float64 // its rate per second is shown
}

// plots draws what a workload used between two moments.
func plots(samples []asset.Sample, since, until time.Time) []plot {
	u := func(f func(asset.Sample) uint64) func(asset.Sample) float64 {
		return func(s asset.Sample) float64 { return float64(f(s)) }
	}
	cpu := newPlot("CPU", cpuUnit, samples, since, until, quantity{name: "used", field: "cpu_ns", counter: func(s asset.Sample) float64 { return s.CPU.Seconds() }})
	memory := newPlot("Memory", byteUnit, samples, since, until, quantity{name: "in use", field: "memory_bytes", gauge: u(func(s asset.Sample) uint64 { return s.Memory })})
	pids := newPlot("Processes and threads", plainUnit, samples, since, until, quantity{name: "there", field: "pids", gauge: u(func(s asset.Sample) uint64 { return s.Pids })})
	files := newPlot("Open files", plainUnit, samples, since, until, quantity{name: "open", field: "descriptors", gauge: u(func(s asset.Sample) uint64 { return s.Descriptors })})
	disk := newPlot("Disk", rateUnit, samples, since, until,
		quantity{name: "read", field: "disk_read_bytes", counter: u(func(s asset.Sample) uint64 { return s.DiskRead })},
		quantity{name: "written", field: "disk_written_bytes", counter: u(func(s asset.Sample) uint64 { return s.DiskWritten })})
	network := newPlot("Network", rateUnit, samples, since, until,
		quantity{name: "received", field: "network_received_bytes", counter: u(func(s asset.Sample) uint64 { return s.NetworkReceived })},
		quantity{name: "sent", field: "network_sent_bytes", counter: u(func(s asset.Sample) uint64 { return s.NetworkSent })})
	if n := len(samples); n > 0 {
		last := samples[n-1]
		cpu.Limit, memory.Limit, pids.Limit = float64(last.CPULimit)/1000, float64(last.MemoryLimit), float64(last.PidsLimit)
	}
	cpu.Marks = marks(samples, since, until, func(a, b asset.Sample) string {
		if over := b.Throttled - a.Throttled; over > (b.Time.Sub(a.Time))/10 {
			return "held back for " + lasted(over)
		}
		return ""
	}, false)
	memory.Marks = marks(samples, since, until, func(a, b asset.Sample) string {
		if b.OOMKills > a.OOMKills {
			return plural(b.OOMKills-a.OOMKills, "process", "processes") + " killed for want of memory"
		}
		return ""
	}, true)
	out := []plot{cpu, memory, pids, files, disk, network}
	for i := range out {
		out[i].draw()
	}
	return out
}

func newPlot(title string, unit func(float64) string, samples []asset.Sample, since, until time.Time, of ...quantity) plot {
	p := plot{Title: title, unit: unit, Start: since, End: until}
	for _, q := range of {
		p.Lines = append(p.Lines, plotLine{Name: q.name, points: q.points(samples)})
		if n := len(samples); n > 0 && slices.Contains(samples[n-1].Missing, q.field) {
			p.Gone = true
		}
	}
	return p
}

// points are the values of a gauge, or the rates of a counter; a counter that
// fell began anew with its container.
func (q quantity) points(samples []asset.Sample) []point {
	var out []point
	for i, s := range samples {
		if q.gauge != nil {
			out = append(out, point{s.Time, q.gauge(s)})
			continue
		}
		if i == 0 {
			continue
		}
		before := samples[i-1]
		long, more := s.Time.Sub(before.Time).Seconds(), q.counter(s)-q.counter(before)
		if long > 0 && more >= 0 {
			out = append(out, point{s.Time, more / long})
		}
	}
	return out
}

// marks are the moments at which what happened between two samples is worth one.
func marks(samples []asset.Sample, since, until time.Time, what func(a, b asset.Sample) string, bad bool) (out []plotMark) {
	for i := 1; i < len(samples); i++ {
		if says := what(samples[i-1], samples[i]); says != "" {
			at := samples[i].Time
			out = append(out, plotMark{X: across(at, since, until), Title: at.UTC().Format("15:04:05") + " " + says, Bad: bad})
		}
	}
	return out
}

// across is where a moment stands, per mille from the left.
func across(at, since, until time.Time) string {
	return fmt.Sprintf("%.1f", plotSize*float64(at.Sub(since))/float64(until.Sub(since)))
}

// gap is how many times the usual pause between two points a hole is.
const gap = 4

// draw chooses the upper edge and writes the lines.
func (p *plot) draw() {
	most := 0.0
	for i := range p.Lines {
		l := &p.Lines[i]
		for _, pt := range l.points {
			l.Most = max(l.Most, pt.value)
		}
		if n := len(l.points); n > 0 {
			l.Now = l.points[n-1].value
		}
		most = max(most, l.Most)
	}
	p.Top = most * 1.15
	if p.Limit > 0 && p.Limit < most*4 {
		p.Top = max(p.Top, p.Limit*1.08) // the limit is near enough to be shown
	}
	if p.Top == 0 {
		p.Top = 1
	}
	if p.Limit > 0 && p.Limit <= p.Top {
		p.LimitY = fmt.Sprintf("%.1f", plotSize*(1-p.Limit/p.Top))
	}
	for i := range p.Lines {
		p.Lines[i].Path = p.line(p.Lines[i].points)
	}
}

func (p *plot) line(points []point) string {
	usual := time.Duration(0)
	if n := len(points); n > 1 {
		usual = points[n-1].at.Sub(points[0].at) / time.Duration(n-1)
	}
	var b strings.Builder
	for i, pt := range points {
		verb := "L"
		if i == 0 || pt.at.Sub(points[i-1].at) > gap*usual {
			verb = "M"
		}
		fmt.Fprintf(&b, "%s%s %.1f", verb, across(pt.at, p.Start, p.End), plotSize*(1-pt.value/p.Top))
	}
	return b.String()
}

// summary is the plot in words.
func (p plot) summary() string {
	if p.Gone {
		return "This host cannot tell."
	}
	var parts []string
	for _, l := range p.Lines {
		if len(l.points) > 0 {
			parts = append(parts, l.Name+" "+p.unit(l.Now)+", at most "+p.unit(l.Most))
		}
	}
	if len(parts) == 0 {
		return "Nothing was told yet."
	}
	s := strings.Join(parts, "; ")
	if p.Limit > 0 {
		s += "; limit " + p.unit(p.Limit)
	}
	if n := len(p.Marks); n > 0 {
		s += "; " + p.Marks[n-1].Title
	}
	return s
}

// empty reports that there is nothing to draw.
func (p plot) empty() bool {
	return !slices.ContainsFunc(p.Lines, func(l plotLine) bool { return len(l.points) > 0 })
}

func cpuUnit(v float64) string   { return fmt.Sprintf("%.2f CPU", v) }
func byteUnit(v float64) string  { return size(uint64(max(v, 0))) }
func rateUnit(v float64) string  { return size(uint64(max(v, 0))) + "/s" }
func plainUnit(v float64) string { return count(int64(v)) }
