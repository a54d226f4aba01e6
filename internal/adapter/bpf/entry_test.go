package bpf_test

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
)

// Numbers of linux/seccomp.h and linux/bpf_common.h.
const (
	seccompSetFilter  = 1
	seccompAllow      = 0x7fff0000
	seccompErrno      = 0x00050000
	filterLoadWord    = 0x20
	filterEqual       = 0x15
	filterReturn      = 0x06
	seccompDataNumber = 0 // where struct seccomp_data has the number of the call
)

// refuse lets the calls with these numbers fail with EPERM from now on, as the
// profile of a container engine does.
func refuse(numbers ...uint32) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := []unix.SockFilter{{Code: filterLoadWord, K: seccompDataNumber}}
	for i, n := range numbers {
		filter = append(filter, unix.SockFilter{Code: filterEqual, K: n, Jt: uint8(len(numbers) - i)})
	}
	filter = append(filter, unix.SockFilter{Code: filterReturn, K: seccompAllow},
		unix.SockFilter{Code: filterReturn, K: seccompErrno | uint32(unix.EPERM)})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, seccompSetFilter, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return fmt.Errorf("set a filter: %w", errno)
	}
	return nil
}

// callRefused makes calls of which a filter lets the kernel do nothing.
func callRefused(dir string) error {
	if err := refuse(unix.SYS_MOUNT, unix.SYS_UNSHARE, unix.SYS_PTRACE, unix.SYS_LINKAT, unix.SYS_SOCKET); err != nil {
		return err
	}
	raw("mount", unix.SYS_MOUNT, text("castellan"), text(dir), text("tmpfs"), unix.MS_NOSUID, 0)
	raw("unshare", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	raw("ptrace", unix.SYS_PTRACE, unix.PTRACE_ATTACH, uintptr(os.Getppid()))
	at := uintptr(1<<64 + unix.AT_FDCWD)
	raw("linkat", unix.SYS_LINKAT, at, text("/castellan/absent"), at, text("/castellan/other"), 0)
	raw("socket", unix.SYS_SOCKET, unix.AF_PACKET, unix.SOCK_RAW, 0)
	return nil
}

// A call that seccomp refuses never reaches its function in the kernel; it is
// told all the same, because the attempt is what counts.
func TestRefusedBySeccompIsTold(t *testing.T) {
	w := watch(t)
	id, dir := newID(t), t.TempDir()
	h := startInside(t, id, "calls=refused:"+dir)
	h.finish()
	w.exit(h.pid())
	type told struct {
		Kind  event.Kind
		Error string
	}
	got := map[told]int{}
	for _, e := range w.privileges(h.pid()) {
		got[told{e.Kind, e.Privilege.Error}]++
	}
	others, _ := w.seen(func(e event.Event) bool { return e.Process.Key.PID == uint32(h.pid()) && e.WorkloadID == id })
	for _, e := range others {
		switch e.Kind {
		case event.KindFileLink:
			got[told{e.Kind, e.File.Error}]++
		case event.KindRaw:
			got[told{e.Kind, e.Connection.Error}]++
		}
	}
	want := map[told]int{
		{event.KindMount, "EPERM"}: 1, {event.KindUnshare, "EPERM"}: 1, {event.KindPtrace, "EPERM"}: 1,
		{event.KindFileLink, "EPERM"}: 1, {event.KindRaw, "EPERM"}: 1,
	}
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("told (-got +want):\n%s", d)
	}
}

// x32Call marks a call of an x32 program (__X32_SYSCALL_BIT).
const x32Call = 0x40000000

// callX32 makes calls with the numbers of x32 programs, which some kernels take
// from any program.
func callX32(string) error {
	raw("umount2", x32Call+unix.SYS_UMOUNT2, text("/castellan/x32"), 0)
	raw("ptrace", x32Call+521, unix.PTRACE_ATTACH, 1<<22-1) // nobody has the highest number
	return nil
}

// Calls of x32 programs are told like others, whether the kernel takes them or
// not: they must be no way around the sensors.
func TestX32IsTold(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("there are x32 programs on amd64 alone")
	}
	w := watch(t)
	id := newID(t)
	h := startInside(t, id, "calls=x32")
	h.finish()
	failed := h.results()
	w.check(h, id, []entry{
		{event.KindUmount, event.Privilege{Call: "umount2", Target: "/castellan/x32", Error: failed["umount2"]}},
		{event.KindPtrace, event.Privilege{Call: "ptrace", Flags: []string{"attach"}, Error: failed["ptrace"]}},
	})
}

// wideCall is what the kernel does not look at of the number of a call: the upper half of
// the register.
const wideCall = 1 << 32

// callWide makes calls with more in the register of their number than the number.
func callWide(dir string) error {
	raw("umount2", wideCall+unix.SYS_UMOUNT2, text("/castellan/wide"), 0)
	raw("ptrace", wideCall+unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1<<22-1) // nobody has the highest number
	if dir != "" {
		raw("mount", wideCall+unix.SYS_MOUNT, text("castellan"), text(dir), text("tmpfs"), 0, 0)
	}
	return nil
}

// Calls are told whatever stands above their numbers.
func TestWideNumbersAreTold(t *testing.T) {
	w := watch(t)
	id := newID(t)
	h := startInside(t, id, "calls=wide")
	h.finish()
	failed := h.results()
	if failed["umount2"] == "ENOSYS" {
		t.Skip("before 5.14 there are no such calls on amd64")
	}
	w.check(h, id, []entry{
		{event.KindUmount, event.Privilege{Call: "umount2", Target: "/castellan/wide", Error: failed["umount2"]}},
		{event.KindPtrace, event.Privilege{Call: "ptrace", Flags: []string{"attach"}, Error: failed["ptrace"]}},
	})
}
