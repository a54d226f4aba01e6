package guest_test

import (
	"encoding/binary"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/castellan-security/castellan/test/vm/guest"
)

// A BPF LSM program at bprm_check_security denies one file, and only that. On
// arm64 this kernel refuses such programs, see TestHostDescribe.
func TestLSMDeniesExec(t *testing.T) {
	// With its NUL the name fills one register.
	const denied = "/denied"
	if err := os.Link(guest.Subject, denied); err != nil {
		t.Fatal(err)
	}
	if got := exitCode(t, denied, "exit", "5"); got != 5 {
		t.Fatalf("before the program is loaded: exit code %d, want 5", got)
	}
	detach := attachDenial(t, denied)
	err := exec.CommandContext(t.Context(), denied, "exit", "5").Run()
	if !isErrno(err, syscall.EPERM) {
		t.Errorf("run %s: %v, want %v", denied, err, syscall.EPERM)
	}
	if got := exitCode(t, guest.Subject, "exit", "6"); got != 6 {
		t.Errorf("another program: exit code %d, want 6", got)
	}
	detach()
	if got := exitCode(t, denied, "exit", "5"); got != 5 {
		t.Errorf("after it is detached: exit code %d, want 5", got)
	}
}

// attachDenial denies the execution of the file of that name, seven bytes long.
func attachDenial(t *testing.T, name string) (detach func()) {
	t.Helper()
	const scratch = -8 // on the stack
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "bprm_check_security", License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord), // struct linux_binprm *
			asm.LoadMem(asm.R3, asm.R1, fileNameOffset(t), asm.DWord),
			asm.Mov.Imm(asm.R2, 0),
			asm.StoreMem(asm.RFP, scratch, asm.R2, asm.DWord),
			asm.Mov.Reg(asm.R1, asm.RFP),
			asm.Add.Imm(asm.R1, scratch),
			asm.Mov.Imm(asm.R2, -scratch),
			asm.FnProbeReadKernelStr.Call(),
			asm.LoadMem(asm.R1, asm.RFP, scratch, asm.DWord),
			asm.LoadImm(asm.R2, int64(binary.NativeEndian.Uint64(append([]byte(name), 0))), asm.DWord),
			asm.Mov.Imm(asm.R0, 0),
			asm.JNE.Reg(asm.R1, asm.R2, "permit"),
			asm.Mov.Imm(asm.R0, -int32(syscall.EPERM)),
			asm.Return().WithSymbol("permit"),
		},
	})
	if err != nil {
		t.Fatalf("load LSM program: %+v", err)
	}
	attached, err := link.AttachLSM(link.LSMOptions{Program: prog})
	if err != nil {
		t.Fatalf("attach LSM program: %v", err)
	}
	return func() {
		if err := attached.Close(); err != nil {
			t.Errorf("detach: %v", err)
		}
		if err := prog.Close(); err != nil {
			t.Errorf("unload: %v", err)
		}
	}
}

// fileNameOffset is where this kernel keeps linux_binprm.filename.
func fileNameOffset(t *testing.T) int16 {
	t.Helper()
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	var bprm *btf.Struct
	if err := spec.TypeByName("linux_binprm", &bprm); err != nil {
		t.Fatal(err)
	}
	for _, m := range bprm.Members {
		if m.Name == "filename" {
			return int16(m.Offset.Bytes())
		}
	}
	t.Fatal("linux_binprm has no filename")
	return 0
}
