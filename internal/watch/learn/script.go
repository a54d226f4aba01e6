package learn

import (
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
)

// interpreting is how an interpreter is told what to run. Options of one letter may
// stand in one argument, as in -euo; of long ones the two dashes are left out here.
// What the kernel goes by is options_of and long_option of guard_script.bpf.h:
// test/vm/guest/scripts.txt holds both to the same.
type interpreting struct {
	inside string // options behind which the program itself stands, or a module's name: no file is run then
	valued string // that take a value, in the same argument or the next
	stuck  string // that take what follows in the same argument, if anything does
	file   string // whose value is the file
	// The same of long options; their values stand in the next argument, or behind "=".
	longInside, longValued, longFile string
	plus                             bool // options may begin with "+"
	lonely                           bool // what stands alone is no file to run
	words                            bool // options of several letters have one dash
}

// interpreters are programs that run what is in a file. A name with its version is the
// same: python3.11.
var interpreters = map[string]interpreting{
	"sh": {inside: "cs", valued: "oO", plus: true}, "dash": {inside: "cs", valued: "oO", plus: true}, "ash": {inside: "cs", valued: "oO", plus: true},
	"ksh": {inside: "cs", valued: "oO", plus: true}, "zsh": {inside: "cs", valued: "oO", plus: true},
	"bash":   {inside: "cs", valued: "oO", plus: true, longValued: "rcfile init-file"},
	"python": {inside: "cm", valued: "WXQ", longValued: "check-hash-based-pycs"},
	"perl":   {inside: "eE", valued: "I", stuck: "CDFMmVixd"},
	"ruby":   {inside: "e", valued: "IrCEX", stuck: "FWTKix", longValued: "encoding external-encoding internal-encoding enable disable dump"},
	"node":   ofNode, "nodejs": ofNode,
	"php": {inside: "rBRE", valued: "dczSt", file: "fF", longInside: "run process-begin process-code process-end",
		longValued: "define php-ini zend-extension", longFile: "file process-file"},
	"lua": {valued: "el"}, "luajit": {inside: "b", valued: "elj", stuck: "O"}, // a script may follow what -e says
	"tclsh": {},
	"awk":   ofAwk, "gawk": ofAwk, "mawk": ofAwk,
	"java": {lonely: true},
}

var (
	ofNode = interpreting{inside: "ep", valued: "rC", longInside: "eval print",
		longValued: "require import loader experimental-loader env-file env-file-if-exists conditions title input-type disable-warning redirect-warnings " +
			"trace-event-categories inspect-port icu-data-dir diagnostic-dir openssl-config tls-cipher-list dns-result-order unhandled-rejections watch-path " +
			"report-dir report-directory report-filename secure-heap max-http-header-size localstorage-file experimental-config-file test-reporter"}
	ofAwk = interpreting{valued: "Fvel", stuck: "dopDLW", file: "fEi", longValued: "field-separator assign source", longFile: "file exec include", lonely: true}
)

// loaderOptions are those options of the dynamic loader that take a value.
const loaderOptions = "--library-path --glibc-hwcaps-prepend --glibc-hwcaps-mask --inhibit-rpath --audit --preload --argv0"

// Script returns the file that an interpreter, or the dynamic loader, was asked to
// run, as an absolute path; "" if the executed program is none of them, if it was
// given no file, or if its arguments could not be read. Loads has what it was given
// besides.
func Script(e *event.Event) string {
	x := e.Exec
	if x == nil {
		return ""
	}
	name := path.Base(e.Process.Executable)
	if Loader(name) {
		if args := behind(x.Args); len(args) > 0 {
			return absolute(x.Cwd, args[0])
		}
		return ""
	}
	if executedItself(e) {
		return absolute(x.Cwd, x.Requested)
	}
	kind, args := invoked(name, x.Args)
	if how, ok := interpreters[kind]; ok {
		return absolute(x.Cwd, how.script(kind, args))
	}
	return ""
}

// executedItself reports whether a script was executed: the kernel puts its path
// behind the interpreter's and its one argument.
func executedItself(e *event.Event) bool {
	x := e.Exec
	return x.Requested != "" && x.Requested != e.Process.Executable && len(x.Args) > 1 && path.Base(x.Args[0]) != path.Base(x.Requested) &&
		slices.Contains(x.Args[1:min(len(x.Args), shebangArgs)], x.Requested)
}

