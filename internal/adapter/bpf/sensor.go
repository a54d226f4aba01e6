package bpf

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
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
	// calls says which programs handle the ends of which system calls, by their
	// names in calls_amd64.go: see syscall.bpf.h.
	calls map[string][]string
	// functions says which programs sit at a function of the kernel, and its names
	// over time. Kernels without probes go without what these tell.
	functions map[string][]string
	// packets says which programs look at packets, and their place among those of
	// other sensors: see packet.bpf.h.
	packets map[string]uint32
	// configure hands settings to the programs, after loading and at each
	// change; nil when the sensor has none.
	configure func(maps map[string]*ebpf.Map, s asset.AgentSettings) error
	// tick runs about every second on the goroutine that reads records, for
	// what the programs only note in maps; last is true once, at the end. nil
	// when there is nothing to do.
	tick func(maps map[string]*ebpf.Map, d *decoder, last bool, hand func(event.Event)) error
	// forget clears what the programs left in maps of all sensors, when they
	// are detached; nil when there is nothing to clear.
	forget func(maps map[string]*ebpf.Map) error
}

// sensors lists every sensor of this build.
func sensors() []sensor {
	told := newNames()
	return []sensor{
		processSensor(),
		fileSensor(),
		memorySensor(),
		privilegeSensor(),
		networkSensor(told),
		dnsSensor(told),
		resourceSensor(),
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
	settingsMap = "settings"
	countersMap = "counters"
	overlaysMap = "overlays" // of layer.bpf.h
	untoldMap   = "untold"
	// Of resident.bpf.h: what is a container's root is told by its first program, which
	// the process sensor sees.
	residentsMap = "residents"
	hostsMap     = "hosts"
)

// resumePrefix begins the names of iterators that tell what there was before
// the sensors: Run runs them when it reads what they tell.
const resumePrefix = "resume_"

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
	missing    []string // functions of the kernel that could not be probed
	window     *window  // nil without one
	sent, lost uint64   // as last read from the kernel
	// sentBefore and lostBefore are of earlier times that it ran.
	sentBefore, lostBefore uint64
	// undecoded counts records that reached us and could not be understood.
	undecoded atomic.Uint64
}

// load loads and attaches the sensor, with the shared maps in place of its own.
func (l *loaded) load(spec *ebpf.CollectionSpec, on *shared) error {
	own := map[string]*ebpf.Map{}
	for name, m := range on.maps {
		if spec.Maps[name] != nil {
			own[name] = m
		}
	}
	if err := l.chain(spec, own, on); err != nil {
		return err
	}
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: own})
	if err != nil {
		return fmt.Errorf("load programs: %w", err)
	}
	l.programs, l.window = c, newWindow(c.Maps)
	if l.configure != nil {
		err = l.configure(c.Maps, on.settings)
	}
	if err == nil {
		err = l.attach(spec, on)
	}
	if err != nil {
		return errors.Join(err, l.close(on))
	}
	return nil
}

// chain gives programs that look at packets the tables of the others, where the
// kernel lets them use those.
func (l *loaded) chain(spec *ebpf.CollectionSpec, own map[string]*ebpf.Map, on *shared) error {
	if len(l.packets) == 0 {
		return nil
	}
	if err := on.packets.open(); err != nil || !on.packets.there() {
		return err
	}
	chained := spec.Variables[chainedVariable]
	if chained == nil {
		return nil // the last one
	}
	for name, m := range on.packets.programs.Maps {
		if spec.Maps[name] != nil && m.Type() == ebpf.ProgramArray {
			own[name] = m
		}
	}
	if err := chained.Set(true); err != nil {
		return fmt.Errorf("set %s: %w", chainedVariable, err)
	}
	return nil
}

// attach attaches all programs. Iterators run before, to tell the programs
// what there is already, and after, for what began in between.
func (l *loaded) attach(spec *ebpf.CollectionSpec, on *shared) error {
	var iterators []*ebpf.Program
	for name, p := range l.programs.Programs {
		if spec.Programs[name].AttachType == ebpf.AttachTraceIter && !strings.HasPrefix(name, resumePrefix) {
			iterators = append(iterators, p)
		}
	}
	if err := iterate(iterators); err != nil {
		return err
	}
	for name, p := range l.programs.Programs {
		if spec.Programs[name].AttachType == ebpf.AttachTraceIter {
			continue
		}
		if err := l.attachOne(spec.Programs[name], p, on); err != nil {
			return fmt.Errorf("attach %s: %w", name, err)
		}
	}
	return iterate(iterators)
}

// attachOne attaches a program where its section says: to a system call, to
// the root of the cgroups, or to a tracepoint.
func (l *loaded) attachOne(spec *ebpf.ProgramSpec, p *ebpf.Program, on *shared) error {
	if names, ok := l.calls[spec.Name]; ok {
		return errors.Join(unknownCalls(names), on.calls.handle(p, names))
	}
	if names, ok := l.functions[spec.Name]; ok {
		l.probe(spec, p, names)
		return nil
	}
	var at link.Link
	var err error
	switch spec.Type {
	case ebpf.CGroupSKB, ebpf.CGroupSock, ebpf.CGroupSockAddr, ebpf.SockOps:
		var root int
		if root, err = on.cgroupRoot(); err != nil {
			return err
		}
		if place, ok := l.packets[spec.Name]; ok && on.packets.there() {
			return on.packets.handle(p, spec.AttachType, place, root)
		}
		at, err = link.AttachRawLink(link.RawLinkOptions{Target: root, Program: p, Attach: spec.AttachType})
	case ebpf.RawTracepoint:
		at, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: spec.AttachTo, Program: p})
	default:
		at, err = link.AttachTracing(link.TracingOptions{Program: p})
	}
	if err != nil {
		return err
	}
	l.links = append(l.links, at)
	return nil
}

// probe attaches a program to the first of the kernel's functions that is there.
func (l *loaded) probe(spec *ebpf.ProgramSpec, p *ebpf.Program, functions []string) {
	at := link.Kprobe
	if strings.HasPrefix(spec.SectionName, "kretprobe/") {
		at = link.Kretprobe
	}
	for _, name := range functions {
		if probe, err := at(name, p, nil); err == nil {
			l.links = append(l.links, probe)
			return
		}
	}
	l.missing = append(l.missing, functions[0])
}

// unseen says what a sensor that runs goes without.
func (l *loaded) unseen() string {
	if len(l.missing) == 0 {
		return ""
	}
	slices.Sort(l.missing)
	return "without what a probe of the kernel's " + strings.Join(l.missing, ", ") + " would tell"
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
func (l *loaded) close(on *shared) error {
	var errs []error
	for _, names := range l.calls {
		errs = append(errs, on.calls.forget(names))
	}
	for _, place := range l.packets {
		errs = append(errs, on.packets.forget(place))
	}
	for _, at := range l.links {
		errs = append(errs, at.Close())
	}
	if l.programs != nil {
		if l.forget != nil {
			errs = append(errs, l.forget(l.programs.Maps))
		}
		l.programs.Close()
	}
	l.links, l.missing, l.programs, l.window = nil, nil, nil, nil
	l.sentBefore, l.lostBefore = l.sent, l.lost
	return errors.Join(errs...)
}
