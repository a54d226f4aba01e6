package bpf

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

//go:generate go tool bpf2go -cc clang -strip llvm-strip -target amd64,arm64 -type privilege -type held_call guardPrivilege guard_privilege.bpf.c -- -O2 -Wall -Werror -mcpu=v2

// rungCallSignal is the lesser rung of profile.ControlPrivilege, in the words of
// internal/adapter/kernel.
const rungCallSignal = "signal at the system call"

// signalPrivilege is the program at sys_enter, of both rungs.
const signalPrivilege = "signal_privilege"

// privilegeHooks are the programs of BPF LSM, with the hooks that not every kernel has.
func privilegeHooks() []string {
	hooks := []string{
		"deny_mount", "deny_move_mount", "deny_umount", "deny_pivot_root", "deny_ptrace", "deny_traceme", "deny_read_file", "deny_load_data",
		"deny_bpf", "deny_perf", "deny_key", "deny_new_key", "deny_setuid", "deny_capability", "deny_device", "deny_socket",
	}
	for program, hook := range map[string]string{
		"deny_chroot": "path_chroot", "deny_anonymous": "inode_init_security_anon", "deny_userns": "userns_create",
	} {
		if hasFunction("bpf_lsm_" + hook) {
			hooks = append(hooks, program)
		}
	}
	return hooks
}

// OpenPrivilegeGuard returns what holds containers to the privileged calls that they
// make and the capabilities that they use. dir is as in OpenNetGuard.
func OpenPrivilegeGuard(dir string, log *slog.Logger) (*Guard, error) {
	return openTableGuard(privilegeTable(), dir, generationOf(_GuardPrivilegeBytes, tableRing), log)
}

// privilegeTable are the programs that hold privileged calls.
func privilegeTable() tableKind {
	hooked := sync.OnceValue(takesHooks)
	return tableKind{
		control: profile.ControlPrivilege, what: "which privileged calls they make", folder: "privilege", spec: loadGuardPrivilege, rungs: privilegeRungs,
		// With security hooks they also hold sockets that few programs make.
		wants: func(r *profile.Rules) bool {
			return r.Answers[profile.ControlPrivilege] != profile.Off || r.Answers[profile.ControlNetwork] != profile.Off && hooked()
		},
		tell: func(spec *ebpf.CollectionSpec, rung tableRung) error {
			for variable, names := range map[string][]string{
				"calls_memory": {"process_vm_readv", "process_vm_writev"}, "calls_tracing": {"ptrace", "pidfd_getfd"},
				"calls_leaving": {"unshare"},
			} {
				if err := setSlots(spec, variable, names); err != nil {
					return err
				}
			}
			var names []string
			for _, c := range signalledCalls(rung) {
				names = append(names, c.names...)
			}
			return setHalves(spec, "held_halves", map[uint8][]string{1: names})
		},
		fill:  fillHeldCalls,
		lists: func(*profile.Rules) map[guardExecPathList][]profile.Pattern { return nil },
		meta: func(r *profile.Rules, meta *guardExecEdge) {
			meta.Prefix = uint64(r.Privilege.Capabilities)
			meta.Suffix = heldKinds(r)
		},
		decode: decodePrivilegeDenial,
	}
}

func privilegeRungs() ([]tableRung, error) {
	rungs := []tableRung{{rungCallSignal, []string{signalPrivilege, "note_program"}}}
	if !bpfIsLSM() {
		return rungs, nil
	}
	return append([]tableRung{{rungHooks, append(privilegeHooks(), signalPrivilege, "note_program")}}, rungs...), nil
}

// heldSockets are the numbers of sockets that few programs make, by their names in events
// and profiles: see rawName.
var heldSockets = map[string]guardPrivilegePrivilege{
	"packet": guardPrivilegePrivilegePRIVILEGE_PACKET, "vsock": guardPrivilegePrivilegePRIVILEGE_VSOCK,
	"alg": guardPrivilegePrivilegePRIVILEGE_ALG, "raw": guardPrivilegePrivilegePRIVILEGE_RAW,
}

