package bpf

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/castellan-security/castellan/internal/event"
)

// How long a process may live before its beginning is told, though it is not
// news: from then on it belongs into a tree of processes. Looked at each tick.
const (
	// quietFork is for one that was forked and executes nothing. Nearly all that
	// will execute something have done so by then.
	quietFork = 200 * time.Millisecond
	// quietExec is for one whose exec was like another.
	quietExec = time.Second
	// waitForLike is how long the record is waited for that tells what an exec is like:
	// it lies in the ring buffer while the reader is behind, where what the programs
	// only noted is ahead of it. What has not come by then was lost.
	waitForLike = 30 * time.Second
)

// repeatLen is what the kernel sends of struct beginning: UNTOLD_RECORD.
const repeatLen = int(unsafe.Offsetof(processBeginning{}.Like))

// processKey is struct process_key of container.bpf.h.
type processKey struct {
	Start    uint64
	Tgid     uint32
	Reserved uint32
}

// beginning is struct beginning of untold.bpf.h, as bytes.
type beginning [unsafe.Sizeof(processBeginning{})]byte

func (b *beginning) kind() processKind {
	return processKind(b[unsafe.Offsetof(processHeader{}.Kind)])
}

func (b *beginning) time() uint64 { return u64(b[:], unsafe.Offsetof(processHeader{}.Time)) }

func (b *beginning) parent() processKey {
	return processKey{
		Start: u64(b[:], unsafe.Offsetof(processHeader{}.ParentStart)),
		Tgid:  u32(b[:], unsafe.Offsetof(processHeader{}.ParentTgid)),
	}
}

// isDue reports whether the beginning is to be told now.
func (b *beginning) isDue(now uint64) bool {
	quiet := quietExec
	if b.kind() == processKindKIND_FORK {
		quiet = quietFork
	}
	return now-min(now, b.time()) >= uint64(quiet)
}

// id is of the repeats that its exec is one of.
func (b *beginning) id() uint64 { return u64(b[:], unsafe.Offsetof(processBeginning{}.Id)) }

// waits reports whether what an exec is like may still arrive.
func (b *beginning) waits(w *window, now uint64) bool {
	return b.kind() == processKindKIND_REPEAT && w.find(b.id()) == nil && now-min(now, b.time()) < uint64(waitForLike)
}

// tellUntold hands over the beginnings of processes that have lived for a
// while, and of their parents before them; with last, those of all. Who waits, or has
// a parent that does, is told later.
func tellUntold(maps map[string]*ebpf.Map, d *decoder, last bool, hand func(event.Event)) error {
	noted, err := readUntold(maps[untoldMap])
	if err != nil {
		return err
	}
	now := bootNow()
	due := map[processKey]uint64{}
	for key, b := range noted {
		if !last && (!b.isDue(now) || waitsAbove(noted, b, d.window, now)) {
			continue
		}
		for b != nil {
			if _, ok := due[key]; ok {
				break
			}
			due[key] = b.time()
			key = b.parent()
			b = noted[key]
		}
	}
	keys := make([]processKey, 0, len(due))
	for key := range due {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b processKey) int {
		return cmp.Or(cmp.Compare(due[a], due[b]), cmp.Compare(a.Start, b.Start), cmp.Compare(a.Tgid, b.Tgid))
	})
	var errs []error
	for _, key := range keys {
		e, err := takeUntold(maps[untoldMap], key, d)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if e != nil {
			hand(*e)
		}
	}
	return errors.Join(errs...)
}

// waitsAbove reports whether a beginning or one of those above it waits for what it is
// like.
func waitsAbove(noted map[processKey]*beginning, b *beginning, w *window, now uint64) bool {
	for ; b != nil; b = noted[b.parent()] {
		if b.waits(w, now) {
			return true
		}
	}
	return false
}

// readUntold returns what is in the map.
func readUntold(m *ebpf.Map) (map[processKey]*beginning, error) {
	var cursor ebpf.MapBatchCursor
	noted := map[processKey]*beginning{}
	keys, values := make([]processKey, sweepBatch), make([]beginning, sweepBatch)
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, fmt.Errorf("read what was only noted: %w", err)
		}
		for i, key := range keys[:n] {
			b := values[i]
			noted[key] = &b
		}
		if err != nil {
			return noted, nil
		}
	}
}

// takeUntold removes a beginning and returns its event; nil if the kernel was
// faster.
func takeUntold(m *ebpf.Map, key processKey, d *decoder) (*event.Event, error) {
	var b beginning
	err := m.LookupAndDelete(&key, &b)
	if errors.Is(err, ebpf.ErrNotSupported) {
		// Before 5.14. In between a fork could become an exec, which is then
		// known by its count alone.
		if err = m.Lookup(&key, &b); err == nil {
			err = m.Delete(&key)
		}
	}
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("take what was only noted: %w", err)
	}
	var e event.Event
	if err := decodeProcess(d, b[:repeatLen], &e); err != nil {
		return nil, err
	}
	return &e, nil
}

// forgetUntold empties the map: what one load of the process sensor noted says
// nothing to the next.
func forgetUntold(maps map[string]*ebpf.Map) error {
	noted, err := readUntold(maps[untoldMap])
	if err != nil {
		return err
	}
	for key := range noted {
		if err := maps[untoldMap].Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget what was only noted: %w", err)
		}
	}
	return nil
}

// decodeRepeat reads the beginning of a process whose exec is like one that was
// told: it is that one's event, but for what is the process's own. Where what it is like
// was lost, it counts as lost, and the process is told as one that there is.
func decodeRepeat(d *decoder, record []byte, e *event.Event) error {
	if len(record) < repeatLen {
		return errShort
	}
	first := d.window.find(u64(record, unsafe.Offsetof(processBeginning{}.Id)))
	if first == nil || first.kind != event.KindExec {
		e.Kind = event.KindFork
		if d.window != nil {
			d.window.lost++
		}
		return nil
	}
	own := *e
	*e = first.event()
	e.Kind, e.Time = event.KindExec, own.Time
	e.Process.Key, e.Process.Parent = own.Process.Key, own.Process.Parent
	e.Process.ContainerPID = own.Process.ContainerPID
	return nil
}
