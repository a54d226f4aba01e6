package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/pace"
)

// What finding out the contents of programs may cost. What is not found out within
// that is not known, and said so by saying nothing.
const (
	// digestWait is how long an exec waits for the digest of a file that was not read
	// before: much less than the second in which people are promised to see it. With
	// it waits what came after.
	digestWait = 150 * time.Millisecond
	// digestReaders read files at once, so that one large file does not hold up all.
	digestReaders = 2
	// maxDigestFile bounds a file: programs that are linked into one file are some
	// 100 MiB.
	maxDigestFile = 256 << 20
	// digestRate is how many bytes are read and hashed a second, some 5 % of a
	// processor, digestBurst how many at once.
	digestRate  = 32 << 20
	digestBurst = 64 << 20
	// digestPatience is how long a file may take to be read before its reader turns to
	// others: longer than the largest file takes two of them.
	digestPatience = time.Minute
	// maxStuck is how many files of a container may be left like that. Who serves a file
	// system to itself (FUSE) need never answer, and nobody can be called back from there.
	maxStuck = 2
	// maxDigestJobs bounds the files that wait to be read.
	maxDigestJobs = 256
	// maxDigests bounds what is remembered, of files and of programs in containers, at
	// some 250 bytes each.
	maxDigests = 4_096
	// maxDelayed bounds the events that wait with an exec; beyond nothing waits.
	maxDelayed = 20_000
)

// digestKey names a program of the image of a container, of which the kernel says that
// its file did not change since it was made: its content never changes. Programs that
// did not come with the image have no key.
type digestKey struct {
	workload string
	device   uint32
	inode    uint64
	layer    event.Layer
	path     string
}

// digests fills in what the files of executed programs hold. Events go through it in
// their order: most at once, an exec of a file that has to be read first, and what
// comes after it, a moment later.
type digests struct {
	reader ProgramReader // nil: nothing is filled in
	beside func(workload string, k event.Key) event.Key
	push   func([]event.Event)
	jobs   chan *digestJob
	pace   *budget

	mu       sync.Mutex
	delayed  []delayed // in order; the first may be being pushed
	events   int       // of delayed
	news     chan struct{}
	programs forgetful[digestKey]
	files    forgetful[event.FileIdentity]
	reading  map[digestKey]*digestJob
	hashing  map[event.FileIdentity]chan struct{} // closed when the reading has ended
	stuck    map[string]int                       // by workload: files whose reading was left to itself
}

// delayed are events of which some wait for a digest.
type delayed struct {
	events []event.Event
	execs  []waitingExec
	until  time.Time
}

// waitingExec is an exec, by its place, that waits for a digest.
type waitingExec struct {
	at  int
	job *digestJob
}

// digestJob is a file that is to be read. digest is set before done is closed, and
// stays empty if it can't be known.
type digestJob struct {
	event  event.Event // the first exec of it, with an Exec of its own
	key    digestKey
	keyed  bool
	digest string
	done   chan struct{}
}

func newDigests(r ProgramReader, beside func(string, event.Key) event.Key, push func([]event.Event)) *digests {
	return &digests{
		reader: r, beside: beside, push: push, jobs: make(chan *digestJob, maxDigestJobs), pace: newBudget(digestRate, digestBurst),
		news: make(chan struct{}, 1), programs: forgetful[digestKey]{}, files: forgetful[event.FileIdentity]{}, reading: map[digestKey]*digestJob{},
		hashing: map[event.FileIdentity]chan struct{}{}, stuck: map[string]int{},
	}
}

