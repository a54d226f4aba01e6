package bpf

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// What guard_exec.bpf.c has for who goes on from it.
const (
	jointProgram = "signal_call"
	listenersMap = "listeners"
)

// joint is where sensors go on from a program at sys_exit that holds containers, so that
// a call is asked about once for both: the kernel takes longer to come to a second program
// than that takes. The program is pinned and outlives us. Its table of listeners is not:
// the kernel empties it when the last process that has it open ends.
type joint struct {
	at        link.Link // open, so that the program stays as long as sensors need it
	program   *ebpf.Program
	listeners *ebpf.Map
	missed    uint64 // before the sensors came
}

// openJoint opens the joint of a link that is pinned; nil if there is none there, or its
// program goes on to nobody.
func openJoint(pin string) (*joint, error) {
	at, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open what holds containers at the end of system calls: %w", err)
	}
	j := &joint{at: at}
	if err := j.find(); err != nil {
		return nil, errors.Join(fmt.Errorf("find who goes on from what holds containers: %w", err), j.close())
	}
	if j.listeners == nil {
		return nil, j.close()
	}
	return j, nil
}

func (j *joint) find() error {
	info, err := j.at.Info()
	if err != nil {
		return err
	}
	if j.program, err = ebpf.NewProgramFromID(info.Program); err != nil {
		return err
	}
	stats, err := j.program.Stats()
	if err != nil {
		return err
	}
	j.missed = stats.RecursionMisses
	about, err := j.program.Info()
	if err != nil {
		return err
	}
	ids, _ := about.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return err
		}
		described, err := m.Info()
		if err == nil && described.Name == listenersMap && m.Type() == ebpf.ProgramArray {
			j.listeners = m
			continue
		}
		if err := errors.Join(err, m.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (j *joint) close() error {
	var errs []error
	if j.listeners != nil {
		errs = append(errs, j.listeners.Close())
	}
	if j.program != nil {
		errs = append(errs, j.program.Close())
	}
	return errors.Join(append(errs, j.at.Close())...)
}

// Share has the sensors go on from what g holds containers by at the end of system calls,
// whenever that is there: each call of the host costs less then. Of guards it is for the
// one of what runs; others have nothing to go on from. Close either first.
func (g *Guard) Share(s *Sensors) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sharer = s
	g.share()
}

// share lets the sensors in, if there is something to share; g.mu is held.
func (g *Guard) share() {
	p, ok := g.live.(*tablePrograms)
	if g.sharer == nil || !ok {
		return
	}
	j, err := p.joint()
	if err == nil && j != nil {
		err = g.sharer.join(j)
		g.shared = err == nil
	}
	if err != nil {
		g.log.Warn("sensors and what holds containers are asked one by one at each system call, which takes longer", "error", err)
	}
}

// join has the sensors go on from j, which is theirs from then on.
func (s *Sensors) join(j *joint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return j.close()
	}
	if err := s.partLocked(); err != nil {
		return errors.Join(err, j.close())
	}
	s.joint = j
	if s.on == nil {
		return nil
	}
	if err := s.on.calls.join(j); err != nil {
		s.joint = nil
		return errors.Join(err, j.close())
	}
	return nil
}

// part has the sensors stand by themselves again.
func (s *Sensors) part() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.partLocked()
}

func (s *Sensors) partLocked() error {
	if s.joint == nil {
		return nil
	}
	if s.on != nil {
		if err := s.on.calls.part(); err != nil {
			return err // they go on from it, as long as we have it open
		}
	}
	j := s.joint
	s.joint = nil
	return j.close()
}
