// Package need says what a test needs from the machine: root, BPF, a container
// engine, a virtual machine, a browser, a program.
//
// A need that is not met skips the test aloud: the message names what is
// missing and how to get it. CASTELLAN_TEST_REQUIRE (see [RequireEnv]) turns
// the skip into a failure, so that nothing is skipped in silence where it must
// run.
//
// It is not for production code, which probes its kernel in adapter/kernel, and
// it never installs or starts anything: that is what test/setup is for.
//
//	func TestSensor(t *testing.T) {
//		need.BPF(t, "tp_btf")
//		…
//	}
package need

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// RequireEnv names the environment variable that turns skips into failures: a
// comma-separated list of root, docker, vm, vm-arm64, browser, bpf, bpf-lsm and
// program. A word that is none of these fails every test that asks, since a
// mistyped requirement would otherwise skip in silence.
const RequireEnv = "CASTELLAN_TEST_REQUIRE"

// The words of RequireEnv.
const (
	wordRoot    = "root"
	wordDocker  = "docker"
	wordVM      = "vm"
	wordVMArm64 = "vm-arm64"
	wordBrowser = "browser"
	wordBPF     = "bpf"
	wordBPFLSM  = "bpf-lsm"
	wordProgram = "program"
)

func words() []string {
	return []string{
		wordRoot, wordDocker, wordVM, wordVMArm64, wordBrowser, wordBPF, wordBPFLSM, wordProgram,
	}
}

// Root needs the test to run as root: effective user id 0.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		unmet(t, wordRoot, "not root", "run the tests as root, e.g. sudo make test")
	}
}

// Docker needs the engine's own programs and root, so that the test can start
// a private engine. It does not need a running one.
func Docker(t testing.TB) {
	t.Helper()
	for _, name := range []string{"dockerd", "containerd"} {
		if _, ok := lookup(name); !ok {
			unmet(t, wordDocker, "no "+name+" program", "apt-get install docker.io")
		}
	}
	if os.Geteuid() != 0 {
		unmet(t, wordDocker, "not root, and a private Docker engine needs it",
			"run the tests as root, e.g. sudo make test")
	}
}

// Browser needs Chromium and returns the path of its program.
func Browser(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, ok := lookup(name); ok {
			return path
		}
	}
	unmet(t, wordBrowser, "no chromium program", "apt-get install chromium")
	return ""
}

// Program needs a program of that name in PATH or in one of the system folders
// that root's PATH sometimes lacks, and returns its path. remedy says how to
// get it; the default is the Debian package of the same name.
func Program(t testing.TB, name string, remedy ...string) string {
	t.Helper()
	path, ok := lookup(name)
	if !ok {
		how := "apt-get install " + name
		if len(remedy) > 0 {
			how = strings.Join(remedy, "; ")
		}
		unmet(t, wordProgram, "no "+name+" program", how)
	}
	return path
}

// unmet ends the test: as a failure when word is required, otherwise as a skip.
func unmet(t testing.TB, word, missing, remedy string) {
	t.Helper()
	required, unknown := required(os.Getenv(RequireEnv))
	if unknown != "" {
		t.Fatalf("%s: %q is not one of %s", RequireEnv, unknown, strings.Join(words(), ", "))
	}
	if slices.Contains(required, word) {
		t.Fatalf("needs %s: %s (%s is required by %s); to get it: %s", word, missing, word, RequireEnv, remedy)
	}
	t.Skipf("needs %s: %s; to get it: %s", word, missing, remedy)
}

// required splits the value of RequireEnv and returns the first word that is
// not one of ours.
func required(value string) (list []string, unknown string) {
	for word := range strings.SplitSeq(value, ",") {
		word = strings.TrimSpace(word)
		if word == "" {
			continue
		}
		if !slices.Contains(words(), word) {
			return nil, word
		}
		list = append(list, word)
	}
	return list, ""
}
