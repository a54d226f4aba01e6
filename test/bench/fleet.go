package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server"
)

// The fleet that one server process is to carry.
const (
	fleetAgents = 2_000
	fleetRate   = 20_000 // events a second, of all agents together
	fleetSpan   = 20 * time.Second
	// fleetBeat is how often a simulated agent reports: ten times its heartbeat
	// would be the worst that a real one does, this is a busy one.
	fleetBeat = time.Second
	// fleetEnds is how long reports that are under way may take at the end.
	fleetEnds = 10 * time.Second
	// fleetWorkloads run on each simulated host.
	fleetWorkloads = 10
	// joiners join at once.
	joiners = 4
)

// benchFleet lets simulated agents report to one server process over mutual
// TLS, each with a connection, a certificate and an open stream of directives
// of its own. They share this machine's cores with the server.
func benchFleet(ctx context.Context, o options) (rows []row, err error) {
	h, err := openHouse(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	f := &simulated{house: h, http: socketClient(h.data)}
	begin := time.Now()
	if err := f.join(ctx, o.agents); err != nil {
		return nil, err
	}
	joined := time.Since(begin)
	before, err := f.run(ctx, o.fleetRate)
	if err != nil {
		return nil, err
	}
	after, err := costOf(h.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	slices.Sort(f.times)
	if len(f.times) == 0 {
		return nil, errors.New("no report was answered")
	}
	seconds := f.span.Seconds()
	return []row{
		{fmt.Sprintf("simulated agents on one server process: %d", o.agents), fmt.Sprintf("%.0f events/s stored", float64(f.stored.Load())/seconds), "2,000 agents, 20,000 events/s"},
		{"  events offered a second", fmt.Sprintf("%.0f", float64(f.offered.Load())/seconds), ""},
		{"  reports refused or unanswered", fmt.Sprintf("%d", f.failed.Load()), "0"},
		{"  a report is answered", fmt.Sprintf("%.0f ms, p99 %.0f ms", median(f.times), f.times[len(f.times)*99/100]), ""},
		{"  server memory at its peak", fmt.Sprintf("%.0f MiB", float64(after.peak)/(1<<20)), "≤ 1,024 MiB"},
		{"  server CPU", fmt.Sprintf("%.0f %% of a core", 100*(after.cpu-before.cpu).Seconds()/seconds), ""},
		{"  joined a second", fmt.Sprintf("%.0f", float64(o.agents)/joined.Seconds()), ""},
	}, nil
}

// simulated is a fleet of agents in this process.
type simulated struct {
	house *house
	http  *http.Client
	all   []*link.Client
	span  time.Duration

	offered, stored, failed atomic.Int64

	mu    sync.Mutex
	times []float64 // milliseconds of each report
}

// socketClient asks the server as root of its host does.
func socketClient(data string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", server.SocketPath(data))
	}}}
}

// join makes n agents, each with an invitation and a certificate of its own.
func (f *simulated) join(ctx context.Context, n int) error {
	f.all = make([]*link.Client, n)
	next := atomic.Int64{}
	errs := make(chan error, joiners)
	for range joiners {
		go func() {
			for i := int(next.Add(1) - 1); i < n; i = int(next.Add(1) - 1) {
				c, err := f.joinOne(ctx, i)
				if err != nil {
					errs <- fmt.Errorf("join agent %d: %w", i, err)
					return
				}
				f.all[i] = c
			}
			errs <- nil
		}()
	}
	var err error
	for range joiners {
		err = errors.Join(err, <-errs)
	}
	return err
}

func (f *simulated) joinOne(ctx context.Context, i int) (*link.Client, error) {
	token, err := f.invite(ctx)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	id := agentID(i)
	cred, err := link.Join(ctx, "https://"+f.house.address, f.house.fingerprint,
		link.JoinRequest{Token: token, CSR: csr, AgentID: id, Hostname: id, Version: "bench"})
	if err != nil {
		return nil, err
	}
	authority, err := x509.ParseCertificate(cred.Authority)
	if err != nil {
		return nil, err
	}
	cert := &tls.Certificate{Certificate: [][]byte{cred.Certificate}, PrivateKey: key}
	return link.NewClient(link.ClientOptions{
		Server: "https://" + f.house.address, Authority: authority,
		Certificate: func() *tls.Certificate { return cert },
	})
}

