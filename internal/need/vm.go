package need

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// CacheEnv names the environment variable that moves the folder in which
// test/setup keeps what it fetched; without it, it is castellan below the
// user's cache folder.
const CacheEnv = "CASTELLAN_CACHE"

// Machine is what a virtual machine is started from. test/setup/vm.sh made it.
type Machine struct {
	Arch    string // as GOARCH says it
	QEMU    string // path of the emulator's program
	Kernel  string // path of the compressed kernel image
	Modules string // folder with the kernel's modules, as below /lib/modules/<release>
	Release string // the kernel's release, as uname -r will say it
}

// VM needs the emulator for arch ("amd64" or "arm64") and the kernel that
// test/setup/vm.sh fetched, and returns where they are.
func VM(t testing.TB, arch string) Machine {
	t.Helper()
	word, program, pkg := wordVM, "qemu-system-x86_64", "qemu-system-x86"
	if arch == "arm64" {
		word, program, pkg = wordVMArm64, "qemu-system-aarch64", "qemu-system-arm"
	}
	setup := "test/setup/vm.sh " + arch
	qemu, ok := lookup(program)
	if !ok {
		unmet(t, word, "no "+program+" program", setup+" (or apt-get install "+pkg+")")
	}
	cache, err := cacheFolder()
	if err != nil {
		unmet(t, word, err.Error(), "set "+CacheEnv+" or HOME, then "+setup)
	}
	folder := filepath.Join(cache, "vm", arch)
	release, err := os.ReadFile(filepath.Join(folder, "release"))
	if err != nil {
		unmet(t, word, "no kernel for virtual machines in "+folder, setup)
	}
	return Machine{
		Arch:    arch,
		QEMU:    qemu,
		Kernel:  filepath.Join(folder, "vmlinuz"),
		Modules: filepath.Join(folder, "modules"),
		Release: strings.TrimSpace(string(release)),
	}
}

// cacheFolder is where test/setup keeps what it fetched.
func cacheFolder() (string, error) {
	if dir := os.Getenv(CacheEnv); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "castellan"), nil
}
