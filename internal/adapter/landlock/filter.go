package landlock

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Landlock looks at TCP sockets alone, and Multipath TCP and SMC speak TCP by
// sockets of their own. As Go's listeners ask for Multipath TCP first, ports would
// hardly be held at all. A filter answers to both that the kernel does not have
// them, and programs go on with TCP.

// Offsets in struct seccomp_data: include/uapi/linux/seccomp.h. Both
// architectures are little-endian, so the lower half of an argument comes first.
const (
	atNumber   = 0
	atArch     = 4
	atFamily   = 16 // argument 0
	atProtocol = 16 + 2*8
)

const (
	// x32Bit marks the calls of the x32 interface, which have the architecture of
	// x86-64.
	x32Bit = 0x40000000
	// familySMC is AF_SMC of include/linux/socket.h.
	familySMC = 43
)

// sockets are the numbers of socket(2) by architecture: the host's own, and the
// 32-bit one whose programs it runs. An i386 program that opens sockets by
// socketcall(2), as before 2016, is not looked at.
func sockets() map[uint32]uint32 {
	if runtime.GOARCH == "arm64" {
		return map[uint32]uint32{unix.AUDIT_ARCH_AARCH64: 198, unix.AUDIT_ARCH_ARM: 281}
	}
	return map[uint32]uint32{unix.AUDIT_ARCH_X86_64: 41, unix.AUDIT_ARCH_I386: 359}
}

// onlyTCP puts the filter in force for the calling thread, which must have
// renounced new privileges.
func onlyTCP() error {
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	equal := func(k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: yes, Jf: no}
	}
	answer := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	var program []unix.SockFilter
	for arch, number := range sockets() {
		// Eleven instructions a piece, of which the last refuses: jumps are counted within.
		program = append(program,
			load(atArch), equal(arch, 0, 7),
			load(atNumber), unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: ^uint32(x32Bit)}, equal(number, 0, 4),
			load(atFamily), equal(familySMC, 3, 0),
			load(atProtocol), equal(unix.IPPROTO_MPTCP, 1, 0),
		)
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: 1}, answer(unix.SECCOMP_RET_ERRNO|uint32(unix.EPROTONOSUPPORT)))
	}
	program = append(program, answer(unix.SECCOMP_RET_ALLOW))
	f := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&f))); errno != 0 {
		return fmt.Errorf("refuse Multipath TCP: %w", errno)
	}
	return nil
}
