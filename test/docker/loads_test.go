package docker_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/test/docker/engine"
)

const loadsGroup = "shop/storefront/loads"

// interpreting is what the container does by itself, and what its profile has: each
// interpreter runs nothing but what stands in its argument.
const interpreting = `python3 -c pass; node -e 0; perl -e 1; java -version 2>&1; bash -c true; make --version; sed --version; find /dev/null; ` +
	`xargs --version; env true; tar --version; mawk 1 /dev/null; cat /dev/null; echo ready; sleep 3600`

// materials are what tricks use: code that came after the image. Each says that it ran.
const materials = `mkdir -p /tmp/lib /tmp/folder /tmp/user/lib/python3.11/site-packages
echo 'print("it ran")' | tee /tmp/x.py /tmp/lib/evil.py /tmp/folder/__main__.py > /tmp/user/lib/python3.11/site-packages/usercustomize.py
echo 'console.log("it ran")' | tee /tmp/x.js > /tmp/lib/evil.js
echo 'print "it ran"; 1' > /tmp/lib/evil.pm
echo 'echo it ran' > /tmp/x.sh
printf '$(info it ran)\nall: ;\n' > /tmp/rules.mk
printf '#include <unistd.h>\n__attribute__((constructor)) static void f(void) { write(1, "it ran\\n", 7); }\nunsigned la_version(unsigned v) { return v; }\n' > /tmp/x.c
gcc -shared -fPIC -o /tmp/evil.so /tmp/x.c
cp /bin/echo /tmp/dropped`

// trick is one way to have an allowed program run code that came after the image.
type trick struct {
	do      string // of a shell
	told    string // is in the sentence that is told of it while it is monitored
	stopped bool   // where BPF is no security module, too; what is not stopped is told all the same
}

// tricks are by interpreter. What only a driver for Java could show is told by its
// command line alone.
var tricks = map[string]trick{
	"python folder":       {do: "python3 /tmp/folder", told: "ran /tmp/folder by /usr/bin/python3.11"},
	"python pdb":          {do: "python3 -m pdb -c continue /tmp/x.py < /dev/null", told: "had /usr/bin/python3.11 load code from /tmp/x.py"},
	"python trace":        {do: "python3 -m trace --trace /tmp/x.py", told: "had /usr/bin/python3.11 load code from /tmp/x.py"},
	"python cProfile":     {do: "python3 -m cProfile /tmp/x.py", told: "had /usr/bin/python3.11 load code from /tmp/x.py"},
	"python module":       {do: "cd /tmp/lib && python3 -m evil", told: "had /usr/bin/python3.11 load code from /tmp:"},
	"python path":         {do: "PYTHONPATH=/tmp/lib python3 -c 'import evil'", told: "had /usr/bin/python3.11 load code from /tmp/lib"},
	"python startup":      {do: "PYTHONSTARTUP=/tmp/x.py python3 -i < /dev/null", told: "had /usr/bin/python3.11 load code from /tmp/x.py"},
	"python user":         {do: "PYTHONUSERBASE=/tmp/user python3 -c pass", told: "had /usr/bin/python3.11 load code from /tmp/user"},
	"python input":        {do: "python3 < /tmp/x.py", told: "ran what came by the standard input of /usr/bin/python3.11"},
	"node require":        {do: "node -r /tmp/x.js -e 0", told: "had /usr/bin/node load code from /tmp/x.js"},
	"node options":        {do: "NODE_OPTIONS='--require /tmp/x.js' node -e 0", told: "had /usr/bin/node load code from /tmp/x.js"},
	"node path":           {do: "NODE_PATH=/tmp/lib node -e 'require(\"evil\")'", told: "had /usr/bin/node load code from /tmp/lib"},
	"node input":          {do: "cat /tmp/x.js | node", told: "ran what came by the standard input of /usr/bin/node"},
	"perl folder":         {do: "perl -I/tmp/lib -Mevil -e 1", told: "had /usr/bin/perl load code from /tmp/lib"},
	"perl options":        {do: "PERL5OPT='-I/tmp/lib -Mevil' perl -e 1", told: "had /usr/bin/perl load code from /tmp/lib"},
	"perl library":        {do: "PERL5LIB=/tmp/lib perl -e 'require evil'", told: "had /usr/bin/perl load code from /tmp/lib"},
	"java agent":          {do: "JAVA_TOOL_OPTIONS=-javaagent:/tmp/agent.jar java -version; echo it ran", told: "load code from /tmp/agent.jar"},
	"java class path":     {do: "java -cp /opt/x.jar:/tmp/classes Evil; echo it ran", told: "load code from /opt"},
	"bash environment":    {do: "BASH_ENV=/tmp/x.sh bash -c true", told: "had /usr/bin/bash load code from /tmp/x.sh"},
	"bash start":          {do: "bash --rcfile /tmp/x.sh -i -c true", told: "had /usr/bin/bash load code from /tmp/x.sh"},
	"shell input":         {do: "sh < /tmp/x.sh", told: "ran what came by the standard input of /usr/bin/dash"},
	"make file":           {do: "make -f /tmp/rules.mk", told: "had /usr/bin/make load code from /tmp/rules.mk"},
	"preloaded":           {do: "LD_PRELOAD=/tmp/evil.so cat /dev/null", told: "mapped /tmp/evil.so as code", stopped: true},
	"preloaded by number": {do: "exec 3< /tmp/evil.so; LD_PRELOAD=/proc/self/fd/3 cat /dev/null", told: "mapped /tmp/evil.so as code", stopped: true},
	"opened by python":    {do: "python3 -c 'import ctypes; ctypes.CDLL(\"/tmp/evil.so\")'", told: "mapped /tmp/evil.so as code", stopped: true},
	"opened by number":    {do: "exec 3< /tmp/evil.so; python3 -c 'import ctypes; ctypes.CDLL(\"/proc/self/fd/3\")'", told: "mapped /tmp/evil.so as code", stopped: true},
	"in memory by python": {do: "python3 -c 'import os; f = os.memfd_create(\"x\"); os.write(f, open(\"/bin/echo\", \"rb\").read()); os.execv(\"/proc/self/fd/%d\" % f, [\"echo\", \"it ran\"])'", told: "ran /memfd:x", stopped: true},
	"without a name":      {do: "python3 -c 'import os; f = os.open(\"/tmp\", os.O_TMPFILE | os.O_RDWR, 0o755); os.write(f, open(\"/bin/echo\", \"rb\").read()); os.link(\"/proc/self/fd/%d\" % f, \"/tmp/linked\", src_dir_fd=os.open(\"/\", 0)); os.close(f); os.execv(\"/tmp/linked\", [\"echo\", \"it ran\"])'; rm -f /tmp/linked", told: "ran /tmp/linked", stopped: true},
	"a name of two lines": {do: "cp /bin/echo '/tmp/two\nlines'; '/tmp/two\nlines' it ran", told: "/tmp/two", stopped: true},
	"many at once":        {do: "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do /tmp/dropped it ran & done; wait", told: "ran /tmp/dropped", stopped: true},
	"audited":             {do: "LD_AUDIT=/tmp/evil.so cat /dev/null", told: "mapped /tmp/evil.so as code", stopped: true},
	"dropped by find":     {do: "find /dev/null -exec /tmp/dropped it ran ';'", told: "ran /tmp/dropped", stopped: true},
	"dropped by xargs":    {do: "echo it ran | xargs /tmp/dropped", told: "ran /tmp/dropped", stopped: true},
	"dropped by env":      {do: "env -S '/tmp/dropped it ran'", told: "ran /tmp/dropped", stopped: true},
	"dropped by sed":      {do: "echo x | sed '1e /tmp/dropped it ran'", told: "ran /tmp/dropped", stopped: true},
	"dropped by tar":      {do: "tar -cf /dev/null --checkpoint=1 --checkpoint-action=exec='/tmp/dropped it ran' /etc/passwd", told: "ran /tmp/dropped", stopped: true},
	"dropped by awk":      {do: "mawk 'BEGIN { system(\"/tmp/dropped it ran\") }'", told: "ran /tmp/dropped", stopped: true},
	"dropped by a line":   {do: "printf '#!/tmp/dropped it ran\n' > /tmp/line; chmod 755 /tmp/line; /tmp/line", told: "ran /tmp/dropped", stopped: true},
	"dropped by an alias": {do: "perl -e 'exec {\"/tmp/dropped\"} \"echo\", \"it ran\"'", told: "ran /tmp/dropped", stopped: true},
}

