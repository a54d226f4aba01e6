package bpf_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/need"
)

// BenchmarkExecStorm starts one process after the other, without sensors and
// with them, and tells what one run of each program costs in the kernel.
// Compare "off" and "on" of one run: on ÷ off is what the sensors cost.
func BenchmarkExecStorm(b *testing.B) {
	need.Root(b)
	need.BPF(b, "tp_btf")
	b.Run("off", storm)
	b.Run("on", func(b *testing.B) {
		s, err := bpf.Open(b.Context(), bpf.Options{}, quiet())
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error)
		var events int
		go func() { done <- s.Run(ctx, func(batch []event.Event) { events += len(batch) }) }()
		storm(b)
		cancel()
		<-done
		b.ReportMetric(float64(s.Status()[0].Lost), "lost")
		b.ReportMetric(float64(events)/float64(b.N), "events/op")
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	b.Run("measured", func(b *testing.B) {
		stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
		if err != nil {
			b.Fatal(err)
		}
		s, err := bpf.Open(b.Context(), bpf.Options{}, quiet())
		if err != nil {
			b.Fatal(err)
		}
		storm(b)
		reportPrograms(b)
		if err := s.Close(); err != nil {
			b.Error(err)
		}
		if err := stats.Close(); err != nil {
			b.Error(err)
		}
	})
}

func storm(b *testing.B) {
	attr := &os.ProcAttr{Sys: &syscall.SysProcAttr{}}
	path, err := exec.LookPath("true")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p, err := os.StartProcess(path, []string{"true"}, attr)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Wait(); err != nil {
			b.Fatal(err)
		}
	}
}

// reportPrograms reports the mean run time of the loaded programs of ours.
func reportPrograms(b *testing.B) {
	b.Helper()
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if err != nil {
			return // the last one
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // unloaded meanwhile
		}
		info, err := p.Info()
		if err == nil && strings.HasPrefix(info.Name, "on_") {
			if st, err := p.Stats(); err == nil && st.RunCount > 0 {
				b.ReportMetric(float64(st.Runtime.Nanoseconds())/float64(st.RunCount), info.Name+"-ns")
			}
		}
		if err := p.Close(); err != nil {
			b.Error(err)
		}
	}
}

// BenchmarkRunning lists this host's processes and 5,000 more.
func BenchmarkRunning(b *testing.B) {
	need.Root(b)
	need.BPF(b, "tp_btf")
	for range 5_000 {
		cmd := exec.CommandContext(b.Context(), "/bin/sleep", "1000")
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = cmd.Wait() })
	}
	s, err := bpf.Open(b.Context(), processAlone(), quiet())
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	}()
	for b.Loop() {
		all, err := s.Running(b.Context())
		if err != nil || len(all) < 5_000 {
			b.Fatalf("%d processes, %v", len(all), err)
		}
	}
}
