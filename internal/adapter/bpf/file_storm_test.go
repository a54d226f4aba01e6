package bpf_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/need"
)

// BenchmarkOpenStorm opens and closes an ordinary file to read it, without the
// file sensor and with it alone: what nearly every open of a host costs.
func BenchmarkOpenStorm(b *testing.B) {
	need.Root(b)
	need.BPF(b, "tp_btf")
	others := slices.DeleteFunc(bpf.Names(), func(name string) bool { return name == "file" })
	b.Run("off", openStorm)
	b.Run("on", func(b *testing.B) {
		s, err := bpf.Open(b.Context(), bpf.Options{Off: others}, quiet())
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx, func([]event.Event) {}) }()
		openStorm(b)
		cancel()
		<-done
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	b.Run("measured", func(b *testing.B) {
		stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
		if err != nil {
			b.Fatal(err)
		}
		s, err := bpf.Open(b.Context(), bpf.Options{Off: others}, quiet())
		if err != nil {
			b.Fatal(err)
		}
		openStorm(b)
		reportPrograms(b)
		if err := s.Close(); err != nil {
			b.Error(err)
		}
		if err := stats.Close(); err != nil {
			b.Error(err)
		}
	})
}

func openStorm(b *testing.B) {
	path := filepath.Join(b.TempDir(), "ordinary")
	if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		if err := unix.Close(fd); err != nil {
			b.Fatal(err)
		}
	}
}
