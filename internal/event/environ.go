package event

import (
	"maps"
	"slices"
	"strings"
)

// MaxVariable bounds the text of one variable with its name, in bytes.
const MaxVariable = 256

// MaxVariables bounds the variables of one exec.
const MaxVariables = 16

// keep says what of a variable's value is kept.
type keep byte

const (
	keepAll     keep = iota
	keepOptions      // words that name code to load: other options may hold secrets
)

// variables are those that change which code a program runs, or hide what a shell
// did. Names are seven letters at least, which the kernel's sensor looks for, but
// for ENV.
var variables = map[string]keep{
	"LD_PRELOAD": keepAll, "LD_AUDIT": keepAll, "LD_LIBRARY_PATH": keepAll, "LD_DEBUG_OUTPUT": keepAll, "GCONV_PATH": keepAll,
	"GLIBC_TUNABLES": keepAll, "BASH_ENV": keepAll, "ENV": keepAll, "PROMPT_COMMAND": keepAll,
	"PYTHONSTARTUP": keepAll, "PYTHONPATH": keepAll, "PYTHONHOME": keepAll, "PYTHONINSPECT": keepAll,
	"PYTHONUSERBASE": keepAll, "PYTHONPYCACHEPREFIX": keepAll, "PERLLIB": keepAll, "PHP_INI_SCAN_DIR": keepAll,
	"LUA_INIT": keepAll, "LUA_PATH": keepAll, "LUA_CPATH": keepAll, "ZDOTDIR": keepAll, "MAKEFILES": keepAll, "CLASSPATH": keepAll,
	"PERL5OPT": keepAll, "PERL5LIB": keepAll, "PERL5DB": keepAll, "RUBYOPT": keepAll, "RUBYLIB": keepAll,
	"NODE_OPTIONS": keepOptions, "NODE_PATH": keepAll,
	"JAVA_TOOL_OPTIONS": keepOptions, "_JAVA_OPTIONS": keepOptions, "JDK_JAVA_OPTIONS": keepOptions,
	"HISTFILE": keepAll, "HISTSIZE": keepAll, "HISTFILESIZE": keepAll, "GIT_SSH_COMMAND": keepAll,
}

// Variables lists the names of the variables of an exec that events tell.
func Variables() []string { return slices.Sorted(maps.Keys(variables)) }

// loaders are the beginnings of options that have a program load code or run it.
var loaders = []string{
	"-javaagent:", "-agentpath:", "-agentlib:", "-Xbootclasspath", "-XX:OnError=", "-XX:OnOutOfMemoryError=", "-Xrun",
	"-cp", "-classpath", "--class-path", "--module-path", "--require", "-r", "--import", "--loader", "--experimental-loader", "--inspect", "--debug-port",
}

// Variable returns what events have of one variable, given as NAME=value; ok is false
// for one of which they have nothing. Options of Java and Node keep those that load
// code; "…" stands for the others.
func Variable(s string) (kept string, ok bool) {
	name, value, found := strings.Cut(s, "=")
	how, known := variables[name]
	if !found || !known || value == "" {
		return "", false
	}
	if how == keepOptions {
		value = options(value)
	}
	return name + "=" + value, true
}

func options(value string) string {
	var out []string
	next := false // what follows an option belongs to it
	for _, w := range strings.Fields(value) {
		loads := slices.ContainsFunc(loaders, func(l string) bool { return strings.HasPrefix(w, l) && (len(l) > 2 || w == l) })
		switch {
		case loads:
			out = append(out, w)
		case next:
			out = append(out, w)
		case len(out) == 0 || out[len(out)-1] != "…":
			out = append(out, "…")
		}
		next = loads && slices.Contains(loaders, w)
	}
	return strings.Join(out, " ")
}
