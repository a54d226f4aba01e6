package falco

import (
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
)

// environment returns the variable that a field names, and whether the field is about
// the environment of an exec at all: proc.env and evt.arg.env are all of it,
// proc.env[NAME] is one variable.
func environment(field string) (name string, is bool) {
	if field == "proc.env" || field == "evt.arg.env" {
		return "", true
	}
	name, is = strings.CutPrefix(field, "proc.env[")
	return strings.TrimSuffix(name, "]"), is
}

// noEnvironment says why something can't be asked of the environment.
const noEnvironment = "the environment, of which only variables are read that change which code runs or what is kept of it (LD_PRELOAD, BASH_ENV, HISTFILE, …)"

// ofEnvironment is about the variables that an exec was given. Events have those of
// event.Variables; a text that is not the name of one of them, or that and the
// beginning of its value, can't be held against the others.
func (t *translation) ofEnvironment(n *node) (cel string, ok bool) {
	name, is := environment(n.field)
	if !is || !all(t.kinds, string(event.KindExec)) {
		return "", false
	}
	if name == "" {
		return variableIn(n)
	}
	if !slices.Contains(event.Variables(), name) {
		return "", false
	}
	begin := name + "="
	if n.cmp == "exists" {
		return `exec.environment.exists(v, v.startsWith(` + strconv.Quote(begin) + `))`, true
	}
	if len(n.values) != 1 {
		return "", false
	}
	value := strings.ToValidUTF8(n.values[0], "?")
	switch n.cmp {
	case "=", "==":
		return strconv.Quote(begin+value) + ` in exec.environment`, true
	case "startswith":
		return `exec.environment.exists(v, v.startsWith(` + strconv.Quote(begin+value) + `))`, true
	case "contains", "endswith":
		how := map[string]string{"contains": "contains", "endswith": "endsWith"}[n.cmp]
		return `exec.environment.exists(v, v.startsWith(` + strconv.Quote(begin) + `) && v.substring(` + strconv.Itoa(len(begin)) + `).` + how + `(` + strconv.Quote(value) + `))`, true
	}
	return "", false
}

// variableIn looks for the name of a variable, and what its value begins with, in all
// of an environment.
func variableIn(n *node) (cel string, ok bool) {
	if n.cmp != "contains" && n.cmp != "icontains" || len(n.values) != 1 {
		return "", false
	}
	value := strings.ToValidUTF8(n.values[0], "?")
	name, _, _ := strings.Cut(value, "=")
	each := "v"
	if n.cmp == "icontains" {
		name, value, each = strings.ToUpper(name), strings.ToLower(value), "v.lowerAscii()"
	}
	if !slices.Contains(event.Variables(), name) {
		return "", false
	}
	return `exec.environment.exists(v, ` + each + `.contains(` + strconv.Quote(value) + `))`, true
}
