package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

//go:generate go tool bpf2go -cc clang -strip llvm-strip -target amd64,arm64 packet packet.bpf.c -- -O2 -Wall -Werror -mcpu=v2

// Places in the tables of packet.bpf.h: enum packet_handler.
const (
	packetNetwork uint32 = iota
	packetDNS
)

// chainedVariable says to a sensor's programs that others come behind them.
const chainedVariable = "chained"

// packetboard hands packets to the sensors that want them. Its programs sit at
// the root of the cgroups only while one does: every packet of the host pays
// for them.
type packetboard struct {
	programs *ebpf.Collection
	at       []link.Link
	handlers map[packetHandler]bool
	// refused says that this kernel cannot jump out of programs with functions:
	// before 5.10, on arm64 before 6.0.
	refused bool
}

// packetHandler is a place in the table of a direction.
type packetHandler struct {
	table string
	place uint32
}

// open loads the board, unless this kernel can't have one.
func (b *packetboard) open() (err error) {
	if b.there() || b.refused {
		return nil
	}
	ok, err := canJumpBehindFunctions()
	if err != nil {
		return err
	}
	if b.refused = !ok; b.refused {
		return nil
	}
	spec, err := loadPacket()
	if err != nil {
		return err
	}
	if b.programs, err = ebpf.NewCollection(spec); err != nil {
		return fmt.Errorf("load the switchboard of packets: %w", err)
	}
	b.handlers = map[packetHandler]bool{}
	return nil
}

// there says whether there is a board: without one, sensors attach their
// programs themselves.
func (b *packetboard) there() bool { return b.programs != nil }

// tableOf returns the name of the table of a direction.
func tableOf(direction ebpf.AttachType) string {
	if direction == ebpf.AttachCGroupInetEgress {
		return "packets_out"
	}
	return "packets_in"
}

// handle makes p the handler of a direction in a place. The root is that of the
// cgroups.
func (b *packetboard) handle(p *ebpf.Program, direction ebpf.AttachType, place uint32, root int) error {
	h := packetHandler{tableOf(direction), place}
	if err := b.programs.Maps[h.table].Put(place, p); err != nil {
		return fmt.Errorf("handle packets: %w", err)
	}
	b.handlers[h] = true
	if len(b.at) > 0 {
		return nil
	}
	for program, direction := range map[string]ebpf.AttachType{
		"on_packet_out": ebpf.AttachCGroupInetEgress,
		"on_packet_in":  ebpf.AttachCGroupInetIngress,
	} {
		at, err := link.AttachRawLink(link.RawLinkOptions{Target: root, Program: b.programs.Programs[program], Attach: direction})
		if err != nil {
			return fmt.Errorf("attach the switchboard of packets: %w", err)
		}
		b.at = append(b.at, at)
	}
	return nil
}

// forget removes the handlers in a place.
func (b *packetboard) forget(place uint32) error {
	for h := range b.handlers {
		if h.place != place {
			continue
		}
		if err := b.programs.Maps[h.table].Delete(place); err != nil {
			return fmt.Errorf("forget a handler of packets: %w", err)
		}
		delete(b.handlers, h)
	}
	if len(b.handlers) > 0 {
		return nil
	}
	return b.close()
}

func (b *packetboard) close() error {
	var errs []error
	for _, at := range b.at {
		errs = append(errs, at.Close())
	}
	if b.programs != nil {
		b.programs.Close()
	}
	b.programs, b.at, b.handlers = nil, nil, nil
	return errors.Join(errs...)
}

// canJumpBehindFunctions asks the kernel whether a program that calls functions
// of its own may jump to another one: the sensors that look at packets do both.
func canJumpBehindFunctions() (bool, error) {
	table, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return false, fmt.Errorf("create a table of programs: %w", err)
	}
	defer table.Close()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, License: "GPL",
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.Call.Label("function"),
			asm.Mov.Reg(asm.R1, asm.R6),
			asm.LoadMapPtr(asm.R2, table.FD()),
			asm.Mov.Imm(asm.R3, 0),
			asm.FnTailCall.Call(),
			asm.Mov.Imm(asm.R0, 1),
			asm.Return(),
			asm.Mov.Imm(asm.R0, 1).WithSymbol("function"),
			asm.Return(),
		},
	})
	var refused *ebpf.VerifierError
	switch {
	case err == nil:
		return true, p.Close()
	case errors.As(err, &refused):
		return false, nil
	}
	return false, fmt.Errorf("ask the kernel how programs may jump: %w", err)
}
