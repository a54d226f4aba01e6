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

// Program returns what a process runs, whatever its file is called: the name of the
// executable without its version (python3.11, gcc-12), its architecture
// (x86_64-linux-gnu-gcc) and its variant (nc.openbsd), and for busybox and its like
// the name that it was called by. Package managers that are scripts are told from
// their interpreter.
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
