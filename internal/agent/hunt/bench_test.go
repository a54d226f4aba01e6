package hunt

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/event"
)

// BenchmarkEvent is what one event costs on its way through a hunter, whose engine has
// all built-in rules: where it belongs, the rules, and what becomes of it. cpu-ns/op is
// the time of processors, whatever else this machine does.
func BenchmarkEvent(b *testing.B) {
	ids := make([]string, 20)
	for i := range ids {
		ids[i] = strings.Repeat(fmt.Sprintf("%02x", i), 32)
	}
	mixed := func(n int) event.Event {
		pid := uint32(1000 + n%500)
		e := event.Event{
			Time: time.Unix(1_800_000_000, int64(n)*100_000), WorkloadID: ids[n%len(ids)], Boot: "boot", Seq: uint64(n),
			Process: event.Process{Key: event.Key{PID: pid, Start: uint64(pid)}, Parent: event.Key{PID: 7, Start: 7}, Name: "app", Executable: "/usr/bin/app"},
		}
		switch n % 8 {
		case 0:
			e.Kind, e.Exec = event.KindExec, &event.Exec{Args: []string{"app", "--option", "value"}, Origin: event.OriginImage}
		case 1:
			e.Kind, e.Exit = event.KindExit, &event.Exit{}
		case 2, 3:
			e.Kind, e.File = event.KindFileWrite, &event.File{Path: "/var/lib/app/data.db", Origin: event.OriginWritten}
		case 4:
			e.Kind, e.File = event.KindFileCreate, &event.File{Path: "/tmp/work.tmp", Origin: event.OriginWritten}
		case 5:
			e.Kind = event.KindFork
		default:
			e.Kind, e.Connection = event.KindConnect, &event.Connection{Protocol: "tcp", Remote: netip.MustParseAddrPort("10.0.0.7:5432")}
		}
		return e
	}
	h, err := Open(Options{AgentID: "A", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	known := map[string]string{}
	for i, id := range ids {
		known[id] = fmt.Sprint("shop/service/", i)
	}
	h.start = Start{Group: func(id string) (string, bool) { g, ok := known[id]; return g, ok }, Wake: func() {}}
	batch := make([]event.Event, 50)
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	b.ReportAllocs()
	b.ResetTimer()
	var spent time.Duration
	for n := 0; n < b.N; n += len(batch) {
		for i := range batch {
			batch[i] = mixed(n + i)
		}
		began := cpu()
		h.observe(batch)
		spent += cpu() - began
	}
	b.ReportMetric(float64(spent)/float64(b.N), "cpu-ns/op")
	if d := h.Status(); d.Waiting > 100 {
		b.Errorf("%d threats of ordinary work", d.Waiting)
	}
}
