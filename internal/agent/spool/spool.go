// Package spool holds what an agent has sensed until its server has it: on
// disk, so that it survives the agent's death, and the newest of it in memory,
// so that as a rule nothing is read back.
//
// Every event is numbered and written through to the page cache before Push
// returns: a SIGKILL of the agent costs nothing of that, and of the batch that was
// being pushed some or all of what a write had not reached. A power cut or a crash of the
// kernel costs what the kernel had not written out, as a rule the last 30
// seconds, of a segment that was completed the last few; only segments that are
// complete, and all of them at Close, are forced to the disk, because a sync
// per batch would cost more than all the sensing.
//
// What a former start of the agent left is handed out first, start by start,
// each in order of its numbers. Within the limits of size and age nothing is
// lost; beyond them the oldest events of low value go first, then the oldest
// others, a segment at a time, and every loss is counted with its reason. When
// the disk can't be used, events are held in memory, within a limit, until it
// can.
//
// It is not for how events travel, nor for what else an agent reports.
package spool

import (
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// Defaults of Options.
const (
	// DefaultSize bounds the spool on disk: at 300 bytes an event, 850,000
	// events.
	DefaultSize = 256 << 20
	// DefaultAge is how long events wait for a server: a long weekend and the
	// days to repair it.
	DefaultAge = 7 * 24 * time.Hour
	// DefaultFiles bounds the segments, of which each start has one or two of its
	// own: an agent that starts again and again must not fill a file system with
	// small files.
	DefaultFiles = 2_000
	// DefaultMemory bounds, in bytes, the events held while the disk can't be
	// used. With the agent's own needs it keeps the whole process below 60 MiB.
	DefaultMemory = 16 << 20
	// DefaultCache bounds the memory for the newest events that are on disk, too:
	// what a busy host senses in a second, ten times what waits for a report.
	DefaultCache = 4 << 20
)

// Limits that nobody sets.
const (
	// reportSize bounds what is handed out at once, far below what a link
	// carries, so that long argument lists never make a report too large.
	reportSize = 4 << 20
	// segmentSize is what is dropped or removed at once; segmentShare keeps it a
	// small part of a small spool.
	segmentSize  = 4 << 20
	segmentShare = 16
	// bufferSize is how much is written at once: a batch as a rule.
	bufferSize = 256 << 10
	// retryEvery is how often a disk that can't be used is tried again.
	retryEvery = 10 * time.Second
	// syncAfter lets a completed segment be acknowledged before it is forced to
	// the disk: in the steady state none ever is.
	syncAfter = time.Second
	// The file system must keep a share of 1/freeShare free, but never less than
	// freeLeast, and more than freeMost is never asked for: a host needs its
	// disk for other things than this.
	freeShare = 20
	freeLeast = 64 << 20
	freeMost  = 1 << 30
)

// Where events get lost; the names of Losses.
const (
	LostSize    = "spool: too large"     // dropped to keep the limit of size
	LostAge     = "spool: too old"       // dropped to keep the limit of age
	LostDamaged = "spool: damaged"       // written, and not to be read back
	LostDisk    = "spool: disk unusable" // no room in memory while nothing could be written
	LostRefused = "refused by server"    // single events that the server will never take
)

// Options of a spool. The zero value holds events in memory only.
type Options struct {
	// Dir is the data folder of the agent, which exists; the spool is a folder
	// in it. Empty: no disk is used.
	Dir    string
	Size   int64         // bytes on disk; 0 is DefaultSize
	Age    time.Duration // 0 is DefaultAge
	Files  int           // segments on disk; 0 is DefaultFiles
	Memory int           // bytes held while the disk can't be used; 0 is DefaultMemory
	Cache  int           // bytes of the newest events, so that they need not be read back; 0 is DefaultCache
	// Free tells how many bytes of the file system under f are free, and how
	// many it has; nil asks the kernel.
	Free func(f *os.File) (free, all uint64, err error)
}

// Spool is a queue of events. It is safe for concurrent use, but Peek, Ack,
// Refuse, Tend and Close are for one goroutine.
type Spool struct {
	opts    Options
	segment int64 // size at which a segment is complete
	log     *slog.Logger
	cursors [2]cursor // of the taking goroutine

	mu   sync.Mutex
	boot string
	seq  uint64 // of the last event offered
	hand batch  // taken and not acknowledged
	mem  memory
	disk disk
	lost map[string]uint64
}

// batch is events with the segments that they are in; nil for those that are
// in memory only.
type batch struct {
	boot   string
	events []event.Event
	in     []*segment
}

// New returns a spool that holds events in memory until Open.
func New(o Options, log *slog.Logger) *Spool {
	if o.Size <= 0 {
		o.Size = DefaultSize
	}
	if o.Age <= 0 {
		o.Age = DefaultAge
	}
	if o.Files <= 0 {
		o.Files = DefaultFiles
	}
	if o.Memory <= 0 {
		o.Memory = DefaultMemory
	}
	if o.Cache <= 0 {
		o.Cache = DefaultCache
	}
	if o.Free == nil {
		o.Free = freeSpace
	}
	return &Spool{opts: o, log: log, segment: min(segmentSize, o.Size/segmentShare), lost: map[string]uint64{}}
}

// Open begins a start of the agent and finds what former ones left. It does
// not fail: when the disk can't be used, Status says why, and Tend tries again.
func (s *Spool) Open(boot string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.boot = boot
	if s.opts.Dir == "" {
		s.disk.trouble = "no data folder"
		return
	}
	s.retry(time.Now())
}

// Push numbers the events of this start and holds them. When it returns they
// are held or counted as lost; it does not wait for the server, and for the
// disk only when the kernel makes writers wait.
func (s *Spool) Push(events []event.Event) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range events {
		s.seq++
		events[i].Seq, events[i].Boot, events[i].Version = s.seq, s.boot, event.Version
	}
	from := len(s.mem.events)
	for i := range events {
		if size(&events[i]) > maxEvent {
			s.lost[LostSize]++
			continue
		}
		s.mem.add(&events[i])
	}
	if s.disk.usable {
		if err := s.keep(from, now); err != nil {
			s.fail(err, now)
		}
	}
	s.trim()
	s.shrink()
}

