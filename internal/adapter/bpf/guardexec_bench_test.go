package bpf_test

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/profile"
)

// BenchmarkExecHeld starts a program again and again in a container, without programs
// that hold, with them but held by nothing, and held. Compare the three of one run.
// run-ns is what the programs took meanwhile, for all calls of the host.
func BenchmarkExecHeld(b *testing.B) {
	for _, how := range []string{"unloaded", "free", "held"} {
		b.Run(how, func(b *testing.B) {
			id, dir := newID(b), ""
			if how != "unloaded" {
				dir = pins(b)
				g := execGuard(b, dir)
				check(b, g.Set(execRules(profile.Deny, profile.ExecRules{Paths: []profile.Pattern{"/bin/tool", "/usr/lib/*/bin/x*", "/opt/**"}})))
				if how == "held" {
					check(b, g.Hold(id, netGroup))
				}
			}
			v2, _ := hierarchies()
			h := startIn(b, v2, "castellan-test-held-"+id[:8]+"/docker/"+id, "overlay="+newRoot(b),
				"again="+strconv.Itoa(b.N), "/bin/tool", "tool", "exit=0")
			stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
			check(b, err)
			b.ResetTimer()
			h.finish()
			b.StopTimer()
			if dir != "" {
				b.ReportMetric(runTime(b, dir)/float64(b.N), "run-ns/op")
			}
			check(b, stats.Close())
		})
	}
}

// runTime is how long the programs that are pinned below a folder ran, in nanoseconds;
// of each program beside, in the metrics.
func runTime(b *testing.B, dir string) (ns float64) {
	b.Helper()
	links, err := filepath.Glob(filepath.Join(dir, "*", "*", "link_*"))
	check(b, err)
	for _, pin := range links {
		l, err := link.LoadPinnedLink(pin, nil)
		check(b, err)
		of, err := l.Info()
		check(b, err)
		p, err := ebpf.NewProgramFromID(of.Program)
		check(b, err)
		st, err := p.Stats()
		check(b, err)
		if st.RunCount > 0 {
			b.ReportMetric(float64(st.Runtime.Nanoseconds())/float64(st.RunCount), strings.TrimPrefix(filepath.Base(pin), "link_")+"-ns")
		}
		ns += float64(st.Runtime.Nanoseconds())
		check(b, errors.Join(p.Close(), l.Close()))
	}
	return ns
}

// BenchmarkCallBesideGuards makes a system call that nobody looks at, on the host, with
// what looks at calls loaded for others: what every call of the host pays. least-ns is
// the fastest of many pieces, which other work on the machine touches less. Compare those
// of one run.
func BenchmarkCallBesideGuards(b *testing.B) {
	const piece = 1000 // calls: half a millisecond
	call := func(b *testing.B) {
		least := time.Hour
		for b.Loop() {
			begin := time.Now()
			for range piece {
				if _, _, errno := unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0); errno != 0 {
					b.Fatal(errno)
				}
			}
			least = min(least, time.Since(begin))
		}
		b.ReportMetric(float64(least.Nanoseconds())/piece, "least-ns")
	}
	load := func(b *testing.B, open func(string, *slog.Logger) (*bpf.Guard, error), c profile.Control) {
		g := guardOf(b, pins(b), open)
		r := execRules(profile.Off, profile.ExecRules{})
		r.Answers[c] = profile.Deny
		check(b, g.Set(r))
	}
	b.Run("unloaded", call)
	b.Run("exec", func(b *testing.B) {
		load(b, bpf.OpenExecGuard, profile.ControlExec)
		call(b)
	})
	b.Run("privilege", func(b *testing.B) {
		load(b, bpf.OpenPrivilegeGuard, profile.ControlPrivilege)
		call(b)
	})
	b.Run("both", func(b *testing.B) {
		load(b, bpf.OpenExecGuard, profile.ControlExec)
		load(b, bpf.OpenPrivilegeGuard, profile.ControlPrivilege)
		call(b)
	})
}
