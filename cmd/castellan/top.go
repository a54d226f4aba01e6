package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/server/live"
)

// Terminal control: ECMA-48, and xterm's alternate screen.
const (
	screenOpen  = "\x1b[?1049h\x1b[?25l"
	screenClose = "\x1b[?25h\x1b[?1049l"
	screenTop   = "\x1b[H"
	lineRest    = "\x1b[K"
	screenRest  = "\x1b[J"
)

// load is one line of top.
type load struct {
	Workload asset.Workload `json:"workload"`
	live.WorkloadUsage
}

// sorts are the orders of top, by what people type.
var sorts = map[string]func(l load) float64{
	"cpu":     func(l load) float64 { return l.rates().CPU },
	"memory":  func(l load) float64 { return float64(l.Sample.Memory) },
	"pids":    func(l load) float64 { return float64(l.Sample.Pids) },
	"network": func(l load) float64 { return l.rates().NetworkReceived + l.rates().NetworkSent },
	"disk":    func(l load) float64 { return l.rates().DiskRead + l.rates().DiskWritten },
}

func (l load) rates() asset.Rates {
	if l.Rates == nil {
		return asset.Rates{}
	}
	return *l.Rates
}

func newTop(g *globals) *cobra.Command {
	var o askOptions
	var every time.Duration
	var once bool
	var by, group, cluster string
	c := &cobra.Command{
		Use:   "top",
		Short: "Show what the running workloads use, live",
		Long: `Show what the running workloads use, the busiest first: CPU (100 % is one CPU),
memory with its limit, processes, open files, network and disk a second. It
renews itself until Ctrl-C; with --once, -o, or when its output is no terminal,
it prints once.

Agents sample every ten seconds. "held back" says that a workload wanted more
CPU than its limit gives; "out of memory" that the kernel killed processes.
` + exitHelp,
		Example: "  castellan top\n  castellan top --sort memory --cluster shop --once",
		Args:    cobra.NoArgs,
	}
	o.flags(c)
	f := outputFlag(c)
	c.Flags().DurationVar(&every, "every", 2*time.Second, "time between two looks, at least 1s")
	c.Flags().BoolVar(&once, "once", false, "print once")
	c.Flags().StringVar(&by, "sort", "cpu", "order: cpu, memory, pids, network, disk")
	c.Flags().StringVar(&group, "group", "", "only this group: cluster/service/container")
	c.Flags().StringVar(&cluster, "cluster", "", "only this ECS cluster")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if sorts[by] == nil {
			return usagef("--sort %q: want cpu, memory, pids, network or disk", by)
		}
		if every < time.Second {
			return usagef("--every %s: want at least 1s", every)
		}
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		q := url.Values{"state": {string(asset.Running)}, "limit": {"1000"}}
		if group != "" {
			q.Set("group", group)
		}
		if cluster != "" {
			q.Set("cluster", cluster)
		}
		t := &top{g: g, api: api, query: q, by: by}
		fd, screen := terminal(g.out)
		if once || *f != formTable || !screen {
			return t.once(c.Context(), *f)
		}
		return t.follow(c.Context(), fd, every)
	}
	return c
}

// top asks again and again for the same workloads.
type top struct {
	g     *globals
	api   *client
	query url.Values
	by    string
}

func (t *top) once(ctx context.Context, f form) error {
	loads, err := t.ask(ctx)
	if err != nil {
		return err
	}
	return t.g.print(f, map[string][]load{"workloads": loads}, func() error {
		if len(loads) == 0 {
			fmt.Fprintln(t.g.err, "nothing is known to run, or the agents have not sampled yet (every ten seconds)")
			return nil
		}
		return t.g.table(topHeading, t.rows(loads))
	})
}

