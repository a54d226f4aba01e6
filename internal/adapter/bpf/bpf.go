package bpf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// Sizes of the ring buffer that all sensors share, in bytes.
const (
	// DefaultRingBytes holds most of a second of 5,000 short-lived processes a
	// second (about 900 bytes each for fork, exec and exit), which is longer
	// than the agent ever stands still. The pages count twice towards the
	// agent's resident memory, because the kernel maps the ring twice in a row.
	DefaultRingBytes = 4 << 20
	// MaxRingBytes keeps a typing error from pinning the host's memory.
	MaxRingBytes = 512 << 20
)

// Options say which sensors to load and how. The zero value loads every sensor.
type Options struct {
	// Off names sensors that are not loaded; Status shows them as switched off.
	Off []string
	// RingBytes is the size of the ring buffer: 0 for DefaultRingBytes, else a
	// power of two, at least the page size.
	RingBytes int
}

// Sensors are the loaded sensors of one host. Its methods may be called
// concurrently.
type Sensors struct {
	log    *slog.Logger
	reader *ringbuf.Reader // of the ring buffer; nil when no sensor runs

	running sync.Mutex // held by Run

	mu     sync.Mutex
	closed bool
	all    []*loaded // in the order of Names; the slice itself never changes
}

// Open loads and attaches the sensors. A sensor that this kernel or these
// rights don't allow is no error: Status says why and what to do. The error is
// of kind Invalid, for options that make no sense, or ctx's. The caller closes
// the sensors.
func Open(ctx context.Context, o Options, log *slog.Logger) (*Sensors, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s := &Sensors{log: log}
	for _, one := range sensors() {
		l := &loaded{sensor: one, state: asset.SensorFailed}
		if slices.Contains(o.Off, one.name) {
			l.state, l.reason = asset.SensorOff, "switched off by configuration"
		}
		s.all = append(s.all, l)
	}
	if err := s.load(ctx, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// load loads every sensor that is wanted. Its error is ctx's; all others
// become states of sensors.
func (s *Sensors) load(ctx context.Context, o Options) error {
	var shared map[string]*ebpf.Map
	defer func() { closeMaps(shared) }()
	for _, l := range s.all {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("load sensors: %w", err)
		}
		if l.state == asset.SensorOff {
			continue
		}
		spec, err := l.spec()
		if err == nil {
			spec.Maps[eventsMap].MaxEntries = uint32(cmp.Or(o.RingBytes, DefaultRingBytes))
			if shared == nil {
				shared, err = s.share(spec)
			}
		}
		if err == nil {
			err = l.load(spec, shared)
		}
		if err != nil {
			l.reason, l.remedy = explain(err)
			s.log.WarnContext(ctx, "sensor does not run", "sensor", l.name, "error", err)
			continue
		}
		l.state = asset.SensorRunning
	}
	return nil
}

// share makes the maps that all sensors have in common, and the reader of the
// ring buffer.
func (s *Sensors) share(spec *ebpf.CollectionSpec) (map[string]*ebpf.Map, error) {
	// Before 5.11 maps count against RLIMIT_MEMLOCK, 64 KiB by default.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raise the limit of locked memory: %w", err)
	}
	shared := map[string]*ebpf.Map{}
	for _, name := range []string{eventsMap, cgroupsMap} {
		m, err := ebpf.NewMap(spec.Maps[name])
		if err != nil {
			closeMaps(shared)
			return nil, fmt.Errorf("create map %s: %w", name, err)
		}
		shared[name] = m
	}
	reader, err := ringbuf.NewReader(shared[eventsMap])
	if err != nil {
		closeMaps(shared)
		return nil, fmt.Errorf("map the ring buffer: %w", err)
	}
	s.reader = reader
	return shared, nil
}

// closeMaps closes our handles: the programs, and the reader, have their own.
func closeMaps(maps map[string]*ebpf.Map) {
	for _, m := range maps {
		m.Close()
	}
}

func (o Options) check() error {
	names := Names()
	for _, off := range o.Off {
		if !slices.Contains(names, off) {
			return fault.New(fault.Invalid, "no sensor is called %q", off).
				With("the sensors are: " + strings.Join(names, ", "))
		}
	}
	n := o.RingBytes
	if n != 0 && (n < os.Getpagesize() || n > MaxRingBytes || n&(n-1) != 0) {
		return fault.New(fault.Invalid, "ring buffer of %d bytes", n).
			With("give a power of two from the page size to 512 MiB, or 0 for the default")
	}
	return nil
}

// Status returns every sensor of this build with its counters. After Close the
// counters stay as they were last.
func (s *Sensors) Status() []asset.Sensor {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]asset.Sensor, 0, len(s.all))
	for _, l := range s.all {
		s.refresh(l)
		undecoded := l.undecoded.Load()
		out = append(out, asset.Sensor{
			Name: l.name, State: l.state, Reason: l.reason, Remedy: l.remedy,
			Events: l.sent - min(l.sent, undecoded), Lost: l.lost + undecoded,
		})
	}
	return out
}

// refresh reads the counters of l; s.mu is held.
func (s *Sensors) refresh(l *loaded) {
	if l.programs == nil {
		return
	}
	sent, lost, err := l.count()
	if err != nil {
		s.log.Error("counters of a sensor cannot be read", "sensor", l.name, "error", err)
		return
	}
	l.sent, l.lost = sent, lost
}

// Close detaches the sensors and frees what they hold. A Run that is under way
// returns. Closing twice is harmless.
func (s *Sensors) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	for _, l := range s.all {
		s.refresh(l)
		if l.state == asset.SensorRunning {
			l.state, l.reason = asset.SensorOff, "closed"
		}
		if err := l.close(); err != nil {
			errs = append(errs, fmt.Errorf("detach sensor %s: %w", l.name, err))
		}
	}
	if s.reader != nil {
		if err := s.reader.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close the ring buffer: %w", err))
		}
	}
	return errors.Join(errs...)
}