// pass pushes events, filled in, now or as soon as those before them are. It never
// waits.
func (d *digests) pass(events []event.Event) {
	if d.reader == nil {
		d.push(events)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	execs := d.fill(events)
	if len(execs) == 0 && len(d.delayed) == 0 {
		d.push(events)
		return
	}
	d.delayed = append(d.delayed, delayed{events, execs, time.Now().Add(digestWait)})
	d.events += len(events)
	select {
	case d.news <- struct{}{}:
	default:
	}
}

// fill fills in what is known, and has the rest read; d.mu is held.
func (d *digests) fill(events []event.Event) (wait []waitingExec) {
	for i := range events {
		e := &events[i]
		if e.Kind != event.KindExec || e.Exec == nil || e.WorkloadID == "" || e.Exec.Digest != "" || e.Exec.Inode == 0 || e.Exec.Deleted && e.Exec.Origin == event.OriginImage {
			continue
		}
		key, keyed := digestKeyOf(e)
		if keyed {
			if known, ok := d.programs[key]; ok {
				e.Exec.Digest = known
				continue
			}
		}
		if e.Count > 0 || e.Reaction != event.ReactionNone {
			continue // its process is long gone, or never ran it
		}
		if job := d.job(e, key, keyed); job != nil {
			wait = append(wait, waitingExec{i, job})
		}
	}
	return wait
}

// job returns the reading of the file of an exec; nil if too many wait. d.mu is held.
func (d *digests) job(e *event.Event, key digestKey, keyed bool) *digestJob {
	if keyed && d.reading[key] != nil {
		return d.reading[key]
	}
	job := &digestJob{event: e.Clone(), key: key, keyed: keyed, done: make(chan struct{})}
	select {
	case d.jobs <- job:
	default:
		return nil
	}
	if keyed {
		d.reading[key] = job
	}
	return job
}

// digestKeyOf returns the key of the program of an exec, and false for one that may change.
func digestKeyOf(e *event.Event) (digestKey, bool) {
	k := digestKey{e.WorkloadID, e.Exec.Device, e.Exec.Inode, e.Exec.Layer, e.Process.Executable}
	return k, e.Exec.Origin == event.OriginImage && !e.Exec.PathTruncated
}

// run reads files and pushes what waited until ctx ends; flush is to follow it.
func (d *digests) run(ctx context.Context) {
	var readers sync.WaitGroup
	defer readers.Wait()
	for range digestReaders {
		readers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case job := <-d.jobs:
					d.attend(ctx, job)
				}
			}
		})
	}
	for {
		if first, ok := d.first(); ok {
			if !await(ctx, first) {
				return
			}
			d.release()
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-d.news:
		}
	}
}

// first returns what waits longest; it waits no longer where too much waits.
func (d *digests) first() (delayed, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.delayed) == 0 {
		return delayed{}, false
	}
	f := d.delayed[0]
	if d.events > maxDelayed {
		f.until = time.Time{}
	}
	return f, true
}

