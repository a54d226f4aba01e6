package tree_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/detect/tree"
	"github.com/castellan-security/castellan/internal/event"
)

var at = time.Date(2026, 11, 29, 7, 0, 0, 0, time.UTC)

func key(pid int) event.Key {
	if pid == 0 {
		return event.Key{}
	}
	return event.Key{PID: uint32(pid), Start: uint64(pid) * 1e9}
}

func exec(pid, parent int, args ...string) *event.Event {
	return &event.Event{AgentID: "a", WorkloadID: "w", Kind: event.KindExec, Time: at,
		Process: event.Process{Key: key(pid), Parent: key(parent), Name: tree.Base(args[0]), Executable: args[0]}, Exec: &event.Exec{Args: args}}
}

func TestProgram(t *testing.T) {
	for _, tc := range []struct {
		executable string
		args       string
		want       string
	}{
		{"/bin/dash", "sh -c id", "dash"},
		{"/bin/busybox", "wget http://x", "wget"},
		{"/bin/busybox", "/bin/busybox sh", "sh"},
		{"/bin/busybox", "-sh", "sh"},
		{"/usr/bin/python3.11", "python app.py", "python"},
		{"/usr/bin/python3.9", "/usr/bin/python3 -s /usr/bin/dnf install x", "dnf"},
		{"/usr/libexec/platform-python3.6", "/usr/libexec/platform-python /usr/bin/yum update", "yum"},
		{"/usr/bin/python3.9", "python app.py dnf", "python"},
		{"/usr/bin/x86_64-linux-gnu-gcc-12", "gcc a.c", "gcc"},
		{"/usr/bin/nc.openbsd", "nc x 1", "nc"},
		{"/usr/sbin/php-fpm8.2", "php-fpm", "php-fpm"},
		{"/usr/bin/bzip2", "bzip2", "bzip2"},
		{"/opt/botb-linux-amd64", "./botb-linux-amd64", "botb"},
		{"/opt/linpeas_linux_amd64", "./linpeas_linux_amd64", "linpeas"},
		{"/opt/chisel_1.9.1_linux_amd64", "chisel", "chisel"},
		{"/opt/xmrig-6.21.0-linux-static-x64", "xmrig", "xmrig"},
		{"/opt/traitor-amd64", "./traitor-amd64", "traitor"},
		{"/usr/bin/qemu-x86_64", "qemu-x86_64", "qemu-x86_64"},
		{"/usr/bin/qemu-aarch64-static", "qemu-aarch64-static", "qemu-aarch64-static"},
		{"/usr/lib64/ld-linux-x86-64.so.2", "ld-linux-x86-64.so.2", "ld-linux-x86-64.so.2"},
		{"/usr/bin/linux64", "linux64", "linux64"},
		{"/tmp/x (deleted)", "x", "x"},
		{"", "", ""},
	} {
		if got := tree.Program(tc.executable, strings.Fields(tc.args)); got != tc.want {
			t.Errorf("Program(%q, %q) = %q, want %q", tc.executable, tc.args, got, tc.want)
		}
	}
}

func TestRootIsTheOldestBelowTheFirstProcess(t *testing.T) {
	tr := tree.New()
	first := exec(1, 0, "/usr/sbin/nginx")
	first.Process.ContainerPID = 1
	first.Exec.Ancestors = []event.Ancestor{{Key: key(90), Name: "containerd-shim"}}
	init := tr.Observe(first)
	tr.Observe(exec(2, 1, "/usr/sbin/worker"))
	tr.Observe(exec(3, 2, "/bin/sh", "-c", "id"))
	leaf := tr.Observe(exec(4, 3, "/usr/bin/id"))
	if got := tr.Root("a", leaf); got.Key != key(2) {
		t.Errorf("the root is %v, want process 2", got.Key)
	}
	if got := tr.Root("a", init); got.Key != key(1) {
		t.Errorf("the root of the first process is %v, want itself", got.Key)
	}
	var names []string
	tr.Ancestors("a", leaf, func(p *tree.Process) bool { names = append(names, p.Program); return true })
	if got := strings.Join(names, " "); got != "sh worker nginx" {
		t.Errorf("ancestors are %q", got)
	}
	came := exec(50, 91, "/bin/sh")
	came.Exec.Entered, came.Exec.Ancestors = true, []event.Ancestor{{Key: key(91), Name: "runc"}}
	tr.Observe(came)
	below := tr.Observe(exec(51, 50, "/bin/ls"))
	if got := tr.Root("a", below); got.Key != key(50) || !below.Entered {
		t.Errorf("the root of what was entered is %v, entered: %v", got.Key, below.Entered)
	}
}

