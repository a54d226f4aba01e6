package bpf

import (
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
)

//go:generate go tool bpf2go -cc clang -strip llvm-strip -target amd64,arm64 -type header -type privilege -type kind -type bit -type shape -type how privilege privilege.bpf.c -- -O2 -Wall -Werror -mcpu=v2

const privilegeLen = int(unsafe.Sizeof(privilegePrivilege{}))

// Marks of struct privilege's call: CALL_COMPAT and CALL_EXEC of
// privilege.bpf.h.
const (
	callCompat = 0x8000
	callExec   = 0x7fff
)

// privilegeSensor reports calls that change what a process may do, sees or can
// reach, whether they succeeded or not, and what it has become.
//
// Of containers it reports all of them, except for the work of the runtime in
// them (setup.bpf.h). Of the host it reports only what concerns its kernel
// (modules, kexec, BPF programs, those of this process left out), and what is
// done to the processes and namespaces of containers.
//
// Paths and names that a call was given are as they stood in the process's
// memory when it returned. Another thread may have changed them by then, and a
// page that was not present reads as empty: they are what the process claims.
// What hangs on a descriptor (the file of a module, the kind of a namespace,
// the type and source of a file system's context) is what the kernel knows.
//
// Flags has, besides the call's own words: "host" for a process of a container
// that has the host's mount namespace, or for a target that is of the host;
// "userns" for a process whose capabilities are those of a user namespace only;
// "group" for privilege.user where the ids are groups, with the new one in
// Target.
func privilegeSensor() sensor {
	return sensor{
		name:      "privilege",
		number:    5, // SENSOR_PRIVILEGE
		spec:      loadPrivilege,
		decode:    decodePrivilege,
		calls:     privilegeHandlers(),
		configure: setShapes,
	}
}

// decodePrivilege reads one record of the privilege sensor into e.
func decodePrivilege(d *decoder, b []byte, e *event.Event) error {
	h, err := d.head(b, e)
	if err != nil {
		return err
	}
	if e.Kind = privilegeKindOf(privilegeKind(h.kind)); e.Kind == "" {
		return fmt.Errorf("unknown kind %d", h.kind)
	}
	if len(b) < privilegeLen {
		return errShort
	}
	r := readPrivilege(b)
	p := &event.Privilege{
		Call:   callName(r.Call),
		Gained: event.Capabilities(r.Gained),
		Error:  errorName(r.Error),
	}
	if err := putTexts(d, b[privilegeLen:], &r, p); err != nil {
		return err
	}
	p.Flags = privilegeWords(e.Kind, p.Call, &r)
	if r.TargetTgid != 0 {
		p.Process = event.Key{PID: r.TargetTgid, Start: r.TargetStart}
	}
	if r.has(privilegeBitBIT_TARGET_CONTAINER) {
		p.WorkloadID = d.workload(r.TargetContainer[:])
	}
	switch e.Kind {
	case event.KindSetns:
		if r.Inode != 0 {
			p.Target = fmt.Sprintf("%s:[%d]", p.Type, r.Inode) // as /proc/PID/ns shows it
		}
	case event.KindBPF:
		p.Type = bpfType(r.Command, r.Type)
	case event.KindPerf:
		p.Type = perfType(r.Type)
	case event.KindUser:
		if r.has(privilegeBitBIT_GROUP) || strings.HasSuffix(p.Call, "gid") && p.Error != "" {
			p.Target = strconv.FormatUint(uint64(r.NewId), 10)
			break
		}
		p.OldUID, p.NewUID = r.OldId, r.NewId
	}
	e.Privilege = p
	return nil
}

// privilegeRecord is a record without its texts.
type privilegeRecord struct{ privilegePrivilege }

func (r *privilegeRecord) has(bit privilegeBit) bool { return r.Bits&uint32(bit) != 0 }

