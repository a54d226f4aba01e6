package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/profile"
)

const townCommand = "town"

// The town: containers as on a large host, in groups of which half are protected.
const (
	townContainers = 100
	townGroups     = 10
	townProtected  = 5
	townPatterns   = 300 // further files in each profile, as a larger service has them
	townSpans      = 12  // how many spans it lives before it is measured
)

// townMain is a service: every 50 ms it does something that services do, until it
// is killed.
func townMain(ctx context.Context, args []string) error {
	f := flag.NewFlagSet(townCommand, flag.ContinueOnError)
	port := f.Int("port", 0, "port to connect to")
	if err := f.Parse(args); err != nil {
		return err
	}
	var dial net.Dialer
	at := func(name string) string { return filepath.Join(insideWork, name) }
	deeds := []func(n int) error{
		func(int) error { return startOne(insideTiny) },
		func(int) error { return openOne("/etc/hosts", syscall.O_RDONLY) },
		func(int) error { return openOne(at("service.log"), syscall.O_WRONLY|syscall.O_CREAT|syscall.O_APPEND) },
		func(n int) error {
			name := at(fmt.Sprintf("part-%d", n%1000))
			return errors.Join(openOne(name, syscall.O_WRONLY|syscall.O_CREAT), os.Rename(name, at("whole")), os.Remove(at("whole")))
		},
		func(int) error {
			c, err := dial.DialContext(ctx, "tcp4", "127.0.0.1:"+strconv.Itoa(*port))
			if err != nil {
				return err
			}
			return c.Close()
		},
		func(int) error { return startOne("/bin/true") },
	}
	for n := 0; ; n++ {
		if err := deeds[n%len(deeds)](n / len(deeds)); err != nil {
			return err
		}
		if err := rest(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// townsman is one container of the town with its service.
type townsman struct {
	*contained
	cmd *exec.Cmd
}

// settle starts the nth container of the town.
func (b *behaved) settle(ctx context.Context, n, port int) (*townsman, error) {
	c, err := b.image.container(1+n, "service-"+strconv.Itoa(n%townGroups))
	if err != nil {
		return nil, err
	}
	cmd, done, err := c.command(ctx, insideSelf, townCommand, "-port", strconv.Itoa(port))
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	defer done()
	cmd.Env = append(cmd.Env, "GOMAXPROCS=1")
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, c.close())
	}
	c.pid = cmd.Process.Pid
	return &townsman{c, cmd}, nil
}

// leave ends the container. The error is also that its service ended before.
func (t *townsman) leave() error {
	alive := t.cmd.Process.Signal(syscall.Signal(0))
	err := t.close()
	var exit *exec.ExitError
	if e := t.cmd.Wait(); !errors.As(e, &exit) || exit.ExitCode() != -1 {
		err = errors.Join(err, fmt.Errorf("service of %s ended by itself: %w", t.name, e))
	}
	return errors.Join(err, alive)
}

// town measures the memory of an agent on a host with many containers.
func (b *behaved) town(ctx context.Context) (rows []row, err error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			_ = c.Close() // the other side has nothing to say
		}
	}()
	port := l.Addr().(*net.TCPAddr).Port
	defer b.engine.runs(b.box)
	if err := b.learnTown(ctx, port); err != nil {
		return nil, err
	}
	var all []*townsman
	defer func() {
		for _, t := range all {
			err = errors.Join(err, t.leave())
		}
	}()
	var boxes []*contained
	for n := range townContainers {
		t, err := b.settle(ctx, n, port)
		if err != nil {
			return nil, err
		}
		all, boxes = append(all, t), append(boxes, t.contained)
	}
	b.engine.runs(boxes...)
	return b.weigh(ctx)
}

// learnTown has the sink hand out the rules of the town's protected groups.
func (b *behaved) learnTown(ctx context.Context, port int) error {
	var id string
	events, err := b.sensed(ctx, func() error {
		t, err := b.settle(ctx, townContainers, port)
		if err != nil {
			return err
		}
		id = t.id
		return errors.Join(rest(ctx, 2*settling), t.leave())
	})
	if err != nil {
		return fmt.Errorf("learn what the town does: %w", err)
	}
	var rules []link.BriefRules
	for n := range townProtected {
		p := learned(events, id, asset.Group(fmt.Sprintf("%s/%s/service-%d", townCluster, townFamily, n)))
		for k := range townPatterns {
			p.Writes = append(p.Writes, profile.File{Path: profile.Pattern(fmt.Sprintf("/var/lib/service-%d/shard-%d/*", n, k))})
		}
		r, err := rulesOf(p, "town")
		if err != nil {
			return err
		}
		rules = append(rules, r)
	}
	b.sink.hold(rules...)
	return nil
}

// weigh starts an agent in the town and measures it after a while.
func (b *behaved) weigh(ctx context.Context) (rows []row, err error) {
	w, err := watch(ctx, b.o, b.sink)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	err = poll(ctx, func() bool {
		n := 0
		for _, h := range b.sink.heldNow() {
			if h.Stamp == "town" && h.Error == "" {
				n++
			}
		}
		return n == townProtected
	})
	if err != nil {
		return nil, fmt.Errorf("the town is not held (%+v): %w\n%s", b.sink.heldNow(), err, w.log.String())
	}
	pid, span := w.cmd.Process.Pid, townSpans*b.o.span
	before, err := costOf(pid)
	if err != nil {
		return nil, err
	}
	if err := rest(ctx, span); err != nil {
		return nil, err
	}
	after, err := costOf(pid)
	if err != nil {
		return nil, err
	}
	m, err := memoryOf(pid)
	if err != nil {
		return nil, err
	}
	objects, err := w.objects()
	if err != nil {
		return nil, err
	}
	programs, maps, err := objects.memory()
	if err != nil {
		return nil, err
	}
	a, err := b.sink.heard(ctx)
	if err != nil {
		return nil, err
	}
	return []row{
		{fmt.Sprintf("agent with %d containers, half protected: memory", townContainers), fmt.Sprintf("%.1f MiB", mib(m["Rss"])), "≤ 80 MiB"},
		{"  its own share of that (PSS); at its peak", fmt.Sprintf("%.1f MiB; %.1f MiB", mib(m["Pss"]), mib(after.peak)), ""},
		{"  of that not of files", fmt.Sprintf("%.1f MiB", mib(m["Anonymous"])), ""},
		{"  the kernel's: BPF maps; programs", fmt.Sprintf("%.1f MiB; %.1f MiB", mib(int64(maps)), mib(int64(programs))), ""},
		{"  agent CPU", fmt.Sprintf("%.1f %% of a core", (after.cpu-before.cpu).Seconds()/span.Seconds()*100), ""},
		{"  events lost", strconv.FormatUint(a.Lost(), 10), ""},
	}, nil
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// memoryOf is what a process has resident, in bytes, by the kernel's names.
func memoryOf(pid int) (map[string]int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for line := range strings.Lines(string(b)) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if !ok || len(f) != 2 || f[1] != "kB" {
			continue
		}
		n, err := strconv.ParseInt(f[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read smaps_rollup of %d: %w", pid, err)
		}
		out[name] = n << 10
	}
	return out, nil
}
