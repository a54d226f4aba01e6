package kernel

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kinds of BPF program that are tried out.
const (
	probeLSM    = "lsm"
	probeTPBTF  = "tp_btf"
	probeCgroup = "cgroup"
	probeTCX    = "tcx"
)

// loadAttr is the beginning of union bpf_attr for BPF_PROG_LOAD, as far as a
// program of two instructions needs it; include/uapi/linux/bpf.h.
type loadAttr struct {
	kind         uint32
	instructions uint32
	code         uint64
	license      uint64
	_            [44]byte // log, kernel version, flags, name, interface; zero asks for none
	attachType   uint32   // expected_attach_type, since 4.17
	_            [36]byte // BTF of its own
	attachTo     uint32   // attach_btf_id, since 5.5
	_            uint32
	_            uint32
}

// attachAttr is union bpf_attr for BPF_RAW_TRACEPOINT_OPEN, and linkAttr for
// BPF_LINK_CREATE.
type (
	attachAttr struct {
		name    uint64
		program uint32
		_       uint32
	}
	linkAttr struct {
		program    uint32
		target     uint32
		attachType uint32
		flags      uint32
		_          [16]byte
	}
)

// tryBPF loads a program of that kind that changes nothing, attaches it where
// that is possible without a place of our own, and lets go of it again. A
// kernel can take the program and still refuse to attach it: BPF LSM needs
// trampolines, which Linux has on arm64 only since 6.4.
func (h *Host) tryBPF(kind string) error {
	switch kind {
	case probeLSM:
		return h.tryTyped(btfFunc, "bpf_lsm_bprm_check_security",
			loadAttr{kind: unix.BPF_PROG_TYPE_LSM, attachType: unix.BPF_LSM_MAC})
	case probeTPBTF:
		return h.tryTyped(btfTypedef, "btf_trace_sched_process_exec",
			loadAttr{kind: unix.BPF_PROG_TYPE_TRACING, attachType: unix.BPF_TRACE_RAW_TP})
	case probeCgroup:
		// Not attached: that would need a cgroup to attach it to.
		program, err := load(permit, loadAttr{
			kind: unix.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, attachType: unix.BPF_CGROUP_INET4_CONNECT,
		})
		if err != nil {
			return err
		}
		return unix.Close(program)
	case probeTCX:
		return tryTCX()
	}
	return fmt.Errorf("no probe for BPF programs of kind %q", kind)
}

// tryTyped attaches a program to a function or tracepoint of the kernel.
func (h *Host) tryTyped(kind uint32, name string, attr loadAttr) error {
	types, err := readBounded(h.inSys("kernel", "btf", "vmlinux"), btfLimit)
	if err != nil {
		return err
	}
	if attr.attachTo, err = btfID(types, kind, name); err != nil {
		return err
	}
	program, err := load(nothing, attr)
	if err != nil {
		return err
	}
	defer unix.Close(program)
	attach := attachAttr{program: uint32(program)}
	link, err := bpf(unix.BPF_RAW_TRACEPOINT_OPEN, unsafe.Pointer(&attach), unsafe.Sizeof(attach))
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	return unix.Close(link)
}

// tryTCX attaches a program that passes everything on to the loopback device.
func tryTCX() error {
	const loopback = 1 // the first device of every network namespace
	program, err := load(pass, loadAttr{kind: unix.BPF_PROG_TYPE_SCHED_CLS})
	if err != nil {
		return err
	}
	defer unix.Close(program)
	create := linkAttr{program: uint32(program), target: loopback, attachType: unix.BPF_TCX_INGRESS}
	link, err := bpf(unix.BPF_LINK_CREATE, unsafe.Pointer(&create), unsafe.Sizeof(create))
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	return unix.Close(link)
}

// What the programs answer: nothing to say (LSM permits, tracing ignores it),
// permit (cgroup), or leave it to the next (TCX_NEXT).
const (
	nothing = 0
	permit  = 1
	pass    = -1
)

// load loads a program that returns answer.
func load(answer int32, attr loadAttr) (int, error) {
	code := [2]uint64{uint64(uint32(answer))<<32 | 0xb7, 0x95} // r0 = answer; exit
	license := [4]byte{'G', 'P', 'L'}
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&code)
	pin.Pin(&license)
	attr.instructions = uint32(len(code))
	attr.code = uint64(uintptr(unsafe.Pointer(&code)))
	attr.license = uint64(uintptr(unsafe.Pointer(&license)))
	program, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		return 0, fmt.Errorf("load: %w", err)
	}
	return program, nil
}

func bpf(command int, attr unsafe.Pointer, size uintptr) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), size)
	if errno != 0 {
		return 0, os.NewSyscallError("bpf", errno)
	}
	return int(fd), nil
}
