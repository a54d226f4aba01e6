package registries

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/pace"
)

// partQueue is the name of the condition of a queue, with its address behind it.
const partQueue = PartRegistry + " queue "

// strayEvery is how often the log says that queues bring what nobody asked for.
const strayEvery = time.Hour

// readQueues has one reader for each queue that a registry has, whichever
// registries these are: of two readers each would get what is for the other. s.mu
// is held.
func (s *Service) readQueues(ctx context.Context, all *sync.WaitGroup) {
	wanted := map[string]bool{}
	for _, p := range s.plans {
		if p.r.Queue != "" {
			wanted[p.r.Queue] = true
		}
	}
	for queue, end := range s.readers {
		if !wanted[queue] {
			end()
			delete(s.readers, queue)
		}
	}
	for queue := range wanted {
		if s.readers[queue] == nil {
			reading, end := context.WithCancel(ctx)
			s.readers[queue] = end
			all.Go(func() { s.receive(reading, queue) })
		}
	}
}

// receive takes what comes through a queue until ctx ends.
func (s *Service) receive(ctx context.Context, queue string) {
	defer s.condition(context.WithoutCancel(ctx), partQueue+queue, nil)
	var logged time.Time
	for tries := 0; ctx.Err() == nil; {
		r, ok := s.firstOf(queue)
		if !ok {
			pace.Wait(ctx, afterTrouble) // nobody's any more: ctx ends
			continue
		}
		strays, err := s.receiveOnce(ctx, r)
		if ctx.Err() != nil {
			return
		}
		if total := s.strays.Add(int64(len(strays))); len(strays) > 0 && s.clock().Sub(logged) >= strayEvery {
			logged = s.clock()
			s.log.Info("a queue brings events of registries that are not watched; they are taken from it", "queue", queue,
				"host", strays[0].Host, "so_far", total)
		}
		s.condition(ctx, partQueue+queue, err)
		if err == nil {
			tries = 0
			continue
		}
		tries++
		s.log.Warn("nothing received from a registry's queue", "queue", queue, "error", err)
		pace.Wait(ctx, jitter(backoff(tries, every(r))))
	}
}

// firstOf returns one of the registries that a queue is of, by whose host the door
// knows the partition of AWS.
func (s *Service) firstOf(queue string) (asset.Registry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.plans)) {
		if r := s.plans[name].r; r.Queue == queue {
			return r, true
		}
	}
	return asset.Registry{}, false
}

// receiveOnce takes what a queue has, and returns what is of no registry.
func (s *Service) receiveOnce(ctx context.Context, r asset.Registry) (strays []asset.RegistryChange, err error) {
	if s.doors.Queue == nil {
		return nil, fault.New(fault.Unsupported, "registry %s: this server has no way to read a queue", r.Name)
	}
	changes, done, err := s.doors.Queue.Receive(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("receive from the queue of registry %s: %w", r.Name, err)
	}
	strays = s.deal(r.Queue, changes)
	if done == nil {
		return strays, nil
	}
	if err := done(ctx); err != nil {
		return strays, fmt.Errorf("take messages from the queue of registry %s: %w", r.Name, err)
	}
	return strays, nil
}

// deal tells each registry what a queue brought of it, and returns what is of
// none. A change without a host may be of any that has the queue.
func (s *Service) deal(queue string, changes []asset.RegistryChange) (strays []asset.RegistryChange) {
	of := map[string][]asset.RegistryChange{}
	s.mu.Lock()
	for _, c := range changes {
		found := false
		for name, p := range s.plans {
			if c.Host == "" && p.r.Queue == queue || c.Host != "" && sameRegistry(c.Host, p.r.Host) {
				of[name], found = append(of[name], c), true
			}
		}
		if !found {
			strays = append(strays, c)
		}
	}
	s.mu.Unlock()
	for name, changes := range of {
		s.tell(name, changes)
	}
	return strays
}

// sameRegistry reports whether two hosts are one registry: those of Amazon ECR
// have several names for an account in a region.
func sameRegistry(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	x, y := ecrForm.FindStringSubmatch(a), ecrForm.FindStringSubmatch(b)
	return x != nil && y != nil && slices.Equal(x[1:], y[1:])
}

// Strays returns how many events queues brought of registries that are not
// watched since the server started.
func (s *Service) Strays() int64 { return s.strays.Load() }
