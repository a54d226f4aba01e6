package need

import (
	"os"
	"slices"
	"strings"
	"testing"
)

const (
	btfPath = "/sys/kernel/btf/vmlinux"
	lsmPath = "/sys/kernel/security/lsm"
)

// BPF needs root and a kernel that has what programs of the given kind rest
// on. The kinds are the section names of libbpf: "tp_btf", "raw_tp",
// "tracepoint", "cgroup", "tcx", "iter", "fentry", "lsm". BTF is asked of all
// of them, "bpf" among the active security modules of "lsm" alone.
//
// No program is loaded, so a kernel can still refuse: some list BPF among
// their security modules and yet refuse its trampolines. A test that wants lsm
// or fentry without fail belongs into test/vm.
func BPF(t testing.TB, kind string) {
	t.Helper()
	word := wordBPF
	if kind == "lsm" {
		word = wordBPFLSM
	}
	if os.Geteuid() != 0 {
		unmet(t, word, "not root, and loading BPF programs needs it", "run the tests as root, e.g. sudo make test")
	}
	if _, err := os.Stat(btfPath); err != nil {
		unmet(t, word, "no "+btfPath, "use a kernel with CONFIG_DEBUG_INFO_BTF, e.g. Debian 12 or Amazon Linux 2023")
	}
	if kind == "lsm" && !bpfIsLSM() {
		unmet(t, word, `no "bpf" in `+lsmPath,
			"mount securityfs if it is not mounted, start the kernel with lsm=…,bpf, or run the test in test/vm")
	}
}

// bpfIsLSM reports whether the kernel asks BPF among its security modules.
func bpfIsLSM() bool {
	list, err := os.ReadFile(lsmPath)
	return err == nil && slices.Contains(strings.Split(strings.TrimSpace(string(list)), ","), "bpf")
}
