package bpf

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/event"
)

// putPrivilege builds a record of the privilege sensor.
func putPrivilege(kind privilegeKind, r privilegePrivilege, source, target, typ string) []byte {
	b := append(putHeader(processKind(kind), 0), make([]byte, privilegeLen-headerLen)...)
	b[unsafe.Offsetof(processHeader{}.Sensor)] = privilegeSensor().number
	le := binary.LittleEndian
	le.PutUint64(b[unsafe.Offsetof(r.Flags):], r.Flags)
	le.PutUint64(b[unsafe.Offsetof(r.Gained):], r.Gained)
	le.PutUint64(b[unsafe.Offsetof(r.Inode):], r.Inode)
	le.PutUint64(b[unsafe.Offsetof(r.TargetStart):], r.TargetStart)
	le.PutUint32(b[unsafe.Offsetof(r.TargetTgid):], r.TargetTgid)
	le.PutUint32(b[unsafe.Offsetof(r.Command):], r.Command)
	le.PutUint32(b[unsafe.Offsetof(r.Type):], r.Type)
	le.PutUint32(b[unsafe.Offsetof(r.OldId):], r.OldId)
	le.PutUint32(b[unsafe.Offsetof(r.NewId):], r.NewId)
	le.PutUint32(b[unsafe.Offsetof(r.Error):], r.Error)
	le.PutUint32(b[unsafe.Offsetof(r.Bits):], r.Bits)
	le.PutUint16(b[unsafe.Offsetof(r.Call):], r.Call)
	le.PutUint16(b[unsafe.Offsetof(r.SourceLen):], uint16(len(source)))
	le.PutUint16(b[unsafe.Offsetof(r.TargetLen):], uint16(len(target)))
	le.PutUint16(b[unsafe.Offsetof(r.TypeLen):], uint16(len(typ)))
	copy(b[unsafe.Offsetof(r.TargetContainer):], r.TargetContainer[:])
	return append(b, source+target+typ...)
}

func call(name string) uint16 { return uint16(callNumbers[name]) }

