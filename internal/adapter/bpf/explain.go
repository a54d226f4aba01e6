package bpf

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Where the kernel tells about itself.
const (
	btfPath      = "/sys/kernel/btf/vmlinux"
	lockdownPath = "/sys/kernel/security/lockdown"
)

// explain says in words why a sensor did not load, and what to do.
func explain(err error) (reason, remedy string) {
	var refused *ebpf.VerifierError
	switch {
	case confidential():
		return "the kernel is locked down in confidentiality mode, which forbids BPF to read its memory",
			"start the kernel without lockdown=confidentiality; integrity mode is fine"
	case errors.Is(err, fs.ErrPermission):
		return "not permitted to load BPF programs: " + err.Error(),
			"run the agent as root, or give it CAP_BPF, CAP_PERFMON and, on kernels before 5.11, CAP_SYS_RESOURCE"
	case noBTF():
		return "this kernel has no BTF: " + btfPath + " is missing",
			"use a kernel with CONFIG_DEBUG_INFO_BTF: Amazon Linux 2023, Amazon Linux 2 with kernel 5.10, Bottlerocket, Debian 11 or later"
	case errors.As(err, &refused):
		return "the kernel's verifier refused a program: " + lastLine(refused),
			"report this with the kernel's version; a kernel from 5.10 to 6.18 is expected to work"
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EINVAL):
		return "this kernel lacks something that the sensor needs: " + err.Error(),
			"use Linux 5.8 or later"
	case errors.Is(err, unix.ENOMEM):
		return "no memory for the ring buffer: " + err.Error(),
			"give the sensors a smaller ring buffer, or the agent a higher memory limit"
	}
	return err.Error(), "report this with the kernel's version"
}

// lastLine returns what the verifier said last before its statistics.
func lastLine(e *ebpf.VerifierError) string {
	for i := len(e.Log) - 1; i >= 0; i-- {
		line := strings.TrimSpace(e.Log[i])
		if line != "" && !strings.HasPrefix(line, "processed ") {
			return line
		}
	}
	return e.Cause.Error()
}

func noBTF() bool {
	_, err := os.Stat(btfPath)
	return errors.Is(err, fs.ErrNotExist)
}

// confidential reports whether the chosen mode, which stands in brackets, is
// confidentiality. A kernel without lockdown has no such file.
func confidential() bool {
	b, err := os.ReadFile(lockdownPath)
	return err == nil && strings.Contains(string(b), "[confidentiality]")
}