// readPrivilege reads what is behind the head of b, which is long enough.
func readPrivilege(b []byte) privilegeRecord {
	var r privilegeRecord
	r.Flags = u64(b, unsafe.Offsetof(r.Flags))
	r.Gained = u64(b, unsafe.Offsetof(r.Gained))
	r.Inode = u64(b, unsafe.Offsetof(r.Inode))
	r.TargetStart = u64(b, unsafe.Offsetof(r.TargetStart))
	r.TargetTgid = u32(b, unsafe.Offsetof(r.TargetTgid))
	r.Command = u32(b, unsafe.Offsetof(r.Command))
	r.Type = u32(b, unsafe.Offsetof(r.Type))
	r.OldId = u32(b, unsafe.Offsetof(r.OldId))
	r.NewId = u32(b, unsafe.Offsetof(r.NewId))
	r.Error = u32(b, unsafe.Offsetof(r.Error))
	r.Bits = u32(b, unsafe.Offsetof(r.Bits))
	r.Call = u16(b, unsafe.Offsetof(r.Call))
	r.SourceLen = u16(b, unsafe.Offsetof(r.SourceLen))
	r.TargetLen = u16(b, unsafe.Offsetof(r.TargetLen))
	r.TypeLen = u16(b, unsafe.Offsetof(r.TypeLen))
	copy(r.TargetContainer[:], b[unsafe.Offsetof(r.TargetContainer):])
	return r
}

// putTexts reads source, target and type, which stand one after the other.
func putTexts(d *decoder, b []byte, r *privilegeRecord, p *event.Privilege) error {
	var parts [3][]byte
	for i, n := range [3]uint16{r.SourceLen, r.TargetLen, r.TypeLen} {
		if int(n) > len(b) {
			return errShort
		}
		parts[i], b = b[:n], b[n:]
	}
	p.Source = d.texts.valid(untilNUL(parts[0]))
	p.Type = d.texts.valid(untilNUL(parts[2]))
	if r.has(privilegeBitBIT_PATH) {
		p.Target = d.joinPath(parts[1], r.has(privilegeBitBIT_PATH_CUT))
		return nil
	}
	p.Target = d.texts.valid(untilNUL(parts[1]))
	return nil
}

func privilegeKindOf(k privilegeKind) event.Kind {
	switch k {
	case privilegeKindKIND_MOUNT:
		return event.KindMount
	case privilegeKindKIND_UMOUNT:
		return event.KindUmount
	case privilegeKindKIND_PIVOT_ROOT:
		return event.KindPivotRoot
	case privilegeKindKIND_UNSHARE:
		return event.KindUnshare
	case privilegeKindKIND_SETNS:
		return event.KindSetns
	case privilegeKindKIND_CLONE:
		return event.KindClone
	case privilegeKindKIND_PTRACE:
		return event.KindPtrace
	case privilegeKindKIND_PROCESS_WRITE:
		return event.KindProcessWrite
	case privilegeKindKIND_MODULE:
		return event.KindModule
	case privilegeKindKIND_KEXEC:
		return event.KindKexec
	case privilegeKindKIND_BPF:
		return event.KindBPF
	case privilegeKindKIND_PERF:
		return event.KindPerf
	case privilegeKindKIND_KEYRING:
		return event.KindKeyring
	case privilegeKindKIND_USERFAULT:
		return event.KindUserfault
	case privilegeKindKIND_IO_URING:
		return event.KindIOURing
	case privilegeKindKIND_CAPABILITY:
		return event.KindCapability
	case privilegeKindKIND_USER:
		return event.KindUser
	case privilegeKindKIND_KNOB:
		return event.KindKernelKnob
	}
	return ""
}

// nativeCalls and compatCalled have the names of the calls by their numbers.
var (
	nativeCalls  = reversed(callNumbers)
	compatCalled = reversed(compatCallNumbers)
)

func reversed(numbers map[string]uint32) map[uint16]string {
	out := make(map[uint16]string, len(numbers))
	for name, n := range numbers {
		// Those with wider arguments are the same to whoever reads of them.
		out[uint16(n)] = strings.TrimSuffix(strings.TrimSuffix(name, "32"), "64")
	}
	return out
}

// callName returns the name of the call, or its number.
func callName(call uint16) string {
	if call == callExec {
		return "exec"
	}
	names, n := nativeCalls, call
	if call&callCompat != 0 {
		names, n = compatCalled, call&^callCompat
	}
	if name := names[n]; name != "" {
		return name
	}
	return strconv.Itoa(int(n))
}

// errorName returns the name of an error, or its number: some are the kernel's
// own, for a call that is begun again.
func errorName(n uint32) string {
	if n == 0 {
		return ""
	}
	if name := unix.ErrnoName(unix.Errno(n)); name != "" {
		return name
	}
	return "E" + strconv.FormatUint(uint64(n), 10)
}
