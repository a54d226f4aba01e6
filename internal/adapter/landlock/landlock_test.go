package landlock_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/landlock"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
)

// orders are what the test program does in another process: it confines itself
// and becomes itself again, to do deeds.
type orders struct {
	Rules   profile.Landlock
	Strict  bool
	Version int
	Argv    []string
}

const (
	ordersEnv = "CASTELLAN_TEST_LANDLOCK"
	deedsArg  = "do-deeds"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == deedsArg {
		for _, d := range os.Args[2:] {
			fmt.Println(d, "=", deed(d))
		}
		return
	}
	if text := os.Getenv(ordersEnv); text != "" {
		os.Exit(confined(text))
	}
	os.Exit(m.Run())
}

func confined(text string) int {
	var o orders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Println(err)
		return 2
	}
	err := landlock.Run(context.Background(), &o.Rules, o.Argv, []string{}, landlock.Options{
		Strict: o.Strict, Version: o.Version,
		Told: func(r landlock.Remark) { fmt.Println("remark:", r.Looser, r.Text) },
	})
	fmt.Println("error:", fault.Of(err), err)
	return 1
}

// deed does one thing and says what came of it.
func deed(d string) string {
	what, path, _ := strings.Cut(d, " ")
	var err error
	switch what {
	case "read":
		_, err = os.ReadFile(path)
	case "list":
		_, err = os.ReadDir(path)
	case "write":
		var f *os.File
		if f, err = os.OpenFile(path, os.O_WRONLY, 0); err == nil {
			err = f.Close()
		}
	case "cut":
		err = os.Truncate(path, 0)
	case "make":
		err = os.WriteFile(path, []byte("x"), 0o644)
	case "delete":
		err = os.Remove(path)
	case "run":
		err = exec.Command(path, deedsArg).Run()
	case "connect":
		var c net.Conn
		if c, err = net.Dial("tcp", "127.0.0.1:"+path); err == nil {
			err = c.Close()
		}
	case "bind":
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:"+path); err == nil {
			err = l.Close()
		}
	case "signal":
		pid, _ := strconv.Atoi(path)
		err = syscall.Kill(pid, 0)
	case "mount":
		err = unix.Mount("none", path, "tmpfs", 0, "")
	default:
		return "no such deed"
	}
	var number syscall.Errno
	if errors.As(err, &number) {
		return unix.ErrnoName(number)
	}
	if err != nil {
		return err.Error()
	}
	return "done"
}

// place is a folder that everybody may change, with the test program in it.
type place struct{ dir, program string }

func newPlace(t *testing.T) place {
	t.Helper()
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || abi < 6 {
		t.Skipf("needs Landlock version 6: this kernel has %d (%v); run on Linux 6.12 or later", abi, errno)
	}
	dir, err := os.MkdirTemp("", "castellan-landlock-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := place{dir, filepath.Join(dir, "bin", "program")}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"bin", "data", "other", "etc", "home/a/.aws", "home/b"} {
		p.folder(t, f)
	}
	p.file(t, "bin/program", self)
	p.file(t, "bin/stranger", self)
	for _, f := range []string{"data/old", "other/old", "etc/shadow", "etc/hosts", "home/a/.aws/key", "home/a/letter", "home/b/letter"} {
		p.file(t, f, []byte("x"))
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p place) in(name string) string { return filepath.Join(p.dir, name) }

func (p place) folder(t *testing.T, name string) {
	t.Helper()
	if err := os.MkdirAll(p.in(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p.in(name), 0o777); err != nil {
		t.Fatal(err)
	}
}

func (p place) file(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(p.in(name), content, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p.in(name), 0o777); err != nil {
		t.Fatal(err)
	}
}

func (p place) rules(more ...profile.LandlockPath) profile.Landlock {
	at := func(s string) profile.Pattern { return profile.Pattern(p.in(s)) }
	return profile.Landlock{
		Version: profile.LandlockVersion, Group: "a/b/c",
		Paths: append([]profile.LandlockPath{
			{Path: "/", Rights: []profile.LandlockRight{profile.LandlockList, profile.LandlockRead}},
			{Path: at("bin/prog*"), Rights: []profile.LandlockRight{profile.LandlockExecute}},
			{Path: "/dev/null", Rights: []profile.LandlockRight{profile.LandlockWrite}},
			{Path: at("data"), Rights: []profile.LandlockRight{profile.LandlockWrite, profile.LandlockMake}},
		}, more...),
		Without: []profile.Pattern{at("etc/shadow"), at("home/*/.aws/*")},
	}
}

// run does deeds confined, as a user without any rights.
func (p place) run(t *testing.T, o orders, deeds ...string) string {
	t.Helper()
	if o.Argv == nil {
		o.Argv = append([]string{p.program, deedsArg}, deeds...)
	}
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), p.program)
	cmd.Env = []string{ordersEnv + "=" + string(b)}
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	var ended *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &ended) {
		t.Fatalf("run: %v\n%s", err, &out)
	}
	return out.String()
}

