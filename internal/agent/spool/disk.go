package spool

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
)

const (
	folder   = "spool" // in the agent's data folder
	lockFile = "lock"  // in it; locked by the agent whose spool it is
	fileMode = 0o600
	dirMode  = 0o700
)

// The two series of segments of one start. Each event is in one of them; both
// together, merged by number, are what was sensed.
const (
	low = iota
	rest
)

func seriesOf(k event.Kind) int {
	if k.Low() {
		return low
	}
	return rest
}

// disk is what is on disk, and whether it can be used.
type disk struct {
	root    *os.Root // confines every path to the spool's folder
	lock    *os.File
	usable  bool
	trouble string // why not
	retryAt time.Time

	boots   []*boot // oldest first, this start last
	number  uint64  // of the newest boot's folder
	bytes   int64
	files   int      // segments
	waiting uint64   // events that were not handed out
	garbage []string // what could not be removed yet
}

// boot is one start of the agent.
type boot struct {
	id      string
	dir     string // in the spool's folder; made with the first segment
	made    bool
	current bool
	taken   uint64 // number of the newest event handed out
	series  [2]series
}

// series is the segments of one start and one value.
type series struct {
	name    string
	boot    *boot
	segs    []*segment // oldest first
	ordinal uint64     // of the next record

	file    *os.File // of the newest segment, while it is written
	buf     []byte   // records not yet written
	pending []int    // whose they are
}

// segment is one file.
type segment struct {
	series  *series
	path    string
	key     key
	size    int64
	first   uint64 // ordinal of its first record
	left    uint64 // records that are not acknowledged
	waiting uint64 // of those, records not handed out
	begun   time.Time
	written time.Time
	open    bool // it may grow
	synced  bool
	gone    bool
}

func newBoot(id, dir string) *boot {
	b := &boot{id: id, dir: dir}
	for i, name := range [...]string{low: "low", rest: "rest"} {
		b.series[i] = series{name: name, boot: b}
	}
	return b
}

// open takes the folder into use. The error says why it cannot be.
func (d *disk) open(dir string) (err error) {
	data, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open data folder: %w", err)
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	if err := data.Mkdir(folder, dirMode); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make spool: %w", err)
	}
	root, err := data.OpenRoot(folder)
	if err != nil {
		return fmt.Errorf("open spool: %w", err)
	}
	lock, err := root.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return errors.Join(fmt.Errorf("open spool: %w", err), root.Close())
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errors.New("another agent uses this data folder")
	}
	if err == nil {
		err = root.Chmod(".", dirMode)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("lock spool: %w", err), lock.Close(), root.Close())
	}
	d.root, d.lock = root, lock
	return nil
}

// writing is events on their way to the disk.
type writing struct {
	events []event.Event
	in     []*segment // where each is; set for those that were written
	now    time.Time
	handed bool // they are handed out already
	kept   int  // how many were written
}

// write appends the events that are in memory alone.
func (s *Spool) write(w *writing) error {
	cur := s.disk.boots[len(s.disk.boots)-1]
	for i := range w.events {
		if w.in[i] != nil {
			continue
		}
		ser := &cur.series[seriesOf(w.events[i].Kind)]
		if err := s.ready(ser, w); err != nil {
			return err
		}
		at := len(ser.buf)
		ser.buf = link.AppendEvent(begin(ser.buf), &w.events[i])
		ser.newest().key.finish(ser.buf, at, ser.ordinal+uint64(len(ser.pending)), w.events[i].Seq)
		ser.pending = append(ser.pending, i)
	}
	for i := range cur.series {
		if err := s.flush(&cur.series[i], w); err != nil {
			return err
		}
	}
	return nil
}

func (s *series) newest() *segment { return s.segs[len(s.segs)-1] }

// ready makes sure that a record can be added to the series' buffer.
func (s *Spool) ready(ser *series, w *writing) error {
	if ser.file != nil {
		full := ser.newest().size+int64(len(ser.buf)) >= s.segment
		if !full && len(ser.buf) < bufferSize {
			return nil
		}
		if err := s.flush(ser, w); err != nil || !full {
			return err
		}
		s.complete(ser)
	}
	return s.begin(ser, w.now)
}

