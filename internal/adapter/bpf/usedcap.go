package bpf

import (
	"errors"
	"fmt"
	"maps"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/castellan-security/castellan/internal/event"
)

//go:generate go tool bpf2go -cc clang -strip llvm-strip -target amd64,arm64 usedcap usedcap.bpf.c -- -O2 -Wall -Werror -mcpu=v2

// usedMost is MAX_CAPABILITIES of usedcap.bpf.c.
const usedMost = 64

// usedWays are the programs that see uses of capabilities, the best first: what is to
// be had depends on the kernel.
func usedWays() []string { return []string{"on_capable", "on_capable_entry"} }

// capabilityUses notes which capabilities the containers use that firstCalls learns
// from, at their places there. The zero value notes nothing.
type capabilityUses struct {
	programs *ebpf.Collection // nil while nothing is noted
	at       link.Link
	told     map[int32]event.Capabilities // by place
}

// open begins to note uses of the containers in learners. The error is why this kernel
// has no way to see them; nothing is noted then.
func (u *capabilityUses) open(cgroups, learners *ebpf.Map) error {
	if u.programs != nil {
		return nil
	}
	var errs []error
	for _, way := range usedWays() {
		err := u.openBy(way, cgroups, learners)
		if err == nil {
			return nil
		}
		errs = append(errs, err, u.close())
	}
	return fmt.Errorf("see uses of capabilities: %w", errors.Join(errs...))
}

func (u *capabilityUses) openBy(way string, cgroups, learners *ebpf.Map) error {
	spec, err := loadUsedcap()
	if err != nil {
		return fmt.Errorf("read the programs: %w", err)
	}
	maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return name != way })
	if !hasFunction(castFunction) {
		leaveCastOut(spec)
	}
	u.programs, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{cgroupsMap: cgroups, "learners": learners}})
	if err != nil {
		return fmt.Errorf("load %s: %w", way, err)
	}
	u.told = map[int32]event.Capabilities{}
	p := u.programs.Programs[way]
	if p.Type() == ebpf.Kprobe {
		u.at, err = link.Kprobe("cap_capable", p, nil)
	} else {
		u.at, err = link.AttachTracing(link.TracingOptions{Program: p})
	}
	if err != nil {
		return fmt.Errorf("attach %s: %w", way, err)
	}
	return nil
}

// begin clears a place for another container.
func (u *capabilityUses) begin(place int32) error {
	if u.programs == nil {
		return nil
	}
	delete(u.told, place)
	if err := u.programs.Maps["used"].Put(uint32(place), make([]byte, usedMost)); err != nil {
		return fmt.Errorf("clear the capabilities of a container: %w", err)
	}
	return nil
}

// settle says that learners are others.
func (u *capabilityUses) settle(epoch uint32) error {
	if u.programs == nil {
		return nil
	}
	if err := u.programs.Variables["epoch"].Set(epoch); err != nil {
		return fmt.Errorf("note capabilities: %w", err)
	}
	return nil
}

// news returns which capabilities the container at a place has used since it was last
// asked, and whether uses are seen at all.
func (u *capabilityUses) news(place int32) (fresh event.Capabilities, seen bool, err error) {
	if u.programs == nil {
		return 0, false, nil
	}
	var used [usedMost]byte
	if err := u.programs.Maps["used"].Lookup(uint32(place), &used); err != nil {
		return 0, true, fmt.Errorf("read used capabilities: %w", err)
	}
	for bit, yes := range used {
		if yes != 0 {
			fresh |= 1 << bit
		}
	}
	fresh &^= u.told[place]
	u.told[place] |= fresh
	return fresh, true, nil
}

func (u *capabilityUses) close() error {
	var err error
	if u.at != nil {
		err = u.at.Close()
	}
	if u.programs != nil {
		u.programs.Close()
	}
	*u = capabilityUses{}
	return err
}
