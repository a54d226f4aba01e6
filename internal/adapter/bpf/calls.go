package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

//go:generate go tool bpf2go -cc clang -strip llvm-strip -target amd64,arm64 syscall syscall.bpf.c -- -O2 -Wall -Werror -mcpu=v2

// What syscall.bpf.c has for the loader: the table of handlers, and for each
// number which of its halves have one.
const (
	callsMap        = "calls"
	handledVariable = "handled"
)

// Bits of handled: HANDLED_NATIVE and HANDLED_COMPAT of syscall.bpf.c.
const (
	handledNative byte = 1 << iota
	handledCompat
)

// compatCalls is COMPAT_CALLS of syscall.bpf.h: where the handlers of 32-bit
// programs begin.
const compatCalls uint32 = 512

// switchboard hands the ends of system calls to the sensors that want them. It
// sits at sys_exit only while one of them does, or first calls are noted: every call
// of every process pays for it.
type switchboard struct {
	cgroups  *ebpf.Map // what sensors know of cgroups
	programs *ebpf.Collection
	at       link.Link
	joint    *joint // it goes on from there instead, if that is not nil
	handlers map[uint32]bool
	notes    bool // first calls are noted: then it stays without a handler too
}

// handle makes p the handler of the named calls; those that this architecture
// does not have are left out.
func (s *switchboard) handle(p *ebpf.Program, names []string) error {
	if err := s.open(); err != nil {
		return err
	}
	for _, n := range slots(names) {
		if s.handlers[n] {
			return fmt.Errorf("system call %d has a handler already: one sensor would keep another from it", n)
		}
		if err := s.programs.Maps[callsMap].Put(n, p); err != nil {
			return fmt.Errorf("handle system call %d: %w", n, err)
		}
		s.handlers[n] = true
	}
	return s.mark()
}

// mark tells the program at sys_exit which numbers have a handler.
func (s *switchboard) mark() error {
	var handled [compatCalls]byte
	for n := range s.handlers {
		if n < compatCalls {
			handled[n] |= handledNative
		} else {
			handled[n-compatCalls] |= handledCompat
		}
	}
	if err := s.programs.Variables[handledVariable].Set(handled); err != nil {
		return fmt.Errorf("mark handled system calls: %w", err)
	}
	return nil
}

// forget removes the handlers of the named calls.
func (s *switchboard) forget(names []string) error {
	for _, n := range slots(names) {
		if !s.handlers[n] {
			continue
		}
		if err := s.programs.Maps[callsMap].Delete(n); err != nil {
			return fmt.Errorf("forget system call %d: %w", n, err)
		}
		delete(s.handlers, n)
	}
	if len(s.handlers) > 0 || s.notes {
		return s.mark()
	}
	return s.close()
}

// note has first calls noted, or no more.
func (s *switchboard) note(notes bool) error {
	if notes {
		err := s.open()
		s.notes = err == nil
		return err
	}
	s.notes = false
	if len(s.handlers) > 0 {
		return nil
	}
	return s.close()
}

// open loads and attaches the program, if it is not there.
func (s *switchboard) open() error {
	if s.programs != nil {
		return nil
	}
	spec, err := loadSyscall()
	if err != nil {
		return err
	}
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{cgroupsMap: s.cgroups}})
	if err != nil {
		return fmt.Errorf("load the switchboard of system calls: %w", err)
	}
	err = c.Maps["unmet"].Put(uint32(0), c.Programs["on_unmet"])
	if err != nil {
		c.Close()
		return fmt.Errorf("prepare the switchboard of system calls: %w", err)
	}
	s.programs, s.handlers = c, map[uint32]bool{}
	if s.joint == nil || s.enter() != nil {
		s.joint = nil
		err = s.attach()
	}
	if err != nil {
		c.Close()
		s.programs, s.handlers = nil, nil
		return err
	}
	return nil
}

func (s *switchboard) attach() (err error) {
	s.at, err = link.AttachTracing(link.TracingOptions{Program: s.programs.Programs["on_sys_exit"]})
	if err != nil {
		return fmt.Errorf("attach the switchboard of system calls: %w", err)
	}
	return nil
}

// Whether it is on_joined that looks at calls: joined of syscall.bpf.c.
const (
	alone uint8 = iota
	joined
)

func (s *switchboard) become(how uint8) error {
	if err := s.programs.Variables["joined"].Set(how); err != nil {
		return fmt.Errorf("tell the switchboard of system calls where it is: %w", err)
	}
	return nil
}

// enter puts the program into its joint.
func (s *switchboard) enter() error {
	if err := s.joint.listeners.Put(uint32(0), s.programs.Programs["on_joined"]); err != nil {
		return fmt.Errorf("go on from what holds containers: %w", err)
	}
	if err := s.become(joined); err != nil {
		return errors.Join(err, s.joint.listeners.Delete(uint32(0)))
	}
	return nil
}

// join has the program go on from j, now and whenever it is loaded. On an error it is
// where it was.
func (s *switchboard) join(j *joint) error {
	s.joint = j
	if s.programs == nil {
		return nil
	}
	if err := s.enter(); err != nil {
		s.joint = nil
		return err
	}
	err := s.at.Close()
	s.at = nil
	return err
}

// part has the program stand by itself again. On an error it is where it was.
func (s *switchboard) part() error {
	if s.joint == nil {
		return nil
	}
	j := s.joint
	if s.programs != nil {
		if err := s.attach(); err != nil {
			return err
		}
		if err := errors.Join(s.become(alone), j.listeners.Delete(uint32(0))); err != nil {
			return err
		}
	}
	s.joint = nil
	return nil
}

// missed counts calls whose end was not looked at, because one of our programs
// ran on that CPU already.
func (s *switchboard) missed() (uint64, error) {
	if s.programs == nil {
		return 0, nil
	}
	stats, err := s.programs.Programs["on_sys_exit"].Stats()
	if err != nil {
		return 0, fmt.Errorf("read statistics of the switchboard: %w", err)
	}
	if s.joint == nil {
		return stats.RecursionMisses, nil
	}
	there, err := s.joint.program.Stats()
	if err != nil {
		return 0, fmt.Errorf("read statistics of what the switchboard goes on from: %w", err)
	}
	return stats.RecursionMisses + there.RecursionMisses - s.joint.missed, nil
}

func (s *switchboard) close() error {
	if s.programs == nil {
		return nil
	}
	var err error
	if s.joint != nil {
		err = s.joint.listeners.Delete(uint32(0))
	}
	if s.at != nil {
		err = errors.Join(err, s.at.Close())
	}
	s.programs.Close()
	s.programs, s.at, s.handlers = nil, nil, nil
	return err
}

// slots returns where in the table the named calls are.
func slots(names []string) []uint32 {
	var out []uint32
	for _, name := range names {
		if n, ok := callNumbers[name]; ok {
			out = append(out, n)
		}
		if n, ok := compatCallNumbers[name]; ok {
			out = append(out, compatCalls+n)
		}
	}
	return out
}

// unknownCalls returns the names that no architecture has: a spelling mistake
// of ours.
func unknownCalls(names []string) error {
	var errs []error
	for _, name := range names {
		_, native := callNumbers[name]
		_, compat := compatCallNumbers[name]
		if !native && !compat && len(compatCallNumbers) > 0 {
			errs = append(errs, fmt.Errorf("no system call is called %q", name))
		}
	}
	return errors.Join(errs...)
}
