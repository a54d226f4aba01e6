package bpf

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"path"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/castellan-security/castellan/internal/event"
)

//go:generate go tool bpf2go -cc clang -strip llvm-strip -target amd64,arm64 -type header -type ancestor -type exec -type exit -type kind -type flag -type origin -type overlay -type resident -type host -type beginning -type stream -type stream_kind process process.bpf.c -- -O2 -Wall -Werror -mcpu=v2

const (
	ancestorLen = int(unsafe.Sizeof(processAncestor{}))
	execLen     = int(unsafe.Sizeof(processExec{}))
	exitLen     = int(unsafe.Sizeof(processExit{}))
)

// maxArgs bounds the arguments of one exec: the kernel hands over 8 KiB of
// them, which could be as many empty ones, at 16 bytes each in memory.
const maxArgs = 1_024

// The status that wait(2) gives: include/uapi/linux/wait.h, wait(2).
const (
	statusSignal = 0x7f
	statusCore   = 0x80
	statusShift  = 8
	statusCode   = 0xff
)

// processSensor reports fork, exec and exit of every process. What is like
// something told before is counted: see untold.bpf.h.
//
// Kernel threads are left out. Fork and exit carry no executable: whoever
// follows the process knows it from its exec. Origin tells of the file that
// runs; for a script that is its interpreter, and the script is Requested.
//
// A runtime's own set-up process, already in the container's cgroup but still
// in the host's mount namespace ("runc init"), counts as the container's with
// OriginHost, never as Entered: so does whoever broke out of a container, and
// that must not be taken for the host's. A process that joins a container's
// namespaces without its cgroup (plain nsenter) stays one of the host.
func processSensor() sensor {
	return sensor{
		name:   "process",
		number: 1, // SENSOR_PROCESS
		spec:   loadKeyed,
		decode: decodeProcess,
		tick:   tellUntold,
		forget: forgetUntold,
	}
}

// loadKeyed is loadProcess with a key of its own for hashes: see siphash.bpf.h.
func loadKeyed() (*ebpf.CollectionSpec, error) {
	spec, err := loadProcess()
	if err != nil {
		return nil, err
	}
	if err := lookForVariables(spec); err != nil {
		return nil, err
	}
	var key [16]byte
	// It never fails: see crypto/rand.
	_, _ = rand.Read(key[:])
	if err := spec.Variables["hash_key"].Set(key); err != nil {
		return nil, fmt.Errorf("set the key of hashes: %w", err)
	}
	return spec, nil
}

// decodeProcess reads one record of the process sensor into e.
func decodeProcess(d *decoder, record []byte, e *event.Event) error {
	h, err := d.head(record, e)
	if err != nil {
		return err
	}
	switch processKind(h.kind) {
	case processKindKIND_FORK:
		e.Kind = event.KindFork
		return nil
	case processKindKIND_EXEC:
		e.Kind = event.KindExec
		return decodeExec(d, h, record, e)
	case processKindKIND_EXIT:
		e.Kind = event.KindExit
		return decodeExit(h, record, e)
	case processKindKIND_REPEAT:
		return decodeRepeat(d, record, e)
	}
	return fmt.Errorf("unknown kind %d", h.kind)
}

func decodeExit(h header, b []byte, e *event.Event) error {
	if len(b) < exitLen {
		return errShort
	}
	status := u32(b, unsafe.Offsetof(processExit{}.Code))
	x := &event.Exit{
		Signal:     int(status & statusSignal),
		CoreDumped: status&statusCore != 0,
	}
	if x.Signal == 0 {
		x.Code = int(status >> statusShift & statusCode)
	}
	if h.time > h.start {
		x.Lifetime = time.Duration(h.time - h.start)
	}
	e.Exit = x
	return nil
}

