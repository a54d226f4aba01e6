package bpf

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

//go:generate go tool bpf2go -cc clang -strip llvm-strip -target amd64,arm64 firstcall firstcall.bpf.c -- -O2 -Wall -Werror -mcpu=v2

// MaxLearners bounds the containers whose system calls are noted at once: as many
// as a large host runs. MAX_LEARNERS of firstcall.bpf.c.
const MaxLearners = 256

// callsBytes is the size of struct made of firstcall.bpf.c: a byte for each
// number, those of 32-bit programs behind the others.
const callsBytes = 2 * compatCalls

// learner is a container whose system calls are noted.
type learner struct {
	place int32
	told  [callsBytes]bool
}

// firstCalls notes which system calls containers make. Sensors.mu guards it.
type firstCalls struct {
	programs *ebpf.Collection // nil while nobody learns
	at       link.Link
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
	if err := s.first.open(s.on.maps[cgroupsMap], s.log); err != nil {
		return errors.Join(err, s.first.close())
	}
	if err := s.first.set(containers); err != nil {
		return errors.Join(err, s.first.close())
	}
	return nil
}

func (f *firstCalls) open(cgroups *ebpf.Map, log *slog.Logger) error {
	if f.programs != nil {
		return nil
	}
	spec, err := loadFirstcall()
	if err != nil {
		return fmt.Errorf("read the program that notes system calls: %w", err)
	}
	if !hasFunction(castFunction) {
		leaveCastOut(spec)
	}
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{cgroupsMap: cgroups}})
	if err != nil {
		return fmt.Errorf("load the program that notes system calls: %w", err)
	}
	f.programs, f.learners, f.free = c, map[string]*learner{}, nil
	for place := range int32(MaxLearners) {
		f.free = append(f.free, place)
	}
	if f.at, err = link.AttachTracing(link.TracingOptions{Program: c.Programs["on_sys_enter"]}); err != nil {
		return fmt.Errorf("attach the program that notes system calls: %w", err)
	}
	if err := f.uses.open(cgroups, c.Maps["learners"]); err != nil {
		log.Warn("which capabilities containers use is not learned", "error", err)
	}
	return nil
}

// set makes these the containers that are learned from.
func (f *firstCalls) set(containers []string) error {
	learners := f.programs.Maps["learners"]
	for id, l := range f.learners {
		if slices.Contains(containers, id) {
			continue
		}
		if err := learners.Delete(keyOfContainer(id)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("note no more system calls of %s: %w", asset.ShortID(id), err)
		}
		delete(f.learners, id)
		f.free = append(f.free, l.place)
	}
	for _, id := range containers {
		if f.learners[id] != nil {
			continue
		}
		l := &learner{place: f.free[len(f.free)-1]}
		if err := f.programs.Maps["made"].Put(uint32(l.place), make([]byte, callsBytes)); err != nil {
			return fmt.Errorf("clear the system calls of %s: %w", asset.ShortID(id), err)
		}
		if err := f.uses.begin(l.place); err != nil {
			return err
		}
		if err := learners.Put(keyOfContainer(id), l.place); err != nil {
			return fmt.Errorf("note system calls of %s: %w", asset.ShortID(id), err)
		}
		f.free = f.free[:len(f.free)-1]
		f.learners[id] = l
	}
	f.epoch++
	if err := f.programs.Variables["epoch"].Set(f.epoch); err != nil {
		return fmt.Errorf("note system calls: %w", err)
	}
	return f.uses.settle(f.epoch)
}

// tell hands over which calls, and uses of capabilities, are new, container by
// container in order.
func (f *firstCalls) tell(now time.Time, hand func(event.Event)) error {
	if f.programs == nil {
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
		if err := f.programs.Maps["made"].Lookup(uint32(l.place), &calls); err != nil {
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

func (f *firstCalls) close() error {
	err := f.uses.close()
	if f.at != nil {
		err = errors.Join(err, f.at.Close())
	}
	if f.programs != nil {
		f.programs.Close()
	}
	f.at, f.programs, f.learners, f.free = nil, nil, nil, nil
	return err
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
