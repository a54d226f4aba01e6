package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
)

// sampleEvery is how often it is measured what workloads use: often enough to
// see a minute's course, seldom enough to cost nothing.
const sampleEvery = 10 * time.Second

// samples are what workloads used and the server has not been told. They are
// not spooled: gauges of a time gone by help nobody, and counters go on.
type samples struct {
	mu   sync.Mutex
	held []asset.Sample // oldest first, link.MaxSamples at most
}

// add keeps new samples; the oldest make room.
func (s *samples) add(list []asset.Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = append(s.held, list...)
	s.held = slices.Delete(s.held, 0, max(0, len(s.held)-link.MaxSamples))
}

// take hands out what is held.
func (s *samples) take() []asset.Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.held
	s.held = nil
	return out
}

// back returns what take handed out and nobody got.
func (s *samples) back(list []asset.Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	room := max(0, link.MaxSamples-len(s.held))
	s.held = append(slices.Clone(list[max(0, len(list)-room):]), s.held...)
}

// sample measures until ctx ends.
func (a *Agent) sample(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		list, events := a.parts.Sampler.Samples(ctx, a.workloads.running())
		a.samples.add(list)
		if events = a.unseen(events); len(events) > 0 {
			a.sensed(events)
		}
	}
}

// unseen leaves out what a sensor has told already, with more about it: kills for
// want of memory are in the counters that are sampled, too.
func (a *Agent) unseen(events []event.Event) []event.Event {
	seen := slices.ContainsFunc(a.parts.Sensors.Status(), func(s asset.Sensor) bool {
		return s.Name == event.KindOOM.Sensor() && s.State == asset.SensorRunning
	})
	if !seen {
		return events
	}
	return slices.DeleteFunc(events, func(e event.Event) bool { return e.Kind == event.KindOOM })
}

// running returns the workloads that run.
func (w *workloads) running() []asset.Workload {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []asset.Workload
	for _, wl := range w.known {
		if wl.State == asset.Running {
			out = append(out, wl)
		}
	}
	return out
}