// TestCodeThatInterpretersAreGiven has interpreters that a profile allows run code that
// came after the image, by every way that none of their scripts is: monitored, each is
// told, and protected, told or stopped.
func TestCodeThatInterpretersAreGiven(t *testing.T) {
	needServices(t)
	e := start(t, engine.Options{})
	importServices(t, e)
	w := guardedHost(t, e)
	id := run(t, e, engine.Container{Name: "loads", Image: servicesImage, Labels: labels("loads"), Cmd: []string{"sh", "-c", interpreting}})
	w.until("the container to have done its work", func() bool {
		out, err := w.docker("logs", id)
		return err == nil && strings.Contains(out, "ready")
	})
	w.known(id)
	w.until("the container's first program to be learned", func() bool {
		return strings.Contains(w.does("watch", "profile", "export", loadsGroup), "path: /usr/bin/dash\n")
	})
	w.mode(profile.Monitor, loadsGroup)
	if out, code, err := e.Exec(t.Context(), id, "sh", "-ec", materials); err != nil || code != 0 {
		t.Fatalf("make what tricks use: %v, code %d, %s", err, code, out)
	}
	for _, mode := range []profile.Mode{profile.Monitor, profile.Protect} {
		if mode == profile.Protect {
			w.mode(mode, loadsGroup)
		}
		began := time.Now()
		for name, trick := range tricks {
			out, _, err := e.Exec(t.Context(), id, "sh", "-c", trick.do)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if stopped := mode == profile.Protect && trick.stopped; strings.Contains(out, "it ran") == stopped {
				t.Errorf("%s: %s, want it stopped: %v; it said: %s", mode, name, stopped, out)
			}
		}
		w.known(id)
		told := slices.DeleteFunc(w.outside(began), func(v store.BehaviourViolation) bool { return v.Group != loadsGroup || v.Last.Before(began) })
		for name, trick := range tricks {
			if !slices.ContainsFunc(told, func(v store.BehaviourViolation) bool { return strings.Contains(v.Sentence, trick.told) }) {
				t.Errorf("%s: %s is not told; what is:\n%s", mode, name, sentences(told))
			}
		}
	}
}
