package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/adapter/docker/authz"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// admissionRuns is how many containers are run per round, on each engine.
const admissionRuns = 8

// guarding is castellan as the plugin of an engine, or beside one: it follows
// either, so that what is compared is the plugin alone.
type guarding struct {
	cmd    *exec.Cmd
	socket string // empty: it is no plugin
	log    bytes.Buffer
}

// follow starts castellan beside an engine that will be at host.
func follow(ctx context.Context, o options, host, data string, flags ...string) (*guarding, error) {
	g := &guarding{}
	g.cmd = exec.CommandContext(ctx, o.program, append([]string{"up", "--data-dir", filepath.Join(o.dir, data), "--listen", "127.0.0.1:0", "--log-level", "warn",
		"--docker-host", "unix://" + host, "--sensor-off", strings.Join(bpf.Names(), ","), "--scan-images=false", "--verify-images=false"}, flags...)...)
	g.cmd.Stdout, g.cmd.Stderr = &g.log, &g.log
	g.cmd.Cancel = func() error { return g.cmd.Process.Signal(syscall.SIGTERM) }
	return g, g.cmd.Start()
}

// guard starts castellan with a policy of all built-in rules that need no
// parameters, which are decided on and refuse nothing. host is where the engine will be.
func guard(ctx context.Context, o options, host string) (*guarding, error) {
	rules, err := admit.Builtins()
	if err != nil {
		return nil, err
	}
	policy := "version: 1\nmode: audit\nrules:\n"
	for _, r := range rules {
		required := false
		for _, p := range r.Parameters {
			required = required || p.Required
		}
		if !required {
			policy += "  - use: " + r.ID + "\n"
		}
	}
	file := filepath.Join(o.dir, "admission.yaml")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		return nil, err
	}
	socket := filepath.Join(filepath.Dir(authz.DefaultSocket), fmt.Sprintf("castellan-bench-%d.sock", os.Getpid()))
	g, err := follow(ctx, o, host, "guard", "--admission-plugin", "--admission-policy", file, "--admission-socket", socket)
	if err != nil {
		return nil, err
	}
	g.socket = socket
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(ready)
	for {
		if _, err := os.Lstat(g.socket); err == nil {
			return g, nil
		}
		select {
		case <-tick.C:
		case <-late:
			return nil, errors.Join(fmt.Errorf("no socket of the plugin after %s: %s", ready, g.log.String()), g.close())
		}
	}
}

func (g *guarding) close() error {
	err := g.cmd.Process.Signal(syscall.SIGTERM)
	_ = g.cmd.Wait() // it was ended
	if g.socket != "" {
		err = errors.Join(err, os.Remove(g.socket))
	}
	return err
}

