package bpf

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// sensor is what a sensor's own file says of it.
type sensor struct {
	name   string
	number byte // enum sensor_id of sensor.bpf.h: begins its records
	spec   func() (*ebpf.CollectionSpec, error)
	decode func(d *decoder, record []byte, e *event.Event) error
}

// sensors lists every sensor of this build.
func sensors() []sensor {
	return []sensor{
		processSensor(),
	}
}

// Names lists the sensors of this build.
func Names() []string {
	var names []string
	for _, s := range sensors() {
		names = append(names, s.name)
	}
	return names
}

// Maps of sensor.bpf.h that the loader knows by name.
const (
	eventsMap   = "events"
	cgroupsMap  = "cgroups"
	countersMap = "counters"
)

// Keys of the counters map: COUNT_SENT and COUNT_LOST of sensor.bpf.h.
const (
	countSent uint32 = iota
	countLost
)

// loaded is a sensor and what became of it.
type loaded struct {
	sensor
	state          asset.SensorState
	reason, remedy string

	programs   *ebpf.Collection // nil unless running
	links      []link.Link
	sent, lost uint64 // as last read from the kernel
	// undecoded counts records that reached us and could not be understood.
	undecoded atomic.Uint64
}

// load loads and attaches the sensor, with the shared maps in place of its own.
func (l *loaded) load(spec *ebpf.CollectionSpec, shared map[string]*ebpf.Map) error {
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
	if err != nil {
		return fmt.Errorf("load programs: %w", err)
	}
	l.programs = c
	if err := l.attach(spec); err != nil {
		return errors.Join(err, l.close())
	}
	return nil
}

// attach attaches all tracepoints. Iterators run before, to tell the programs
// what there is already, and after, for what began in between.
func (l *loaded) attach(spec *ebpf.CollectionSpec) error {
	var iterators []*ebpf.Program
	for name, p := range l.programs.Programs {
		if spec.Programs[name].AttachType == ebpf.AttachTraceIter {
			iterators = append(iterators, p)
		}
	}
	if err := iterate(iterators); err != nil {
		return err
	}
	for name, p := range l.programs.Programs {
		if slices.Contains(iterators, p) {
			continue
		}
		at, err := link.AttachTracing(link.TracingOptions{Program: p})
		if err != nil {
			return fmt.Errorf("attach %s: %w", name, err)
		}
		l.links = append(l.links, at)
	}
	return iterate(iterators)
}

// iterate runs programs over what they iterate, once.
func iterate(programs []*ebpf.Program) error {
	for _, p := range programs {
		it, err := link.AttachIter(link.IterOptions{Program: p})
		if err != nil {
			return fmt.Errorf("attach iterator: %w", err)
		}
		if err := errors.Join(drain(it), it.Close()); err != nil {
			return fmt.Errorf("run iterator: %w", err)
		}
	}
	return nil
}

func drain(it *link.Iter) error {
	r, err := it.Open()
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}

// count reads the sensor's counters: records sent, and records that the ring
// buffer had no room for or whose program the kernel did not run, because one
// of ours ran on that CPU already.
func (l *loaded) count() (sent, lost uint64, err error) {
	counters := l.programs.Maps[countersMap]
	if sent, err = sum(counters, countSent); err != nil {
		return 0, 0, err
	}
	if lost, err = sum(counters, countLost); err != nil {
		return 0, 0, err
	}
	for name, p := range l.programs.Programs {
		stats, err := p.Stats()
		if err != nil {
			return 0, 0, fmt.Errorf("read statistics of %s: %w", name, err)
		}
		lost += stats.RecursionMisses
	}
	return sent, lost, nil
}

// sum adds up one counter of all CPUs.
func sum(counters *ebpf.Map, key uint32) (uint64, error) {
	var perCPU []uint64
	if err := counters.Lookup(key, &perCPU); err != nil {
		return 0, fmt.Errorf("read counter %d: %w", key, err)
	}
	var n uint64
	for _, c := range perCPU {
		n += c
	}
	return n, nil
}

// close detaches the sensor and frees its programs.
func (l *loaded) close() error {
	var errs []error
	for _, at := range l.links {
		errs = append(errs, at.Close())
	}
	if l.programs != nil {
		l.programs.Close()
	}
	l.links, l.programs = nil, nil
	return errors.Join(errs...)
}
