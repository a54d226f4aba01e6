package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server"
	"github.com/castellan-security/castellan/internal/server/account"
)

const (
	// fleet and images shape the generated events: hosts with a hundred
	// workloads each, running programs of which some are common and some rare.
	fleet, perHost = 10, 100
	// asks is how often each page is asked for; the slowest one in twenty counts.
	asks = 40
)

// pages are what people open most, and what is hardest for the store.
func pages(workload string) []string {
	return []string{
		"/", "/workloads", "/workloads/" + workload, "/events", "/agents",
		"/events?workload=" + workload,
		"/events?kind=process.exit&group=shop%2Fservice-7%2Fapp",
		"/events?executable=%2Fusr%2Fbin%2Frare-42",
		"/events?executable=%2Fusr%2Fbin%2F*&origin=written",
		"/events?entered=true",
		"/events?text=rare-42",
		"/events?text=no-such-word-anywhere",
		"/events?host=true",
		"/events?before=1000",
	}
}

// benchStore fills a store as a fleet would, then times pages over HTTP.
func benchStore(ctx context.Context, o options) (rows []row, err error) {
	dir := filepath.Join(o.dir, "store")
	st, err := db.Open(ctx, db.Options{Path: filepath.Join(dir, "castellan.db")}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if err := st.PutWorkloads(ctx, workloads()); err != nil {
		return nil, err
	}
	for host := range fleet {
		a := asset.Agent{ID: agentID(host), Boot: "BOOT", Hostname: fmt.Sprintf("host-%d", host), Started: time.Now(), Seen: time.Now(),
			Sensors: []asset.Sensor{{Name: "process", State: asset.SensorRunning}}}
		if err := st.PutAgent(ctx, a); err != nil {
			return nil, err
		}
	}
	var rates []float64
	const slice = 500_000
	for from := int64(0); from < o.events; from += slice {
		n := min(slice, o.events-from)
		begin := time.Now()
		if err := fill(ctx, st, from, n); err != nil {
			return nil, err
		}
		rates = append(rates, float64(n)/time.Since(begin).Seconds())
	}
	rows = append(rows, row{"events stored a second, reports of 2,000, durably", fmt.Sprintf("%.0f (%.0f to %.0f)", median(rates), slices.Min(rates), slices.Max(rates)), "≥ 50,000"})
	if info, err := os.Stat(filepath.Join(dir, "castellan.db")); err == nil && o.events > 0 {
		rows = append(rows, row{"  bytes an event on disk", strconv.FormatInt(info.Size()/o.events, 10), ""})
	}
	timed, err := timePages(ctx, o, st, dir)
	return append(rows, timed...), err
}

func workloadID(host, n int) string { return fmt.Sprintf("%032x%032x", host+1, n+1) }

func workloads() []asset.Workload {
	now := time.Now().UTC()
	var all []asset.Workload
	for host := range fleet {
		for n := range perHost {
			w := asset.Workload{
				ID: workloadID(host, n), AgentID: agentID(host), Name: fmt.Sprintf("ecs-service-%d-app-%d", n, host),
				ECS:   asset.ECS{Account: "123456789012", Region: "eu-central-1", Cluster: "shop", Service: fmt.Sprintf("service-%d", n), Family: "app", Revision: "7", Container: "app", TaskID: fmt.Sprintf("%032x", n)},
				Image: asset.Image{Reference: "shop/app:7"}, State: asset.Running, Created: now, Updated: now,
			}
			w.Group = asset.GroupOf(w)
			all = append(all, w)
		}
	}
	return all
}

func agentID(host int) string { return fmt.Sprintf("BENCH%021d", host) }

// fill appends n events, numbered from from, in reports as agents send them.
func fill(ctx context.Context, st *db.DB, from, n int64) error {
	for at := from; at < from+n; at += link.MaxEvents {
		host := int(at / link.MaxEvents % fleet)
		batch := make([]event.Event, 0, link.MaxEvents)
		for i := at; i < min(at+link.MaxEvents, from+n); i++ {
			batch = append(batch, generated(host, i))
		}
		if err := st.AppendEvents(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// generated is event number i of a fleet in its ordinary work: of every three
// one fork, one exec and one exit; one exec in a thousand is notable.
func generated(host int, i int64) event.Event {
	now := time.Now().UTC()
	process := i / 3
	name := fmt.Sprintf("common-%d", process%20)
	if process%500 == 0 {
		name = fmt.Sprintf("rare-%d", process/500%1000)
	}
	key := event.Key{PID: uint32(process%4_000_000 + 2), Start: uint64(process) * 1e6}
	e := event.Event{
		Version: event.Version, AgentID: agentID(host), Boot: "BOOT", Seq: uint64(i + 1), Time: now, Received: now,
		Kind: []event.Kind{event.KindFork, event.KindExec, event.KindExit}[i%3],
		Process: event.Process{Key: key, ContainerPID: 7, Parent: event.Key{PID: 1, Start: 1}, Name: name,
			Executable: "/usr/bin/" + name, UID: 1000, EUID: 1000, GID: 1000},
	}
	if process%50 != 0 { // the fiftieth is the host's own
		n := int(process % perHost)
		e.WorkloadID, e.Group = workloadID(host, n), fmt.Sprintf("shop/service-%d/app", n)
	}
	switch e.Kind {
	case event.KindExec:
		e.Exec = &event.Exec{Args: []string{name, "--order", strconv.FormatInt(process, 10), "--queue=default"}, Cwd: "/srv/app", Origin: event.OriginImage,
			Inode: uint64(process), Device: 51, Ancestors: []event.Ancestor{{Key: event.Key{PID: 1, Start: 1}, Name: "app", Executable: "/usr/bin/app"}}}
		switch process % 2000 {
		case 1:
			e.Exec.Origin = event.OriginWritten
		case 2:
			e.Exec.Entered = true
		}
	case event.KindExit:
		e.Exit = &event.Exit{Lifetime: time.Duration(process%1000) * time.Millisecond}
	}
	return e
}

// timePages serves the store and asks for every page as a signed-in browser.
func timePages(ctx context.Context, o options, st *db.DB, dir string) (rows []row, err error) {
	s, err := server.New(server.Config{DataDir: dir, Listen: "127.0.0.1:0", Version: "bench"}, st, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	password, err := s.Accounts().Bootstrap(ctx)
	if err != nil {
		return nil, err
	}
	serving, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(serving) }()
	defer func() {
		stop()
		err = errors.Join(err, <-done)
	}()
	select {
	case <-s.Ready():
	case err := <-done:
		done <- nil
		return nil, err
	}
	b, err := signIn(ctx, s, password)
	if err != nil {
		return nil, err
	}
	for _, page := range pages(workloadID(3, 7)) {
		times := make([]float64, 0, asks)
		for range asks {
			begin := time.Now()
			if err := b.open(ctx, page); err != nil {
				return nil, err
			}
			times = append(times, float64(time.Since(begin).Microseconds())/1000)
		}
		slices.Sort(times)
		rows = append(rows, row{
			fmt.Sprintf("page %s", strings.ReplaceAll(page, workloadID(3, 7), "ID")),
			fmt.Sprintf("%.1f ms, p95 %.1f ms", median(times), times[asks*95/100]), "< 100 ms",
		})
	}
	return append([]row{{fmt.Sprintf("console with %d events in the store:", o.events), "", ""}}, rows...), nil
}

// browser is a signed-in client.
type browser struct {
	http   *http.Client
	base   string
	cookie string
}

func signIn(ctx context.Context, s *server.Server, password string) (*browser, error) {
	conf, err := link.TLS("127.0.0.1", s.CAFingerprint())
	if err != nil {
		return nil, err
	}
	b := &browser{base: "https://" + s.Addr(), http: &http.Client{
		Transport:     &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	body, err := json.Marshal(map[string]string{"name": account.FirstUser, "password": password})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.base+"/api/v1/session", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := b.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("sign in: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 || len(resp.Cookies()) == 0 {
		return nil, fmt.Errorf("sign in: %s", resp.Status)
	}
	b.cookie = resp.Cookies()[0].Name + "=" + resp.Cookies()[0].Value
	return b, nil
}

// open gets a page and reads it to the end.
func (b *browser) open(ctx context.Context, page string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.base+page, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Cookie", b.cookie)
	resp, err := b.http.Do(req)
	if err != nil {
		return fmt.Errorf("open %s: %w", page, err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return fmt.Errorf("read %s: %w", page, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("open %s: %s", page, resp.Status)
	}
	return nil
}
