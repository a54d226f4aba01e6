package bpf_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/event"
)

// runWith runs /bin/true with an environment and standard descriptors, and returns
// its exec. A nil file is a closed descriptor.
func runWith(t *testing.T, w *watcher, env []string, files []*os.File) event.Exec {
	t.Helper()
	p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{Env: env, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	return *w.exec(p.Pid).Exec
}

func TestExecEnvironment(t *testing.T) {
	w := watchEach(t)
	filler := func(n int) []string { return []string{"FILLER=" + strings.Repeat("x", n)} }
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("SECRET_%d=value", i))
	}
	var eight []string
	for i := range 9 {
		eight = append(eight, fmt.Sprintf("LD_PRELOAD=%d", i))
	}
	tests := []struct {
		name string
		env  []string
		want []string
		cut  bool
	}{
		{"none", []string{}, nil, false},
		{"nothing of it", []string{"PATH=/bin", "PASSWORD=secret", "LD_PRELO=x", "XLD_PRELOAD=x", "ENVIRON=x"}, nil, false},
		{"begins like one", []string{"LD_PRELOAD_KEY=secret", "PYTHONPASSWORD=secret", "HISTFILE_KEY=secret"}, nil, false},
		{"first", []string{"LD_PRELOAD=/tmp/a.so", "PATH=/bin"}, []string{"LD_PRELOAD=/tmp/a.so"}, false},
		{"in the middle", append(append(many, "LD_AUDIT=/tmp/a.so"), many...), []string{"LD_AUDIT=/tmp/a.so"}, false},
		{"several", []string{"PATH=/bin", "ENV=/x", "BASH_ENV=/y", "A=", "", "PYTHONSTARTUP=/z", "RUBYOPT=-r/w"},
			[]string{"ENV=/x", "BASH_ENV=/y", "PYTHONSTARTUP=/z", "RUBYOPT=-r/w"}, false},
		{"behind empty ones", []string{"", "", "", "", "HISTFILE=/dev/null"}, []string{"HISTFILE=/dev/null"}, false},
		{"behind much", append(filler(30_000), "LD_PRELOAD=/tmp/a.so"), []string{"LD_PRELOAD=/tmp/a.so"}, false},
		{"behind too much", append(filler(40_000), "LD_PRELOAD=/tmp/a.so"), nil, true},
		{"long", []string{"LD_PRELOAD=" + strings.Repeat("p", 300)}, []string{"LD_PRELOAD=" + strings.Repeat("p", 244)}, true},
		{"too many", eight, eight[:8], true},
		{"options", []string{"JAVA_TOOL_OPTIONS=-Dkey=secret -Xmx1g -javaagent:/tmp/a.jar -Dx=y", "NODE_OPTIONS=--require /tmp/a.js --max-http"},
			[]string{"JAVA_TOOL_OPTIONS=… -javaagent:/tmp/a.jar …", "NODE_OPTIONS=--require /tmp/a.js …"}, false},
		{"not UTF-8", []string{"LD_PRELOAD=/\xff"}, []string{"LD_PRELOAD=/\uFFFD"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := runWith(t, w, tt.env, nil)
			if d := cmp.Diff(got.Environment, tt.want); d != "" || got.EnvironmentTruncated != tt.cut {
				t.Errorf("truncated %v, want %v; environment (-got +want):\n%s", got.EnvironmentTruncated, tt.cut, d)
			}
		})
	}
}

// A name is found wherever it begins: before, at and behind the end of a piece, and
// at each place within eight bytes.
func TestExecEnvironmentPlaces(t *testing.T) {
	w := watchEach(t)
	const piece = 4096
	for _, around := range []int{0, piece, 2 * piece} {
		for off := -9; off <= 9; off++ {
			if n := around + off - len("F=") - 1; n >= 0 {
				got := runWith(t, w, []string{"F=" + strings.Repeat("x", n), "LD_PRELOAD=x"}, nil)
				if len(got.Environment) != 1 {
					t.Errorf("a name %d bytes from the beginning is not found", around+off)
				}
			}
		}
	}
}

func TestExecEnvironmentOf32Bits(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("go is not installed")
	}
	w := watchEach(t)
	path := t.TempDir() + "/compat"
	buildCompat(t, goTool, path)
	cmd := exec.CommandContext(t.Context(), path)
	cmd.Env = []string{"LD_PRELOAD=/tmp/a.so"}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if got := w.exec(cmd.Process.Pid).Exec; len(got.Environment) != 1 || got.Stdio[0].Kind != event.StreamNull {
		t.Errorf("environment %q, descriptors %v", got.Environment, got.Stdio)
	}
}

func TestExecStdio(t *testing.T) {
	w := watchEach(t)
	file := func(f *os.File, err error) *os.File {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	r, wr, err := os.Pipe()
	file(r, err)
	file(wr, nil)
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	one, two := file(os.NewFile(uintptr(pair[0]), "one"), nil), file(os.NewFile(uintptr(pair[1]), "two"), nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	u, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	peer := func(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }
	connection, listener := file(c.(*net.TCPConn).File()), file(l.(*net.TCPListener).File())
	tests := []struct {
		name  string
		files []*os.File
		want  []event.Stream
	}{
		{"closed", nil, []event.Stream{{Kind: event.StreamNone}, {Kind: event.StreamNone}, {Kind: event.StreamNone}}},
		{"files", []*os.File{file(os.Open("/dev/null")), file(os.Open("/etc/passwd")), file(os.Open("/tmp"))},
			[]event.Stream{{Kind: event.StreamNull}, {Kind: event.StreamFile}, {Kind: event.StreamFolder}}},
		{"devices", []*os.File{file(os.Open("/dev/ptmx")), file(os.Open("/dev/zero")), nil},
			[]event.Stream{{Kind: event.StreamTerminal}, {Kind: event.StreamDevice}, {Kind: event.StreamNone}}},
		{"pipe and pair", []*os.File{r, one, two}, []event.Stream{{Kind: event.StreamPipe}, {Kind: event.StreamUnix}, {Kind: event.StreamUnix}}},
		{"connection", []*os.File{connection, connection, file(u.(*net.UDPConn).File())}, []event.Stream{
			{Kind: event.StreamTCP, Remote: peer(l.Addr())}, {Kind: event.StreamTCP, Remote: peer(l.Addr())},
			{Kind: event.StreamUDP, Remote: netip.MustParseAddrPort("127.0.0.1:9")}}},
		{"listener", []*os.File{listener, nil, nil}, []event.Stream{{Kind: event.StreamTCP}, {Kind: event.StreamNone}, {Kind: event.StreamNone}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := runWith(t, w, nil, tt.files).Stdio
			for i := range got {
				socket := got[i].Kind == event.StreamPipe || got[i].Kind == event.StreamTCP || got[i].Kind == event.StreamUDP || got[i].Kind == event.StreamUnix
				if (got[i].Inode != 0) != socket {
					t.Errorf("descriptor %d is %v", i, got[i])
				}
				got[i].Inode = 0
			}
			if d := cmp.Diff(got, tt.want, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
				t.Errorf("descriptors (-got +want):\n%s", d)
			}
		})
	}
}
