package bpf

import (
	"context"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
)

const denialLen = int(unsafe.Sizeof(guardExecDenial{}))

// read hands over what lay outside, and what was only counted of it, until ctx ends
// or the programs are closed.
func (g *tablePrograms) read(ctx context.Context, emit func([]event.Event)) error {
	d := newDecoder(NewClock(nil))
	d.window = newWindow(g.maps)
	var swept time.Time
	sweep := func(hand func(event.Event)) {
		now := time.Now()
		if now.Sub(swept) < sweepEvery {
			return
		}
		swept = now
		if err := d.window.sweep(bootNow(), DefaultWindow, false, d.clock, hand); err != nil {
			g.log.Error("what was only counted is not told", "error", err)
		}
	}
	decode := func(b []byte) (event.Event, error) {
		e, err := decodeDenial(d, b, g.kind.decode)
		if err == nil {
			d.window.remember(repeatOf(b), u64(b, unsafe.Offsetof(processHeader{}.Time)), &e)
		}
		return e, err
	}
	return g.generation.read(ctx, d, decode, sweep, emit)
}

// denial is a record of what lay outside, as far as it is no event yet.
type denial struct {
	deed       guardExecDeed
	flags      uint32
	detail     uint32
	more       uint64
	call       string
	mode       uint32 // of the file
	inode      uint64
	device     uint32
	origin     event.Origin
	fileSystem string
	path, to   string // empty for none
	parent     string // of an exec: what its parent is called
	refused    string // the error that it was refused with; empty where it was done
}

func (r *denial) has(f guardExecDenialFlag) bool { return r.flags&uint32(f) != 0 }

// cut says that the beginning of a path is missing, or not the container's root.
func (r *denial) cut() bool {
	return r.has(guardExecDenialFlagDENIAL_CUT) || r.has(guardExecDenialFlagDENIAL_OUTSIDE)
}

// decodeDenial reads one record; finish says what it is about.
func decodeDenial(d *decoder, b []byte, finish func(*decoder, *denial, *event.Event) error) (event.Event, error) {
	var e event.Event
	var at guardExecDenial
	h, err := d.head(b, &e)
	if err != nil {
		return e, err
	}
	if len(b) < denialLen {
		return e, errShort
	}
	r := denial{
		deed: guardExecDeed(h.kind), flags: h.flags,
		detail: u32(b, unsafe.Offsetof(at.Detail)), more: u64(b, unsafe.Offsetof(at.More)),
		mode: uint32(u16(b, unsafe.Offsetof(at.Mode))), inode: u64(b, unsafe.Offsetof(at.Inode)), device: u32(b, unsafe.Offsetof(at.Device)),
		origin:     originOf(processOrigin(b[unsafe.Offsetof(at.Origin)])),
		parent:     d.comm(b[unsafe.Offsetof(at.Parent):]),
		fileSystem: d.texts.valid(untilNUL(b[unsafe.Offsetof(at.FileSystem):][:len(at.FileSystem)])),
	}
	if call := u16(b, unsafe.Offsetof(at.Call)); call != 0 {
		r.call = callOfSlot(call - 1)
	}
	switch guardExecReaction(b[unsafe.Offsetof(at.Reaction)]) {
	case guardExecReactionREACTION_AUDITED:
		e.Reaction = event.ReactionAudited
	case guardExecReactionREACTION_DENIED:
		e.Reaction, r.refused = event.ReactionDenied, "EPERM"
	case guardExecReactionREACTION_KILLED:
		e.Reaction = event.ReactionKilled
	default:
		return e, fmt.Errorf("unknown reaction %d", b[unsafe.Offsetof(at.Reaction)])
	}
	names := b[denialLen:]
	n, m := int(u16(b, unsafe.Offsetof(at.PathLen))), int(u16(b, unsafe.Offsetof(at.ToLen)))
	if n+m > len(names) {
		return e, errShort
	}
	if n > 0 {
		r.path = d.joinPath(names[:n], r.cut())
	}
	if r.origin == event.OriginMemory && r.path != "" && r.path[0] != '/' {
		r.path = "/" + r.path // as the kernel and the sensors write it: /memfd:name
	}
	if m > 0 {
		r.to = d.joinPath(names[n:n+m], r.cut())
	}
	return e, finish(d, &r, &e)
}

// decodeExecDenial is for what runs and is mapped.
func decodeExecDenial(d *decoder, r *denial, e *event.Event) error {
	switch r.deed {
	case guardExecDeedDEED_PRIVILEGE:
		return decodePrivilegeDenial(d, r, e)
	case guardExecDeedDEED_EXEC, guardExecDeedDEED_SCRIPT:
		e.Kind, e.Process.Executable = event.KindExec, r.path
		e.Exec = &event.Exec{
			Args: []string{r.path}, ArgsTruncated: true, Origin: r.origin,
			PathTruncated: r.has(guardExecDenialFlagDENIAL_CUT), Deleted: r.has(guardExecDenialFlagDENIAL_DELETED),
			Entered: r.has(guardExecDenialFlagDENIAL_ENTERED), Inode: r.inode, Device: r.device, SetUID: r.mode&unix.S_ISUID != 0, SetGID: r.mode&unix.S_ISGID != 0,
		}
		if !e.Process.Parent.IsZero() {
			e.Exec.Ancestors = []event.Ancestor{{Key: e.Process.Parent, Name: r.parent}}
		}
		return nil
	case guardExecDeedDEED_MAP:
		e.Kind, e.Memory = event.KindExecMap, &event.Memory{Call: "mmap", Path: r.path, Origin: r.origin}
	case guardExecDeedDEED_PROTECT:
		e.Kind, e.Memory = event.KindExecProtect, &event.Memory{Call: "mprotect"}
	default:
		return fmt.Errorf("unknown deed %d", r.deed)
	}
	for bit, word := range []string{"read", "write", "execute"} {
		if r.detail&(1<<bit) != 0 {
			e.Memory.Protection = append(e.Memory.Protection, word)
		}
	}
	e.Memory.Error = r.refused
	return nil
}
