package agent

import (
	"io"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

// nobody reads no program.
type nobody struct{}

func (nobody) ReadProgram(*event.Event, event.Key, func(event.FileIdentity, io.Reader) error) error {
	return fault.New(fault.NotFound, "it has ended")
}

// BenchmarkDigests tells what an exec of a program whose file is known costs more.
func BenchmarkDigests(b *testing.B) {
	const batch = 64
	events := make([]event.Event, batch)
	for i := range events {
		events[i] = event.Event{
			Kind: event.KindExec, WorkloadID: strings.Repeat("a", 64), Process: event.Process{Executable: "/usr/bin/python3.11"},
			Exec: &event.Exec{Origin: event.OriginImage, Inode: uint64(i + 1)},
		}
	}
	for name, reader := range map[string]ProgramReader{"known": nobody{}, "without": nil} {
		b.Run(name, func(b *testing.B) {
			d := newDigests(reader, nil, func([]event.Event) {})
			for i := range events {
				key, _ := digestKeyOf(&events[i])
				d.programs.put(key, "sha256:"+strings.Repeat("0", 64))
			}
			for b.Loop() {
				for i := range events {
					events[i].Exec.Digest = ""
				}
				d.pass(events)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/exec")
		})
	}
}