// follow draws on the terminal's other screen until ctx ends. An error of the
// first look is returned, later ones are shown: a server may be restarted.
func (t *top) follow(ctx context.Context, fd int, every time.Duration) error {
	loads, err := t.ask(ctx)
	if err != nil {
		return err
	}
	fmt.Fprint(t.g.out, screenOpen)
	defer fmt.Fprint(t.g.out, screenClose)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := t.draw(fd, loads, err); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var fresh []load
		if fresh, err = t.ask(ctx); err == nil {
			loads = fresh
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// draw writes one screen, no taller and no wider than the terminal.
func (t *top) draw(fd int, loads []load, trouble error) error {
	width, height, err := term.GetSize(fd)
	if err != nil {
		width, height = 80, 24
	}
	var b bytes.Buffer
	whole := *t.g
	whole.out, whole.colour = &b, "never" // cut first, paint never: a cut must not fall into a colour
	var cpu float64
	var memory uint64
	for _, l := range loads {
		cpu += l.rates().CPU
		memory += l.Sample.Memory
	}
	fmt.Fprintf(&b, "castellan top  %s  %d running, %.0f %% CPU, %s memory, by %s\n\n",
		time.Now().Format(time.TimeOnly), len(loads), 100*cpu, size(memory), t.by)
	if trouble != nil {
		fmt.Fprintf(&b, "no answer: %s\n\n", printable(trouble.Error()))
	}
	if err := whole.table(topHeading, t.rows(loads)); err != nil {
		return err
	}
	var screen strings.Builder
	screen.WriteString(screenTop)
	for i, line := range strings.Split(strings.TrimRight(b.String(), "\n"), "\n") {
		if i == height {
			break
		}
		if i > 0 {
			screen.WriteString("\r\n")
		}
		screen.WriteString(cut(line, width) + lineRest)
	}
	screen.WriteString(screenRest)
	_, err = fmt.Fprint(t.g.out, screen.String())
	return err
}

// ask returns the running workloads with what they use, in order.
func (t *top) ask(ctx context.Context) ([]load, error) {
	var page workloadPage
	if err := t.api.get(ctx, "/workloads", t.query, &page); err != nil {
		return nil, err
	}
	var used struct {
		Usage []live.WorkloadUsage `json:"usage"`
	}
	if err := t.api.get(ctx, "/usage", nil, &used); err != nil {
		return nil, err
	}
	byID := map[string]live.WorkloadUsage{}
	for _, u := range used.Usage {
		byID[u.Sample.WorkloadID] = u
	}
	loads := make([]load, 0, len(page.Workloads))
	for _, w := range page.Workloads {
		if u, ok := byID[w.ID]; ok {
			loads = append(loads, load{Workload: w, WorkloadUsage: u})
		}
	}
	slices.SortStableFunc(loads, func(a, b load) int {
		return cmp.Or(cmp.Compare(sorts[t.by](b), sorts[t.by](a)), cmp.Compare(a.Workload.Group, b.Workload.Group), cmp.Compare(a.Workload.ID, b.Workload.ID))
	})
	return loads, nil
}

var topHeading = []string{"GROUP", "ID", "CPU", "MEMORY", "LIMIT", "PIDS", "FILES", "NET IN", "NET OUT", "DISK R", "DISK W", ""}

func (t *top) rows(loads []load) [][]cell {
	rows := make([][]cell, 0, len(loads))
	for _, l := range loads {
		s, r := l.Sample, l.rates()
		rate := func(v float64) cell {
			if l.Rates == nil {
				return cell{"…", faint}
			}
			return cell{size(uint64(v)) + "/s", plain}
		}
		known := func(field, value string) cell {
			if slices.Contains(s.Missing, field) {
				return cell{"?", faint}
			}
			return cell{value, plain}
		}
		cpu := cell{"…", faint}
		if l.Rates != nil {
			cpu = known("cpu_ns", fmt.Sprintf("%.1f %%", 100*r.CPU))
		}
		limit := "-"
		if s.MemoryLimit > 0 {
			limit = size(s.MemoryLimit)
		}
		rows = append(rows, []cell{
			text(string(l.Workload.Group)), text(asset.ShortID(l.Workload.ID)), cpu,
			known("memory_bytes", size(s.Memory)), {limit, plain},
			known("pids", strconv.FormatUint(s.Pids, 10)), known("descriptors", strconv.FormatUint(s.Descriptors, 10)),
			rate(r.NetworkReceived), rate(r.NetworkSent), rate(r.DiskRead), rate(r.DiskWritten), topMarks(l),
		})
	}
	return rows
}

// topMarks says what is wrong with a workload's resources.
func topMarks(l load) cell {
	const (
		heldBack = 0.1 // of the time: below, a limit does its ordinary work
		nearFull = 0.9
	)
	var marks []string
	tone := plain
	if l.rates().Throttled > heldBack {
		marks, tone = append(marks, "held back"), warn
	}
	if l.Sample.MemoryLimit > 0 && float64(l.Sample.Memory) > nearFull*float64(l.Sample.MemoryLimit) {
		marks, tone = append(marks, "memory nearly full"), warn
	}
	if l.Sample.OOMKills > 0 {
		marks, tone = append(marks, fmt.Sprintf("out of memory ×%d", l.Sample.OOMKills)), bad
	}
	return cell{strings.Join(marks, ", "), tone}
}
