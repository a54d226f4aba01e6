package agent

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// unanswered reads nothing in the container "served" until it is closed.
type unanswered chan struct{}

func (u unanswered) ReadProgram(e *event.Event, _ event.Key, use func(event.FileIdentity, io.Reader) error) error {
	if e.WorkloadID == "served" {
		<-u
	}
	const content = "program"
	return use(event.FileIdentity{Inode: e.Exec.Inode, Size: int64(len(content))}, strings.NewReader(content))
}

// A container whose files nobody gives out keeps nobody from knowing what others run, and
// the agent from ending.
func TestFilesThatAreNeverReadHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		silent := make(unanswered)
		defer close(silent)
		var got []event.Event
		d := newDigests(silent, func(string, event.Key) event.Key { return event.Key{} }, func(e []event.Event) { got = append(got, e...) })
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			d.run(ctx)
		}()
		run := func(workload string, inode uint64) {
			d.pass([]event.Event{{Kind: event.KindExec, WorkloadID: workload, Exec: &event.Exec{Origin: event.OriginMount, Inode: inode}}})
		}
		for i := range uint64(20) {
			run("served", i+1)
		}
		time.Sleep(digestPatience + time.Second)
		run("other", 100)
		time.Sleep(time.Second)
		if n := len(got); n != 21 || got[n-1].WorkloadID != "other" || got[n-1].Exec.Digest == "" {
			t.Errorf("%d were told, the last with the digest %q of %q", n, got[n-1].Exec.Digest, got[n-1].WorkloadID)
		}
		run("served", 200) // and is read no more
		time.Sleep(time.Second)
		run("other", 101)
		time.Sleep(time.Second)
		if n := len(got); n != 23 || got[n-1].Exec.Digest == "" {
			t.Errorf("%d were told, the last with the digest %q", n, got[n-1].Exec.Digest)
		}
		cancel()
		<-ended
	})
}
