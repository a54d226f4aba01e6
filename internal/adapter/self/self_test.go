package self_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/self"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/need"
)

// TestMain makes this program its own child.
func TestMain(m *testing.M) {
	if os.Args[0] == "castellan" {
		os.Exit(play(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// place is what a child finds out about itself.
type place struct {
	UID, Groups, PID, Nice, Policy int
	Interfaces                     []string
	Env                            []string
	NoNewPrivs, Effective          string
	Errors                         map[string]string // of what it tried
	Said                           string            // by who listens for it
}

// play is what a child does in these tests.
func play(args []string) int {
	var given []byte
	if args[0] != "parent" {
		var err error
		if given, err = self.Bound(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 9
		}
	}
	switch args[0] {
	case "repeat":
		fmt.Printf("%s %q", given, os.Args)
		b, err := os.ReadFile("/proc/self/environ")
		fmt.Printf("%s %v", b, err)
	case "look":
		return look(args[1], args[2])
	case "flood":
		for {
			if _, err := os.Stdout.Write(make([]byte, 1<<16)); err != nil {
				return 1
			}
		}
	case "sleep":
		time.Sleep(time.Hour)
	case "spend": // all of its time of a processor, as the kernel says it
		if err := unix.Kill(os.Getpid(), unix.SIGXCPU); err != nil {
			return 1
		}
		time.Sleep(time.Hour)
	case "fail":
		fmt.Print("why")
		fmt.Fprint(os.Stderr, strings.Repeat("x", 1<<20))
		return 7
	case "leave": // something behind
		cmd := exec.Command("/proc/self/fd/4", "sleep")
		cmd.Args[0] = "castellan"
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.ExtraFiles = []*os.File{os.NewFile(3, ""), os.NewFile(4, "")}
		if err := cmd.Start(); err != nil {
			fmt.Print(err)
			return 1
		}
	case "parent": // of a child that sleeps
		p, err := self.New(self.Options{Folder: args[1]}, slog.New(slog.DiscardHandler))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		_, err = p.Run(context.Background(), self.Task{Args: []string{"sleep"}, Within: time.Hour, Memory: 1 << 26})
		fmt.Fprintln(os.Stderr, err)
	}
	return 0
}

func look(own, socket string) int {
	var p place
	p.UID, p.PID = os.Getuid(), os.Getpid()
	groups, _ := os.Getgroups()
	p.Groups = len(groups)
	p.Nice, _ = unix.Getpriority(unix.PRIO_PROCESS, 0)
	if a, err := unix.SchedGetAttr(0, 0); err == nil {
		p.Policy = int(a.Policy)
	}
	p.Env = os.Environ()
	v, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	p.NoNewPrivs = strconv.Itoa(v)
	if all, err := net.Interfaces(); err == nil {
		for _, i := range all {
			if i.Flags&net.FlagUp != 0 {
				p.Interfaces = append(p.Interfaces, i.Name)
			}
		}
	}
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err == nil {
		p.Effective = fmt.Sprint(data[0].Effective, data[1].Effective)
	}
	p.Errors = map[string]string{}
	try := func(what string, err error) {
		p.Errors[what] = ""
		if err != nil {
			p.Errors[what] = "refused"
		}
	}
	_, err := os.ReadFile("/etc/passwd")
	try("read /etc/passwd", err)
	_, err = os.ReadDir("/")
	try("list /", err)
	_, err = os.ReadDir(filepath.Dir(own))
	try("list the folder", err)
	try("write elsewhere", os.WriteFile(filepath.Join(os.TempDir(), "castellan-child"), nil, 0o600))
	try("write beside", os.WriteFile(filepath.Join(filepath.Dir(own), "x"), nil, 0o600))
	sub := filepath.Join(own, "sub")
	try("make a folder", os.MkdirAll(sub, 0o700))
	try("write", os.WriteFile(filepath.Join(sub, "a"), []byte("a"), 0o600))
	try("rename", os.Rename(filepath.Join(sub, "a"), filepath.Join(sub, "b")))
	_, err = os.ReadFile(filepath.Join(sub, "b"))
	try("read", err)
	_, err = net.DialTimeout("tcp", "127.0.0.1:1", time.Second)
	try("dial", err)
	c, err := net.Dial("unix", socket)
	try("connect", err)
	if err == nil {
		b, _ := io.ReadAll(c)
		p.Said = string(b)
	}
	if err := json.NewEncoder(os.Stdout).Encode(p); err != nil {
		return 1
	}
	return 0
}

func program(t *testing.T) *self.Program {
	t.Helper()
	p, err := self.New(self.Options{Folder: filepath.Join(t.TempDir(), strings.Repeat("long", 30))}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func task(args ...string) self.Task {
	return self.Task{Args: args, Output: 1 << 20, Memory: 64 << 20, Within: time.Minute}
}

func TestAChildCanDoNextToNothing(t *testing.T) {
	need.Root(t)
	p := program(t)
	l, err := p.Listen("engine")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = c.Write([]byte("hello"))
			_ = c.Close()
		}
	}()
	t.Setenv("SECRET", "s")
	out, err := p.Run(t.Context(), task("look", p.Own(), p.Inside("engine")))
	if err != nil || out.Code != 0 {
		t.Fatalf("got %v, code %d: %s", err, out.Code, out.Stderr)
	}
	var got place
	if err := json.Unmarshal(out.Stdout, &got); err != nil {
		t.Fatalf("%v: %s", err, out.Stdout)
	}
	if got.UID != 65534 || got.Groups != 0 || got.PID != 1 || got.Effective != "0 0" || got.NoNewPrivs != "1" || len(got.Interfaces) > 0 {
		t.Errorf("rights: %+v", got)
	}
	// 5 is SCHED_IDLE; nice is told as 20 less.
	if got.Policy != 5 || got.Nice != 1 {
		t.Errorf("policy %d, nice %d", got.Policy, got.Nice)
	}
	if strings.Contains(strings.Join(got.Env, " "), "SECRET") || strings.Contains(strings.Join(got.Env, " "), "PATH") {
		t.Errorf("environment %q", got.Env)
	}
	if got.Said != "hello" {
		t.Errorf("who listens said %q", got.Said)
	}
	allowed := map[string]bool{"make a folder": true, "write": true, "rename": true, "read": true, "connect": true}
	for what, refused := range got.Errors {
		if (refused == "") != allowed[what] {
			t.Errorf("%s: %q, want allowed: %v", what, refused, allowed[what])
		}
	}
}

func TestHowAChildEnds(t *testing.T) {
	for _, tc := range []struct {
		name string
		task self.Task
		kind fault.Kind
		out  string
		code int
	}{
		{"with an error of its own", task("fail"), fault.Unknown, "why", 7},
		{"writing too much", task("flood"), fault.Exhausted, "", 0},
		{"too late", self.Task{Args: []string{"sleep"}, Within: 100 * time.Millisecond, Memory: 1 << 26}, fault.Unavailable, "", 0},
		{"using too much of a processor", task("spend"), fault.Exhausted, "", 0},
		{"leaving something behind", task("leave"), fault.Unknown, "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := program(t).Run(t.Context(), tc.task)
			if fault.Of(err) != tc.kind || (err != nil) != (tc.kind != fault.Unknown) {
				t.Fatalf("got %v (%v), want %v", err, fault.Of(err), tc.kind)
			}
			if err == nil && (string(out.Stdout) != tc.out || out.Code != tc.code) {
				t.Errorf("got %q, code %d, want %q, %d", out.Stdout, out.Code, tc.out, tc.code)
			}
			if len(out.Stderr) > 8<<10 {
				t.Errorf("%d bytes of standard error are kept", len(out.Stderr))
			}
			if left := children(t, os.Getpid()); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestWhoGivesUpLeavesNoChild(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, stop)
	if _, err := program(t).Run(ctx, task("sleep")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	if left := children(t, os.Getpid()); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestAChildThatIsKilled plays a kernel that is short of memory.
func TestAChildThatIsKilled(t *testing.T) {
	ended := make(chan error, 1)
	go func() {
		_, err := program(t).Run(t.Context(), task("sleep"))
		ended <- err
	}()
	child := awaitChild(t, os.Getpid())
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", child)); err != nil {
		t.Error(err)
	} else {
		t.Logf("oom_score_adj %s", b)
	}
	if err := unix.Kill(child, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "killed") {
		t.Errorf("got %v, want unavailable: killed", err)
	}
}

// awaitChild waits for a child of a process and returns it.
func awaitChild(t *testing.T, parent int) int {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		if all := children(t, parent); len(all) > 0 {
			return all[0]
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("no child came")
	return 0
}

// TestAChildEndsWithItsParent kills a parent outright.
func TestAChildEndsWithItsParent(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.CommandContext(t.Context(), exe, "parent", t.TempDir())
	parent.Args[0] = "castellan"
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	child := awaitChild(t, parent.Process.Pid)
	fd, err := unix.PidfdOpen(child, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it was killed
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, 30_000); n != 1 {
		t.Errorf("the child lives on without its parent (%v)", err)
	}
}

// children lists the processes whose parent is pid.
func children(t *testing.T, pid int) (all []int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue // a thread that ended
		}
		words := bufio.NewScanner(bytes.NewReader(b))
		words.Split(bufio.ScanWords)
		for words.Scan() {
			if n, err := strconv.Atoi(words.Text()); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}

// TestAChildIsGivenItsInput: by a way that nobody else can look at.
func TestAChildIsGivenItsInput(t *testing.T) {
	p := program(t)
	in := task("repeat")
	in.Input = []byte("a secret of 20 bytes")
	out, err := p.Run(t.Context(), in)
	if err != nil || out.Code != 0 {
		t.Fatalf("got %v, code %d: %s", err, out.Code, out.Stderr)
	}
	if got := string(out.Stdout); !strings.HasPrefix(got, "a secret of 20 bytes ") || strings.Count(got, "a secret") != 1 {
		t.Errorf("got %q, want the input once, and not among arguments or environment", got)
	}
	in.Input = make([]byte, self.MaxInput+1)
	if _, err := p.Run(t.Context(), in); !fault.Is(err, fault.Unavailable) {
		t.Errorf("more than it can be given: %v, want unavailable", err)
	}
}

func TestAWorkingChildGivesWayOnlyToOthers(t *testing.T) {
	p, err := self.New(self.Options{Folder: t.TempDir(), Working: true}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	out, err := p.Run(t.Context(), task("look", p.Own(), p.Inside("nobody")))
	if err != nil || out.Code != 0 {
		t.Fatalf("got %v, code %d: %s", err, out.Code, out.Stderr)
	}
	var got place
	if err := json.Unmarshal(out.Stdout, &got); err != nil {
		t.Fatalf("%v: %s", err, out.Stdout)
	}
	// Nice is told as 20 less: this is 10, or more where the test itself has more.
	if got.Policy == 5 || got.Nice > 10 || got.NoNewPrivs != "1" {
		t.Errorf("policy %d, nice %d, %+v", got.Policy, got.Nice, got)
	}
}
