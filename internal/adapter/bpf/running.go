package bpf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

//go:generate go tool bpf2go -cc clang -strip llvm-strip -target amd64,arm64 -type running running running.bpf.c -- -O2 -Wall -Werror -mcpu=v2

// Limits of what is kept of one process that runs already.
const (
	// maxCommandLine is as much as the process sensor tells of arguments.
	maxCommandLine = 8 << 10
	// maxRunningArgs is what a person reads of a command line.
	maxRunningArgs = 128
	// maxListing bounds the memory for a listing of 4 million processes, the
	// most that there can be, were they all to fill it.
	maxListing = 1 << 30
)

const runningLen = int(unsafe.Sizeof(runningRunning{}))

// lister lists what runs. Its program is loaded when it is asked first.
type lister struct {
	mu       sync.Mutex
	programs *ebpf.Collection
	closed   bool
}

// Running lists what runs now, without the kernel's own threads, with start
// times as the sensors tell them. A process that ends meanwhile may be left out
// or lack its arguments. Where no sensor runs the error is of kind Unavailable.
func (s *Sensors) Running(ctx context.Context) ([]event.Running, error) {
	s.mu.Lock()
	on := s.on
	s.mu.Unlock()
	if on == nil {
		return nil, fault.New(fault.Unavailable, "no sensor runs")
	}
	b, err := s.lister.list(on)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	d := newDecoder(NewClock(nil))
	line := make([]byte, maxCommandLine)
	all := make([]event.Running, 0, len(b)/(runningLen+16))
	for len(b) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("list processes: %w", err)
		}
		var r event.Running
		if b, err = decodeRunning(d, b, &r); err != nil {
			return nil, fmt.Errorf("list processes: %w", err)
		}
		s.inits.note(r.WorkloadID, &r.Process)
		r.Args = s.commandLine(r.Process.Key.PID, line)
		all = append(all, r)
	}
	return all, nil
}

// list returns the records of all processes.
func (l *lister) list(on *shared) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fault.New(fault.Unavailable, "sensors are closed")
	}
	if l.programs == nil {
		if err := l.load(on); err != nil {
			return nil, err
		}
	}
	it, err := link.AttachIter(link.IterOptions{Program: l.programs.Programs["list_running"]})
	if err != nil {
		return nil, fmt.Errorf("attach iterator: %w", err)
	}
	b, err := readIterator(it)
	if err = errors.Join(err, it.Close()); err != nil {
		return nil, fmt.Errorf("run iterator: %w", err)
	}
	return b, nil
}

func (l *lister) load(on *shared) error {
	spec, err := loadRunning()
	if err != nil {
		return err
	}
	own := map[string]*ebpf.Map{}
	for name, m := range on.maps {
		if spec.Maps[name] != nil {
			own[name] = m
		}
	}
	spec.Maps[eventsMap].MaxEntries = on.maps[eventsMap].MaxEntries()
	l.programs, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: own})
	if err != nil {
		return fmt.Errorf("load programs: %w", err)
	}
	return nil
}

func (l *lister) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.programs != nil {
		l.programs.Close()
	}
	l.programs = nil
}

func readIterator(it *link.Iter) ([]byte, error) {
	r, err := it.Open()
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, maxListing))
	return b, errors.Join(err, r.Close())
}

// decodeRunning reads the first process of b, and returns what follows it.
func decodeRunning(d *decoder, b []byte, r *event.Running) ([]byte, error) {
	if len(b) < runningLen {
		return nil, errShort
	}
	var at runningRunning
	var e event.Event
	h, err := d.head(b, &e)
	if err != nil {
		return nil, err
	}
	n := int(u16(b, unsafe.Offsetof(at.ExecutableLen)))
	origin := processOrigin(b[unsafe.Offsetof(at.Origin)])
	cut := b[unsafe.Offsetof(at.Cut)] != 0
	b = b[runningLen:]
	if n > len(b) {
		return nil, errShort
	}
	*r = event.Running{
		WorkloadID: e.WorkloadID,
		Process:    e.Process,
		Origin:     originOf(origin),
		Started:    d.clock.Time(h.start),
	}
	if n > 0 {
		r.Process.Executable = d.joinPath(b[:n], cut)
	}
	return b[n:], nil
}

// commandLine reads the arguments of a process, using space. The process may
// write over them, and nginx and postgres do: empty last ones are not kept.
func (s *Sensors) commandLine(pid uint32, space []byte) []string {
	fd, err := unix.Open(s.proc+"/"+strconv.FormatUint(uint64(pid), 10)+"/cmdline", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, space)
	if err != nil {
		return nil
	}
	b := bytes.TrimRight(space[:n], "\x00")
	if len(b) == 0 {
		return nil
	}
	all := string(b)
	if !utf8.Valid(b) {
		all = strings.ToValidUTF8(all, "\uFFFD")
	}
	args := strings.SplitN(all, "\x00", maxRunningArgs+1)
	return args[:min(len(args), maxRunningArgs)]
}
