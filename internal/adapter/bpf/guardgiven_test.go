package bpf_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// failed is the code that the helper ends with when this machine refuses what was asked.
const failed = 7

// callSocket makes a socket of a family.
func callSocket(family string) error {
	of := map[string][3]int{
		"packet": {unix.AF_PACKET, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC, 0}, "vsock": {unix.AF_VSOCK, unix.SOCK_STREAM, 0},
		"packet-of-old": {unix.AF_INET, unix.SOCK_PACKET | unix.SOCK_CLOEXEC, 0x0300}, "xdp": {unix.AF_XDP, unix.SOCK_RAW, 0},
		"pair": {unix.AF_UNIX, unix.SOCK_STREAM, 0}, "pair-of-another-family": {unix.AF_TIPC, unix.SOCK_SEQPACKET, 0},
		"alg": {unix.AF_ALG, unix.SOCK_SEQPACKET, 0}, "can": {unix.AF_CAN, unix.SOCK_RAW, 1},
		"unix": {unix.AF_UNIX, unix.SOCK_STREAM, 0}, "tcp": {unix.AF_INET6, unix.SOCK_STREAM, 0}, "netlink": {unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE},
	}[family]
	if strings.HasPrefix(family, "pair") {
		ends, err := unix.Socketpair(of[0], of[1], of[2])
		if err != nil {
			fmt.Println("socketpair", family, err)
			os.Exit(failed)
		}
		return errors.Join(unix.Close(ends[0]), unix.Close(ends[1]))
	}
	fd, err := unix.Socket(of[0], of[1], of[2])
	if err != nil {
		fmt.Println("socket", family, err)
		os.Exit(failed)
	}
	return unix.Close(fd)
}

// callMemory opens the memory of a process.
func callMemory(what string) error {
	open := func(path string, flags int) error {
		fd, err := unix.Open(path, flags, 0)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	}
	switch what {
	case "own":
		return open("/proc/self/mem", unix.O_RDWR|unix.O_CLOEXEC)
	case "own-of-thread":
		return open("/proc/thread-self/mem", unix.O_WRONLY)
	case "own-by-its-number":
		return open("/proc/"+strconv.Itoa(os.Getpid())+"/mem", unix.O_RDWR)
	case "own-by-another-root":
		return open("/proc/self/root/proc/self/cwd/../proc/self/mem", unix.O_RDWR)
	case "own-opened-again":
		return openAgain(open)
	case "own-by-openat2":
		fd, err := unix.Openat2(unix.AT_FDCWD, "/proc/self/mem", &unix.OpenHow{Flags: unix.O_RDWR})
		if err != nil {
			return err
		}
		return unix.Close(fd)
	case "own-to-read":
		return open("/proc/self/mem", unix.O_RDONLY)
	case "readable-is-code", "asks-for-personality":
		wanted := uintptr(0xffffffff)
		if what == "readable-is-code" {
			wanted = 0x0400000 // READ_IMPLIES_EXEC
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, wanted, 0, 0); errno != 0 {
			return errno
		}
		return nil
	case "code-behind-a-file", "code-before-a-hole":
		return makeCode(what)
	case "code-by-a-wide-number", "own-by-a-wide-number":
		return byWideNumber(what)
	case "maps": // other files that are there to be written
		return errors.Join(open("/proc/self/comm", unix.O_RDWR), open("/proc/self/oom_score_adj", unix.O_WRONLY))
	}
	child := exec.Command("/proc/self/exe", "wait")
	child.Env = append(os.Environ(), helperEnv+"=1")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr // there is no /dev/null
	hold, err := child.StdinPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	path := "/proc/" + strconv.Itoa(child.Process.Pid) + "/mem"
	switch what {
	case "other":
		err = open(path, unix.O_RDWR)
	case "other-by-openat2":
		var fd int
		if fd, err = unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_WRONLY}); err == nil {
			err = unix.Close(fd)
		}
	case "other-to-read":
		err = open(path, unix.O_RDONLY)
	default:
		err = fmt.Errorf("no memory is called %q", what)
	}
	return errors.Join(err, hold.Close(), ignoreExit(child.Wait()))
}

// openAgain opens its own memory to be read, and by that descriptor to be written.
func openAgain(open func(string, int) error) error {
	fd, err := unix.Open("/proc/self/mem", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDWR)
}

