package learn_test

import (
	"fmt"
	"os"
	"slices"
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
		file := strings.Replace(args[len(args)-1], "FILE", "/tmp/file", 1)
		args[len(args)-1] = file
		e := event.Event{Process: event.Process{Executable: "/usr/bin/" + args[0]}, Exec: &event.Exec{Args: args, Cwd: "/"}}
		if got := learn.Script(&e); (got == file) != (sign == "+") {
			t.Errorf("%s: the script is %q", line, got)
		}
		if got := learn.Loads(&e); slices.Contains(got, file) != (sign == "~") {
			t.Errorf("%s: loads %q", line, got)
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

// What an interpreter was given besides its script, by its options, its environment,
// a module that runs it, or its standard input.
func TestLoads(t *testing.T) {
	for _, tc := range []struct {
		line, env string // env with ";;" between its variables
		input     event.StreamKind
		want      string
	}{
		{line: "node -r /opt/trace.js --require=./more.js app.js", want: "/srv/app.js /opt/trace.js /srv/more.js"},
		{line: "node --import file:///tmp/x.mjs /app.js", want: "/app.js /tmp/x.mjs"},
		{line: "node -r dotenv/config app.js", want: "/srv/app.js"},
		{line: "node app.js", env: "NODE_OPTIONS=--require /tmp/x.js …;;NODE_PATH=/tmp/lib:/opt/lib", want: "/srv/app.js /tmp/x.js /tmp/lib /opt/lib"},
		{line: "node --snapshot-blob /tmp/blob", want: "/tmp/blob"},
		{line: "node --eval 1", env: "NODE_OPTIONS=-r /tmp/x.js", want: "/tmp/x.js"},
		{line: "python3 app.py -m x -r y", env: "PYTHONPATH=/tmp/lib;;PYTHONSTARTUP=/tmp/s.py;;NODE_PATH=/x", want: "/srv/app.py /tmp/lib /tmp/s.py"},
		{line: "python3 -Xpycache_prefix=/tmp/c app.py", want: "/srv/app.py /tmp/c"},
		{line: "python3 -c pass", env: "PYTHONHOME=/tmp/home", want: "/tmp/home"},
		{line: "python3 -m unittest -k x tests.py /x/y.py pkg.mod", want: "/srv/tests.py /x/y.py"},
		{line: "python3 -m doctest -o ELLIPSIS /tmp/a.py /tmp/b.txt", want: "/tmp/a.py /tmp/b.txt"},
		{line: "python3 -m pdb -m mod /tmp/x.py", want: ""},
		{line: "python3 -m trace -t app.py /tmp/data", want: "/srv/app.py"},
		{line: "perl -Mlib=/tmp/a,/tmp/b -w x.pl", want: "/srv/x.pl /tmp/a /tmp/b"},
		{line: "perl -I/tmp/lib -e 1", want: "/tmp/lib"},
		{line: "perl x.pl", env: "PERL5OPT=-I/tmp/a -Mstrict -d:T;;PERL5LIB=/tmp/b", want: "/srv/x.pl /tmp/a /tmp/b"},
		{line: "ruby -r./x -rdate -I lib:/tmp/lib x.rb", want: "/srv/x.rb /srv/x /srv/lib /tmp/lib"},
		{line: "ruby x.rb", env: "RUBYOPT=-r/tmp/x -W0;;RUBYLIB=/tmp/l", want: "/srv/x.rb /tmp/x /tmp/l"},
		{line: "php -d auto_prepend_file=/tmp/x.php -d memory_limit=1G index.php", want: "/srv/index.php /tmp/x.php"},
		{line: "php -dextension=/tmp/x.so -dextension=curl -d include_path=.:/tmp/p index.php", want: "/srv/index.php /tmp/x.so /tmp/p"},
		{line: "php index.php", env: "PHP_INI_SCAN_DIR=:/tmp/ini", want: "/srv/index.php /tmp/ini"},
		{line: "lua5.4 -e x=1", input: event.StreamPipe},
		{line: "luajit", input: event.StreamPipe, want: learn.StandardInput},
		{line: "php -S 127.0.0.1:80 -t /srv/www", input: event.StreamPipe, want: "/srv/www"},
		{line: "node --env-file .env --env-file-if-exists=/tmp/e app.js", want: "/srv/app.js /srv/.env /tmp/e"},
		{line: "node --test", input: event.StreamPipe},
		{line: "ruby -v -r/tmp/x x.rb", want: "/srv/x.rb /tmp/x"},
		{line: "php -i", input: event.StreamPipe},
		{line: "lua5.4 x.lua", env: "LUA_INIT=@/tmp/i.lua;;LUA_PATH=/tmp/?.lua;./?.lua", want: "/srv/x.lua /tmp/i.lua /tmp"},
		{line: "java -javaagent:/opt/otel.jar=x -cp /app/a.jar:/app/lib/*:/tmp/classes com.x.Main /tmp/x", want: "/opt/otel.jar /app /app/lib /tmp/classes"},
		{line: "java -jar app.jar -cp /tmp/x", env: "JAVA_TOOL_OPTIONS=-javaagent:/tmp/a.jar …;;CLASSPATH=/tmp/c", want: "/srv/app.jar /tmp/a.jar /tmp/c"},
		{line: "java Main", env: "JDK_JAVA_OPTIONS=… -cp /tmp/c …;;CLASSPATH=/a:/" + strings.Repeat("b", 260), want: "/tmp/c /a"},
		{line: "java @/tmp/args", want: "/tmp/args"},
		{line: "java --class-path=/tmp/c -Xbootclasspath/a:/tmp/b.jar -XX:Flags=/tmp/f Main", want: "/tmp/c /tmp /tmp/f"},
		{line: "java /tmp/X.java", want: "/tmp/X.java"},
		{line: "java -version", input: event.StreamPipe},
		{line: "bash --init-file /tmp/rc -i", want: "/tmp/rc"},
		{line: "bash -c true", env: "BASH_ENV=/tmp/e", input: event.StreamPipe, want: "/tmp/e"},
		{line: "sh -c true", env: "ENV=production"},
		{line: "sh -c true", env: "ENV=/tmp/e;;BASH_ENV=/tmp/b", want: "/tmp/e"},
		{line: "busybox sh", input: event.StreamTCP, want: learn.StandardInput},
		{line: "sh", input: event.StreamFile, want: learn.StandardInput},
		{line: "sh", input: event.StreamNull},
		{line: "bash -s arg", input: event.StreamPipe, want: learn.StandardInput},
		{line: "sh x.sh", input: event.StreamPipe, want: "/srv/x.sh"},
		{line: "bash --version", input: event.StreamPipe},
		{line: "python3 -", input: event.StreamPipe, want: learn.StandardInput},
		{line: "python3 -u", input: event.StreamTerminal, want: learn.StandardInput},
		{line: "python3 -V", input: event.StreamPipe},
		{line: "python3 -m code", input: event.StreamFile, want: learn.StandardInput},
		{line: "awk 1", input: event.StreamPipe},
		{line: "vim -u NONE -S /tmp/x.vim notes", want: "/tmp/x.vim"},
		{line: "gdb -ix=/tmp/x -p 1", want: "/tmp/x"},
		{line: "dotnet exec /app/shop.dll --urls x", want: "/app/shop.dll"},
		{line: "dotnet build", want: ""},
		{line: "deno run --allow-all https://x/a /tmp/x.ts", want: "/tmp/x.ts"},
		{line: "bun --preload ./p.ts run x.ts", want: "/srv/p.ts /srv/x.ts"},
		{line: "pwsh -NoProfile -File /tmp/x.ps1", want: "/tmp/x.ps1"},
		{line: "ld-linux-x86-64.so.2 --library-path /x /usr/bin/python3 /tmp/x.py", want: "/usr/bin/python3 /tmp/x.py"},
		{line: "curl -r /tmp/x", env: "PYTHONPATH=/tmp", input: event.StreamPipe},
	} {
		t.Run(tc.line, func(t *testing.T) {
			args := strings.Fields(tc.line)
			e := event.Event{Process: event.Process{Executable: "/usr/bin/" + args[0]}, Exec: &event.Exec{Args: args, Cwd: "/srv", Stdio: []event.Stream{{Kind: tc.input}, {}, {}}}}
			if tc.env != "" {
				e.Exec.Environment = strings.Split(tc.env, ";;")
			}
			if got := strings.Join(given(&e), " "); got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

// A module that is named is looked for in the working folder.
func TestModulesOfTheWorkingFolder(t *testing.T) {
	for cwd, want := range map[string]string{"/tmp": "/tmp", "/tmp/a/b": "/tmp", "/var/tmp/x": "/var/tmp", "/dev/shm": "/dev/shm", "/app": "", "/": ""} {
		e := event.Event{Process: event.Process{Executable: "/usr/bin/python3.11"}, Exec: &event.Exec{Args: []string{"python3", "-m", "evil"}, Cwd: cwd}}
		if got := strings.Join(given(&e), " "); got != want {
			t.Errorf("in %s: %q, want %q", cwd, got, want)
		}
	}
}

// However much one is given, what is kept of it is bounded.
func TestLoadsAreBounded(t *testing.T) {
	args := []string{"java", "-cp", strings.Repeat("/a/b:", 3) + strings.Join(folders(500), ":"), "Main"}
	e := event.Event{Process: event.Process{Executable: "/usr/bin/java"}, Exec: &event.Exec{Args: args, Cwd: "/"}}
	if got := learn.Loads(&e); len(got) != 16 {
		t.Errorf("%d loads", len(got))
	}
}

func folders(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprint("/f/", i))
	}
	return list
}

// given is the script that an interpreter was given, with what it loads.
func given(e *event.Event) []string {
	list := learn.Loads(e)
	if script := learn.Script(e); script != "" {
		list = append([]string{script}, list...)
	}
	return list
}
