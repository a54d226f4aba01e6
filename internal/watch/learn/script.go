package learn

import (
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
)

// interpreters are programs that run what is in a file, with those of their options
// that take a value, "" for none. A name with its version is the same:
// python3.11.
var interpreters = map[string]string{
	"sh": "-c -o +o", "bash": "-c -o +o -O +O --rcfile --init-file", "dash": "-c -o +o", "ash": "-c -o +o", "ksh": "-c -o +o", "zsh": "-c -o +o",
	"python": "-c -m -W -X -Q --check-hash-based-pycs",
	"perl":   "-e -E -I -M -m",
	"ruby":   "-e -I -r -C -E -W",
	"node":   "-e -p -r --require --import --eval --print --loader --experimental-loader --env-file -C --conditions",
	"nodejs": "-e -p -r --require --import --eval --print --loader --experimental-loader --env-file -C --conditions",
	"php":    "-r -d -c -B -R -E -z", "lua": "-e -l", "luajit": "-e -l -j -b", "tclsh": "-encoding", "awk": "-F -v -e", "gawk": "-F -v -e", "mawk": "-F -v -e",
	"java": "-cp -classpath --class-path -p --module-path --add-modules -m --module --add-opens --add-exports --add-reads --source",
}

// inline are the options behind which the program itself stands, or a module's
// name: no file is run then.
var inline = map[string]string{
	"sh": "-c", "bash": "-c", "dash": "-c", "ash": "-c", "ksh": "-c", "zsh": "-c", "python": "-c -m", "perl": "-e -E", "ruby": "-e",
	"node": "-e -p --eval --print", "nodejs": "-e -p --eval --print", "php": "-r -B -R", "lua": "-e", "luajit": "-e -b", "java": "-m --module",
}

// fileOptions are options whose value is the file that is run.
var fileOptions = map[string]string{"java": "-jar", "php": "-f", "awk": "-f", "gawk": "-f", "mawk": "-f"}

// loaderOptions are those options of the dynamic loader that take a value.
const loaderOptions = "--library-path --glibc-hwcaps-prepend --glibc-hwcaps-mask --inhibit-rpath --audit --preload --argv0"

// Script returns the file that an interpreter, or the dynamic loader, was asked to
// run, as an absolute path; "" if the executed program is none of them, if it was
// given no file, or if its arguments could not be read.
func Script(e *event.Event) string {
	x := e.Exec
	if x == nil {
		return ""
	}
	name := path.Base(e.Process.Executable)
	if Loader(name) {
		return absolute(x.Cwd, firstFile(x.Args, "", loaderOptions, ""))
	}
	// A script that was executed itself: the kernel puts its path behind the
	// interpreter's and its one argument.
	if x.Requested != "" && x.Requested != e.Process.Executable && len(x.Args) > 1 && path.Base(x.Args[0]) != path.Base(x.Requested) &&
		slices.Contains(x.Args[1:min(len(x.Args), shebangArgs)], x.Requested) {
		return absolute(x.Cwd, x.Requested)
	}
	kind, args := interpreter(name), x.Args
	if kind == "busybox" && len(args) > 0 {
		if path.Base(args[0]) == "busybox" {
			args = args[1:]
		}
		if len(args) > 0 {
			kind = interpreter(path.Base(args[0]))
		}
	}
	options, ok := interpreters[kind]
	if !ok {
		return ""
	}
	if kind == "java" || strings.HasSuffix(kind, "awk") {
		// Without the option, what stands there is a class or the program itself.
		return absolute(x.Cwd, valueOf(args, fileOptions[kind]))
	}
	if f := valueOf(args, fileOptions[kind]); f != "" {
		return absolute(x.Cwd, f)
	}
	return absolute(x.Cwd, firstFile(args, inline[kind], options, "-"))
}

// shebangArgs is up to where a script's own path can be among the arguments.
const shebangArgs = 3

// Loader reports whether a file's name is that of a dynamic loader, which runs any
// file that it is given.
func Loader(name string) bool {
	return strings.HasPrefix(name, "ld-linux") || strings.HasPrefix(name, "ld-musl-") || name == "ld.so" || name == "ld64.so.2" ||
		strings.HasPrefix(name, "ld-2.") && strings.HasSuffix(name, ".so")
}

// interpreter is a program's name without its version: python3.11 is python.
func interpreter(name string) string {
	if name == "busybox" {
		return name
	}
	return strings.TrimRight(name, "0123456789.-")
}

// firstFile returns the first argument that is neither an option nor the value of
// one; "" where one of inline stands before it. stop is the argument that stands
// for standard input.
func firstFile(args []string, inline, valued, stop string) string {
	none, takes := strings.Fields(inline), strings.Fields(valued)
	for i := 1; i < len(args); i++ {
		a := args[i]
		switch {
		case slices.Contains(none, a) || a == stop && stop != "":
			return ""
		case a == "--":
			if i+1 < len(args) {
				return args[i+1]
			}
			return ""
		case slices.Contains(takes, a):
			i++
		case strings.HasPrefix(a, "-") || strings.HasPrefix(a, "+"):
			// -ec and the like: letters in one, the last of which begins a program.
			if len(a) > 2 && a[1] != '-' && slices.Contains(none, "-"+a[len(a)-1:]) && lower(a[1:]) {
				return ""
			}
		default:
			return a
		}
	}
	return ""
}

func lower(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < 'a' || r > 'z' }) < 0
}

// valueOf returns what stands behind an option.
func valueOf(args []string, option string) string {
	if i := slices.Index(args, option); option != "" && i > 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// absolute makes a path absolute; "" if that can't be known.
func absolute(cwd, p string) string {
	if p == "" {
		return ""
	}
	if !path.IsAbs(p) {
		if !path.IsAbs(cwd) {
			return ""
		}
		p = cwd + "/" + p
	}
	if p = path.Clean(p); !clean(p) {
		return ""
	}
	return p
}

// maxDetail bounds what narrows a privileged call, which is said by the container.
const maxDetail = 128

// Detail narrows a privileged call, where its kind has more than one use. In a profile
// an entry without one stands for all uses.
func Detail(e *event.Event) string {
	p := e.Privilege
	if p == nil {
		return ""
	}
	var d string
	switch e.Kind {
	case event.KindMount, event.KindSetns, event.KindBPF:
		if d = p.Type; d == "" {
			d = flags(p.Flags)
		}
	case event.KindUser:
		switch {
		case p.OldUID == 0:
			d = "from root"
		case p.NewUID == 0:
			d = "to root"
		default:
			d = "from another"
		}
	case event.KindKernelKnob, event.KindDevice, event.KindModule:
		d = p.Target
	case event.KindPtrace, event.KindProcessWrite:
		if d = "own container"; p.WorkloadID != "" && p.WorkloadID != e.WorkloadID {
			d = "other container"
		}
	default:
		d = flags(p.Flags)
	}
	return d[:min(len(d), maxDetail)]
}

func flags(f []string) string { return strings.Join(slices.Sorted(slices.Values(f)), ",") }

// maxCallName bounds the name of a system call.
const maxCallName = 32

func callName(s string) bool {
	return s != "" && len(s) <= maxCallName && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_')
	}) < 0
}
