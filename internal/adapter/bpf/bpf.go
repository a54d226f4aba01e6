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
	// Proc is the host's proc file system, for what only it tells of a process;
	// empty for /proc.
	Proc string
	// Settings are in force until Apply brings others.
	Settings asset.AgentSettings
}

// Sensors are the loaded sensors of one host. Its methods may be called
// concurrently.
type Sensors struct {
	log *slog.Logger
	off []string // by Options, for good

	proc string // see Options

	running sync.Mutex // held by Run
	inits   inits
	lister  lister

	mu     sync.Mutex
	closed bool
	on     *shared   // nil when no sensor ever ran
	all    []*loaded // in the order of Names; the slice itself never changes
	ring   uint32    // bytes
	first  firstCalls
	// joint is where the programs at the end of system calls go on from; nil: nowhere.
	joint *joint
	// resumed says that Run has told what there was before the sensors.
	resumed bool
}

// Open loads and attaches the sensors. A sensor that this kernel or these
// rights don't allow is no error: Status says why and what to do. The error is
// of kind Invalid, for options that make no sense, or ctx's. The caller closes
// the sensors.
func Open(ctx context.Context, o Options, log *slog.Logger) (*Sensors, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s := &Sensors{log: log, off: o.Off, proc: cmp.Or(o.Proc, "/proc"), ring: uint32(cmp.Or(o.RingBytes, DefaultRingBytes))}
	for _, one := range sensors() {
		s.all = append(s.all, &loaded{sensor: one, state: asset.SensorOff})
	}
	if err := s.Apply(ctx, o.Settings); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Apply puts settings in force: it loads and detaches sensors, and tells the
// others what changed. Names of sensors that this build does not have are
// ignored: they are a newer server's. The error is ctx's, or that of a window
// that the kernel did not take; what becomes of a sensor is in Status.
func (s *Sensors) Apply(ctx context.Context, settings asset.AgentSettings) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fault.New(fault.Unavailable, "sensors are closed")
	}
	if s.on != nil {
		if err := s.on.set(settings); err != nil {
			return err
		}
	}
	for _, l := range s.all {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("load sensors: %w", err)
		}
		reason := ""
		if slices.Contains(settings.SensorsOff, l.name) {
			reason = "switched off by the server's settings"
		}
		if slices.Contains(s.off, l.name) {
			reason = "switched off by configuration"
		}
		if reason != "" {
			s.switchOff(l, reason)
			continue
		}
		s.switchOn(ctx, l, settings)
	}
	return nil
}

// switchOff detaches a sensor; s.mu is held.
func (s *Sensors) switchOff(l *loaded, reason string) {
	s.refresh(l)
	if s.on != nil {
		if err := l.close(s.on); err != nil {
			s.log.Error("sensor is not detached cleanly", "sensor", l.name, "error", err)
		}
	}
	l.state, l.reason, l.remedy = asset.SensorOff, reason, ""
}

// switchOn loads a sensor, or configures one that runs; s.mu is held.
func (s *Sensors) switchOn(ctx context.Context, l *loaded, settings asset.AgentSettings) {
	var err error
	if l.programs != nil {
		if l.configure != nil {
			err = l.configure(l.programs.Maps, settings)
		}
		if err != nil {
			s.log.ErrorContext(ctx, "settings do not reach a sensor", "sensor", l.name, "error", err)
		}
		return
	}
	spec, err := l.spec()
	if err == nil && !hasFunction(castFunction) {
		leaveCastOut(spec)
	}
	if err == nil && s.on == nil {
		if s.on, err = openShared(spec, s.ring); err == nil {
			s.on.calls.joint = s.joint
			err = s.on.set(settings)
			s.seekOverlay()
		}
	}
	if err == nil {
		spec.Maps[eventsMap].MaxEntries = s.ring
		err = l.load(spec, s.on)
	}
	if err != nil {
		l.state = asset.SensorFailed
		l.reason, l.remedy = explain(err)
		s.log.WarnContext(ctx, "sensor does not run", "sensor", l.name, "error", err)
		return
	}
	l.state, l.reason, l.remedy = asset.SensorRunning, l.unseen(), ""
}

// seekOverlay logs why layers of images are not told; s.mu is held.
func (s *Sensors) seekOverlay() {
	if err := s.on.overlay.tell(s.on.maps[overlaysMap]); err != nil {
		s.log.Warn("layers of images are not told", "error", err)
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
	if err == nil && len(l.calls) > 0 {
		var missed uint64
		missed, err = s.on.calls.missed()
		lost += missed
	}
	if err != nil {
		s.log.Error("counters of a sensor cannot be read", "sensor", l.name, "error", err)
		return
	}
	if l.window != nil {
		lost += l.window.lost
	}
	l.sent, l.lost = l.sentBefore+sent, l.lostBefore+lost
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
	s.lister.close()
	var errs []error
	if err := s.first.close(); err != nil {
		errs = append(errs, fmt.Errorf("detach what notes system calls: %w", err))
	}
	for _, l := range s.all {
		s.refresh(l)
		if l.state == asset.SensorRunning {
			l.state, l.reason = asset.SensorOff, "closed"
		}
		if s.on == nil {
			continue
		}
		if err := l.close(s.on); err != nil {
			errs = append(errs, fmt.Errorf("detach sensor %s: %w", l.name, err))
		}
	}
	if s.on != nil {
		if err := s.on.close(); err != nil {
			errs = append(errs, fmt.Errorf("close what sensors share: %w", err))
		}
	}
	if s.joint != nil {
		if err := s.joint.close(); err != nil {
			errs = append(errs, fmt.Errorf("close what sensors went on from: %w", err))
		}
		s.joint = nil
	}
	return errors.Join(errs...)
}
