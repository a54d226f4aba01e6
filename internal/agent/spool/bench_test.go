package spool_test

import (
	"testing"

	"github.com/castellan-security/castellan/internal/agent/spool"
)

// BenchmarkPushAck is the steady state: what is pushed is taken and
// acknowledged soon after, from memory. It tells the cost of one event.
func BenchmarkPushAck(b *testing.B) {
	for _, bc := range []struct {
		name string
		opts func(dir string) spool.Options
	}{
		{"disk", func(dir string) spool.Options { return spool.Options{Dir: dir} }},
		{"memory", func(string) spool.Options { return spool.Options{} }},
	} {
		b.Run(bc.name, func(b *testing.B) {
			s := open(b, "BOOT0001", bc.opts(b.TempDir()))
			events := batchOf(100)
			b.ReportAllocs()
			for n := 0; n < b.N; n += len(events) {
				s.Push(events)
				got := s.Peek(2000)
				s.Ack(len(got.Events))
				s.Tend()
			}
		})
	}
}

// BenchmarkBacklog is what one event costs that is read back from disk.
func BenchmarkBacklog(b *testing.B) {
	s := open(b, "BOOT0001", spool.Options{Dir: b.TempDir(), Cache: 1, Size: 4 << 30})
	events := batchOf(100)
	for n := 0; n < b.N; n += len(events) {
		s.Push(events)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for got := s.Peek(2000); len(got.Events) > 0; got = s.Peek(2000) {
		s.Ack(len(got.Events))
	}
}