// benchAdmission times decisions of a server, decisions that nothing is ready for, and
// containers under the plugin.
func benchAdmission(ctx context.Context, o options) (rows []row, err error) {
	for _, part := range []struct {
		name string
		run  func(context.Context, options) ([]row, error)
	}{{"asked", askedAdmission}, {"cold", coldAdmission}, {"runs", guardedRuns}} {
		if o.part != "" && o.part != part.name {
			continue
		}
		more, err := part.run(ctx, o)
		rows = append(rows, more...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// waysToRun are those in which containers are run: as who types docker run has them, on
// the bridge that the engine makes, and with no network at all, which is the quickest
// that there is and so shows most of a plugin.
var waysToRun = []struct {
	name string
	args []string
	aim  string
}{
	{"docker run", nil, "≤ 1.02"},
	{"docker run --network none", []string{"--network", "none"}, ""},
}

// guardedRuns runs containers on three engines in turn: without a plugin, under
// castellan's, and under one that permits everything. Castellan follows each of them.
func guardedRuns(ctx context.Context, o options) (rows []row, err error) {
	command, err := exec.LookPath("docker")
	if err != nil {
		return nil, fmt.Errorf("find the docker command: %w", err)
	}
	var hosts [3]string
	for i := range hosts {
		hosts[i] = filepath.Join(o.dir, strconv.Itoa(i)+".sock")
	}
	idle, err := idlePlugin()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, idle.close()) }()
	for i, data := range map[int]string{0: "beside", 2: "floor"} {
		beside, err := follow(ctx, o, hosts[i], data)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, beside.close()) }()
	}
	g, err := guard(ctx, o, hosts[1])
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	name := strings.TrimSuffix(filepath.Base(g.socket), ".sock")
	image, err := engine.Busybox()
	if err != nil {
		return nil, err
	}
	var engines [len(hosts)]*engine.Engine
	for i, settings := range []map[string]any{{}, {"authorization-plugins": []string{name}}, {"authorization-plugins": []string{idle.name}}} {
		e, err := engine.New(ctx, engine.Options{Bridge: true, Apart: true, Settings: settings})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, e.Close()) }()
		if err := os.Symlink(strings.TrimPrefix(e.Host(), "unix://"), hosts[i]); err != nil {
			return nil, err
		}
		if err := e.Load(ctx, image); err != nil {
			return nil, err
		}
		engines[i] = e
	}
	var took [len(engines)][]float64
	for _, way := range waysToRun {
		for i := range took {
			took[i] = took[i][:0]
		}
		for round := range o.rounds + 1 {
			for n := range len(engines) * admissionRuns {
				i := (n + round) % len(engines)
				began := time.Now()
				// They are of one group, as tasks of a service are.
				args := slices.Concat([]string{"--host", engines[i].Host(), "run", "--rm", "--name", "bench"}, way.args, []string{image.Reference, "true"})
				if out, err := exec.CommandContext(ctx, command, args...).CombinedOutput(); err != nil {
					return nil, fmt.Errorf("docker run: %w: %s", err, out)
				}
				if round > 0 { // the first warms up
					took[i] = append(took[i], time.Since(began).Seconds()*1e3)
				}
			}
		}
		rows = append(rows,
			row{way.name + ": with the plugin ÷ without", fmt.Sprintf("%s (%.1f ÷ %.1f ms, %d runs)", pairs(took[1], took[0]), median(took[1]), median(took[0]), len(took[0])), way.aim},
			row{"  one that permits everything ÷ without (the floor)", pairs(took[2], took[0]), ""},
			row{"  the plugin ÷ the floor", pairs(took[1], took[2]), ""},
		)
	}
	return rows, nil
}

// pairs is the median of the ratios of runs that followed each other, which what slows a
// whole machine for a while does not touch, with the interval that holds it in 95 of 100
// measurements: order statistics of the sign test.
func pairs(a, b []float64) string {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	slices.Sort(ratios)
	n := float64(len(ratios))
	off := 0.98 * math.Sqrt(n) // 1.96 standard deviations of a binomial of halves
	low, high := max(0, int(n/2-off)), min(len(ratios)-1, int(math.Ceil(n/2+off)))
	return fmt.Sprintf("%.3f (95%%: %.3f to %.3f)", median(ratios), ratios[low], ratios[high])
}

// idle is a plugin that permits everything unseen: what an engine takes for asking.
type idle struct {
	name   string // of the plugin
	server http.Server
	ended  chan error
}

func idlePlugin() (*idle, error) {
	p := &idle{name: fmt.Sprintf("castellan-bench-idle-%d", os.Getpid()), ended: make(chan error, 1)}
	l, err := net.Listen("unix", filepath.Join(filepath.Dir(authz.DefaultSocket), p.name+".sock"))
	if err != nil {
		return nil, fmt.Errorf("be a plugin that permits everything: %w", err)
	}
	p.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := `{"Allow":true}`
		if r.URL.Path == "/Plugin.Activate" {
			answer = `{"Implements":["authz"]}`
		}
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			_, _ = io.WriteString(w, answer) // an engine that has gone asks no more
		}
	})
	go func() { p.ended <- p.server.Serve(l) }()
	return p, nil
}

func (p *idle) close() error {
	err := p.server.Close()
	if ended := <-p.ended; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}
