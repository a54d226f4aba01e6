package bpf

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cilium/ebpf"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

// MaxLearners bounds the containers whose system calls are noted at once: as many
// as a large host runs. MAX_LEARNERS of firstcall.bpf.h.
const MaxLearners = 256

// callsBytes is the size of struct made of firstcall.bpf.h: a byte for each
// number, those of 32-bit programs behind the others.
const callsBytes = 2 * compatCalls

// epochVariable counts changes of the learners, for the kernel's side.
const epochVariable = "epoch"

// learner is a container whose system calls are noted.
type learner struct {
	place int32
	told  [callsBytes]bool
}

// firstCalls notes which system calls containers make. Sensors.mu guards it.
type firstCalls struct {
	calls    *switchboard // which has the programs; nil while nobody learns
	uses     capabilityUses
	epoch    uint32
	learners map[string]*learner // by container id
	free     []int32
}

// Learn has the system calls of these containers noted from now on, and of no
// others: events of KindCalls tell each of them once a container, within two
// seconds. A container may be named before it is there. Every system call of the
// host costs more while there is one. The error is Invalid for what is no id or
// more than MaxLearners, Unavailable after Close, or what the kernel refused:
// then nothing is noted.
func (s *Sensors) Learn(containers []string) error {
	if len(containers) > MaxLearners {
		return fault.New(fault.Invalid, "learn from %d containers at once", len(containers)).With("at most 256 can be learned from")
	}
	for _, id := range containers {
		if !asset.IsContainerID(id) {
			return fault.New(fault.Invalid, "%q is no container id", id)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return fault.New(fault.Unavailable, "sensors are closed")
	case len(containers) == 0:
		return s.first.close()
	case s.on == nil:
		return fault.New(fault.Unavailable, "note system calls: no sensor runs")
	}
	if err := s.first.open(&s.on.calls, s.log); err != nil {
		return errors.Join(err, s.first.close())
	}
	if err := s.first.set(containers); err != nil {
		return errors.Join(err, s.first.close())
	}
	return nil
}

func (f *firstCalls) open(calls *switchboard, log *slog.Logger) error {
	if f.calls != nil {
		return nil
	}
	if err := calls.note(true); err != nil {
		return err
	}
	f.calls, f.learners, f.free = calls, map[string]*learner{}, nil
	for place := range int32(MaxLearners) {
		f.free = append(f.free, place)
	}
	if err := f.uses.open(calls.cgroups, calls.programs.Maps["learners"]); err != nil {
		log.Warn("which capabilities containers use is not learned", "error", err)
	}
	return nil
}

// drop forgets all containers but these.
func (f *firstCalls) drop(but []string) error {
	for id, l := range f.learners {
		if slices.Contains(but, id) {
			continue
		}
		err := f.calls.programs.Maps["learners"].Delete(keyOfContainer(id))
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("note no more system calls of %s: %w", asset.ShortID(id), err)
		}
		delete(f.learners, id)
		f.free = append(f.free, l.place)
	}
	return nil
}

// set makes these the containers that are learned from.
func (f *firstCalls) set(containers []string) error {
	if err := f.drop(containers); err != nil {
		return err
	}
	maps := f.calls.programs.Maps
	for _, id := range containers {
		if f.learners[id] != nil {
			continue
		}
		l := &learner{place: f.free[len(f.free)-1]}
		if err := maps["made"].Put(uint32(l.place), make([]byte, callsBytes)); err != nil {
			return fmt.Errorf("clear the system calls of %s: %w", asset.ShortID(id), err)
		}
		if err := f.uses.begin(l.place); err != nil {
			return err
		}
		if err := maps["learners"].Put(keyOfContainer(id), l.place); err != nil {
			return fmt.Errorf("note system calls of %s: %w", asset.ShortID(id), err)
		}
		f.free = f.free[:len(f.free)-1]
		f.learners[id] = l
	}
	f.epoch = max(f.epoch+1, 1) // 0 says that nobody is learned from
	if err := f.calls.programs.Variables[epochVariable].Set(f.epoch); err != nil {
		return fmt.Errorf("note system calls: %w", err)
	}
	return f.uses.settle(f.epoch)
}

// tell hands over which calls, and uses of capabilities, are new, container by
// container in order.
func (f *firstCalls) tell(now time.Time, hand func(event.Event)) error {
	if f.calls == nil {
		return nil
	}
	ids := make([]string, 0, len(f.learners))
	for id := range f.learners {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		l := f.learners[id]
		var calls [callsBytes]byte
		if err := f.calls.programs.Maps["made"].Lookup(uint32(l.place), &calls); err != nil {
			return fmt.Errorf("read the system calls of %s: %w", asset.ShortID(id), err)
		}
		var names []string
		for n, made := range calls {
			if made == 0 || l.told[n] {
				continue
			}
			l.told[n] = true
			if name := nameOfCall(n); name != "" {
				names = append(names, name)
			}
		}
		used, seen, err := f.uses.news(l.place)
		if err != nil {
			return err
		}
		if len(names) > 0 || used != 0 {
			slices.Sort(names)
			hand(event.Event{
				Kind: event.KindCalls, Time: now, WorkloadID: id,
				Calls: &event.Calls{Names: slices.Compact(names), Capabilities: used, CapabilitiesSeen: seen},
			})
		}
	}
	return nil
}

// close notes nothing any more.
func (f *firstCalls) close() error {
	if f.calls == nil {
		return nil
	}
	calls := f.calls
	err := errors.Join(f.uses.close(), f.empty())
	f.calls, f.learners, f.free = nil, nil, nil
	return errors.Join(err, calls.note(false))
}

// empty leaves nobody to learn from.
func (f *firstCalls) empty() error {
	if err := f.calls.programs.Variables[epochVariable].Set(uint32(0)); err != nil {
		return fmt.Errorf("note no more system calls: %w", err)
	}
	return f.drop(nil)
}

// nameOfCall returns the name of what struct made has at n; empty for a number
// that this build does not know.
func nameOfCall(n int) string {
	names := nativeCallNames[:]
	if n >= int(compatCalls) {
		names, n = compatCallNames[:], n-int(compatCalls)
	}
	if n >= len(names) {
		return ""
	}
	return names[n]
}

// keyOfContainer returns an id as the kernel's side has it; it must be one.
func keyOfContainer(id string) [32]byte {
	var key [32]byte
	if n, err := hex.Decode(key[:], []byte(id)); err != nil || n != len(key) {
		return [32]byte{}
	}
	return key
}
