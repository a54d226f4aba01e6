package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/asset"
)

// ready bounds how long a server or an agent may take to be there: long on a machine
// that a town of containers keeps busy.
const ready = 2 * time.Minute

// place is somewhere an agent can report to.
type place interface {
	// invite returns what one agent needs to join.
	invite(ctx context.Context) (address, fingerprint, token string, err error)
	heard(ctx context.Context) (asset.Agent, error)
	close() error
}

// house is a castellan server as a process of its own, on loopback.
type house struct {
	program     string
	data        string
	address     string
	fingerprint string
	cmd         *exec.Cmd
	log         bytes.Buffer
}

// openHouse starts a server, with further flags.
func openHouse(ctx context.Context, o options, flags ...string) (*house, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	data, err := os.MkdirTemp(o.dir, "server-")
	if err != nil {
		return nil, err
	}
	h := &house{program: o.program, data: data, address: address}
	h.cmd = exec.CommandContext(ctx, o.program, append([]string{"server", "--data-dir", h.data, "--listen", address, "--log-level", "warn"}, flags...)...)
	h.cmd.Stderr = &h.log
	h.cmd.Stdout = &h.log
	h.cmd.Cancel = func() error { return h.cmd.Process.Signal(syscall.SIGTERM) }
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	var status struct {
		Fingerprint string `json:"ca_fingerprint"`
	}
	err = poll(ctx, func() bool { return h.ask(ctx, &status, "status") == nil })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("server did not start: %w\n%s", err, h.log.String()), h.close())
	}
	h.fingerprint = status.Fingerprint
	return h, nil
}

// ask runs a castellan command against this server and decodes its JSON.
func (h *house) ask(ctx context.Context, v any, args ...string) error {
	cmd := exec.CommandContext(ctx, h.program, append(args, "--data-dir", h.data, "-o", "json")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("castellan %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(out, v)
}

func (h *house) close() error { return end(h.cmd) }

func (h *house) invite(ctx context.Context) (address, fingerprint, token string, err error) {
	var made struct{ Token string }
	err = h.ask(ctx, &made, "agents", "invite", "--name", "bench")
	return h.address, h.fingerprint, made.Token, err
}

// heard is the agent as the server last heard of it.
func (h *house) heard(ctx context.Context) (asset.Agent, error) {
	var page struct{ Agents []asset.Agent }
	if err := h.ask(ctx, &page, "agents"); err != nil {
		return asset.Agent{}, err
	}
	if len(page.Agents) != 1 {
		return asset.Agent{}, fmt.Errorf("%d agents, want one", len(page.Agents))
	}
	return page.Agents[0], nil
}

// watcher is a castellan agent as a process of its own.
type watcher struct {
	cmd  *exec.Cmd
	pins string // a BPF file system of its own
	log  bytes.Buffer
}

// watch starts an agent that reports to p and waits until its sensors run.
func watch(ctx context.Context, o options, p place) (*watcher, error) {
	data, err := join(ctx, o, p)
	if err != nil {
		return nil, err
	}
	w := &watcher{pins: filepath.Join(o.dir, "pins")}
	if err := os.MkdirAll(w.pins, 0o755); err != nil {
		return nil, err
	}
	if err := unix.Mount("bpf", w.pins, "bpf", 0, "mode=0700"); err != nil {
		return nil, fmt.Errorf("mount a BPF file system: %w", err)
	}
	w.cmd = exec.CommandContext(ctx, o.program, "agent", "--data-dir", data, "--pins", w.pins, "--log-level", "warn",
		"--docker-host", "unix://"+cmp.Or(o.engine, filepath.Join(o.dir, "no-engine.sock")))
	w.cmd.Stderr = &w.log
	w.cmd.Cancel = func() error { return w.cmd.Process.Signal(syscall.SIGTERM) }
	started := time.Now()
	if err := w.cmd.Start(); err != nil {
		return nil, errors.Join(err, w.unpin())
	}
	err = poll(ctx, func() bool {
		a, err := p.heard(ctx)
		return err == nil && a.Seen.After(started) && len(a.Sensors) > 0 && a.Sensors[0].State == asset.SensorRunning &&
			(o.engine == "" || a.Engine.Connected)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("agent did not start: %w\n%s", err, w.log.String()), w.close())
	}
	return w, nil
}

// close ends the agent, and what it left in force.
func (w *watcher) close() error { return errors.Join(end(w.cmd), w.unpin()) }

// unpin ends programs that go on without the agent: with their file system they
// are gone.
func (w *watcher) unpin() error {
	if err := unix.Unmount(w.pins, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of %s: %w", w.pins, err)
	}
	return nil
}

// join lets an agent join p, unless it did before, and returns its data folder:
// one for each place.
func join(ctx context.Context, o options, p place) (data string, err error) {
	address, fingerprint, token, err := p.invite(ctx)
	if err != nil {
		return "", err
	}
	data = filepath.Join(o.dir, "agent-"+strings.ReplaceAll(address, ":", "-"))
	if _, err := os.Stat(filepath.Join(data, "joined.json")); err == nil {
		return data, nil
	}
	cmd := exec.CommandContext(ctx, o.program, "agent", "join", "--data-dir", data, "--server", "https://"+address, "--ca-fingerprint", fingerprint)
	cmd.Env = append(os.Environ(), "CASTELLAN_JOIN_TOKEN="+token)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("join: %w: %s", err, bytes.TrimSpace(out))
	}
	return data, nil
}

// cost is what a process has used so far.
type cost struct {
	cpu  time.Duration
	peak int64 // bytes resident, at most so far
}

func costOf(pid int) (cost, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return cost{}, err
	}
	_, rest, ok := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return cost{}, fmt.Errorf("/proc/%d/stat: odd form", pid)
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return cost{}, err
		}
		ticks += n
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return cost{}, err
	}
	var peak int64
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			if peak, err = strconv.ParseInt(strings.Fields(v)[0], 10, 64); err != nil {
				return cost{}, err
			}
		}
	}
	return cost{cpu: time.Duration(ticks) * 10 * time.Millisecond, peak: peak << 10}, nil
}

// end stops a process as a service manager would and waits for it.
func end(cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == -1 {
		return nil // ended by our own signal
	}
	return err
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// poll asks every 50 ms until ok or the time is up.
func poll(ctx context.Context, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, ready)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// answers tells whether somebody listens at an address.
func answers(address string) bool {
	c, err := net.DialTimeout("tcp", address, time.Second)
	return err == nil && c.Close() == nil
}

// rest waits for d, or until ctx ends, which is the error.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