// keep writes the events in memory from an index on.
func (s *Spool) keep(from int, now time.Time) error {
	w := writing{events: s.mem.events[from:], in: s.mem.in[from:], now: now}
	err := s.write(&w)
	s.mem.only -= w.kept
	return err
}

// trim keeps the limits of memory: what is on disk is forgotten, oldest first;
// what is not is dropped newest first, because the older ones tell how it began.
func (s *Spool) trim() {
	for s.mem.bytes > s.opts.Cache && s.mem.len() > 0 && s.mem.in[s.mem.head] != nil {
		s.mem.forget(1)
		s.mem.evicted++
	}
	for s.mem.bytes > s.opts.Memory {
		if !s.mem.dropNewest() {
			return
		}
		s.lost[LostDisk]++
	}
}

// Batch is events of one start, in order.
type Batch struct {
	Boot   string
	Events []event.Event
	More   bool // others wait
}

// Peek returns the oldest events without removing them, n at most. It returns
// the same ones until Ack or Refuse.
func (s *Spool) Peek(n int) Batch {
	s.mu.Lock()
	empty := len(s.hand.events) == 0
	s.mu.Unlock()
	if empty {
		s.take(n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := min(n, len(s.hand.events))
	return Batch{Boot: s.hand.boot, Events: s.hand.events[:k:k], More: k < len(s.hand.events) || s.waiting() > 0}
}

// Ack removes the n oldest of what Peek returned: the server has them.
func (s *Spool) Ack(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(n)
}

// Refuse removes the n oldest of what Peek returned and counts them as lost:
// the server will never take them.
func (s *Spool) Refuse(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost[LostRefused] += uint64(n)
	s.remove(n)
}

func (s *Spool) remove(n int) {
	for _, seg := range s.hand.in[:n] {
		if seg == nil || seg.gone {
			continue
		}
		if seg.left--; seg.left == 0 && !seg.open {
			s.disk.remove(seg, s.log)
		}
	}
	s.hand.events, s.hand.in = s.hand.events[n:], s.hand.in[n:]
}

// waiting returns how many events are held and not handed out.
func (s *Spool) waiting() uint64 { return s.disk.waiting + uint64(s.mem.only) }

// Len returns how many events are held.
func (s *Spool) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.waiting()) + len(s.hand.events)
}

// Offered returns how many events of this start were pushed.
func (s *Spool) Offered() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seq
}

// Status returns what is held and how well.
func (s *Spool) Status() asset.Spool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := asset.Spool{
		Events: s.waiting() + uint64(len(s.hand.events)),
		Bytes:  uint64(s.disk.bytes),
		Limit:  uint64(s.opts.Size),
		Error:  s.disk.trouble,
	}
	switch {
	case len(s.hand.events) > 0:
		st.Oldest = s.hand.events[0].Time
	case s.disk.waiting > uint64(s.mem.len()-s.mem.only):
		st.Oldest = s.disk.oldest()
	case s.mem.len() > 0:
		st.Oldest = s.mem.events[s.mem.head].Time
	}
	return st
}

// Losses returns what was lost since the agent started, by reason; reasons
// without a loss are left out.
func (s *Spool) Losses() []asset.Loss {
	s.mu.Lock()
	defer s.mu.Unlock()
	var losses []asset.Loss
	for _, where := range []string{LostSize, LostAge, LostDamaged, LostDisk, LostRefused} {
		if n := s.lost[where]; n > 0 {
			losses = append(losses, asset.Loss{Where: where, Count: n})
		}
	}
	return losses
}