// makeCode makes memory code that it has written, by a call that begins at what nobody
// wrote, or that fails at what is not there.
func makeCode(how string) error {
	size := os.Getpagesize()
	b, err := unix.Mmap(-1, 0, 2*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	b[0], b[size] = 0xc3, 0xc3
	if how == "code-before-a-hole" {
		if err := unix.MunmapPtr(unsafe.Pointer(&b[size]), uintptr(size)); err != nil {
			return err
		}
		if err := unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC); err != unix.ENOMEM {
			return fmt.Errorf("made code up to a hole: %w, want %w", err, unix.ENOMEM)
		}
		return nil
	}
	own, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if _, err := unix.MmapPtr(own, 0, unsafe.Pointer(&b[0]), uintptr(size), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_FIXED); err != nil {
		return err
	}
	return unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC)
}

// byWideNumber maps memory that can be written and run, or opens its own to write into it,
// with more in the register of the call's number than that.
func byWideNumber(what string) error {
	number, args := uintptr(unix.SYS_MMAP), [6]uintptr{1: uintptr(os.Getpagesize()), 2: unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC,
		3: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, 4: ^uintptr(0)}
	if what == "own-by-a-wide-number" {
		number, args = unix.SYS_OPENAT, [6]uintptr{^uintptr(99), text("/proc/self/mem"), unix.O_RDWR}
	}
	if _, _, errno := unix.RawSyscall6(wideCall+number, args[0], args[1], args[2], args[3], args[4], args[5]); errno != 0 {
		fmt.Println(what, errno)
		os.Exit(failed) // before 5.14 there are no such calls on amd64
	}
	return nil
}

// ignoreExit leaves out that a helper could not read what it waited for.
func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// givenCase is something that a call gives to a process.
type givenCase struct {
	calls   string
	control profile.Control
	kind    event.Kind
	permit  func(*profile.Rules) // by the profile
	as      func(*event.Event) bool
}

func givenCases() []givenCase {
	socket := func(name string) func(*profile.Rules) {
		return func(r *profile.Rules) { r.Network = profile.NetworkRules{Raw: true, Sockets: []string{name}} }
	}
	told := func(name string) func(*event.Event) bool {
		return func(e *event.Event) bool { return e.Connection != nil && e.Connection.Protocol == name }
	}
	others := func(e *event.Event) bool {
		return e.Privilege != nil && isMemory(e.Privilege.Target) && len(e.Privilege.Flags) > 0
	}
	own := func(e *event.Event) bool { return e.Memory != nil && isMemory(e.Memory.Path) && e.Memory.Call != "" }
	reaching := func(r *profile.Rules) { r.Privilege.Kinds = append(r.Privilege.Kinds, event.KindProcessWrite) }
	writing := func(r *profile.Rules) { r.File.Writes = []profile.Pattern{"/proc/*/mem"} }
	compiling := func(r *profile.Rules) { r.Exec.CodeHeap = true }
	made := func(e *event.Event) bool { return e.Memory != nil && e.Memory.Call == "mprotect" }
	return []givenCase{
		{"socket:packet", profile.ControlNetwork, event.KindRaw, socket("packet"), told("packet")},
		{"socket:packet-of-old", profile.ControlNetwork, event.KindRaw, socket("packet"), told("packet")},
		{"socket:xdp", profile.ControlNetwork, event.KindRaw, socket("raw"), told("raw")},
		{"socket:vsock", profile.ControlNetwork, event.KindRaw, socket("vsock"), told("vsock")},
		{"socket:alg", profile.ControlNetwork, event.KindRaw, socket("alg"), told("alg")},
		{"socket:pair-of-another-family", profile.ControlNetwork, event.KindRaw, func(r *profile.Rules) { r.Network.Raw = true }, told("raw")},
		{"socket:can", profile.ControlNetwork, event.KindRaw, func(r *profile.Rules) { r.Network.Raw = true }, told("raw")},
		{"memory:other", profile.ControlPrivilege, event.KindProcessWrite, reaching, others},
		{"memory:other-by-openat2", profile.ControlPrivilege, event.KindProcessWrite, writing, others},
		{"memory:own", profile.ControlExec, event.KindExecProtect, compiling, own},
		{"memory:own-of-thread", profile.ControlExec, event.KindExecProtect, writing, own},
		{"memory:code-behind-a-file", profile.ControlExec, event.KindExecProtect, compiling, made},
		{"memory:readable-is-code", profile.ControlExec, event.KindExecProtect, compiling, func(e *event.Event) bool { return e.Memory != nil }},
		{"memory:own-by-its-number", profile.ControlExec, event.KindExecProtect, compiling, own},
		{"memory:own-by-another-root", profile.ControlExec, event.KindExecProtect, compiling, own},
		{"memory:own-opened-again", profile.ControlExec, event.KindExecProtect, compiling, own},
		{"memory:own-by-openat2", profile.ControlExec, event.KindExecProtect, writing, own},
		{"memory:own-by-a-wide-number", profile.ControlExec, event.KindExecProtect, writing, own},
		{"memory:code-by-a-wide-number", profile.ControlExec, event.KindExecProtect, compiling, made},
		{"memory:code-before-a-hole", profile.ControlExec, event.KindExecProtect, compiling, made},
	}
}

