package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/detect"
)

const (
	detectEvents  = 10_000 // that come again and again
	detectLooks   = 2_000_000
	detectDearest = 10 // rules that are named
	detectRate    = 10_000
)

// benchDetect measures what rules of detection cost that find nothing, on one core:
// all of them for an event of ordinary work, and each by the engine's own samples.
func benchDetect(ctx context.Context, _ options) ([]row, error) {
	began := time.Now()
	e, err := detect.New(nil)
	if err != nil {
		return nil, err
	}
	compiled := time.Since(began)
	events, err := detect.OrdinaryWork(detectEvents, time.Now())
	if err != nil {
		return nil, err
	}
	threats, at := 0, time.Now()
	round := func(n int) (time.Duration, error) {
		began := time.Now()
		for i := range n {
			if i%detectEvents == 0 && ctx.Err() != nil {
				return 0, ctx.Err()
			}
			ev := events[i%len(events)]
			at = at.Add(time.Second / detectRate)
			ev.Time, ev.Seq = at, uint64(i)
			threats += len(e.Observe(ev))
		}
		return time.Since(began), nil
	}
	if _, err := round(detectLooks / 10); err != nil {
		return nil, err
	}
	before := e.Stats()
	took, err := round(detectLooks)
	if err != nil {
		return nil, err
	}
	if threats > detectLooks/1000 {
		return nil, fmt.Errorf("ordinary work gives %d threats in %d events: it measures what is told", threats, detectLooks)
	}
	each := float64(took) / detectLooks
	after := e.Stats()
	core := func(ns float64) float64 { return ns * detectRate / float64(time.Second) * 100 }
	rows := []row{
		{fmt.Sprintf("an event of ordinary work with all %d rules", len(after)), fmt.Sprintf("%.0f ns", each), ""},
		{fmt.Sprintf("  of a core at %d events a second", detectRate), fmt.Sprintf("%.2f %%", core(each)), "≤ 5 % for 100 rules"},
		{"rules of detection made ready", fmt.Sprintf("%.0f ms", float64(compiled)/float64(time.Millisecond)), ""},
	}
	calls, err := benchTrail()
	if err != nil {
		return nil, err
	}
	return slices.Concat(rows, calls, dearest(before, after)), nil
}

// dearest are the rules that cost most of ordinary work, as sampled between two looks
// at the engine's own figures, which are in the same order.
func dearest(before, after []detect.Stats) []row {
	type cost struct {
		rule  string
		spent time.Duration
		looks uint64
	}
	all := make([]cost, len(after))
	for i := range after {
		all[i] = cost{after[i].Rule, after[i].Spent - before[i].Spent, after[i].Looked - before[i].Looked}
	}
	slices.SortFunc(all, func(a, b cost) int { return int(b.spent - a.spent) })
	idle := 0
	for _, c := range all {
		if c.looks == 0 {
			idle++
		}
	}
	var rows []row
	for _, c := range all[:detectDearest] {
		rows = append(rows, row{
			"  rule " + c.rule,
			fmt.Sprintf("%.1f ns an event", float64(c.spent)/detectLooks),
			fmt.Sprintf("held against %.1f %% of them, %.0f ns each", float64(c.looks)/detectLooks*100, float64(c.spent)/float64(max(c.looks, 1))),
		})
	}
	return append(rows, row{"  rules that need not look at any of it", fmt.Sprint(idle), ""})
}
