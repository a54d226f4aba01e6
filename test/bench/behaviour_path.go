package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/castellan-security/castellan/internal/server/behaviour"
)

// pathRate is how many files are made and removed a second, each another: two
// events each.
const pathRate = 5_000

// path measures the whole way of what is new: from the kernel through the agent and
// the server's store into profiles.
func (b *behaved) path(ctx context.Context) (rows []row, err error) {
	h, err := openHouse(ctx, b.o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	w, err := watch(ctx, b.o, h)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	progress := func() (p behaviour.Progress, err error) {
		var page struct{ Progress behaviour.Progress }
		err = h.ask(ctx, &page, "watch", "groups")
		return page.Progress, err
	}
	first, err := progress()
	if err != nil {
		return nil, err
	}
	pids := []int{w.cmd.Process.Pid, h.cmd.Process.Pid}
	before, err := costsOf(pids)
	if err != nil {
		return nil, err
	}
	s, err := b.box.storm(b.o, job{what: workCreate, rate: pathRate})
	if err != nil {
		return nil, err
	}
	var last behaviour.Progress
	// Others on the host may go on to make events, and some may have been lost.
	for end := time.Now().Add(ready / 2); time.Now().Before(end); {
		if err := rest(ctx, settling); err != nil {
			return nil, err
		}
		now, err := progress()
		if err != nil {
			return nil, err
		}
		same := now.Events == last.Events
		last = now
		if n := now.Events - first.Events; now.Waiting == 0 && n > 0 && (same || n >= uint64(2*s.done)) {
			break
		}
	}
	after, err := costsOf(pids)
	if err != nil {
		return nil, err
	}
	events := float64(last.Events - first.Events)
	a, err := h.heard(ctx)
	if err != nil {
		return nil, err
	}
	agent, server := (after[0].cpu - before[0].cpu).Seconds(), (after[1].cpu - before[1].cpu).Seconds()
	return []row{
		{fmt.Sprintf("new events at %d a second, learned from", 2*pathRate), fmt.Sprintf("%.0f of %d", events, 2*s.done), ""},
		{"  lost, of a host that was too busy for the agent", strconv.FormatUint(a.Lost(), 10), ""},
		{"  processor time of each: agent", fmt.Sprintf("%.1f µs", agent/events*1e6), ""},
		{"  processor time of each: server, stored and learned from", fmt.Sprintf("%.1f µs", server/events*1e6), ""},
		{"  so many a second does one core of the server", fmt.Sprintf("%.0f", events/server), "≥ 10,000"},
		{"  and one core for agent and server together", fmt.Sprintf("%.0f", events/(agent+server)), ""},
	}, nil
}

func costsOf(pids []int) (out []cost, err error) {
	for _, pid := range pids {
		c, err := costOf(pid)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}
