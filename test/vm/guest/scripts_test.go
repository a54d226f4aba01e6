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
		commandLine{[]string{"java", "FILE.java"}, true},
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
