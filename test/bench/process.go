package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/event"
)

// offeredRate is what an agent must follow without a loss.
const offeredRate = 5_000

// pair measures work with the agent off and on, in turn, and returns every
// ratio on ÷ off with the agent's costs while it was on.
func pair(ctx context.Context, o options, work func() (float64, error)) (ratios []float64, off []float64, costs []cost, lost uint64, err error) {
	h, err := openHouse(ctx, o)
	if err != nil {
		return nil, nil, nil, 0, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	if _, err := work(); err != nil { // warms caches, counts for nothing
		return nil, nil, nil, 0, err
	}
	for range o.rounds {
		without, err := work()
		if err != nil {
			return nil, nil, nil, 0, err
		}
		with, c, gone, err := watched(ctx, h, work)
		if err != nil {
			return nil, nil, nil, 0, err
		}
		off = append(off, without)
		ratios = append(ratios, with/without)
		costs = append(costs, c)
		lost += gone
	}
	return ratios, off, costs, lost, nil
}

// watched does the work with an agent running.
func watched(ctx context.Context, h *house, work func() (float64, error)) (with float64, c cost, lost uint64, err error) {
	w, err := h.watch(ctx)
	if err != nil {
		return 0, cost{}, 0, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	before, err := costOf(w.cmd.Process.Pid)
	if err != nil {
		return 0, cost{}, 0, err
	}
	if with, err = work(); err != nil {
		return 0, cost{}, 0, err
	}
	after, err := costOf(w.cmd.Process.Pid)
	if err != nil {
		return 0, cost{}, 0, err
	}
	a, err := w.state(ctx)
	if err != nil {
		return 0, cost{}, 0, err
	}
	return with, cost{cpu: after.cpu - before.cpu, peak: after.peak}, a.Lost(), nil
}

func benchStorm(ctx context.Context, o options) ([]row, error) {
	_, cgroup, remove, err := container()
	if err != nil {
		return nil, err
	}
	defer remove()
	ratios, off, costs, lost, err := pair(ctx, o, func() (float64, error) {
		_, perSecond, err := storm(ctx, o, cgroup, 0)
		return perSecond, err
	})
	if err != nil {
		return nil, err
	}
	return append([]row{
		{"exec storm on all cores, agent on ÷ off", spread(ratios), "≥ 0.95"},
		{"  execs a second without the agent", fmt.Sprintf("%.0f", median(off)), ""},
	}, agentRows(o, costs, lost)...), nil
}

func agentRows(o options, costs []cost, lost uint64) []row {
	var cpu, peak []float64
	for _, c := range costs {
		cpu = append(cpu, c.cpu.Seconds()/o.span.Seconds()*100)
		peak = append(peak, float64(c.peak)/(1<<20))
	}
	return []row{
		{"  agent CPU meanwhile", fmt.Sprintf("%.1f %% of a core", median(cpu)), ""},
		{"  agent memory at its peak", fmt.Sprintf("%.1f MiB", slices.Max(peak)), "≤ 60 MiB"},
		{"  events lost", strconv.FormatUint(lost, 10), ""},
	}
}

// benchRate offers execs at a fixed rate and counts what is stored.
func benchRate(ctx context.Context, o options) (rows []row, err error) {
	id, cgroup, remove, err := container()
	if err != nil {
		return nil, err
	}
	defer remove()
	h, err := openHouse(ctx, o)
	if err != nil {
		return nil, err
	}
	var started int64
	perSecond, c, lost, err := watched(ctx, h, func() (float64, error) {
		n, perSecond, err := storm(ctx, o, cgroup, offeredRate)
		started = n
		return perSecond, err
	})
	if err = errors.Join(err, h.close()); err != nil {
		return nil, err
	}
	stored, err := storedExecs(ctx, filepath.Join(h.data, "castellan.db"), id)
	if err != nil {
		return nil, err
	}
	return append([]row{
		{fmt.Sprintf("execs offered at %d a second", offeredRate), fmt.Sprintf("%.0f a second", perSecond), ""},
		{"  of those not stored", fmt.Sprintf("%d of %d", started-stored, started), "0"},
	}, agentRows(o, []cost{c}, lost)...), nil
}

// storedExecs counts the execs of the tiny program in a closed server's store.
func storedExecs(ctx context.Context, path, workload string) (n int64, err error) {
	st, err := db.Open(ctx, db.Options{Path: path}, slog.New(slog.DiscardHandler))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	now := time.Now()
	rates, err := st.EventRate(ctx, workload, now.Add(-time.Hour), now.Add(time.Minute), time.Minute)
	for _, r := range rates {
		if r.Kind == event.KindExec {
			n += r.Count
		}
	}
	return n, err
}

var wrkRate = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)

func benchNginx(ctx context.Context, o options) (rows []row, err error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(o.dir, "nginx.conf")
	text := fmt.Sprintf(`worker_processes 2; pid %[1]s/nginx.pid; error_log %[1]s/nginx.log; daemon off;
events { worker_connections 512; }
http { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  server { listen %[2]s; location / { return 200 "hello from the shop\n"; } } }
`, o.dir, address)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	_, cgroup, remove, err := container()
	if err != nil {
		return nil, err
	}
	defer remove()
	server := exec.CommandContext(ctx, "/usr/sbin/nginx", "-p", o.dir, "-c", conf)
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		return nil, fmt.Errorf("start nginx: %w", err)
	}
	defer func() { err = errors.Join(err, end(server)) }()
	// The workers are forked after this, so they are in the container too.
	if err := os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(server.Process.Pid)), 0o644); err != nil {
		return nil, err
	}
	ratios, off, costs, lost, err := pair(ctx, o, func() (float64, error) { return requests(ctx, o, address) })
	if err != nil {
		return nil, err
	}
	return append([]row{
		{"nginx under wrk, agent on ÷ off", spread(ratios), "≥ 0.98"},
		{"  requests a second without the agent", fmt.Sprintf("%.0f", median(off)), ""},
	}, agentRows(o, costs, lost)...), nil
}

// requests runs wrk against nginx on loopback and returns requests a second.
func requests(ctx context.Context, o options, address string) (float64, error) {
	out, err := exec.CommandContext(ctx, "wrk", "-t1", "-c32", "-d"+strconv.Itoa(int(o.span.Seconds())), "http://"+address+"/").Output()
	if err != nil {
		return 0, fmt.Errorf("run wrk: %w", err)
	}
	m := wrkRate.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("wrk printed no rate: %s", out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// spread prints a median with its extremes.
func spread(v []float64) string {
	if len(v) == 0 {
		return "nothing measured"
	}
	return fmt.Sprintf("%.3f (%.3f to %.3f)", median(v), slices.Min(v), slices.Max(v))
}
