package bpf

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

// linger is how long Run lets records gather after it has read all there were.
// The first event after a quiet time is handed over at once, those behind it
// within linger and the time that emit takes: well under 100 ms. So a busy host
// costs at most 40 wake-ups a second, and an idle one none.
const linger = 25 * time.Millisecond

// maxBatch bounds what is handed over at once.
const maxBatch = 512

// Times of the work beside reading.
const (
	// tickEvery is how often sensors look at what their programs only noted.
	tickEvery = time.Second
	// sweepEvery is how often counts are looked at; what was counted is told at
	// most this much later than its window says.
	sweepEvery = 5 * time.Second
)

// Run hands over what happens until ctx ends, in batches that emit may keep,
// and then returns ctx's error; what the kernel had handed over or counted by
// then is still emitted. While emit blocks, the ring buffer fills, and what
// finds no room is counted as lost. When no sensor runs, Run waits for ctx. A
// second Run at the same time is refused as a Conflict, one after Close as
// Unavailable.
func (s *Sensors) Run(ctx context.Context, emit func([]event.Event)) error {
	if !s.running.TryLock() {
		return fault.New(fault.Conflict, "sensors are being read already")
	}
	defer s.running.Unlock()
	s.mu.Lock()
	on := s.on
	s.mu.Unlock()
	if on == nil {
		<-ctx.Done()
		return ctx.Err()
	}

	flushed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(flushed)
		if err := on.reader.Flush(); err != nil {
			s.log.DebugContext(ctx, "ring buffer closed before it was flushed", "error", err)
		}
	})
	defer func() {
		if !stop() {
			<-flushed
		}
	}()
	var resuming sync.WaitGroup
	resuming.Go(func() { s.resume(ctx) })
	defer resuming.Wait()
	r := &reading{s: s, reader: on.reader, d: newDecoder(NewClock(nil)), emit: emit}
	r.d.inits = &s.inits
	return r.run(ctx)
}

// resume tells what there was before the sensors, once. It runs beside the
// reading, because it can be more than the ring buffer holds.
func (s *Sensors) resume(ctx context.Context) {
	iterators := s.resumers()
	for name, p := range iterators {
		if ctx.Err() == nil {
			if err := iterate([]*ebpf.Program{p}); err != nil {
				s.log.ErrorContext(ctx, "what there was before is not told", "program", name, "error", err)
			}
		}
		p.Close()
	}
}

// resumers returns the iterators that tell what there was before, the first
// time; the caller closes them.
func (s *Sensors) resumers() map[string]*ebpf.Program {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resumed || s.closed {
		return nil
	}
	s.resumed = true
	all := map[string]*ebpf.Program{}
	for _, l := range s.all {
		if l.programs == nil {
			continue
		}
		for name, p := range l.programs.Programs {
			if !strings.HasPrefix(name, resumePrefix) {
				continue
			}
			copied, err := p.Clone()
			if err != nil {
				s.log.Error("what there was before is not told", "program", name, "error", err)
				continue
			}
			all[l.name+" "+name] = copied
		}
	}
	return all
}

// reading is one Run.
type reading struct {
	s             *Sensors
	reader        *ringbuf.Reader
	d             *decoder
	emit          func([]event.Event)
	batch         []event.Event
	ticked, swept time.Time
}

// run reads until a flush, which the end of ctx causes, or what came after that.
func (r *reading) run(ctx context.Context) error {
	var record ringbuf.Record
	var end closing
	for {
		r.reader.SetDeadline(time.Now().Add(tickEvery))
		err := r.reader.ReadInto(&record)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			r.d.clock.Measure()
			r.beside(false)
			r.flush()
			continue
		case err != nil:
			r.beside(true)
			r.flush()
			return ended(ctx, err)
		}
		if len(r.batch) == 0 {
			r.d.clock.Measure()
		}
		r.batch = r.s.decode(r.d, record.RawSample, r.batch)
		if end.over(ctx, record.RawSample) {
			r.beside(true)
			r.flush()
			return ctx.Err()
		}
		empty := record.Remaining == 0
		if empty || len(r.batch) >= maxBatch {
			r.beside(false)
			r.flush()
		}
		if empty {
			pause(ctx, linger)
		}
	}
}

func (r *reading) flush() {
	if len(r.batch) > 0 {
		r.emit(r.batch)
		r.batch = nil
	}
}

// beside does what is to be done beside reading, when its time has come, or
// with last in any case.
func (r *reading) beside(last bool) {
	now := time.Now()
	ticks := last || now.Sub(r.ticked) >= tickEvery
	sweeps := last || now.Sub(r.swept) >= sweepEvery
	if !ticks && !sweeps {
		return
	}
	hand := func(e event.Event) { r.batch = append(r.batch, e) }
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	for _, l := range r.s.all {
		if l.programs == nil {
			continue
		}
		var err error
		r.d.window = l.window
		if ticks && l.tick != nil {
			err = l.tick(l.programs.Maps, r.d, last, hand)
		}
		if sweeps {
			err = errors.Join(err, l.window.sweep(bootNow(), r.s.on.window(), last, r.d.clock, hand))
		}
		if err != nil {
			r.s.log.Error("what a sensor only noted is not told", "sensor", l.name, "error", err)
		}
	}
	if ticks {
		if err := r.s.first.tell(r.d.clock.Time(bootNow()), hand); err != nil {
			r.s.log.Error("first system calls are not told", "error", err)
		}
		r.ticked = now
		r.s.seekOverlay()
	}
	if sweeps {
		r.swept = now
	}
}

// ended translates the reader's last error.
func ended(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, ringbuf.ErrFlushed) && ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ringbuf.ErrClosed):
		return fault.New(fault.Unavailable, "sensors are closed")
	}
	return fmt.Errorf("read the ring buffer: %w", err)
}

// decode appends the event that a record tells to batch. A record that can't
// be understood is counted as lost: it is a defect of ours, so it is logged
// the first time, and the others go on.
func (s *Sensors) decode(d *decoder, record []byte, batch []event.Event) []event.Event {
	l := s.all[0] // counts what names no sensor
	number, err := sensorOf(record)
	for _, one := range s.all {
		if err == nil && one.number == number {
			l = one
		}
	}
	if err == nil && l.number != number {
		err = fmt.Errorf("no sensor has number %d", number)
	}
	var e event.Event
	s.mu.Lock()
	defer s.mu.Unlock()
	d.window = l.window
	if err == nil {
		err = l.decode(d, record, &e)
	}
	at := unsafe.Offsetof(processHeader{}.Time)
	if errors.Is(err, errNothing) {
		l.window.ignore(repeatOf(record), u64(record, at))
		return batch
	}
	if err != nil {
		if l.undecoded.Add(1) == 1 {
			s.log.Error("record of a sensor cannot be decoded", "sensor", l.name, "error", err)
		}
		return batch
	}
	l.window.remember(repeatOf(record), u64(record, at), &e)
	return append(batch, e)
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