func TestPermittedIsDoneAndTheRestRefused(t *testing.T) {
	p := newPlace(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	open := l.Addr().(*net.TCPAddr).Port
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bindable := free.Addr().(*net.TCPAddr).Port
	free.Close()
	rules := p.rules()
	rules.Binds = []profile.Ports{{First: uint16(bindable), Last: uint16(bindable)}}
	rules.Connects = []profile.Ports{{First: uint16(open), Last: uint16(open)}}
	port := func(n int) string { return strconv.Itoa(n) }
	var deeds, want []string
	for _, tc := range []struct{ deed, want string }{
		{"read " + p.in("etc/hosts"), "done"}, {"read " + p.in("etc/shadow"), "EACCES"},
		{"read " + p.in("home/a/.aws/key"), "EACCES"}, {"read " + p.in("home/a/letter"), "done"}, {"read " + p.in("home/b/letter"), "done"},
		{"list " + p.in("etc"), "done"}, {"list " + p.in("home/a/.aws"), "done"}, {"list /", "done"},
		{"write " + p.in("data/old"), "done"}, {"make " + p.in("data/new"), "done"}, {"delete " + p.in("data/new"), "done"}, {"cut " + p.in("data/old"), "done"},
		{"write " + p.in("other/old"), "EACCES"}, {"make " + p.in("other/new"), "EACCES"}, {"delete " + p.in("other/old"), "EACCES"}, {"cut " + p.in("other/old"), "EACCES"},
		{"write " + p.in("etc/shadow"), "EACCES"},
		{"run " + p.program, "done"}, {"run " + p.in("bin/stranger"), "EACCES"},
		{"connect " + port(open), "done"}, {"connect " + port(bindable), "EACCES"},
		{"bind " + port(bindable), "done"}, {"bind " + port(open), "EACCES"}, {"bind 0", "EACCES"},
	} {
		deeds, want = append(deeds, tc.deed), append(want, tc.deed+" = "+tc.want)
	}
	got := p.run(t, orders{Rules: rules, Strict: true}, deeds...)
	if got := strings.Split(strings.TrimSpace(got), "\n"); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAProgramThatIsNotOfTheRulesDoesNotStart(t *testing.T) {
	p := newPlace(t)
	got := p.run(t, orders{Rules: p.rules(), Argv: []string{p.in("bin/stranger"), deedsArg, "list /"}})
	if !strings.Contains(got, "error: denied become") {
		t.Errorf("got %q, want that it is denied", got)
	}
	got = p.run(t, orders{Rules: p.rules(), Argv: []string{"no-such-program"}})
	if !strings.Contains(got, "error: not found") {
		t.Errorf("got %q, want that there is no such program", got)
	}
}

func TestSignalsStayAmongTheConfined(t *testing.T) {
	p := newPlace(t)
	// A process of the same user that is not confined.
	other := exec.CommandContext(t.Context(), "sleep", "60")
	if os.Geteuid() == 0 {
		other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	for _, tc := range []struct {
		unscoped bool
		want     string
	}{{false, "EPERM"}, {true, "done"}} {
		rules := p.rules()
		rules.Unscoped = tc.unscoped
		d := fmt.Sprintf("signal %d", other.Process.Pid)
		if got, want := p.run(t, orders{Rules: rules}, d), d+" = "+tc.want+"\n"; got != want {
			t.Errorf("unscoped %v: got %q, want %q", tc.unscoped, got, want)
		}
	}
}

// Older versions of Landlock hold less: that is told, and refused if strict.
func TestOlderVersionsHoldLessAndSaySo(t *testing.T) {
	p := newPlace(t)
	d := "cut " + p.in("other/old")
	for _, tc := range []struct {
		version        int
		looser         int // remarks that more is permitted
		done, narrower bool
	}{
		{1, 4, true, true}, {2, 4, true, false}, {3, 3, false, false}, {5, 1, false, false}, {6, 0, false, false},
	} {
		t.Run(strconv.Itoa(tc.version), func(t *testing.T) {
			p.file(t, "other/old", []byte("x"))
			got := p.run(t, orders{Rules: p.rules(), Version: tc.version}, d)
			if n := strings.Count(got, "remark: true"); n != tc.looser {
				t.Errorf("%d remarks that more is permitted, want %d:\n%s", n, tc.looser, got)
			}
			if strings.Contains(got, "remark: false") != tc.narrower {
				t.Errorf("remark that less is permitted: want %v:\n%s", tc.narrower, got)
			}
			if done := strings.Contains(got, d+" = done"); done != tc.done {
				t.Errorf("a file that may not be written is cut: %v, want %v:\n%s", done, tc.done, got)
			}
			got = p.run(t, orders{Rules: p.rules(), Version: tc.version, Strict: true}, d)
			if refused := strings.Contains(got, "error: unsupported"); refused != (tc.looser > 0) {
				t.Errorf("strict refuses: %v, want %v:\n%s", refused, tc.looser > 0, got)
			}
		})
	}
}

func TestFoldersThatAreNotThereYet(t *testing.T) {
	p := newPlace(t)
	change := []profile.LandlockRight{profile.LandlockWrite, profile.LandlockMake}
	rules := p.rules(profile.LandlockPath{Path: profile.Pattern(p.in("other/sub/deep")), Rights: change})
	got := p.run(t, orders{Rules: rules}, "make "+p.in("other/new"))
	if !strings.Contains(got, "remark: true") || !strings.Contains(got, p.in("other")) || !strings.Contains(got, "= done") {
		t.Errorf("got %s\nwant that the folder above is permitted, and told", got)
	}
	if got := p.run(t, orders{Rules: rules, Strict: true}, "list /"); !strings.Contains(got, "error: unsupported") {
		t.Errorf("got %s\nwant that strict refuses", got)
	}
	rules = p.rules(profile.LandlockPath{Path: "/castellan-no-such/folder", Rights: change})
	got = p.run(t, orders{Rules: rules, Strict: true}, "make /castellan-new")
	if !strings.Contains(got, "remark: false") || !strings.Contains(got, "= EACCES") {
		t.Errorf("got %s\nwant that nothing is permitted for it", got)
	}
}

// A program that is linked dynamically starts: its loader may run.
func TestDynamicProgramsStart(t *testing.T) {
	p := newPlace(t)
	id, err := filepath.EvalSymlinks("/usr/bin/id")
	if err != nil {
		t.Skip("needs a program of the system at /usr/bin/id; apt-get install coreutils")
	}
	rules := p.rules(profile.LandlockPath{Path: profile.Pattern(id), Rights: []profile.LandlockRight{profile.LandlockExecute}})
	if got := p.run(t, orders{Rules: rules, Argv: []string{id, "-u"}}); !strings.Contains(got, "\n") || strings.Contains(got, "error") {
		t.Errorf("got %q, want a user id", got)
	}
}

func TestRulesThatAreNoneAreRefused(t *testing.T) {
	for _, l := range []profile.Landlock{
		{}, {Version: 1}, {Version: 2, Group: "a"},
		{Version: 1, Group: "a", Paths: []profile.LandlockPath{{Path: "relative", Rights: []profile.LandlockRight{"read"}}}},
		{Version: 1, Group: "a", Paths: []profile.LandlockPath{{Path: "/a/**", Rights: []profile.LandlockRight{"read"}}}},
		{Version: 1, Group: "a", Paths: []profile.LandlockPath{{Path: "/a"}}},
		{Version: 1, Group: "a", Paths: []profile.LandlockPath{{Path: "/a", Rights: []profile.LandlockRight{"own"}}}},
		{Version: 1, Group: "a", Binds: []profile.Ports{{First: 1, Last: 65535}}},
		{Version: 1, Group: "a", Connects: []profile.Ports{{First: 9, Last: 8}}},
	} {
		err := landlock.Run(t.Context(), &l, []string{"/bin/true"}, nil, landlock.Options{})
		if fault.Of(err) != fault.Invalid {
			t.Errorf("%+v: got %v, want that it is invalid", l, err)
		}
	}
}