func decodeExec(d *decoder, h header, b []byte, e *event.Event) error {
	if len(b) < execLen {
		return errShort
	}
	var at processExec
	has := func(any processFlag) bool { return h.flags&uint32(any) != 0 }
	x := &event.Exec{
		ArgsTruncated: has(processFlagFLAG_ARGS_CUT),
		PathTruncated: has(processFlagFLAG_EXECUTABLE_CUT | processFlagFLAG_CWD_CUT),
		Origin:        originOf(processOrigin(b[unsafe.Offsetof(at.Origin)])),
		Layer:         event.Layer{Number: u16(b, unsafe.Offsetof(at.Layer)), Of: u16(b, unsafe.Offsetof(at.Layers))},
		Deleted:       has(processFlagFLAG_DELETED),
		Inode:         u64(b, unsafe.Offsetof(at.Inode)),
		Device:        u32(b, unsafe.Offsetof(at.Device)),
		SetUID:        has(processFlagFLAG_SETUID),
		SetGID:        has(processFlagFLAG_SETGID),
		Capabilities:  event.Capabilities(u64(b, unsafe.Offsetof(at.Capabilities))),
		Entered:       has(processFlagFLAG_ENTERED),

		EnvironmentTruncated: has(processFlagFLAG_ENVIRON_CUT),
		Stdio:                decodeStreams(b[unsafe.Offsetof(at.Streams):]),
	}
	rest := b[execLen:]
	rest, ok := decodeAncestors(d, rest, int(b[unsafe.Offsetof(at.Ancestors)]), x)
	if !ok {
		return errShort
	}
	var parts [5][]byte
	for i, n := range [5]uint16{
		u16(b, unsafe.Offsetof(at.ExecutableLen)), u16(b, unsafe.Offsetof(at.CwdLen)),
		u16(b, unsafe.Offsetof(at.RequestedLen)), u16(b, unsafe.Offsetof(at.EnvironLen)), u16(b, unsafe.Offsetof(at.ArgsLen)),
	} {
		if int(n) > len(rest) {
			return errShort
		}
		parts[i], rest = rest[:n], rest[n:]
	}
	e.Process.Executable = d.joinPath(parts[0], has(processFlagFLAG_EXECUTABLE_CUT))
	x.Cwd = d.joinPath(parts[1], has(processFlagFLAG_CWD_CUT))
	x.Requested = requested(d.texts.valid(untilNUL(parts[2])), x.Cwd, e.Process.Executable)
	x.Environment = decodeEnvironment(d, parts[3])
	decodeArgs(parts[4], x)
	e.Exec = x
	return nil
}

func originOf(o processOrigin) event.Origin {
	switch o {
	case processOriginORIGIN_IMAGE:
		return event.OriginImage
	case processOriginORIGIN_WRITTEN:
		return event.OriginWritten
	case processOriginORIGIN_MOUNT:
		return event.OriginMount
	case processOriginORIGIN_MEMORY:
		return event.OriginMemory
	case processOriginORIGIN_HOST:
		return event.OriginHost
	}
	return event.OriginUnknown
}

// decodeAncestors reads n ancestors and returns what follows them.
func decodeAncestors(d *decoder, b []byte, n int, x *event.Exec) ([]byte, bool) {
	if n > event.MaxAncestors || n*ancestorLen > len(b) {
		return nil, false
	}
	if n == 0 {
		return b, true
	}
	var at processAncestor
	x.Ancestors = make([]event.Ancestor, n)
	for i := range x.Ancestors {
		x.Ancestors[i] = event.Ancestor{
			Key: event.Key{
				PID:   u32(b, unsafe.Offsetof(at.Tgid)),
				Start: u64(b, unsafe.Offsetof(at.Start)),
			},
			Name: d.comm(b[unsafe.Offsetof(at.Comm):]),
		}
		b = b[ancestorLen:]
	}
	return b, true
}

// requested returns the path that was asked for if it is another than the one
// that runs.
func requested(asked, cwd, runs string) string {
	if asked == runs {
		return ""
	}
	full := asked
	if !path.IsAbs(asked) {
		full = path.Join(cwd, asked)
	} else if strings.Contains(asked, "//") || strings.Contains(asked, "/.") {
		full = path.Clean(asked)
	}
	if full == runs {
		return ""
	}
	return asked
}

// decodeArgs reads arguments, each with its NUL; the last one has none if the
// sensor cut it. They share one string.
func decodeArgs(b []byte, x *event.Exec) {
	n := bytes.Count(b, []byte{0})
	if len(b) > 0 && b[len(b)-1] != 0 {
		n++
	}
	if n > maxArgs {
		n = maxArgs
		x.ArgsTruncated = true
	}
	x.Args = make([]string, 0, n)
	valid := utf8.Valid(b)
	for all := string(b); len(x.Args) < n; {
		arg, rest, _ := strings.Cut(all, "\x00")
		if !valid {
			arg = strings.ToValidUTF8(arg, "\uFFFD")
		}
		x.Args = append(x.Args, arg)
		all = rest
	}
}

func untilNUL(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}