// heldKinds returns the privileges that rules have, a bit for each.
func heldKinds(r *profile.Rules) (kinds uint64) {
	for _, k := range r.Privilege.Kinds {
		if n, ok := heldPrivileges[k]; ok {
			kinds |= 1 << n
		}
	}
	for name, n := range heldSockets {
		if r.Network.HasSocket(name) {
			kinds |= 1 << n
		}
	}
	writes := slices.ContainsFunc(r.File.Writes, isProcessMemory)
	if writes {
		kinds |= 1 << guardPrivilegePrivilegePRIVILEGE_PROCESS_WRITE
	}
	if writes || r.Exec.CodeHeap {
		kinds |= 1 << guardPrivilegePrivilegePRIVILEGE_OWN_MEMORY
	}
	return kinds
}

// isProcessMemory reports whether a pattern stands for the memory of processes, which
// sensors tell as a file that is written.
func isProcessMemory(p profile.Pattern) bool {
	names := p.Names()
	return len(names) > 1 && names[0] == "proc" && (names[len(names)-1] == "**" || len(names) > 2 && names[len(names)-1] == "mem")
}

// heldPrivileges are the numbers by which rules in the kernel have kinds of privileges:
// enum privilege of guard_privilege.bpf.c. Of capabilities each has a bit of its own.
var heldPrivileges = map[event.Kind]guardPrivilegePrivilege{
	event.KindMount: guardPrivilegePrivilegePRIVILEGE_MOUNT, event.KindUmount: guardPrivilegePrivilegePRIVILEGE_UMOUNT,
	event.KindPivotRoot: guardPrivilegePrivilegePRIVILEGE_PIVOT_ROOT, event.KindUnshare: guardPrivilegePrivilegePRIVILEGE_UNSHARE,
	event.KindSetns: guardPrivilegePrivilegePRIVILEGE_SETNS, event.KindClone: guardPrivilegePrivilegePRIVILEGE_CLONE,
	event.KindPtrace: guardPrivilegePrivilegePRIVILEGE_PTRACE, event.KindProcessWrite: guardPrivilegePrivilegePRIVILEGE_PROCESS_WRITE,
	event.KindModule: guardPrivilegePrivilegePRIVILEGE_MODULE, event.KindKexec: guardPrivilegePrivilegePRIVILEGE_KEXEC,
	event.KindBPF: guardPrivilegePrivilegePRIVILEGE_BPF, event.KindPerf: guardPrivilegePrivilegePRIVILEGE_PERF,
	event.KindKeyring: guardPrivilegePrivilegePRIVILEGE_KEYRING, event.KindUserfault: guardPrivilegePrivilegePRIVILEGE_USERFAULT,
	event.KindIOURing: guardPrivilegePrivilegePRIVILEGE_IO_URING, event.KindUser: guardPrivilegePrivilegePRIVILEGE_USER,
	event.KindKernelKnob: guardPrivilegePrivilegePRIVILEGE_KNOB, event.KindDevice: guardPrivilegePrivilegePRIVILEGE_DEVICE,
}

// heldCall says what a system call needs to be a privileged one; a process that dies
// of it is killed at its beginning. Arguments are counted from 1.
type heldCall struct {
	names []string
	kind  event.Kind
	call  guardPrivilegeHeldCall
	// hooked says that BPF LSM refuses it, or what it needs, so that no signal is
	// wanted there.
	hooked bool
}

// number is that of the call's kind, if the kernel has one. Code that a process makes of
// its memory is a matter of the control of exec, and of no kind that rules name.
func (c heldCall) number() (guardPrivilegePrivilege, bool) {
	if c.kind == event.KindExecProtect {
		return guardPrivilegePrivilegePRIVILEGE_OWN_MEMORY, true
	}
	n, ok := heldPrivileges[c.kind]
	return n, ok
}

// able is what held_call has of a capability: 0 is none there.
func able(capability uint8) uint8 { return capability + 1 }

