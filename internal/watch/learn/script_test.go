package learn_test

import (
	"os"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/watch/learn"
)

func TestScriptsOfCommandLines(t *testing.T) {
	b, err := os.ReadFile("../../../test/vm/guest/scripts.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for line := range strings.Lines(string(b)) {
		sign, command, _ := strings.Cut(strings.TrimSpace(line), " ")
		if sign == "" || sign == "#" {
			continue
		}
		lines++
		args := strings.Fields(command)
		const file = "/tmp/file"
		args[len(args)-1] = file
		e := event.Event{Process: event.Process{Executable: "/usr/bin/" + args[0]}, Exec: &event.Exec{Args: args, Cwd: "/"}}
		if got := learn.Script(&e); (got == file) != (sign == "+") {
			t.Errorf("%s: the script is %q", line, got)
		}
	}
	if lines < 50 {
		t.Errorf("only %d lines", lines)
	}
}

// What stands in one argument with its option, and what only Java's ending tells.
func TestScriptsWithinArguments(t *testing.T) {
	for line, want := range map[string]string{
		"php -f/tmp/x.php": "/tmp/x.php", "php --file=/tmp/x.php": "/tmp/x.php", "gawk --file=/tmp/x": "/tmp/x", "awk -f/tmp/x": "/tmp/x", "awk -F: -fx.awk": "/x.awk",
		"java /tmp/X.java": "/tmp/X.java", "java -Xmx1g /tmp/X.java a": "/tmp/X.java", "java Main": "", "python3 +x.py": "/+x.py", "sh +x": "", "sh +o": "",
	} {
		args := strings.Fields(line)
		e := event.Event{Process: event.Process{Executable: "/usr/bin/" + args[0]}, Exec: &event.Exec{Args: args, Cwd: "/"}}
		if got := learn.Script(&e); got != want {
			t.Errorf("%s: the script is %q, want %q", line, got, want)
		}
	}
}