func TestDecodePrivilege(t *testing.T) {
	other := [containerID]byte{0: 0xcd}
	tests := []struct {
		name                string
		kind                privilegeKind
		record              privilegePrivilege
		source, target, typ string
		wantKind            event.Kind
		want                event.Privilege
	}{
		{
			"mount with the old magic number", privilegeKindKIND_MOUNT,
			privilegePrivilege{Call: call("mount"), Flags: 0xC0ED0000 | 1}, "a\x00", "/mnt\x00", "ext4\x00",
			event.KindMount, event.Privilege{Call: "mount", Source: "a", Target: "/mnt", Type: "ext4", Flags: []string{"ro"}},
		},
		{
			"a module by its file", privilegeKindKIND_MODULE,
			privilegePrivilege{Call: call("finit_module"), Bits: uint32(privilegeBitBIT_PATH), Error: 1}, "x=1\x00", "evil.ko\x00tmp\x00", "",
			event.KindModule, event.Privilege{Call: "finit_module", Source: "x=1", Target: "/tmp/evil.ko", Error: "EPERM"},
		},
		{
			"a process of another container", privilegeKindKIND_PTRACE,
			privilegePrivilege{Call: call("ptrace"), Command: 0x4206, TargetTgid: 9, TargetStart: 8, TargetContainer: other, Bits: uint32(privilegeBitBIT_TARGET_CONTAINER)}, "", "", "",
			event.KindPtrace, event.Privilege{
				Call: "ptrace", Flags: []string{"seize"}, Process: event.Key{PID: 9, Start: 8},
				WorkloadID: "cd" + strings.Repeat("00", containerID-1),
			},
		},
		{
			"a process of the host", privilegeKindKIND_PROCESS_WRITE,
			privilegePrivilege{Call: call("process_vm_writev"), TargetTgid: 9, TargetStart: 8, Bits: uint32(privilegeBitBIT_TARGET_HOST)}, "", "", "",
			event.KindProcessWrite, event.Privilege{Call: "process_vm_writev", Flags: []string{"host"}, Process: event.Key{PID: 9, Start: 8}},
		},
		{
			"the first user namespace", privilegeKindKIND_SETNS,
			privilegePrivilege{Call: call("setns"), Inode: 0xEFFFFFFD}, "", "", "user\x00",
			event.KindSetns, event.Privilege{Call: "setns", Type: "user", Target: "user:[4026531837]", Flags: []string{"host"}},
		},
		{
			"capabilities of an exec", privilegeKindKIND_CAPABILITY,
			privilegePrivilege{Call: callExec, Gained: 1 << 21, Bits: uint32(privilegeBitBIT_USERNS)}, "", "", "",
			event.KindCapability, event.Privilege{Call: "exec", Gained: 1 << 21, Flags: []string{"userns"}},
		},
		{
			"another group", privilegeKindKIND_USER,
			privilegePrivilege{Call: call("setgid"), OldId: 3, NewId: 0, Bits: uint32(privilegeBitBIT_GROUP)}, "", "", "",
			event.KindUser, event.Privilege{Call: "setgid", Target: "0", Flags: []string{"group"}},
		},
		{
			"numbers without a name", privilegeKindKIND_BPF,
			privilegePrivilege{Call: 511, Command: 999, Error: 512}, "", "", "",
			event.KindBPF, event.Privilege{Call: "511", Error: "E512"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got event.Event
			b := putPrivilege(tt.kind, tt.record, tt.source, tt.target, tt.typ)
			if err := decodePrivilege(newDecoder(stoppedClock()), b, &got); err != nil {
				t.Fatal(err)
			}
			want := event.Event{
				Kind: tt.wantKind, Time: time.Unix(0, 5_000).UTC(), WorkloadID: strings.Repeat("ab", containerID),
				Process: event.Process{
					Key: event.Key{PID: 42, Start: 4_000}, ContainerPID: 7, Parent: event.Key{PID: 41, Start: 3_000}, Name: "to\uFFFDol",
				},
				Privilege: &tt.want,
			}
			if d := cmp.Diff(got, want); d != "" {
				t.Errorf("event (-got +want):\n%s", d)
			}
			for n := range b {
				if err := decodePrivilege(newDecoder(stoppedClock()), b[:n], &event.Event{}); !errors.Is(err, errShort) {
					t.Fatalf("%d of %d bytes: %v, want %v", n, len(b), err, errShort)
				}
			}
		})
	}
}

// Every program that is listed is there, and every handler that is there is
// listed.
func TestPrivilegeHandlers(t *testing.T) {
	spec, err := loadPrivilege()
	if err != nil {
		t.Fatal(err)
	}
	listed := privilegeSensor().calls
	for name, p := range spec.Programs {
		if _, ok := listed[name]; ok != (p.AttachTo == "sys_exit") {
			t.Errorf("%s is listed: %v, but sits at %s", name, ok, p.AttachTo)
		}
	}
	for name, calls := range listed {
		if spec.Programs[name] == nil {
			t.Errorf("%s is listed and not there", name)
		}
		if err := unknownCalls(calls); err != nil {
			t.Error(err)
		}
	}
}

func FuzzDecodePrivilege(f *testing.F) {
	f.Add(putPrivilege(privilegeKindKIND_MOUNT, privilegePrivilege{Call: call("mount")}, "a\x00", "/mnt\x00", "ext4\x00"))
	f.Add(putPrivilege(privilegeKindKIND_MODULE, privilegePrivilege{Bits: 3}, "\xff", "x\x00\x00y", "no end"))
	f.Add(putPrivilege(privilegeKindKIND_USER, privilegePrivilege{Call: call("setgid") | callCompat, Error: 1}, "", "", ""))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e event.Event
		if err := decodePrivilege(newDecoder(stoppedClock()), b, &e); err != nil {
			return
		}
		p := e.Privilege
		for _, s := range append([]string{p.Call, p.Source, p.Target, p.Type, p.Error, p.WorkloadID}, p.Flags...) {
			if !utf8.ValidString(s) {
				t.Errorf("%q is no UTF-8", s)
			}
		}
		if p.Call == "" || !strings.HasPrefix(string(e.Kind), "privilege.") {
			t.Errorf("call %q is %q", p.Call, e.Kind)
		}
	})
}
