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

// pair is the same work with the agent off and on, in turn.
type pair struct {
	ratios, off []float64 // on ÷ off of each round; the work done with the agent off
	costs       []cost    // of the agent while it was on
	lost        uint64
}

// measure does the work in turn with and without an agent that reports to p.
func measure(ctx context.Context, o options, p place, work func() (float64, error)) (pair, error) {
	var m pair
	if _, err := work(); err != nil { // warms caches, counts for nothing
		return m, err
	}
	for range o.rounds {
		without, err := work()
		if err != nil {
			return m, err
		}
		with, c, lost, err := watched(ctx, o, p, work)
		if err != nil {
			return m, err
		}
		m.off = append(m.off, without)
		m.ratios = append(m.ratios, with/without)
		m.costs = append(m.costs, c)
		m.lost += lost
	}
	return m, nil
}

// watched does the work with an agent running.
func watched(ctx context.Context, o options, p place, work func() (float64, error)) (with float64, c cost, lost uint64, err error) {
	w, err := watch(ctx, o, p)
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
	a, err := p.heard(ctx)
	if err != nil {
		return 0, cost{}, 0, err
	}
	return with, cost{cpu: after.cpu - before.cpu, peak: after.peak}, a.Lost(), nil
}

// storms are what is done as fast as it goes, from the ordinary to the worst
// case.
var storms = []struct {
	what string
	job  job
	here bool // the server is on the same host
	aim  string
}{
	{"execs of /bin/true on all cores, server elsewhere: on ÷ off", job{what: workExec, program: "/bin/true"}, false, "≥ 0.95"},
	{"execs of the smallest program there can be: on ÷ off", job{what: workExec}, false, ""},
	{"execs of /bin/true, server on the same host: on ÷ off", job{what: workExec, program: "/bin/true"}, true, ""},
	{"opens for reading on all cores: on ÷ off", job{what: workRead}, false, "≥ 0.97"},
	{"opens for writing of 1,000 files: on ÷ off", job{what: workWrite}, false, ""},
	{"files made and removed, each another: on ÷ off", job{what: workCreate}, false, ""},
	{"connections made and closed: on ÷ off", job{what: workConnect}, false, ""},
}

func benchStorm(ctx context.Context, o options) (rows []row, err error) {
	_, cgroup, remove, err := container()
	if err != nil {
		return nil, err
	}
	defer remove()
	for _, s := range storms {
		p, err := openPlace(ctx, o, s.here)
		if err != nil {
			return rows, err
		}
		m, err := measure(ctx, o, p, func() (float64, error) {
			_, perSecond, err := storm(ctx, o, cgroup, s.job)
			return perSecond, err
		})
		if err = errors.Join(err, p.close()); err != nil {
			return rows, err
		}
		rows = append(rows, row{s.what, spread(m.ratios), s.aim}, row{"  a second without the agent", fmt.Sprintf("%.0f", median(m.off)), ""})
		rows = append(rows, agentRows(o, m.costs, m.lost, sensingAim)...)
	}
	return rows, nil
}

func openPlace(ctx context.Context, o options, here bool) (place, error) {
	if here {
		return openHouse(ctx, o)
	}
	return openSink(o)
}

// sensingAim is the aim of the memory of an agent that holds nobody.
const sensingAim = "≤ 60 MiB"

// agentRows are what an agent cost, and the aim of its memory.
func agentRows(o options, costs []cost, lost uint64, aim string) []row {
	var cpu, peak []float64
	for _, c := range costs {
		cpu = append(cpu, c.cpu.Seconds()/o.span.Seconds()*100)
		peak = append(peak, float64(c.peak)/(1<<20))
	}
	return []row{
		{"  agent CPU meanwhile", fmt.Sprintf("%.1f %% of a core", median(cpu)), ""},
		{"  agent memory at its peak", fmt.Sprintf("%.1f MiB", slices.Max(peak)), aim},
		{"  events lost", strconv.FormatUint(lost, 10), ""},
	}
}

// offers are rates that an agent must follow without a loss.
var offers = []struct {
	what string
	job  job
	kind event.Kind // of the events that tell of it
}{
	{"execs", job{what: workExec, rate: 5_000}, event.KindExec},
	{"opens for writing", job{what: workWrite, rate: 50_000}, event.KindFileWrite},
	{"connections", job{what: workConnect, rate: 20_000}, event.KindConnect},
}

// benchRate offers work at fixed rates and counts what is stored of it.
func benchRate(ctx context.Context, o options) (rows []row, err error) {
	id, cgroup, remove, err := container()
	if err != nil {
		return nil, err
	}
	defer remove()
	for _, offer := range offers {
		h, err := openHouse(ctx, o)
		if err != nil {
			return rows, err
		}
		var done int64
		perSecond, c, lost, err := watched(ctx, o, h, func() (float64, error) {
			n, perSecond, err := storm(ctx, o, cgroup, offer.job)
			done = n
			if offer.kind == event.KindExec {
				done++ // the storm itself is an exec in that container, too
			}
			return perSecond, err
		})
		if err = errors.Join(err, h.close()); err != nil {
			return rows, err
		}
		stored, err := stored(ctx, filepath.Join(h.data, "castellan.db"), id, offer.kind)
		if err != nil {
			return rows, err
		}
		rows = append(rows,
			row{fmt.Sprintf("%s offered at %d a second", offer.what, offer.job.rate), fmt.Sprintf("%.0f a second", perSecond), ""},
			row{"  of those not stored", fmt.Sprintf("%d of %d", done-stored, done), "0"})
		rows = append(rows, agentRows(o, []cost{c}, lost, sensingAim)...)
	}
	return rows, nil
}

// stored counts, in a closed server's store, what happened of a kind in a
// workload.
func stored(ctx context.Context, path, workload string, kind event.Kind) (n int64, err error) {
	st, err := db.Open(ctx, db.Options{Path: path}, slog.New(slog.DiscardHandler))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	now := time.Now()
	rates, err := st.EventRate(ctx, workload, now.Add(-time.Hour), now.Add(time.Minute), time.Minute)
	for _, r := range rates {
		if r.Kind == kind {
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
	if err := os.WriteFile(conf, []byte(nginxConf(o.dir, address)), 0o644); err != nil {
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
	p, err := openSink(o)
	if err != nil {
		return nil, err
	}
	m, err := measure(ctx, o, p, func() (float64, error) { return requests(ctx, o, address) })
	if err = errors.Join(err, p.close()); err != nil {
		return nil, err
	}
	return append([]row{
		{"nginx under wrk, agent on ÷ off", spread(m.ratios), "≥ 0.98"},
		{"  requests a second without the agent", fmt.Sprintf("%.0f", median(m.off)), ""},
	}, agentRows(o, m.costs, m.lost, sensingAim)...), nil
}

// nginxConf has nginx answer at an address, with all its files in a folder.
func nginxConf(dir, address string) string {
	return fmt.Sprintf(`worker_processes 2; pid %[1]s/nginx.pid; error_log %[1]s/nginx.log; daemon off;
events { worker_connections 512; }
http { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  server { listen %[2]s; location / { return 200 "hello from the shop\n"; } } }
`, dir, address)
}

// requests runs wrk against nginx on loopback and returns requests a second.
func requests(ctx context.Context, o options, address string) (float64, error) {
	out, err := exec.CommandContext(ctx, "wrk", "-t1", "-c32", "-d"+strconv.Itoa(max(1, int(o.span.Seconds()))), "http://"+address+"/").Output()
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
