package db_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

const reportSize = 2_000 // as link.MaxEvents

func openFor(b testing.TB, o db.Options) *db.DB {
	b.Helper()
	d, err := db.Open(b.Context(), o, testLog())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := d.Close(); err != nil {
			b.Error(err)
		}
	})
	return d
}

// BenchmarkAppend stores reports one after the other; every one is a durable
// commit of its own. "power" is how the product runs, "process" what the sync
// costs.
func BenchmarkAppend(b *testing.B) {
	for _, mode := range []struct {
		name string
		weak bool
	}{{"power", false}, {"process", true}} {
		for _, size := range []int{reportSize, 100, 10} {
			b.Run(fmt.Sprintf("crash=%s/report=%d", mode.name, size), func(b *testing.B) {
				d := openFor(b, db.Options{Path: filepath.Join(b.TempDir(), "bench.db"), ProcessCrashOnly: mode.weak})
				f := newFleet(1)
				n, cpu := 0, time.Duration(0)
				for b.Loop() {
					b.StopTimer()
					batch := f.batch(size)
					before := cpuTime(b)
					b.StartTimer()
					if err := d.AppendEvents(b.Context(), batch); err != nil {
						b.Fatal(err)
					}
					cpu += cpuTime(b) - before
					n += size
				}
				b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
				b.ReportMetric(float64(cpu.Nanoseconds())/float64(n)/1000, "cpu-µs/event")
			})
		}
	}
}

