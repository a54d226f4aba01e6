package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
)

const (
	// screenings is how many events are timed, one after the other.
	screenings = 200
	// screenPause lies between two, so that none is hurried along by the one
	// before.
	screenPause = 30 * time.Millisecond
	// screenWithin bounds all of them together.
	screenWithin = 2 * time.Minute
)

// benchScreen times how long after a program started the stream that the
// console listens to has the event, through kernel, agent, server and store.
func benchScreen(ctx context.Context, o options) (rows []row, err error) {
	_, cgroup, remove, err := container()
	if err != nil {
		return nil, err
	}
	defer remove()
	h, err := openHouse(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	var times []float64
	_, _, _, err = watched(ctx, o, h, func() (float64, error) {
		times, err = screen(ctx, o, h, cgroup)
		return 0, err
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(times)
	return []row{{
		"event on screen after its cause", fmt.Sprintf("%.0f ms, p99 %.0f ms", median(times), times[len(times)*99/100]), "p99 ≤ 250 ms",
	}}, nil
}

// screen returns, in milliseconds, how long each event took.
func screen(ctx context.Context, o options, h *house, cgroup string) ([]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, screenWithin)
	defer cancel()
	program, err := tiny(o)
	if err != nil {
		return nil, err
	}
	lines, closeStream, err := h.stream(ctx)
	if err != nil {
		return nil, err
	}
	defer closeStream()
	times := make([]float64, 0, screenings)
	for n := range screenings {
		mark := "screening-" + strconv.Itoa(n)
		begin := time.Now()
		if err := startIn(ctx, cgroup, program, mark); err != nil {
			return nil, err
		}
		if err := awaitMark(lines, mark); err != nil {
			return nil, err
		}
		times = append(times, float64(time.Since(begin).Microseconds())/1000)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(screenPause):
		}
	}
	return times, nil
}

// awaitMark reads the stream until an exec with that argument comes.
func awaitMark(lines *bufio.Scanner, mark string) error {
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue
		}
		var e event.Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return fmt.Errorf("read event: %w", err)
		}
		if e.Exec != nil && slices.Contains(e.Exec.Args, mark) {
			return nil
		}
	}
	return errors.Join(fmt.Errorf("no event for %s", mark), lines.Err())
}

// stream opens the server's stream of events; the second result closes it.
func (h *house) stream(ctx context.Context) (*bufio.Scanner, func(), error) {
	var made struct{ Secret string }
	if err := h.ask(ctx, &made, "tokens", "create", "screen", "--scope", "events:read"); err != nil {
		return nil, nil, err
	}
	conf, err := link.TLS("127.0.0.1", h.fingerprint)
	if err != nil {
		return nil, nil, err
	}
	conf.MinVersion = tls.VersionTLS13
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+h.address+"/api/v1/events/stream?kind=process.exec", nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+made.Secret)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("open the stream of events: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, nil, fmt.Errorf("open the stream of events: %s", resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return lines, func() { resp.Body.Close() }, nil
}

// startIn runs a program inside a container's cgroup to its end.
func startIn(ctx context.Context, cgroup, program string, args ...string) error {
	dir, err := os.Open(cgroup)
	if err != nil {
		return err
	}
	defer dir.Close()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w", program, err)
	}
	return nil
}