// heldCalls lists the calls.
func heldCalls() []heldCall {
	admin := able(unix.CAP_SYS_ADMIN)
	const user = unix.CLONE_NEWUSER
	// Nothing holds who leaves the cgroup: a mount of it that is read-only is enough for that.
	const leaves = unix.CLONE_INTO_CGROUP
	// The low byte of clone's flags is a signal.
	const cloned = newNamespaces &^ unix.CLONE_NEWTIME
	return []heldCall{
		{those("unshare"), event.KindUnshare, guardPrivilegeHeldCall{Flags: 1, Need: newNamespaces, Except: user, Capability: admin}, false},
		{those("clone"), event.KindClone, guardPrivilegeHeldCall{Flags: 1, Need: cloned, Except: user, Capability: admin}, false},
		{those("clone3"), event.KindClone, guardPrivilegeHeldCall{Flags: 1, Pointed: 1, Need: newNamespaces | leaves, Except: user | leaves, Capability: admin}, false},
		{those("setns"), event.KindSetns, guardPrivilegeHeldCall{Flags: 2}, false},
		{those("fsmount", "fspick", "mount_setattr"), event.KindMount, guardPrivilegeHeldCall{Capability: admin}, false},
		{those("open_tree_attr"), event.KindMount, guardPrivilegeHeldCall{Flags: 3, Capability: admin}, false},
		{those("open_tree"), event.KindMount, guardPrivilegeHeldCall{Flags: 3, Need: unix.OPEN_TREE_CLONE, Capability: admin}, false},
		{those("delete_module"), event.KindModule, guardPrivilegeHeldCall{Capability: able(unix.CAP_SYS_MODULE)}, false},
		{those("reboot"), event.KindKernelKnob, guardPrivilegeHeldCall{Capability: able(unix.CAP_SYS_BOOT)}, false},
		{those("acct"), event.KindKernelKnob, guardPrivilegeHeldCall{Capability: able(unix.CAP_SYS_PACCT)}, false},
		{those("swapon", "swapoff"), event.KindKernelKnob, guardPrivilegeHeldCall{Capability: admin}, false},
		{those("iopl", "ioperm"), event.KindKernelKnob, guardPrivilegeHeldCall{Capability: able(unix.CAP_SYS_RAWIO)}, false},
		{those("settimeofday", "stime", "clock_settime", "clock_settime64"), event.KindKernelKnob, guardPrivilegeHeldCall{Capability: able(unix.CAP_SYS_TIME)}, false},
		{those("adjtimex"), event.KindKernelKnob, guardPrivilegeHeldCall{Flags: 1, Pointed: 1, Need: timexModes, Capability: able(unix.CAP_SYS_TIME)}, false},
		{those("clock_adjtime", "clock_adjtime64"), event.KindKernelKnob, guardPrivilegeHeldCall{Flags: 2, Pointed: 1, Need: timexModes, Capability: able(unix.CAP_SYS_TIME)}, false},

		// All memory that can be read becomes code: the exec guard kills for it by signals.
		{those("personality"), event.KindExecProtect, guardPrivilegeHeldCall{Flags: 1, Need: readImpliesExec}, false},

		{those("mount", "move_mount"), event.KindMount, guardPrivilegeHeldCall{Capability: admin}, true},
		{those("umount", "umount2"), event.KindUmount, guardPrivilegeHeldCall{Capability: admin}, true},
		{those("pivot_root"), event.KindPivotRoot, guardPrivilegeHeldCall{Capability: admin}, true},
		{those("chroot"), event.KindPivotRoot, guardPrivilegeHeldCall{Capability: able(unix.CAP_SYS_CHROOT)}, true},
		{those("ptrace"), event.KindPtrace, guardPrivilegeHeldCall{Command: 1}, true},
		{those("pidfd_getfd"), event.KindPtrace, guardPrivilegeHeldCall{}, true},
		{those("process_vm_readv", "process_vm_writev"), event.KindProcessWrite, guardPrivilegeHeldCall{}, true},
		{those("init_module", "finit_module"), event.KindModule, guardPrivilegeHeldCall{Capability: able(unix.CAP_SYS_MODULE)}, true},
		{those("kexec_load", "kexec_file_load"), event.KindKexec, guardPrivilegeHeldCall{Capability: able(unix.CAP_SYS_BOOT)}, true},
		{those("bpf"), event.KindBPF, guardPrivilegeHeldCall{Command: 1}, true},
		{those("perf_event_open"), event.KindPerf, guardPrivilegeHeldCall{}, true},
		{those("keyctl"), event.KindKeyring, guardPrivilegeHeldCall{Command: 1}, true},
		{those("add_key", "request_key"), event.KindKeyring, guardPrivilegeHeldCall{}, true},
		{those("userfaultfd"), event.KindUserfault, guardPrivilegeHeldCall{}, true},
		{those("io_uring_setup"), event.KindIOURing, guardPrivilegeHeldCall{}, true},
	}
}

