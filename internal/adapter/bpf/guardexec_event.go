package bpf

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/castellan-security/castellan/internal/event"
)

const denialLen = int(unsafe.Sizeof(guardExecDenial{}))

// read hands over what lay outside, and what was only counted of it, until ctx ends
// or the programs are closed.
func (g *execPrograms) read(ctx context.Context, emit func([]event.Event)) error {
	stop := context.AfterFunc(ctx, func() {
		if err := g.reader.Flush(); err != nil {
			g.log.DebugContext(ctx, "ring buffer closed before it was flushed", "error", err)
		}
	})
	defer stop()
	d := newDecoder(NewClock(nil))
	d.window = newWindow(g.maps)
	var record ringbuf.Record
	var batch []event.Event
	var swept time.Time
	flush := func() {
		if len(batch) > 0 {
			emit(batch)
			batch = nil
		}
	}
	for {
		g.reader.SetDeadline(time.Now().Add(tickEvery))
		err := g.reader.ReadInto(&record)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			d.clock.Measure()
		case err != nil:
			flush()
			return ended(ctx, err)
		default:
			e, err := decodeDenial(d, record.RawSample)
			if err != nil {
				g.log.Error("what was refused can't be decoded", "error", err)
				continue
			}
			d.window.remember(repeatOf(record.RawSample), u64(record.RawSample, unsafe.Offsetof(processHeader{}.Time)), &e)
			if batch = append(batch, e); record.Remaining > 0 && len(batch) < maxBatch {
				continue
			}
		}
		if now := time.Now(); now.Sub(swept) >= sweepEvery {
			swept = now
			if err := d.window.sweep(bootNow(), DefaultWindow, false, d.clock, func(e event.Event) { batch = append(batch, e) }); err != nil {
				g.log.Error("what was only counted is not told", "error", err)
			}
		}
		flush()
	}
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