func isMemory(path string) bool {
	return profile.Pattern("/proc/*/mem").Match(path) || profile.Pattern("/proc/*/task/*/mem").Match(path)
}

// givenRules hold one control alone.
func givenRules(c profile.Control, a profile.Answer) profile.Rules {
	r := execRules(profile.Off, profile.ExecRules{Paths: []profile.Pattern{"/bin/tool"}})
	r.Answers[c] = a
	return r
}

// Who is given a socket of a family that its profile does not have, or the memory of a
// process to write into, dies of it before it has it; with it in the profile, looked at
// only, or let go, it goes on.
func TestExecGuardHoldsWhatCallsGive(t *testing.T) {
	g := execGuard(t, pins(t))
	if bpf.IsLSM() {
		t.Skip("held by security hooks here: the tests in virtual machines")
	}
	for _, tc := range givenCases() {
		t.Run(tc.calls, func(t *testing.T) {
			attempt := func(r profile.Rules) (id string, killed bool) {
				check(t, g.Set(r))
				id = newID(t)
				check(t, g.Hold(id, netGroup))
				killed, code := ran(t, id, "exec=/bin/tool", "tool", "calls="+tc.calls, "exit=3")
				if !killed && code == failed {
					t.Skipf("this machine has none: %s", tc.calls)
				}
				if !killed && code != 3 {
					t.Errorf("%s ended with %d", tc.calls, code)
				}
				return id, killed
			}
			if _, killed := attempt(givenRules(tc.control, profile.Off)); killed {
				t.Error("what is not held is stopped")
			}
			id, killed := attempt(givenRules(tc.control, profile.Deny))
			if !killed {
				t.Error("not stopped")
			}
			e := g.await(tc.calls, func(e event.Event) bool { return e.WorkloadID == id })
			if e.Kind != tc.kind || e.Reaction != event.ReactionKilled || !tc.as(&e) {
				t.Errorf("told as %+v, %+v %+v %+v", e, e.Connection, e.Privilege, e.Memory)
			}
			has := givenRules(tc.control, profile.Deny)
			tc.permit(&has)
			if _, killed := attempt(has); killed {
				t.Error("stopped although the profile has it")
			}
			id, killed = attempt(givenRules(tc.control, profile.Audit))
			if killed {
				t.Error("stopped although it is looked at only")
			}
			g.await(tc.calls, func(e event.Event) bool {
				return e.WorkloadID == id && e.Kind == tc.kind && e.Reaction == event.ReactionAudited
			})
		})
	}
}

// Ordinary work is not stopped by what holds these, and of one family the profile having
// another says nothing.
func TestExecGuardLeavesOrdinaryCalls(t *testing.T) {
	g := execGuard(t, pins(t))
	r := execRules(profile.Deny, profile.ExecRules{Paths: []profile.Pattern{"/bin/tool"}})
	r.Answers[profile.ControlNetwork], r.Answers[profile.ControlPrivilege] = profile.Deny, profile.Deny
	r.Network = profile.NetworkRules{Raw: true, Sockets: []string{"vsock"}}
	check(t, g.Set(r))
	for _, calls := range []string{"socket:unix", "socket:pair", "socket:tcp", "socket:netlink", "memory:own-to-read", "memory:other-to-read", "memory:maps", "memory:asks-for-personality"} {
		id := newID(t)
		check(t, g.Hold(id, netGroup))
		if killed, code := ran(t, id, "exec=/bin/tool", "tool", "calls="+calls, "exit=3"); killed || code != 3 {
			t.Errorf("%s: killed %v, code %d", calls, killed, code)
		}
	}
	id := newID(t)
	check(t, g.Hold(id, netGroup))
	if killed, _ := ran(t, id, "exec=/bin/tool", "tool", "calls=socket:packet", "exit=3"); killed != !bpf.IsLSM() {
		t.Errorf("another family than the profile's: killed %v", killed)
	}
}