// BenchmarkAppendObjects stores reports of file events alone, of whose paths
// the named share has never been seen, and of connections and files mixed with
// processes.
func BenchmarkAppendObjects(b *testing.B) {
	for _, kind := range []struct {
		name  string
		fleet func() *fleet
		batch func(f *fleet) []event.Event
	}{
		{"files, half new", func() *fleet { return newFleet(1) }, fileBatch(2)},
		{"files, all new", func() *fleet { return newFleet(1) }, fileBatch(1)},
		{"port scan", func() *fleet { return newFleet(1) }, scanBatch},
		{"mixed", func() *fleet { return newMixed(1) }, func(f *fleet) []event.Event { return f.batch(reportSize) }},
	} {
		b.Run(kind.name, func(b *testing.B) {
			d := openFor(b, db.Options{Path: filepath.Join(b.TempDir(), "bench.db")})
			f := kind.fleet()
			n, cpu := 0, time.Duration(0)
			var took []time.Duration
			for b.Loop() {
				b.StopTimer()
				batch := kind.batch(f)
				before, start := cpuTime(b), time.Now()
				b.StartTimer()
				if err := d.AppendEvents(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
				cpu += cpuTime(b) - before
				n += len(batch)
			}
			h, err := d.Health(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(cpu.Nanoseconds())/float64(n)/1000, "cpu-µs/event")
			b.ReportMetric(float64(h.Bytes)/float64(n), "bytes/event")
			// What it comes to when the lists have grown.
			var last time.Duration
			quarter := took[len(took)*3/4:]
			for _, d := range quarter {
				last += d
			}
			b.ReportMetric(float64(len(quarter)*reportSize)/last.Seconds(), "events/s-last-quarter")
		})
	}
}

// fileBatch makes reports of writes to files, one of so many a new one.
func fileBatch(oneOf int) func(*fleet) []event.Event {
	return func(f *fleet) []event.Event {
		batch := f.batch(reportSize)
		for i := range batch {
			e := &batch[i]
			path := fmt.Sprintf("/srv/app/data/file-%d.json", f.rnd.IntN(200))
			if f.rnd.IntN(oneOf) == 0 {
				path = fmt.Sprintf("/var/lib/app/cache/%x/%016x.tmp", f.rnd.IntN(256), f.rnd.Uint64())
			}
			e.Kind, e.Exec, e.Exit = event.KindFileWrite, nil, nil
			e.File = &event.File{Path: path, Flags: []string{"write", "create"}, Origin: event.OriginWritten, FileSystem: "overlay", Inode: 7, Mode: 0o644}
		}
		return batch
	}
}

// scanBatch makes reports of connections to a new peer each.
func scanBatch(f *fleet) []event.Event {
	batch := f.batch(reportSize)
	for i := range batch {
		e := &batch[i]
		peer := netip.AddrFrom4([4]byte{10, byte(f.rnd.IntN(256)), byte(f.rnd.IntN(256)), byte(f.rnd.IntN(256))})
		e.Kind, e.Exec, e.Exit, e.WorkloadID = event.KindConnect, nil, nil, workloadID(1, 1)
		e.Connection = &event.Connection{Protocol: "tcp", Remote: netip.AddrPortFrom(peer, uint16(1+f.rnd.IntN(65_000)))}
	}
	return batch
}

// cpuTime is what the process has used: unlike the clock it does not depend on
// what else the machine does.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAppendTogether is what group commit is for: many agents with small
// reports at once.
func BenchmarkAppendTogether(b *testing.B) {
	for _, size := range []int{10, 100} {
		b.Run(fmt.Sprintf("agents=64/report=%d", size), func(b *testing.B) {
			d := openFor(b, db.Options{Path: filepath.Join(b.TempDir(), "bench.db")})
			const agents, reports = 64, 20
			n, seed := 0, uint64(0)
			for b.Loop() {
				b.StopTimer()
				batches := make([][]event.Event, agents*reports)
				f := newFleet(seed)
				seed++
				for i := range batches {
					batches[i] = f.batch(size)
					for j := range batches[i] {
						// Each sender is an agent of its own.
						batches[i][j].AgentID = fmt.Sprintf("agent-%d-%d", seed, i%agents)
						batches[i][j].Seq = uint64(i/agents*size + j + 1)
					}
				}
				b.StartTimer()
				if err := sendTogether(b.Context(), d, batches, agents); err != nil {
					b.Fatal(err)
				}
				n += agents * reports * size
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// sendTogether gives every agent its own sender; batch i is of agent i%agents.
func sendTogether(ctx context.Context, d *db.DB, batches [][]event.Event, agents int) error {
	var wg sync.WaitGroup
	errs := make([]error, agents)
	for a := range agents {
		wg.Go(func() {
			for i := a; i < len(batches) && errs[a] == nil; i += agents {
				errs[a] = d.AppendEvents(ctx, batches[i])
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// BenchmarkWorkloads asks the pages of 100,000 workloads, most of them ended.
func BenchmarkWorkloads(b *testing.B) {
	const n = 100_000
	d := openFor(b, db.Options{Path: filepath.Join(b.TempDir(), "bench.db")})
	ws := make([]asset.Workload, n)
	for i := range ws {
		ws[i] = asset.Workload{
			ID: workloadID(i/250, i%250), AgentID: fmt.Sprintf("agent-%d", i%50), Name: fmt.Sprintf("app-%d", i),
			Group: asset.Group(groupName(i, 0)), State: asset.Exited, Created: fleetStart.Add(time.Duration(i) * time.Second),
			ECS: asset.ECS{Cluster: "prod"}, Image: asset.Image{Reference: "registry.example/app:1"},
		}
		if i%100 == 0 {
			ws[i].State = asset.Running
		}
	}
	if err := d.PutWorkloads(b.Context(), ws); err != nil {
		b.Fatal(err)
	}
	for name, q := range map[string]store.WorkloadQuery{
		"first": {}, "deep": {After: ws[n/2+1].ID}, "group": {Group: groupName(3, 0)}, "agent": {AgentID: "agent-7"},
		"state": {States: []asset.State{asset.Lost}}, "text": {Text: "app-99"}, "text nothing": {Text: "zzz"},
	} {
		measure(b, name, func() (string, error) {
			page, err := d.Workloads(b.Context(), q)
			return fmt.Sprintf("rows=%d", len(page)), err
		})
	}
}

// benchEvents is how large the data of BenchmarkQueries is.
func benchEvents(b testing.TB, otherwise int) int {
	b.Helper()
	s := os.Getenv("CASTELLAN_BENCH_EVENTS")
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		b.Fatalf("CASTELLAN_BENCH_EVENTS: %v", err)
	}
	return n
}

// filled opens a store with n generated events. With CASTELLAN_BENCH_DIR it is
// kept there and used again, because ten million take minutes to make.
func filled(b testing.TB, n int) *db.DB {
	b.Helper()
	dir := os.Getenv("CASTELLAN_BENCH_DIR")
	if dir == "" {
		dir = b.TempDir()
	}
	d := openFor(b, db.Options{Path: filepath.Join(dir, fmt.Sprintf("events-%d.db", n))})
	h, err := d.Health(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if h.Events == 0 {
		fill(b, d, n)
	}
	return d
}

func fill(b testing.TB, d *db.DB, n int) { fillFrom(b, d, newFleet(1), n) }

func fillFrom(b testing.TB, d *db.DB, f *fleet, n int) {
	b.Helper()
	start, stored := time.Now(), 0
	for stored < n {
		batch := f.batch(min(reportSize, n-stored))
		if err := d.AppendEvents(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		stored += len(batch)
		if stored%1_000_000 == 0 {
			b.Logf("%d events, %.0f/s", stored, float64(stored)/time.Since(start).Seconds())
		}
	}
	h, err := d.Health(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d events in %v, %.0f a second, %d bytes each", n, time.Since(start).Round(time.Second),
		float64(n)/time.Since(start).Seconds(), h.Bytes/int64(n))
}

type namedQuery struct {
	name string
	q    store.EventQuery
}

// consoleQueries are what the console asks, each filter alone with a common
// and a rare value, the usual combinations, and what matches nothing.
func consoleQueries(n int) []namedQuery {
	end := fleetStart.Add(time.Duration(n) * fleetStep)
	mid := fleetStart.Add(time.Duration(n) * fleetStep / 2)
	common, rare := workloadID(3, 0), workloadID(3, fleetWorkloads-2)
	top, seldom := program(0), program(fleetPrograms-2)
	mining := "/tmp/.hidden/xmrig"
	return []namedQuery{
		{"all", store.EventQuery{}},
		{"deep", store.EventQuery{Before: int64(n / 2)}},
		{"limit 1000", store.EventQuery{Limit: store.MaxPage}},
		{"follow", store.EventQuery{After: int64(n - 50)}},
		{"kind", store.EventQuery{Kinds: []event.Kind{event.KindExec}}},
		{"kinds", store.EventQuery{Kinds: []event.Kind{event.KindExec, event.KindExit}}},
		{"kind unknown", store.EventQuery{Kinds: []event.Kind{"file.open"}}},
		{"agent", store.EventQuery{AgentID: "agent-07"}},
		{"workload common", store.EventQuery{WorkloadID: common}},
		{"workload rare", store.EventQuery{WorkloadID: rare}},
		{"workload deep", store.EventQuery{WorkloadID: common, Before: int64(n / 10)}},
		{"workload unknown", store.EventQuery{WorkloadID: "none"}},
		{"group", store.EventQuery{Group: groupName(1, 2)}},
		{"host", store.EventQuery{HostOnly: true}},
		{"executable common", store.EventQuery{Executable: top}},
		{"executable seldom", store.EventQuery{Executable: seldom}},
		{"executable rare", store.EventQuery{Executable: mining}},
		{"executable prefix", store.EventQuery{Executable: "/usr/bin/tool-d*"}},
		{"executable prefix many", store.EventQuery{Executable: "/usr/bin/*"}},
		{"executable prefix rare", store.EventQuery{Executable: "/tmp/*"}},
		{"origin rare", store.EventQuery{Origins: []event.Origin{event.OriginMemory}}},
		{"origins", store.EventQuery{Origins: []event.Origin{event.OriginMemory, event.OriginWritten}}},
		{"entered", store.EventQuery{Entered: true}},
		{"entered in workload", store.EventQuery{Entered: true, WorkloadID: rare}},
		{"workload and kind", store.EventQuery{WorkloadID: rare, Kinds: []event.Kind{event.KindExec}}},
		{"workload and executable", store.EventQuery{WorkloadID: rare, Executable: seldom}},
		{"workload and other executable", store.EventQuery{WorkloadID: rare, Executable: mining}},
		{"group and kind and time", store.EventQuery{Group: groupName(1, 2), Kinds: []event.Kind{event.KindExec}, Since: mid, Until: mid.Add(time.Hour)}},
		{"agent and wrong group", store.EventQuery{AgentID: "agent-07", Group: groupName(7, 30)}},
		{"time", store.EventQuery{Since: mid, Until: mid.Add(time.Minute)}},
		{"time of future", store.EventQuery{Since: end.Add(time.Hour)}},
		{"time of past", store.EventQuery{Until: fleetStart.Add(time.Minute)}},
		{"exits without exec terms", store.EventQuery{Kinds: []event.Kind{event.KindFork}, Entered: true}},
		{"text common", store.EventQuery{Text: "config"}},
		{"text rare", store.EventQuery{Text: "stratum"}},
		{"text several", store.EventQuery{Text: "minerals xmrig"}},
		{"text beginning", store.EventQuery{Text: "stra"}},
		{"text one letter", store.EventQuery{Text: "x"}},
		{"text path", store.EventQuery{Text: "/tmp/.hidden"}},
		{"text address", store.EventQuery{Text: "10.0.77.13"}},
		{"text id", store.EventQuery{Text: "--request-id=00ff"}},
		{"text nothing", store.EventQuery{Text: "zzzzz"}},
		{"text and workload", store.EventQuery{Text: "curl", WorkloadID: rare}},
		{"text apart", store.EventQuery{Text: "curl stratum"}},
	}
}

// BenchmarkQueries asks every query of the console of CASTELLAN_BENCH_EVENTS
// events (10 million) and reports the median and the slowest call.
func BenchmarkQueries(b *testing.B) {
	n := benchEvents(b, 10_000_000)
	d := filled(b, n)
	ctx := context.Background()
	for _, nq := range consoleQueries(n) {
		measure(b, nq.name, func() (string, error) {
			page, err := d.Events(ctx, nq.q)
			return fmt.Sprintf("rows=%d partial=%v", len(page.Events), page.Partial), err
		})
	}
	end := fleetStart.Add(time.Duration(n) * fleetStep)
	one, err := d.Events(ctx, store.EventQuery{Before: int64(n / 3), Limit: 1})
	if err != nil {
		b.Fatal(err)
	}
	e := one.Events[0]
	measure(b, "process", func() (string, error) {
		page, err := d.Events(ctx, store.EventQuery{AgentID: e.AgentID, Process: e.Process.Key})
		return fmt.Sprintf("rows=%d partial=%v", len(page.Events), page.Partial), err
	})
	measure(b, "event by id", func() (string, error) {
		_, err := d.Event(ctx, e.ID)
		return "", err
	})
	measure(b, "notable", func() (string, error) {
		events, err := d.Notable(ctx, end.Add(-24*time.Hour), 50)
		return fmt.Sprintf("rows=%d", len(events)), err
	})
	measure(b, "rate of a day", func() (string, error) {
		rates, err := d.EventRate(ctx, "", end.Add(-24*time.Hour), end, 5*time.Minute)
		return fmt.Sprintf("buckets=%d", len(rates)), err
	})
	measure(b, "rate of ten days", func() (string, error) {
		rates, err := d.EventRate(ctx, "", fleetStart, end, time.Hour)
		return fmt.Sprintf("buckets=%d", len(rates)), err
	})
	measure(b, "rate of a workload", func() (string, error) {
		rates, err := d.EventRate(ctx, workloadID(3, 0), end.Add(-24*time.Hour), end, 5*time.Minute)
		return fmt.Sprintf("buckets=%d", len(rates)), err
	})
	measure(b, "health", func() (string, error) {
		_, err := d.Health(ctx)
		return "", err
	})
}

// BenchmarkObjectQueries asks about paths and peers of CASTELLAN_BENCH_EVENTS
// events (one million), and for flows and samples.
func BenchmarkObjectQueries(b *testing.B) {
	n := benchEvents(b, 1_000_000)
	d := openFor(b, db.Options{Path: filepath.Join(b.TempDir(), "bench.db")})
	fillFrom(b, d, newMixed(1), n)
	ctx := b.Context()
	for _, nq := range objectQueries() {
		measure(b, nq.name, func() (string, error) {
			page, err := d.Events(ctx, nq.q)
			return fmt.Sprintf("rows=%d partial=%v", len(page.Events), page.Partial), err
		})
	}
	end := fleetStart.Add(time.Duration(n) * fleetStep)
	for name, q := range map[string]store.FlowQuery{
		"flows of an hour":       {Since: end.Add(-time.Hour)},
		"flows of a workload":    {WorkloadID: workloadID(3, 0)},
		"flows of a group a day": {Group: groupName(1, 2), Since: end.Add(-24 * time.Hour)},
	} {
		measure(b, name, func() (string, error) {
			flows, err := d.Flows(ctx, q)
			return fmt.Sprintf("flows=%d", len(flows)), err
		})
	}
	samples := make([]asset.Sample, 40_000)
	for i := range samples {
		samples[i] = asset.Sample{WorkloadID: "w", Time: fleetStart.Add(time.Duration(i) * 10 * time.Second), Memory: uint64(i)}
	}
	if err := d.PutSamples(ctx, samples); err != nil {
		b.Fatal(err)
	}
	measure(b, "samples of four days", func() (string, error) {
		got, err := d.Samples(ctx, "w", fleetStart, fleetStart.AddDate(0, 0, 5), 5*time.Minute)
		return fmt.Sprintf("samples=%d", len(got)), err
	})
}

func measure(b *testing.B, name string, ask func() (string, error)) {
	b.Run(name, func(b *testing.B) {
		var took []time.Duration
		var said string
		for b.Loop() {
			start := time.Now()
			var err error
			if said, err = ask(); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(start))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-median")
		b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms-slowest")
		b.Log(said)
	})
}

func testLog() *slog.Logger { return slog.New(slog.DiscardHandler) }