func (f *simulated) invite(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://castellan/api/v1/agents/invitations", bytes.NewReader([]byte(`{}`)))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := f.http.Do(req)
	if err != nil {
		return "", fmt.Errorf("invite: %w", err)
	}
	defer resp.Body.Close()
	var made struct {
		Token string `json:"token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&made); err != nil || made.Token == "" {
		return "", errors.Join(fmt.Errorf("invite: %s without a token", resp.Status), err)
	}
	return made.Token, nil
}

// run lets all agents report for fleetSpan, after each has connected and has
// said everything once: what two thousand handshakes cost is another question.
// It returns what the server had cost when the span began.
func (f *simulated) run(ctx context.Context, rate int) (before cost, err error) {
	listening, stop := context.WithCancel(ctx)
	defer stop()
	each := max(1, int(float64(rate)*fleetBeat.Seconds())/len(f.all))
	if err := f.introduce(ctx); err != nil {
		return cost{}, err
	}
	if before, err = costOf(f.house.cmd.Process.Pid); err != nil {
		return cost{}, err
	}
	reporting, end := context.WithTimeout(ctx, fleetSpan)
	defer end()
	begin := time.Now()
	var reporters, listeners sync.WaitGroup
	for i, c := range f.all {
		listeners.Go(func() {
			// It ends when the run does; a stream that breaks before shows in the
			// reports, which go over the same connection.
			_ = c.Directives(listening, link.Caller{AgentID: agentID(i), Boot: "BENCHBOOT"}, func(link.Directive) {})
		})
		reporters.Go(func() { f.report(reporting, i, c, each) })
	}
	reporters.Wait()
	f.span = time.Since(begin)
	stop()
	listeners.Wait()
	for _, c := range f.all {
		c.Close()
	}
	return before, ctx.Err()
}

// introduce lets each agent connect and report what runs on its host, a few at
// once.
func (f *simulated) introduce(ctx context.Context) error {
	next := atomic.Int64{}
	errs := make(chan error, joiners)
	for range joiners {
		go func() {
			for i := int(next.Add(1) - 1); i < len(f.all); i = int(next.Add(1) - 1) {
				if _, err := f.all[i].Report(ctx, firstReport(i)); err != nil {
					errs <- fmt.Errorf("first report of agent %d: %w", i, err)
					return
				}
			}
			errs <- nil
		}()
	}
	var err error
	for range joiners {
		err = errors.Join(err, <-errs)
	}
	return err
}

// firstReport is all that there is to say of a simulated host.
func firstReport(host int) link.Report {
	a := asset.Agent{ID: agentID(host), Boot: "BENCHBOOT", Hostname: agentID(host), Version: "bench", Started: time.Now()}
	var ws []asset.Workload
	for n := range fleetWorkloads {
		w := asset.Workload{ID: workloadID(host, n), AgentID: a.ID, Name: fmt.Sprintf("app-%d", n), State: asset.Running, Updated: time.Now()}
		w.Group = asset.GroupOf(w)
		ws = append(ws, w)
	}
	return link.Report{Agent: a, Workloads: ws, Complete: true, Snapshot: true}
}

// report is one simulated agent.
func (f *simulated) report(ctx context.Context, host int, c *link.Client, each int) {
	r := link.Report{Agent: firstReport(host).Agent}
	// Spread over one beat, as hosts that were not started together are.
	next := time.NewTimer(fleetBeat * time.Duration(host) / time.Duration(len(f.all)))
	defer next.Stop()
	for seq := int64(0); ; seq += int64(each) {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
			next.Reset(fleetBeat)
		}
		r.Events = r.Events[:0]
		for i := range each {
			e := generated(host, seq+int64(i))
			if e.WorkloadID != "" {
				e.WorkloadID = workloadID(host, int(seq)%fleetWorkloads)
			}
			e.Group = ""
			r.Events = append(r.Events, e)
		}
		r.Sent = time.Now()
		f.send(ctx, c, r)
	}
}

func (f *simulated) send(ctx context.Context, c *link.Client, r link.Report) {
	f.offered.Add(int64(len(r.Events)))
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), fleetEnds)
	defer cancel()
	begin := time.Now()
	if _, err := c.Report(ending, r); err != nil {
		f.failed.Add(1)
		return
	}
	f.stored.Add(int64(len(r.Events)))
	took := float64(time.Since(begin).Microseconds()) / 1000
	f.mu.Lock()
	defer f.mu.Unlock()
	f.times = append(f.times, took)
}