// invoked returns which interpreter a program is, and its arguments from its own name
// on: BusyBox is many.
func invoked(name string, given []string) (kind string, args []string) {
	kind, args = interpreter(name), given
	if kind == "busybox" && len(args) > 0 {
		if path.Base(args[0]) == "busybox" {
			args = args[1:]
		}
		if len(args) > 0 {
			kind = interpreter(path.Base(args[0]))
		}
	}
	return kind, args
}

// What an argument means for those behind it.
type after int

const (
	goesOn   after = iota
	skipNext       // the next is its value
	takeNext       // the next is the script
	isScript
	hasNone // there is no script
)

// script returns the file that an interpreter runs; "" for none.
func (how *interpreting) script(kind string, args []string) string {
	for i := 1; i < len(args); i++ {
		file, then := how.argument(kind, args[i])
		switch then {
		case hasNone:
			return ""
		case isScript:
			return file
		case takeNext:
			if i+1 < len(args) {
				return args[i+1]
			}
			return ""
		case skipNext:
			i++
		}
	}
	return ""
}

func (how *interpreting) argument(kind, a string) (file string, then after) {
	switch {
	case kind == "java":
		return ofJava(a)
	case kind == "node" || kind == "nodejs":
		if a == "inspect" || a == "debug" {
			return "", goesOn
		}
	case kind == "tclsh" && a == "-encoding":
		return "", skipNext
	}
	switch {
	case a == "-":
		return "", hasNone // standard input
	case a == "--":
		if how.lonely {
			return "", goesOn
		}
		return "", takeNext
	case strings.HasPrefix(a, "--"):
		return how.long(a[2:])
	case strings.HasPrefix(a, "-"), how.plus && strings.HasPrefix(a, "+"):
		return how.letters(a)
	case how.lonely:
		return "", goesOn
	}
	return a, isScript
}

// ofJava is argument of Java. What is behind a class or a module is for that.
func ofJava(a string) (file string, then after) {
	switch {
	case a == "-jar":
		return "", takeNext
	case a == "-m", a == "--module", strings.HasPrefix(a, "--module="):
		return "", hasNone
	case slices.Contains(classPaths, a), slices.Contains(javaValued, a):
		return "", skipNext
	case strings.HasPrefix(a, "-"), strings.HasPrefix(a, "@"): // further arguments are in a file
		return "", goesOn
	case strings.HasSuffix(a, ".java"):
		return a, isScript
	}
	return "", hasNone // a class
}

// long is argument of a long option.
func (how *interpreting) long(name string) (file string, then after) {
	is := func(list string) bool { return slices.Contains(strings.Fields(list), name) }
	switch {
	case is(how.longInside):
		return "", hasNone
	case is(how.longFile):
		return "", takeNext
	case is(how.longValued):
		return "", skipNext
	}
	if option, value, _ := strings.Cut(name, "="); value != "" && slices.Contains(strings.Fields(how.longFile), option) {
		return value, isScript
	}
	return "", goesOn
}

// letters is argument of options of one letter.
func (how *interpreting) letters(a string) (file string, then after) {
	for i := 1; i < len(a); i++ {
		c, last := a[i:i+1], i == len(a)-1
		switch {
		case strings.Contains(how.inside, c) && a[0] == '-':
			return "", hasNone
		case strings.Contains(how.file, c) && last:
			return "", takeNext
		case strings.Contains(how.file, c):
			return a[i+1:], isScript
		case strings.Contains(how.valued, c) && last:
			return "", skipNext
		case strings.Contains(how.valued, c), strings.Contains(how.stuck, c):
			return "", goesOn
		}
	}
	return "", goesOn
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

// behind returns the arguments of the dynamic loader from the first one on that is
// neither an option nor the value of one: a program and its own.
func behind(args []string) []string {
	takes := strings.Fields(loaderOptions)
	for i := 1; i < len(args); i++ {
		switch a := args[i]; {
		case slices.Contains(takes, a):
			i++
		case !strings.HasPrefix(a, "-"):
			return args[i:]
		}
	}
	return nil
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
