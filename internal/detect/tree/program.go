package tree

import "strings"

// multicall are programs that are many by the name that they are called by.
var multicall = map[string]bool{"busybox": true, "toybox": true, "coreutils": true, "busybox.static": true}

// versioned are programs whose files carry a version: python3.11 is python.
var versioned = map[string]bool{
	"python": true, "perl": true, "ruby": true, "php": true, "php-fpm": true, "php-cgi": true, "lua": true, "luajit": true,
	"node": true, "nodejs": true, "tclsh": true, "gcc": true, "g++": true, "cpp": true, "clang": true, "clang++": true,
	"pypy": true, "irb": true, "ksh": true, "pip": true, "platform-python": true,
}

// managers are package managers that are scripts of Python, by the script's name.
var managers = map[string]string{"dnf": "dnf", "dnf-3": "dnf", "yum": "yum", "dnf4": "dnf"}

// variants are what Debian's alternatives add to a name.
var variants = []string{".openbsd", ".traditional", ".distrib", ".basic", ".tiny"}

// machines are architectures as files of releases have them behind the system.
var machines = []string{"amd64", "arm64", "x86_64", "x86-64", "x64", "x86", "386", "i386", "aarch64", "arm", "armv7", "armv6", "musl", "gnu", "static", "64", "32"}

// release returns a name without what files of releases carry behind it: the version,
// the system and the architecture (botb-linux-amd64, chisel_1.9.1_linux_amd64,
// traitor-amd64). Without the system only Go's own words are taken for an
// architecture: qemu-x86_64 is a program's name.
func release(name string) string {
	short := name
	for cut := true; cut; {
		cut = false
		for _, m := range machines {
			if s, ok := withoutPart(short, m); ok {
				short, cut = s, true
			}
		}
	}
	s, ok := withoutPart(short, "linux")
	if !ok {
		for _, m := range [...]string{"amd64", "arm64"} {
			if s, ok := withoutPart(name, m); ok {
				return s
			}
		}
		return name
	}
	if i := strings.LastIndexAny(s, "-_"); i > 0 && i < len(s)-1 && strings.Trim(strings.TrimPrefix(s[i+1:], "v"), "0123456789.") == "" {
		s = s[:i]
	}
	return s
}

// withoutPart returns a name without its last part, where it is that one.
func withoutPart(name, part string) (string, bool) {
	s, ok := strings.CutSuffix(name, part)
	if !ok || len(s) < 2 || !strings.ContainsRune("-_.", rune(s[len(s)-1])) {
		return name, false
	}
	return s[:len(s)-1], true
}

// Program returns what a process runs, whatever its file is called: the name of the
// executable without its version (python3.11, gcc-12), its architecture
// (x86_64-linux-gnu-gcc, botb-linux-amd64) and its variant (nc.openbsd), and for
// busybox and its like the name that it was called by. Package managers that are
// scripts are told from their interpreter.
func Program(executable string, args []string) string {
	base := Base(strings.TrimSuffix(executable, " (deleted)"))
	if multicall[base] && len(args) > 0 {
		called := strings.TrimPrefix(Base(args[0]), "-")
		if multicall[called] && len(args) > 1 {
			called = Base(args[1]) // busybox sh
		}
		if called != "" {
			base = called
		}
	}
	if _, rest, ok := strings.Cut(base, "-linux-gnu-"); ok && rest != "" {
		base = rest
	} else if _, rest, ok := strings.Cut(base, "-linux-musl-"); ok && rest != "" {
		base = rest
	}
	for _, v := range variants {
		base = strings.TrimSuffix(base, v)
	}
	base = release(base)
	short := strings.TrimRight(base, "0123456789.-")
	if !versioned[short] {
		return base
	}
	if short == "python" || short == "platform-python" {
		short = "python"
		for i, a := range args {
			if i > 0 && (a == "" || a[0] != '-') {
				if m := managers[Base(a)]; m != "" {
					return m
				}
				break
			}
		}
	}
	return short
}

// Base is what is behind the last slash of a path.
func Base(p string) string { return p[strings.LastIndexByte(p, '/')+1:] }
