package bpf

import (
	"context"
	"fmt"
	"time"
	"unsafe"

	"github.com/castellan-security/castellan/internal/event"
)

const denialLen = int(unsafe.Sizeof(guardExecDenial{}))

// read hands over what lay outside, and what was only counted of it, until ctx ends
// or the programs are closed.
func (g *execPrograms) read(ctx context.Context, emit func([]event.Event)) error {
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
		e, err := decodeDenial(d, b)
		if err == nil {
			d.window.remember(repeatOf(b), u64(b, unsafe.Offsetof(processHeader{}.Time)), &e)
		}
		return e, err
	}
	return g.generation.read(ctx, d, decode, sweep, emit)
}

// decodeDenial reads one record.
func decodeDenial(d *decoder, b []byte) (event.Event, error) {
	var e event.Event
	var at guardExecDenial
	h, err := d.head(b, &e)
	if err != nil {
		return e, err
	}
	if len(b) < denialLen {
		return e, errShort
	}
	switch guardExecReaction(b[unsafe.Offsetof(at.Reaction)]) {
	case guardExecReactionREACTION_AUDITED:
		e.Reaction = event.ReactionAudited
	case guardExecReactionREACTION_DENIED:
		e.Reaction = event.ReactionDenied
	case guardExecReactionREACTION_KILLED:
		e.Reaction = event.ReactionKilled
	default:
		return e, fmt.Errorf("unknown reaction %d", b[unsafe.Offsetof(at.Reaction)])
	}
	names := b[denialLen:]
	n := int(u16(b, unsafe.Offsetof(at.PathLen)))
	if n > len(names) {
		return e, errShort
	}
	has := func(f guardExecDenialFlag) bool { return h.flags&uint32(f) != 0 }
	origin := originOf(processOrigin(b[unsafe.Offsetof(at.Origin)]))
	path := ""
	if n > 0 {
		path = d.joinPath(names[:n], has(guardExecDenialFlagDENIAL_CUT|guardExecDenialFlagDENIAL_OUTSIDE))
	}
	detail := u32(b, unsafe.Offsetof(at.Detail))
	switch guardExecDeed(h.kind) {
	case guardExecDeedDEED_EXEC, guardExecDeedDEED_SCRIPT:
		e.Kind, e.Process.Executable = event.KindExec, path
		e.Exec = &event.Exec{
			Args: []string{path}, ArgsTruncated: true, Origin: origin,
			PathTruncated: has(guardExecDenialFlagDENIAL_CUT), Deleted: has(guardExecDenialFlagDENIAL_DELETED),
			Inode: u64(b, unsafe.Offsetof(at.Inode)), Device: u32(b, unsafe.Offsetof(at.Device)),
			SetUID: u16(b, unsafe.Offsetof(at.Mode))&0o4000 != 0, SetGID: u16(b, unsafe.Offsetof(at.Mode))&0o2000 != 0,
		}
		return e, nil
	case guardExecDeedDEED_MAP:
		e.Kind, e.Memory = event.KindExecMap, &event.Memory{Call: "mmap", Path: path, Origin: origin}
	case guardExecDeedDEED_PROTECT:
		e.Kind, e.Memory = event.KindExecProtect, &event.Memory{Call: "mprotect"}
	default:
		return e, fmt.Errorf("unknown deed %d", h.kind)
	}
	for bit, word := range []string{"read", "write", "execute"} {
		if detail&(1<<bit) != 0 {
			e.Memory.Protection = append(e.Memory.Protection, word)
		}
	}
	if e.Reaction == event.ReactionDenied {
		e.Memory.Error = "EPERM"
	}
	return e, nil
}
