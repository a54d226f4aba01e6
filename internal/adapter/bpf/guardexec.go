package bpf

import (
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/castellan-security/castellan/internal/profile"
)

//go:generate go tool bpf2go -cc clang -strip llvm-strip -target amd64,arm64 -type control -type answer -type reaction -type deed -type denial_flag -type edge_kind -type edge_key -type edge -type edge_flag -type meta_flag -type path_list -type denial -type slot -type hold -type held_id -type guard_setting -type makes guardExec guard_exec.bpf.c -- -O2 -Wall -Werror -mcpu=v2

// The rungs of profile.ControlExec, in the words of internal/adapter/kernel.
const (
	rungLSM    = "BPF LSM (refused before it starts)"
	rungSignal = "signal at exec (killed before its first instruction)"
)

// execRungs are the ways, the best first. Programs called …_plain are for kernels
// without bpf_find_vma (5.17). Security hooks are asked only where BPF is an active
// security module: elsewhere programs attach, and are never called.
func execRungs() ([]tableRung, error) {
	all := []tableRung{{rungSignal, []string{"signal_exec_plain", "signal_call_plain"}}}
	if hasHelper("BPF_FUNC_find_vma") {
		all = slices.Insert(all, 0, tableRung{rungSignal, []string{"signal_exec", jointProgram}})
	}
	if bpfIsLSM() {
		all = slices.Insert(all, 0, tableRung{rungLSM, []string{"deny_exec", "deny_map", "deny_protect", "deny_script", "note_script", "forget_script"}})
	}
	return all, nil
}

// lsmPath lists the active security modules, separated by commas.
const lsmPath = "/sys/kernel/security/lsm"

// bpfIsLSM reports whether the kernel asks BPF programs as a security module. Where
// the list can't be read it may, and is not known to.
func bpfIsLSM() bool {
	list, err := os.ReadFile(lsmPath)
	return err == nil && slices.Contains(strings.Split(strings.TrimSpace(string(list)), ","), "bpf")
}

// takesHooks reports whether this kernel has programs as a security module in fact: some
// list them, and have no trampolines for them (arm64 before 6.4). It attaches one for a
// moment, to a hook that next to nobody calls.
func takesHooks() bool {
	if !bpfIsLSM() {
		return false
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "settime", License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return false
	}
	defer p.Close()
	at, err := link.AttachLSM(link.LSMOptions{Program: p})
	if err != nil {
		return false
	}
	return at.Close() == nil
}

// OpenExecGuard returns what holds containers to what may run in them: programs of
// the image that their group's profile has, and of what was written later, lies on a
// volume or was never in a folder, what it names. Code that is mapped is held too. A
// process dies before the first instruction of what may not run. Where BPF is no security module they also hold what a call gives to
// a process, before it returns: sockets of families that the profile does not have, and
// the memory of processes to write into. dir is as in OpenNetGuard.
func OpenExecGuard(dir string, log *slog.Logger) (*Guard, error) {
	return openExecGuard(dir, generationOf(_GuardExecBytes, tableRing), log)
}

func openExecGuard(dir, generation string, log *slog.Logger) (*Guard, error) {
	return openTableGuard(execTable(), dir, generation, log)
}

// execTable are the programs that hold what runs.
func execTable() tableKind {
	hooked := sync.OnceValue(takesHooks)
	return tableKind{
		control: profile.ControlExec, what: "what runs", folder: "exec", spec: loadGuardExec, rungs: execRungs, decode: decodeExecDenial,
		// By signals they also hold what a call gives to a process, of other controls.
		wants: func(r *profile.Rules) bool {
			given := r.Answers[profile.ControlPrivilege] != profile.Off || r.Answers[profile.ControlNetwork] != profile.Off
			return r.Answers[profile.ControlExec] != profile.Off || given && !hooked()
		},
		tell: func(spec *ebpf.CollectionSpec, _ tableRung) error {
			return setHalves(spec, "making", map[uint8][]string{
				uint8(guardExecMakesMAKES_MAPPED): {"mmap", "mmap2"}, uint8(guardExecMakesMAKES_PROTECTED): {"mprotect", "pkey_mprotect"},
				uint8(guardExecMakesMAKES_ATTACHED): {"shmat"},
				uint8(guardExecMakesMAKES_OPENED):   {"open"}, uint8(guardExecMakesMAKES_OPENED_AT): {"openat"},
				uint8(guardExecMakesMAKES_OPENED_SO): {"openat2", "creat"},
				uint8(guardExecMakesMAKES_SOCKET):    {"socket", "socketpair"}, uint8(guardExecMakesMAKES_SOCKET_OF): {"socketcall"},
				uint8(guardExecMakesMAKES_PERSONA): {"personality"},
			})
		},
		lists: func(r *profile.Rules) map[guardExecPathList][]profile.Pattern {
			return map[guardExecPathList][]profile.Pattern{guardExecPathListLIST_PROGRAMS: r.Exec.Paths, guardExecPathListLIST_WRITTEN: r.Exec.Written}
		},
		meta: func(r *profile.Rules, meta *guardExecEdge) {
			if r.Exec.Memfd {
				meta.Flags |= uint8(guardExecMetaFlagMETA_MEMFD)
			}
			if r.Exec.CodeHeap {
				meta.Flags |= uint8(guardExecMetaFlagMETA_CODE_HEAP)
			}
			meta.Suffix = heldKinds(r)
		},
	}
}