func TestConnectionsGoFromForkToForkAndStayOverAnExec(t *testing.T) {
	tr := tree.New()
	p := tr.Observe(exec(5, 1, "/usr/bin/python3.11", "app.py"))
	remote := netip.MustParseAddrPort("203.0.113.7:4444")
	net := func(kind event.Kind, pid int, remote netip.AddrPort) *event.Event {
		return &event.Event{AgentID: "a", WorkloadID: "w", Kind: kind, Time: at, Process: event.Process{Key: key(pid), Parent: key(1)}, Connection: &event.Connection{Protocol: "tcp", Remote: remote}}
	}
	tr.Observe(net(event.KindConnect, 5, netip.MustParseAddrPort("127.0.0.1:80")))
	if _, ok := p.Connected(at); ok {
		t.Error("a connection with itself counts")
	}
	tr.Observe(net(event.KindConnect, 5, remote))
	child := tr.Observe(&event.Event{AgentID: "a", WorkloadID: "w", Kind: event.KindFork, Time: at, Process: event.Process{Key: key(6), Parent: key(5), Name: "python3"}})
	tr.Observe(exec(5, 1, "/bin/sh", "-i"))
	for _, p := range []*tree.Process{p, child} {
		if got, ok := p.Connected(at); !ok || got != remote {
			t.Errorf("process %v is connected to %v, %v", p.Key, got, ok)
		}
	}
	tr.Observe(net(event.KindClose, 5, remote))
	if _, ok := p.Connected(at); ok {
		t.Error("a closed connection counts")
	}
	if _, ok := child.Connected(at.Add(time.Hour)); ok {
		t.Error("a connection counts as open for ever")
	}
}

func TestForgetsWhatEnded(t *testing.T) {
	tr := tree.New()
	for pid := 100; pid < 1100; pid++ {
		tr.Observe(exec(pid, 1, "/bin/true"))
		exit := &event.Event{AgentID: "a", WorkloadID: "w", Kind: event.KindExit, Time: at, Process: event.Process{Key: key(pid)}, Exit: &event.Exit{}}
		tr.Observe(exit)
	}
	later := exec(5000, 1, "/bin/true")
	later.Time = at.Add(time.Hour)
	tr.Observe(later)
	if got := tr.Len("a"); got != 1 {
		t.Errorf("%d processes are known, want the one that runs", got)
	}
	for pid := 10_000; pid < 60_000; pid++ {
		tr.Observe(exec(pid, 1, "/bin/true"))
	}
	if got := tr.Len("a"); got > 32<<10 {
		t.Errorf("%d processes are known of one host", got)
	}
}

func as(uid uint32, e *event.Event) *event.Event {
	e.Process.UID, e.Process.EUID = uid, uid
	return e
}

// Who is root and was not is raised, whatever call it was; set-uid programs explain it.
func TestRaised(t *testing.T) {
	tr := tree.New()
	fork := func(pid, parent int, uid uint32) *event.Event {
		return as(uid, &event.Event{AgentID: "a", WorkloadID: "w", Kind: event.KindFork, Time: at, Process: event.Process{Key: key(pid), Parent: key(parent), Name: "x"}})
	}
	tr.Observe(as(0, exec(10, 1, "/usr/sbin/php-fpm")))
	worker := tr.Observe(fork(11, 10, 0))
	tr.Observe(as(33, fork(11, 10, 0)))
	if worker.Raised {
		t.Error("a worker that gave up root is raised")
	}
	tr.Observe(as(33, exec(12, 11, "/tmp/exploit")))
	got := tr.Observe(as(0, exec(12, 11, "/bin/sh")))
	if !got.Raised {
		t.Error("a process that was user 33 and is root is not raised")
	}
	if got := tr.Observe(as(0, exec(13, 12, "/usr/bin/id"))); !got.Raised {
		t.Error("its child is not")
	}
	if got := tr.Observe(as(0, exec(14, 11, "/usr/bin/id"))); !got.Raised {
		t.Error("a child that is root, of a process that is not, is not raised")
	}
	sudo := as(33, exec(20, 11, "/usr/bin/sudo", "id"))
	sudo.Exec.SetUID = true
	tr.Observe(sudo)
	if got := tr.Observe(as(0, exec(21, 20, "/usr/bin/id"))); got.Raised {
		t.Error("what sudo started is raised")
	}
	limit := as(0, &event.Event{AgentID: "a", WorkloadID: "w", Kind: event.KindLimit, Time: at, Process: event.Process{Key: key(11)}, Resource: &event.Resource{What: "pids"}})
	if got := tr.Observe(limit); got.Raised || got.UID != 33 {
		t.Errorf("what is told of a whole container makes its process user %d, raised: %v", got.UID, got.Raised)
	}
	came := as(0, exec(30, 11, "/bin/sh"))
	came.Exec.Entered = true
	if got := tr.Observe(came); got.Raised {
		t.Error("what came in from outside is raised")
	}
}

func TestStarting(t *testing.T) {
	tr := tree.New()
	first := exec(1, 0, "/bin/sh", "/entrypoint.sh")
	first.Process.ContainerPID = 1
	init := tr.Observe(first)
	child := tr.Observe(exec(20, 1, "/bin/cp"))
	late := tr.Observe(exec(100, 1, "/bin/cp"))
	entered := exec(21, 0, "/bin/sh")
	entered.Exec.Entered = true
	for _, tc := range []struct {
		name  string
		p     *tree.Process
		after time.Duration
		want  bool
	}{
		{"the first process", init, time.Second, true},
		{"a minute later", init, 61 * time.Second, false},
		{"its child", child, time.Second, true},
		{"a child that started later", late, time.Second, false},
		{"from outside", tr.Observe(entered), time.Second, false},
		{"of an unknown parent", tr.Observe(exec(22, 500, "/bin/sh")), time.Second, false},
	} {
		if got := tr.Starting("a", tc.p, at.Add(tc.after)); got != tc.want {
			t.Errorf("%s: starting is %v", tc.name, got)
		}
	}
}
