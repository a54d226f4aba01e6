package bpf_test

import (
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/need"
)

// BenchmarkExecSeen tells what one exec costs in the process sensor (on_exec-ns), by
// the size of its environment: of what is like one that was told, and of what is told
// each time.
func BenchmarkExecSeen(b *testing.B) {
	need.Root(b)
	need.BPF(b, "tp_btf")
	variables := func(n int) []string {
		env := make([]string, n)
		for i := range env {
			env[i] = "SETTING_OF_SERVICE=" + strings.Repeat("v", 28) // 48 bytes with its NUL, as is usual
		}
		return env
	}
	for _, bench := range []struct {
		name   string
		env    []string
		window bool
	}{
		{"alike/none", []string{}, true}, {"alike/1200", variables(25), true}, {"alike/4800", variables(100), true},
		{"told/none", []string{}, false}, {"told/1200", variables(25), false}, {"told/4800", variables(100), false},
	} {
		b.Run(bench.name, func(b *testing.B) {
			stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
			if err != nil {
				b.Fatal(err)
			}
			defer stats.Close()
			o := processAlone()
			if !bench.window {
				o.Settings.Window = -1
			}
			s, err := bpf.Open(b.Context(), o, quiet())
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			for b.Loop() {
				p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{Env: bench.env})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := p.Wait(); err != nil {
					b.Fatal(err)
				}
			}
			st, err := s.Program("process", "on_exec").Stats()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(st.Runtime.Nanoseconds())/float64(st.RunCount), "on_exec-ns")
		})
	}
}
