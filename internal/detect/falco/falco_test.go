package falco_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/detect/falco"
	"github.com/castellan-security/castellan/internal/detect/trial"
)

func TestConvert(t *testing.T) {
	b, err := os.ReadFile("testdata/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	document, outcomes, err := falco.Convert(b)
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for _, o := range outcomes {
		fmt.Fprintf(&said, "# %s: taken %v %s\n", o.Rule, o.Taken, o.ID)
		for _, n := range o.Notes {
			fmt.Fprintf(&said, "#   %s\n", n)
		}
	}
	got := said.String() + string(document)
	const golden = "testdata/rules.golden.yaml"
	if os.Getenv("CASTELLAN_GOLDEN") == "write" {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if err := detect.Check([]detect.Text{{Name: "falco", Body: document}}); err != nil {
		t.Errorf("the document is not taken: %v", err)
	}
}

// What was converted fires at what the rule was for, and not at what it left out.
func TestConvertedRulesFire(t *testing.T) {
	b, err := os.ReadFile("testdata/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	document, _, err := falco.Convert(b)
	if err != nil {
		t.Fatal(err)
	}
	nginx := trial.Event{"on": "process.exec", "exe": "/usr/sbin/nginx", "name": "nginx", "pid": 50, "run": "nginx"}
	old := trial.Event{"on": "process.exec", "exe": "/bin/vi", "name": "vi", "pid": 60, "run": "vi"}
	for _, tc := range []struct {
		name   string
		events []trial.Event
		want   string
	}{
		{"a shell of a server", []trial.Event{nginx, {"on": "process.exec", "exe": "/bin/dash", "name": "dash", "pid": 51, "parent": 50, "run": "dash -c id"}}, "falco-shell-below-a-server"},
		{"another program of it", []trial.Event{nginx, {"on": "process.exec", "exe": "/bin/ls", "name": "ls", "pid": 51, "parent": 50, "run": "ls"}}, ""},
		{"a key in a folder", []trial.Event{{"on": "file.write", "exe": "/bin/cp", "name": "cp", "path": "/srv/keys/a"}}, "falco-key-written"},
		{"a file of a folder itself", []trial.Event{{"on": "file.create", "exe": "/bin/cp", "name": "cp", "path": "/etc/ssh/x"}}, "falco-key-written"},
		{"a file below it", []trial.Event{{"on": "file.create", "exe": "/bin/cp", "name": "cp", "path": "/etc/nginx/sites/x"}}, ""},
		{"a log emptied by an old process", []trial.Event{old, {"on": "file.write", "exe": "/bin/vi", "name": "vi", "pid": 60, "path": "/var/log/syslog", "flags": []any{"write", "truncate"}, "after": "1m"}}, "falco-log-emptied"},
		{"a log appended to", []trial.Event{old, {"on": "file.write", "exe": "/bin/vi", "name": "vi", "pid": 60, "path": "/var/log/syslog", "flags": []any{"write", "append"}, "after": "1m"}}, ""},
		{"a module", []trial.Event{{"on": "privilege.module", "exe": "/sbin/insmod", "name": "insmod", "call": "finit_module"}}, "falco-module"},
		{"a process attached to", []trial.Event{{"on": "privilege.ptrace", "exe": "/bin/x", "name": "x", "call": "ptrace", "flags": []any{"seize"}}}, "falco-traced"},
		{"a process that lets itself be traced", []trial.Event{{"on": "privilege.ptrace", "exe": "/bin/x", "name": "x", "call": "ptrace", "flags": []any{"traceme"}}}, ""},
		{"a packet socket", []trial.Event{{"on": "network.raw", "exe": "/bin/x", "name": "x", "protocol": "packet"}}, "falco-packets"},
		{"a raw socket", []trial.Event{{"on": "network.raw", "exe": "/bin/x", "name": "x", "protocol": "raw"}}, ""},
		{"a link to shadow", []trial.Event{{"on": "file.link", "exe": "/bin/ln", "name": "ln", "path": "/etc/shadow", "to": "/tmp/a"}}, "falco-link-to-shadow"},
		{"a name in other letters", []trial.Event{{"on": "process.exec", "exe": "/tmp/x", "name": "KWorker", "run": "KWorker"}}, "falco-disguised"},
		{"a name that is its own", []trial.Event{{"on": "process.exec", "exe": "/usr/bin/kworker", "name": "kworker", "run": "kworker"}}, ""},
		{"arguments", []trial.Event{
			{"on": "process.exec", "exe": "/usr/sbin/cron", "name": "cron", "pid": 70, "run": "cron"},
			{"on": "process.exec", "exe": "/usr/bin/make", "name": "make", "pid": 71, "parent": 70, "run": "make"},
			{"on": "process.exec", "exe": "/bin/sh", "name": "sh", "pid": 72, "parent": 71, "run": "/bin/sh -c /dev/shm/a"}}, "falco-arguments"},
		{"another ancestor", []trial.Event{{"on": "process.exec", "exe": "/bin/sh", "name": "sh", "pid": 72, "run": "/bin/sh -c /dev/shm/a"}}, ""},
		{"mail to another network", []trial.Event{{"on": "network.connect", "exe": "/bin/x", "name": "x", "remote": "10.0.0.1:25", "local": "10.0.0.9:3000"}}, "falco-outward"},
		{"mail within the network", []trial.Event{{"on": "network.connect", "exe": "/bin/x", "name": "x", "remote": "172.20.0.1:25", "local": "172.20.0.9:3000"}}, ""},
		{"mail that comes", []trial.Event{{"on": "network.accept", "exe": "/bin/x", "name": "x", "remote": "10.0.0.1:3000", "local": "10.0.0.9:25"}}, "falco-outward"},
		{"an overlay that is met", []trial.Event{{"on": "process.exec", "exe": "/bin/b", "name": "b", "pid": 80, "run": "b"}, {"on": "process.exec", "exe": "/bin/a", "name": "a", "pid": 81, "parent": 80, "run": "a"}}, "falco-overlaid"},
		{"settings of the loader", []trial.Event{{"on": "process.exec", "exe": "/usr/bin/su", "name": "su", "run": "su", "environment": []any{"GLIBC_TUNABLES=glibc.malloc.mxfast=1"}}}, "falco-loader-s-settings"},
		{"a library of a temporary folder", []trial.Event{{"on": "process.exec", "exe": "/bin/ls", "name": "ls", "run": "ls", "environment": []any{"LD_PRELOAD=/tmp/x.so"}}}, "falco-library-put-before"},
		{"a library of the system", []trial.Event{{"on": "process.exec", "exe": "/bin/ls", "name": "ls", "run": "ls", "environment": []any{"LD_PRELOAD=/usr/lib/x.so", "BASH_ENV=/tmp/"}}}, ""},
		{"a shell without a history", []trial.Event{{"on": "process.exec", "exe": "/bin/ps", "name": "ps", "run": "ps", "environment": []any{"HISTFILE=/dev/null"}}}, "falco-history-off"},
		{"an exception by a variable", []trial.Event{{"on": "process.exec", "exe": "/bin/ps", "name": "ps", "run": "ps", "environment": []any{"HISTFILE=/dev/null", "HISTSIZE=0"}}}, ""},
		{"a shell with a terminal", []trial.Event{{"on": "process.exec", "exe": "/bin/bash", "name": "bash", "run": "bash", "stdio": []any{map[string]any{"kind": "terminal"}}}}, "falco-somebody-at-a-shell"},
		{"a shell without one", []trial.Event{{"on": "process.exec", "exe": "/bin/bash", "name": "bash", "run": "bash", "stdio": []any{map[string]any{"kind": "pipe"}}}}, ""},
		{"a shell with a terminal and a script", []trial.Event{{"on": "process.exec", "exe": "/bin/bash", "name": "bash", "run": "bash x.sh", "stdio": []any{map[string]any{"kind": "terminal"}}}}, ""},
		{"an overlay that is not", []trial.Event{{"on": "process.exec", "exe": "/bin/a", "name": "a", "pid": 81, "run": "a"}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, err := detect.New([]detect.Text{{Name: "falco", Body: document}})
			if err != nil {
				t.Fatal(err)
			}
			all, err := trial.Events(tc.events, time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC))
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, ev := range all {
				for _, x := range e.Observe(ev) {
					if strings.HasPrefix(x.Rule, "falco-") {
						got = x.Rule
					}
				}
			}
			if got != tc.want {
				t.Errorf("fired %q, want %q", got, tc.want)
			}
		})
	}
}

func TestFilesThatAreNone(t *testing.T) {
	for name, text := range map[string]string{"nothing": "", "no list": "rule: x", "no YAML": "\x00", "no rules": "- list: a\n  items: [b]\n"} {
		if _, _, err := falco.Convert([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	loop := "- macro: a\n  condition: b or b\n- macro: b\n  condition: a or a\n- rule: r\n  condition: a\n- list: l\n  items: [m]\n- list: m\n  items: [l, l]\n- rule: s\n  condition: evt.type = execve and proc.name in (l)\n"
	_, outcomes, err := falco.Convert([]byte(loop))
	if err != nil || len(outcomes) != 2 || outcomes[0].Taken {
		t.Errorf("macros that name each other: %v, %+v", err, outcomes)
	}
}

func FuzzConvert(f *testing.F) {
	b, err := os.ReadFile("testdata/rules.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		document, _, err := falco.Convert(b)
		if err != nil || len(document) == 0 {
			return
		}
		if err := detect.Check([]detect.Text{{Name: "falco", Body: document}}); err != nil {
			t.Errorf("what was made is not taken: %v\n%s", err, document)
		}
	})
}
