package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/asset"
)

// shapesMap is the map of privilege.bpf.h that says which argument of a call
// is what.
const shapesMap = "shapes"

// privilegeCall says how some calls are told: by which program, and for those
// that several calls share, by which shape.
type privilegeCall struct {
	program string
	names   []string
	shape   privilegeShape
}

func those(of ...string) []string { return of }

// newNamespaces are the flags of unshare(2) that are about namespaces.
const newNamespaces = unix.CLONE_NEWTIME | unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS |
	unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// fsconfigCreate is FSCONFIG_CMD_CREATE of include/uapi/linux/mount.h: what is
// below sets an option, which does nothing by itself.
const fsconfigCreate = 6

// timexModes are what adjtimex(2) can be asked to set: include/uapi/linux/timex.h.
const timexModes = 1<<32 - 1

// privilegeCalls lists the calls that the privilege sensor follows. Arguments
// are counted from 1.
func privilegeCalls() []privilegeCall {
	const (
		mount, umount, pivot = uint8(privilegeKindKIND_MOUNT), uint8(privilegeKindKIND_UMOUNT), uint8(privilegeKindKIND_PIVOT_ROOT)
		module, kexec        = uint8(privilegeKindKIND_MODULE), uint8(privilegeKindKIND_KEXEC)
		key, knob            = uint8(privilegeKindKIND_KEYRING), uint8(privilegeKindKIND_KNOB)
		user, ptrace         = uint8(privilegeKindKIND_USER), uint8(privilegeKindKIND_PTRACE)
		typePointed          = uint8(privilegeHowHOW_TYPE_POINTED)
		flagsPointed         = uint8(privilegeHowHOW_FLAGS_POINTED)
		context              = uint8(privilegeHowHOW_CONTEXT)
		file                 = uint8(privilegeHowHOW_FILE)
	)
	return []privilegeCall{
		{"on_call", those("mount"), privilegeShape{Kind: mount, Source: 1, Target: 2, Type: 3, Flags: 4}},
		{"on_call", those("umount2"), privilegeShape{Kind: umount, Target: 1, Flags: 2}},
		{"on_call", those("umount"), privilegeShape{Kind: umount, Target: 1}},
		{"on_call", those("pivot_root"), privilegeShape{Kind: pivot, Target: 1, Source: 2}},
		{"on_call", those("chroot"), privilegeShape{Kind: pivot, Target: 1}},
		{"on_call", those("fsopen"), privilegeShape{Kind: mount, Type: 1}},
		{"on_call", those("fsconfig"), privilegeShape{Kind: mount, How: context, Command: 2, Least: fsconfigCreate}},
		{"on_call", those("fsmount"), privilegeShape{Kind: mount, How: context, Flags: 3}},
		{"on_call", those("fspick"), privilegeShape{Kind: mount, Target: 2}},
		{"on_call", those("open_tree"), privilegeShape{Kind: mount, Source: 2, Flags: 3, Need: unix.OPEN_TREE_CLONE}},
		{"on_call", those("open_tree_attr"), privilegeShape{Kind: mount, Source: 2, Flags: 3}},
		{"on_call", those("move_mount"), privilegeShape{Kind: mount, Source: 2, Target: 4, Flags: 5}},
		// struct mount_attr begins with what is to be set.
		{"on_call", those("mount_setattr"), privilegeShape{Kind: mount, How: flagsPointed, Target: 2, Flags: 4}},
		{"on_call", those("unshare"), privilegeShape{Kind: uint8(privilegeKindKIND_UNSHARE), Flags: 1, Need: newNamespaces}},
		{"on_call", those("init_module"), privilegeShape{Kind: module, Everywhere: 1, Source: 3}},
		{"on_call", those("finit_module"), privilegeShape{Kind: module, Everywhere: 1, How: file, Source: 2}},
		{"on_call", those("delete_module"), privilegeShape{Kind: module, Everywhere: 1, Target: 1}},
		{"on_call", those("kexec_load"), privilegeShape{Kind: kexec, Everywhere: 1, Flags: 4}},
		{"on_call", those("kexec_file_load"), privilegeShape{Kind: kexec, Everywhere: 1, How: file, Flags: 5}},
		// struct perf_event_attr begins with its type.
		{"on_call", those("perf_event_open"), privilegeShape{Kind: uint8(privilegeKindKIND_PERF), How: typePointed, Type: 1}},
		{"on_call", those("keyctl"), privilegeShape{Kind: key, Command: 1}},
		{"on_call", those("add_key", "request_key"), privilegeShape{Kind: key, Type: 1, Target: 2}},
		{"on_call", those("userfaultfd"), privilegeShape{Kind: uint8(privilegeKindKIND_USERFAULT), Flags: 1}},
		{"on_call", those("io_uring_setup"), privilegeShape{Kind: uint8(privilegeKindKIND_IO_URING)}},
		{"on_call", those("reboot"), privilegeShape{Kind: knob, Command: 3}},
		{"on_call", those("acct", "swapon", "swapoff"), privilegeShape{Kind: knob, Target: 1}},
		{"on_call", those("iopl", "ioperm", "settimeofday", "stime", "clock_settime", "clock_settime64"), privilegeShape{Kind: knob}},
		// struct timex begins with what is to be set; nothing for who reads.
		{"on_call", those("adjtimex"), privilegeShape{Kind: knob, How: flagsPointed, Flags: 1, Need: timexModes}},
		{"on_call", those("clock_adjtime", "clock_adjtime64"), privilegeShape{Kind: knob, How: flagsPointed, Flags: 2, Need: timexModes}},
		{"on_process", those("ptrace"), privilegeShape{Kind: ptrace, Everywhere: 1, How: uint8(privilegeHowHOW_PTRACE), Command: 1, Target: 2}},
		{"on_process", those("process_vm_readv", "process_vm_writev"), privilegeShape{Kind: uint8(privilegeKindKIND_PROCESS_WRITE), Everywhere: 1, Target: 1}},
		{"on_process", those("pidfd_getfd"), privilegeShape{Kind: ptrace, Everywhere: 1, How: uint8(privilegeHowHOW_PIDFD), Target: 1}},
		{"on_become", those("setuid", "setuid32", "setgid", "setgid32"), privilegeShape{Kind: user, Command: 1}},
		{"on_become", those(
			"setreuid", "setreuid32", "setresuid", "setresuid32", "setregid", "setregid32", "setresgid", "setresgid32",
		), privilegeShape{Kind: user, Command: 2}},
		{"on_become", those("capset"), privilegeShape{Kind: uint8(privilegeKindKIND_CAPABILITY)}},
		{"on_clone", those("clone"), privilegeShape{}},
		{"on_clone3", those("clone3"), privilegeShape{}},
		{"on_setns", those("setns"), privilegeShape{}},
		{"on_bpf", those("bpf"), privilegeShape{}},
	}
}

// privilegeHandlers returns which program handles which calls.
func privilegeHandlers() map[string][]string {
	out := map[string][]string{}
	for _, c := range privilegeCalls() {
		out[c.program] = append(out[c.program], c.names...)
	}
	return out
}

// setShapes hands the shapes to the programs.
func setShapes(maps map[string]*ebpf.Map, _ asset.AgentSettings) error {
	for _, c := range privilegeCalls() {
		for _, n := range slots(c.names) {
			if err := maps[shapesMap].Put(n, c.shape); err != nil {
				return fmt.Errorf("set the shape of system call %d: %w", n, err)
			}
		}
	}
	return nil
}