// begin makes the next segment of a series.
func (s *Spool) begin(ser *series, now time.Time) error {
	if err := s.room(); err != nil {
		return err
	}
	b := ser.boot
	if !b.made {
		if err := s.disk.root.Mkdir(b.dir, dirMode); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make spool: %w", err)
		}
		b.made = true
	}
	seg := &segment{series: ser, first: ser.ordinal, begun: now, written: now, open: true}
	if _, err := rand.Read(seg.key[:]); err != nil {
		return fmt.Errorf("make key of a segment: %w", err)
	}
	seg.path = path.Join(b.dir, segmentName(ser.name, seg.first, seg.key))
	f, err := s.disk.root.OpenFile(seg.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, fileMode)
	if err != nil {
		return fmt.Errorf("begin segment: %w", err)
	}
	ser.file, ser.segs = f, append(ser.segs, seg)
	s.disk.files++
	return nil
}

// flush writes a series' buffer. What can't be written stays in memory alone.
func (s *Spool) flush(ser *series, w *writing) error {
	if len(ser.pending) == 0 {
		return nil
	}
	seg, n := ser.newest(), uint64(len(ser.pending))
	defer func() { ser.buf, ser.pending = ser.buf[:0], ser.pending[:0] }()
	if _, err := ser.file.Write(ser.buf); err != nil {
		// What was written of it is cut off; should that fail, too, it is
		// recognised as written twice.
		return errors.Join(fmt.Errorf("write segment: %w", err), ser.file.Truncate(seg.size))
	}
	for _, i := range ser.pending {
		w.in[i] = seg
	}
	w.kept += len(ser.pending)
	ser.ordinal += n
	seg.size += int64(len(ser.buf))
	seg.written = w.now
	seg.left += n
	s.disk.bytes += int64(len(ser.buf))
	if !w.handed {
		seg.waiting += n
		s.disk.waiting += n
	}
	return nil
}

// complete ends the segment that a series writes.
func (s *Spool) complete(ser *series) {
	if ser.file == nil {
		return
	}
	seg := ser.newest()
	seg.open = false
	if err := ser.file.Close(); err != nil {
		s.log.Warn("segment of the spool not closed", "path", seg.path, "error", err)
	}
	ser.file = nil
	ser.buf, ser.pending = ser.buf[:0], ser.pending[:0]
	if seg.left == 0 {
		s.disk.remove(seg, s.log)
	}
}

// remove deletes a segment, and the folder of a former start with its last.
func (d *disk) remove(seg *segment, log *slog.Logger) {
	ser := seg.series
	ser.segs = slices.DeleteFunc(ser.segs, func(o *segment) bool { return o == seg })
	d.bytes -= seg.size
	d.files--
	d.waiting -= seg.waiting
	seg.waiting, seg.left, seg.gone = 0, 0, true
	d.delete(seg.path, log)
	if b := ser.boot; !b.current && len(b.series[low].segs)+len(b.series[rest].segs) == 0 {
		d.boots = slices.DeleteFunc(d.boots, func(o *boot) bool { return o == b })
		d.delete(b.dir, log)
	}
}

// delete removes a file or folder, later if not now: until then its events are
// sent again at a restart, which the server notices.
func (d *disk) delete(name string, log *slog.Logger) {
	const most = 1000 // more than there are segments, as a rule
	err := d.root.Remove(name)
	if err == nil || errors.Is(err, os.ErrNotExist) || len(d.garbage) >= most {
		return
	}
	if len(d.garbage) == 0 {
		log.Warn("spool cannot remove what is no longer needed", "error", err)
	}
	d.garbage = append(d.garbage, name)
}

// sweep removes what could not be removed before.
func (d *disk) sweep(log *slog.Logger) {
	again := d.garbage
	d.garbage = nil
	for _, name := range again {
		d.delete(name, log)
	}
}

// oldest returns when the oldest segment was begun.
func (d *disk) oldest() (t time.Time) {
	for _, b := range d.boots {
		for i := range b.series {
			for _, seg := range b.series[i].segs {
				if seg.waiting > 0 && (t.IsZero() || seg.begun.Before(t)) {
					t = seg.begun
				}
			}
		}
	}
	return t
}

// room says why nothing may be written for want of space.
func (s *Spool) room() error {
	free, all, err := s.opts.Free(s.disk.lock)
	if err != nil {
		return fmt.Errorf("ask for free space: %w", err)
	}
	if floor := max(freeLeast, min(all/freeShare, freeMost)); free < floor {
		return fmt.Errorf("file system has %d MiB free, and %d MiB are left to others", free>>20, floor>>20)
	}
	return nil
}

// freeSpace asks the kernel for the file system under f, as a process without
// privilege would be told: what is reserved for root is not for the spool.
func freeSpace(f *os.File) (free, all uint64, err error) {
	var st unix.Statfs_t
	for {
		err = unix.Fstatfs(int(f.Fd()), &st)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), err
}
