package bpf

import (
	"context"
	"errors"
	"fmt"
	"time"

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

// Run hands over what happens until ctx ends, in batches that emit may keep,
// and then returns ctx's error; what the kernel had handed over by then is
// still emitted. While emit blocks, the ring buffer fills, and what finds no
// room is counted as lost. When no sensor runs, Run waits for ctx. A second Run
// at the same time is refused as a Conflict, one after Close as Unavailable.
func (s *Sensors) Run(ctx context.Context, emit func([]event.Event)) error {
	if !s.running.TryLock() {
		return fault.New(fault.Conflict, "sensors are being read already")
	}
	defer s.running.Unlock()
	if s.reader == nil {
		<-ctx.Done()
		return ctx.Err()
	}

	flushed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(flushed)
		if err := s.reader.Flush(); err != nil {
			s.log.DebugContext(ctx, "ring buffer closed before it was flushed", "error", err)
		}
	})
	defer func() {
		if !stop() {
			<-flushed
		}
	}()
	return s.read(ctx, emit)
}

// read reads until a flush, which the end of ctx causes.
func (s *Sensors) read(ctx context.Context, emit func([]event.Event)) error {
	d := newDecoder(NewClock(nil))
	var (
		record ringbuf.Record
		batch  []event.Event
	)
	for {
		err := s.reader.ReadInto(&record)
		if err != nil {
			if len(batch) > 0 {
				emit(batch)
			}
			return ended(ctx, err)
		}
		if len(batch) == 0 {
			d.clock.Measure()
		}
		batch = s.decode(d, record.RawSample, batch)
		empty := record.Remaining == 0
		if empty && len(batch) > 0 || len(batch) == maxBatch {
			emit(batch)
			batch = nil
		}
		if empty {
			pause(ctx, linger)
		}
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
	if err == nil {
		err = l.decode(d, record, &e)
	}
	if err != nil {
		if l.undecoded.Add(1) == 1 {
			s.log.Error("record of a sensor cannot be decoded", "sensor", l.name, "error", err)
		}
		return batch
	}
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
