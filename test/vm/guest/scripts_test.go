package guest_test

import (
	_ "embed"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/test/vm/guest"
)

//go:embed scripts.txt
var scripts string

// commandLine is one of an interpreter.
type commandLine struct {
	args []string
	runs bool // its last argument is the file that is run
}

// commandLines are those of scripts.txt.
func commandLines() (list []commandLine) {
	for line := range strings.Lines(scripts) {
		if sign, command, _ := strings.Cut(strings.TrimSpace(line), " "); sign == "+" || sign == "-" {
			list = append(list, commandLine{strings.Fields(command), sign == "+"})
		}
	}
	return list
}

// What file an interpreter is given to run is known to the kernel as it is to learning:
// one that did not come with the image is refused, and data is not.
func TestScriptsOfCommandLines(t *testing.T) {
	if !refusing() {
		t.Skip("scripts are held by BPF LSM alone")
	}
	roots := layouts()[3].mount(t)
	rules := ours()
	rules.Paths = append(rules.Paths, profile.Pattern(guest.Interpreters+"*"))
	h := hold(t, pins(t), execRules(rules))
	c := h.new(t, roots)
	lines := append(commandLines(),
		commandLine{[]string{"php", "-fFILE"}, true}, commandLine{[]string{"gawk", "--file=FILE"}, true}, commandLine{[]string{"awk", "-F:", "-fFILE"}, true})
	for _, l := range lines {
		t.Run(strings.ReplaceAll(strings.Join(l.args, " "), "/", "_"), func(t *testing.T) {
			last := len(l.args) - 1
			const file = "/tmp/x"
			args := append([]string{guest.Interpreters + l.args[0]}, l.args[1:]...)
			args[last] = strings.Replace(args[last], "FILE", file, 1)
			at := args[last][strings.Index(args[last], file):]
			got := c.run(t, "steps", "put="+at+",,exit=5", "exec="+strings.Join(args, ","))
			if l.runs && !stopped(got) || !l.runs && got != ran {
				t.Errorf("ended with %d, and the script is it: %v", got, l.runs)
			}
		})
	}
}

// An interpreter runs what is in a folder that it is given, and Node a file whose ending
// is left out: that is its script, and what is in other folders is not.
func TestScriptsOfFolders(t *testing.T) {
	if !refusing() {
		t.Skip("scripts are held by BPF LSM alone")
	}
	roots := layouts()[3].mount(t)
	rules := ours()
	rules.Paths = append(rules.Paths, profile.Pattern(guest.Interpreters+"*"))
	rules.Written = append(rules.Written, "/tmp/loose/__main__.*", "/tmp/loose/__pycache__/__main__.*", "/tmp/loose/index.*")
	h := hold(t, pins(t), execRules(rules))
	c := h.new(t, roots)
	for _, tc := range []struct {
		given, file string // what the interpreter is given, and what it reads
		python      bool   // else Node
		may         bool
	}{
		{given: "/tmp/d", file: "/tmp/d/__main__.py", python: true},
		{given: "/tmp/d/", file: "/tmp/d/__main__.py", python: true},
		{given: "/tmp/d//", file: "/tmp/d/__main__.pyc", python: true},
		{given: "/tmp/d", file: "/tmp/d/__pycache__/__main__.cpython-311.pyc", python: true},
		{given: ".", file: "/tmp/d/__main__.py", python: true},
		{given: "/tmp/d", file: "/tmp/d/module.py", python: true, may: true},
		{given: "/tmp/d", file: "/tmp/e/__main__.py", python: true, may: true},
		{given: "/tmp/d", file: "/tmp/d/index.js", python: true, may: true},
		{given: "/tmp/loose", file: "/tmp/loose/__main__.py", python: true, may: true},
		{given: "/tmp/loose", file: "/tmp/loose/__pycache__/__main__.cpython-311.pyc", python: true, may: true},
		{given: "/tmp/d", file: "/tmp/d/index.js"},
		{given: "/tmp/d/", file: "/tmp/d/index.json"},
		{given: "/tmp/d", file: "/tmp/d/index.node"},
		{given: "/tmp/d", file: "/tmp/d/package.json"},
		{given: ".", file: "/tmp/d/index.js"},
		{given: "./", file: "/tmp/d/package.json"},
		{given: "/tmp/d", file: "/tmp/d.js"},
		{given: "d", file: "/tmp/d.json"},
		{given: "/tmp/d", file: "/tmp/d.node"},
		{given: "/tmp/d", file: "/tmp/d.mjs", may: true},
		{given: "/tmp/d", file: "/tmp/dd.js", may: true},
		{given: "/tmp/d", file: "/tmp/e/index.js", may: true},
		{given: "/tmp/d", file: "/tmp/d/index.jsx", may: true},
		{given: "/tmp/d", file: "/tmp/d/__main__.py", may: true},
		{given: "/tmp/loose", file: "/tmp/loose/index.js", may: true},
		{given: "/app", file: "/tmp/d/index.js", may: true},
	} {
		name, folder := "node", "/tmp"
		if tc.python {
			name = "python3"
		}
		if strings.HasPrefix(tc.given, ".") {
			folder = "/tmp/d"
		}
		t.Run(name+strings.ReplaceAll(tc.given+tc.file, "/", "_"), func(t *testing.T) {
			got := c.run(t, "steps", "put="+tc.file+",,exit=5", "put="+folder+"/x,", "chdir="+folder, "exec="+guest.Interpreters+name+","+tc.given+","+tc.file)
			if !tc.may && !stopped(got) || tc.may && got != ran {
				t.Errorf("ended with %d, and it may: %v", got, tc.may)
			}
		})
	}
}