// await waits for the digests of some events, as long as they may wait; false when
// ctx ends.
func await(ctx context.Context, w delayed) bool {
	t := time.NewTimer(time.Until(w.until))
	defer t.Stop()
	for _, x := range w.execs {
		select {
		case <-x.job.done:
		case <-t.C:
			return ctx.Err() == nil
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// release pushes what waited longest.
func (d *digests) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.delayed[0]
	for _, x := range f.execs {
		select {
		case <-x.job.done:
			f.events[x.at].Exec.Digest = x.job.digest
		default: // it is told without
		}
	}
	d.push(f.events)
	d.delayed[0] = delayed{}
	d.delayed = d.delayed[1:]
	d.events -= len(f.events)
	if len(d.delayed) == 0 {
		d.delayed = nil
	}
}

// flush pushes what still waits: nobody reads any more.
func (d *digests) flush() {
	for {
		if _, ok := d.first(); !ok {
			return
		}
		d.release()
	}
}

// attend reads a file, and leaves it to itself when that takes too long or ctx ends: it
// waits for no file that nobody gives out.
func (d *digests) attend(ctx context.Context, job *digestJob) {
	workload := job.event.WorkloadID
	d.mu.Lock()
	unread := d.stuck[workload] >= maxStuck
	d.mu.Unlock()
	if unread {
		d.end(job, "", false)
		return
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		d.read(ctx, job)
	}()
	patience := time.NewTimer(digestPatience)
	defer patience.Stop()
	select {
	case <-read:
		return
	case <-ctx.Done():
		return
	case <-patience.C:
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stuck[workload]++
	go func() {
		<-read
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.stuck[workload]--; d.stuck[workload] == 0 {
			delete(d.stuck, workload)
		}
	}()
}

// read finds out what a file holds.
func (d *digests) read(ctx context.Context, job *digestJob) {
	e := &job.event
	var digest string
	err := d.reader.ReadProgram(e, d.beside(e.WorkloadID, e.Process.Key), func(id event.FileIdentity, r io.Reader) (err error) {
		if digest, err = d.claim(ctx, id); digest != "" || err != nil {
			return err
		}
		defer d.unclaim(id)
		digest, err = d.hash(ctx, id, r)
		return err
	})
	if err != nil {
		digest = ""
	}
	// That it is too large, or can't be told from others here, is so each time; that
	// its process was gone is not.
	d.end(job, digest, err == nil || errors.Is(err, errTooLarge) || fault.Is(err, fault.Unsupported))
}

// end says what a file holds, and remembers that if it lasts.
func (d *digests) end(job *digestJob, digest string, lasting bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	job.digest = digest
	close(job.done)
	if job.keyed {
		delete(d.reading, job.key)
		if lasting {
			d.programs.put(job.key, digest)
		}
	}
}

// errTooLarge is of a file that is not read for its size.
var errTooLarge = errors.New("the file is larger than is read")

// claim returns what is known of a file, once nobody else reads it. It returns nothing
// for one that the caller is to read, and unclaim then: two execs of one program come
// together often, and reading it twice would cost twice of what all may read.
func (d *digests) claim(ctx context.Context, id event.FileIdentity) (string, error) {
	if id.Size > maxDigestFile {
		return "", errTooLarge
	}
	for {
		d.mu.Lock()
		digest, ended := d.files[id], d.hashing[id]
		if digest == "" && ended == nil {
			d.hashing[id] = make(chan struct{})
		}
		d.mu.Unlock()
		if ended == nil {
			return digest, nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// unclaim ends the reading of a file.
func (d *digests) unclaim(id event.FileIdentity) {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.hashing[id])
	delete(d.hashing, id)
}

// hash reads a file at the pace that is set for all, and remembers its digest.
func (d *digests) hash(ctx context.Context, id event.FileIdentity, r io.Reader) (string, error) {
	h := sha256.New()
	buf := make([]byte, 128<<10)
	var size int64
	for {
		n, err := r.Read(buf)
		h.Write(buf[:n])
		size += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", fmt.Errorf("read a program: %w", err)
		}
		if size > id.Size {
			return "", errTooLarge // it grows
		}
		if err := d.pace.spend(ctx, n); err != nil {
			return "", err
		}
	}
	if size != id.Size {
		return "", fmt.Errorf("a program of %d bytes has %d by now", id.Size, size)
	}
	digest := "sha256:" + hex.EncodeToString(h.Sum(nil))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files.put(id, digest)
	return digest, nil
}

// forgetful remembers maxDigests digests; of more, some are forgotten, whichever.
type forgetful[K comparable] map[K]string

func (f forgetful[K]) put(k K, digest string) {
	if len(f) >= maxDigests {
		const some = maxDigests / 8
		n := 0
		for old := range f {
			delete(f, old)
			if n++; n == some {
				break
			}
		}
	}
	f[k] = digest
}

// budget is how much may be done a second. It is safe for concurrent use.
type budget struct {
	rate, most float64

	mu   sync.Mutex
	left float64
	at   time.Time
}

func newBudget(rate, burst float64) *budget {
	return &budget{rate: rate, most: burst, left: burst, at: time.Now()}
}

// spend takes n from what is left, and waits until that is no debt.
func (b *budget) spend(ctx context.Context, n int) error {
	b.mu.Lock()
	now := time.Now()
	b.left = min(b.left+now.Sub(b.at).Seconds()*b.rate, b.most) - float64(n)
	b.at = now
	debt := -b.left
	b.mu.Unlock()
	if debt <= 0 {
		return nil
	}
	if !pace.Wait(ctx, time.Duration(debt/b.rate*float64(time.Second))) {
		return ctx.Err()
	}
	return nil
}
