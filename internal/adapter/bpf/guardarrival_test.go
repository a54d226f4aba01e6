package bpf_test

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/castellan-security/castellan/internal/profile"
)

// executesItself makes a program that does nothing but execute itself, by the name
// that it was given.
func executesItself(t *testing.T) string {
	t.Helper()
	code := map[string][]byte{
		"amd64": {
			0x48, 0x8b, 0x7c, 0x24, 0x08, // mov rdi, [rsp+8]: argv[0]
			0x48, 0x8d, 0x74, 0x24, 0x08, // lea rsi, [rsp+8]: argv
			0x31, 0xd2, // xor edx, edx: no environment
			0xb8, 59, 0, 0, 0, 0x0f, 0x05, // execve
			0xb8, 60, 0, 0, 0, 0x0f, 0x05, // exit
		},
		"arm64": {
			0xe0, 0x07, 0x40, 0xf9, // ldr x0, [sp, #8]
			0xe1, 0x23, 0x00, 0x91, // add x1, sp, #8
			0x02, 0x00, 0x80, 0xd2, // mov x2, #0
			0xa8, 0x1b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, // execve
			0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, // exit
		},
	}[runtime.GOARCH]
	const base, head = 0x400000, 64 + 56
	machine := map[string]uint16{"amd64": 62, "arm64": 183}[runtime.GOARCH]
	b := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	le := binary.LittleEndian
	b = le.AppendUint16(le.AppendUint16(b, 2), machine) // an executable
	b = le.AppendUint32(b, 1)
	for _, n := range []uint64{base + head, 64, 0} { // entry, program headers, sections
		b = le.AppendUint64(b, n)
	}
	b = le.AppendUint32(b, 0)
	for _, n := range []uint16{64, 56, 1, 0, 0, 0} {
		b = le.AppendUint16(b, n)
	}
	b = le.AppendUint32(le.AppendUint32(b, 1), 5) // loaded, to be read and run
	size := uint64(head + len(code))
	for _, n := range []uint64{0, base, base, size, size, 0x1000} {
		b = le.AppendUint64(b, n)
	}
	path := filepath.Join(t.TempDir(), "itself")
	check(t, os.WriteFile(path, append(b, code...), 0o755))
	return path
}

// A runtime that executes a file of the host at the very moment in which it is put
// into a container, as "runc init" does with a copy of itself, is not taken for one of
// the container's processes: the kernel tells of the move only when it was made.
func TestRuntimeIsNotHeldWhileItArrives(t *testing.T) {
	for _, tc := range []struct {
		name    string
		settled bool // a program of the container runs there
	}{{"nothing has run there", false}, {"something runs there", true}} {
		t.Run(tc.name, func(t *testing.T) {
			g := execGuard(t, pins(t))
			check(t, g.Set(execRules(profile.Deny, profile.ExecRules{Paths: []profile.Pattern{"/bin/tool"}})))
			if held := g.Controls(execRules(profile.Deny, profile.ExecRules{}).Answers)[0]; held.Rung == "" {
				t.Fatalf("nothing is held: %s", held.Error)
			}
			arrive(t, g, tc.settled)
		})
	}
}

// arrive puts processes that execute a file all the time into a container.
func arrive(t *testing.T, g *netGuard, settled bool) {
	const many = 2000
	program := executesItself(t)
	v2, _ := hierarchies()
	id := newID(t)
	check(t, g.Hold(id, netGroup))
	dir := cgroup(t, v2, "castellan-test-arrival-"+id[:8]+"/docker/"+id)
	if settled {
		h := start(t, nil, "overlay="+newRoot(t), "exec=/bin/tool", "tool", "wait", "exit=3")
		put(t, dir, h.pid())
		_, err := h.stdin.Write([]byte("\n"))
		check(t, err)
		untilName(t, h.pid(), "tool")
		defer h.finish()
	}
	killed := 0
	for range many {
		c := exec.Command(program)
		check(t, c.Start())
		put(t, dir, c.Process.Pid)
		check(t, c.Process.Signal(syscall.SIGTERM))
		_ = c.Wait() // by whichever signal
		if status, ok := c.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGTERM {
			killed++
		}
	}
	if killed > 0 {
		t.Errorf("%d of %d were killed", killed, many)
	}
}
