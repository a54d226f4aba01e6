package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// buildRounds is how many on/off pairs of the build are timed: each takes
// minutes where an exec storm takes seconds.
const buildRounds = 2

// benchBuild builds castellan from an empty cache inside a container's cgroup,
// with the agent off and on.
func benchBuild(ctx context.Context, o options) (rows []row, err error) {
	_, cgroup, remove, err := container()
	if err != nil {
		return nil, err
	}
	defer remove()
	p, err := openSink(o)
	if err != nil {
		return nil, err
	}
	o.rounds = min(o.rounds, buildRounds)
	m, err := measure(ctx, o, p, func() (float64, error) { return build(ctx, o, cgroup) })
	if err = errors.Join(err, p.close()); err != nil {
		return nil, err
	}
	for i := range m.off {
		m.off[i] = 1 / m.off[i]
	}
	o.span = time.Duration(median(m.off) * float64(time.Second))
	return append([]row{
		{"go build of this project, agent on ÷ off", spread(m.ratios), "≥ 0.98"},
		{"  seconds without the agent", fmt.Sprintf("%.1f", median(m.off)), ""},
	}, agentRows(o, m.costs, m.lost, sensingAim)...), nil
}

// build returns builds a second.
func build(ctx context.Context, o options, cgroup string) (perSecond float64, err error) {
	cache, err := os.MkdirTemp(o.dir, "cache-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(cache)) }()
	dir, err := os.Open(cgroup)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", os.DevNull, "./cmd/castellan")
	cmd.Env = append(os.Environ(), "GOCACHE="+cache, "CGO_ENABLED=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	begin := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return 1 / time.Since(begin).Seconds(), nil
}