// readImpliesExec is READ_IMPLIES_EXEC of include/uapi/linux/personality.h.
const readImpliesExec = 0x0400000

// signalledCalls are those that a rung answers with a signal.
func signalledCalls(rung tableRung) []heldCall {
	return slices.DeleteFunc(heldCalls(), func(c heldCall) bool {
		if c.kind == event.KindExecProtect {
			return rung.name != rungHooks
		}
		return c.hooked && rung.name == rungHooks && !lacksHook(c.kind, rung)
	})
}

// fillHeldCalls tells the programs what those calls need.
func fillHeldCalls(maps map[string]*ebpf.Map, rung tableRung) error {
	for _, c := range signalledCalls(rung) {
		n, _ := c.number()
		c.call.Kind = uint8(n)
		if c.call.Except != 0 && slices.Contains(rung.programs, "deny_userns") {
			c.call.Hooked = 1
		}
		for _, n := range slots(c.names) {
			if err := maps["held_calls"].Put(n, c.call); err != nil {
				return fmt.Errorf("set what system call %d needs: %w", n, err)
			}
		}
	}
	return nil
}

// lacksHook says that this kernel has no hook for a kind: its calls are answered with
// a signal then.
func lacksHook(k event.Kind, rung tableRung) bool {
	switch k {
	case event.KindUserfault, event.KindIOURing:
		return !slices.Contains(rung.programs, "deny_anonymous")
	}
	return false
}

// isGiven fills in what a call gives to a process and is told as something else than a
// privilege: sockets, and its own memory to write into.
func isGiven(r *denial, e *event.Event) bool {
	if r.detail == uint32(guardPrivilegePrivilegePRIVILEGE_OWN_MEMORY) {
		e.Kind, e.Privilege = event.KindExecProtect, nil
		protection := []string{"write", "execute"}
		if r.path == "" {
			protection[0] = "read" // by a personality
		}
		e.Memory = &event.Memory{Call: r.call, Path: r.path, Protection: protection, Error: r.refused}
		return true
	}
	for name, n := range heldSockets {
		if uint32(n) == r.detail {
			e.Kind, e.Privilege = event.KindRaw, nil
			e.Connection = &event.Connection{Protocol: name, Error: r.refused}
			return true
		}
	}
	return false
}

// decodePrivilegeDenial is for privileged calls and capabilities.
func decodePrivilegeDenial(_ *decoder, r *denial, e *event.Event) error {
	p := &event.Privilege{Call: r.call, Target: r.path, Error: r.refused}
	e.Privilege = p
	if r.deed == guardExecDeedDEED_CAPABILITY {
		e.Kind, p.Gained, p.Flags = event.KindCapability, 1<<(r.detail&63), []string{event.CapabilityUsed}
		return nil
	}
	if r.deed != guardExecDeedDEED_PRIVILEGE {
		return fmt.Errorf("unknown deed %d", r.deed)
	}
	if isGiven(r, e) {
		return nil
	}
	for k, n := range heldPrivileges {
		if uint32(n) == r.detail {
			e.Kind = k
		}
	}
	if e.Kind == "" {
		return fmt.Errorf("unknown privilege %d", r.detail)
	}
	var record privilegeRecord
	record.Flags, record.Command = r.more, uint32(r.more)
	switch e.Kind {
	case event.KindProcessWrite:
		if r.path != "" {
			p.Flags = openFlags(uint32(r.more))
		}
	case event.KindUser:
		p.OldUID, p.NewUID = uint32(r.more>>32), uint32(r.more)
	case event.KindKernelKnob, event.KindDevice:
		if p.Target != "" { // of a call nothing was opened
			p.Flags = openFlags(uint32(r.more))
		}
	default:
		p.Flags = callWords(e.Kind, p.Call, &record)
	}
	return nil
}
