package hunt

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/whole"
)

const (
	threatsFile = "threats.jsonl"
	// maxWaiting and maxWaitingBytes bound the threats that wait for the server, in
	// memory and on disk: rules tell what is alike once a minute, so these are those of
	// hours of an attack, or of days without one.
	maxWaiting      = 2_000
	maxWaitingBytes = 4 << 20
	// maxReported bounds, in bytes, the threats of one report.
	maxReported = 1 << 20
	// maxJournal is the size from which on the file is written anew, without what was
	// taken.
	maxJournal = 3 * maxWaitingBytes
	// emptyJournal is the size from which on it is when nothing waits.
	emptyJournal = 256 << 10
	// firstPause and lastPause are how long threats are not offered again to a server
	// that takes none: it is an older one, or its store is away.
	firstPause = 5 * time.Second
	lastPause  = 5 * time.Minute
)

// queue are the threats that the server has not got, on disk, too. Each is written
// through to the page cache before push returns, as events are in the spool. It is safe
// for concurrent use.
//
// The file has a line of JSON for each thing that happened: a threat came, or those up
// to a number were taken. A line that can't be read is left out, as the last one when
// the agent was killed while it was written.
type queue struct {
	file string // empty: in memory alone
	log  *slog.Logger

	mu      sync.Mutex
	out     *os.File // nil while the disk can't be used
	size    int64
	trouble string
	series  string
	next    uint64 // number
	waiting []waiting
	bytes   int
	dropped uint64
	pause   time.Duration
	until   time.Time // nothing is offered before
}

type waiting struct {
	link.NumberedThreat
	line []byte // as it stands in the file, without its end
}

// entry is a line of the file.
type entry struct {
	Series string `json:"series,omitempty"` // of the first line
	Next   uint64 `json:"next,omitempty"`   // of the first line
	Taken  uint64 `json:"taken,omitempty"`
	Number uint64 `json:"number,omitempty"`
	// Threat is of Number.
	Threat *threat.Threat `json:"threat,omitempty"`
}

func openQueue(dir string, log *slog.Logger) *queue {
	q := &queue{file: path(dir, threatsFile), log: log, series: rand.Text(), next: 1}
	if q.file == "" {
		q.trouble = errNoFolder.Error()
		return q
	}
	if err := q.read(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Error("threats that were kept can't be read", "error", err)
	}
	q.rewrite()
	return q
}

// read reads what a former start left.
func (q *queue) read() error {
	f, err := os.Open(q.file)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err == nil && info.Size() > 2*maxJournal {
		err = tooLarge(threatsFile, 2*maxJournal)
	}
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 2*link.MaxThreat)
	damaged := 0
	for lines.Scan() {
		var e entry
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			damaged++
			continue
		}
		switch {
		case e.Series != "":
			q.series, q.next = e.Series, max(e.Next, 1)
		case e.Taken != 0:
			q.cut(e.Taken)
		case e.Number >= q.next && e.Threat != nil && e.Threat.Check() == nil:
			q.add(link.NumberedThreat{Number: e.Number, Threat: *e.Threat}, bytes.Clone(lines.Bytes()))
			q.next = e.Number + 1
		}
	}
	if damaged > 0 {
		q.log.Warn("threats that were kept are damaged", "lines", damaged)
	}
	return lines.Err()
}

// push adds a threat.
func (q *queue) push(t *threat.Threat) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := link.NumberedThreat{Number: q.next, Threat: *t}
	line, err := json.Marshal(entry{Number: n.Number, Threat: t})
	if err != nil || len(line) > link.MaxThreat {
		q.dropped++
		q.log.Error("a threat can't be kept", "rule", t.Rule, "bytes", len(line), "error", err)
		return
	}
	q.next++
	q.add(n, line)
	q.append(line)
}

// add has a threat wait, and makes room for it.
func (q *queue) add(n link.NumberedThreat, line []byte) {
	q.waiting = append(q.waiting, waiting{n, line})
	q.bytes += len(line)
	for len(q.waiting) > maxWaiting || q.bytes > maxWaitingBytes {
		i := q.victim()
		if q.dropped == 0 {
			q.log.Warn("threats are dropped: too many wait for the server", "rule", q.waiting[i].Rule)
		}
		q.dropped++
		q.bytes -= len(q.waiting[i].line)
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
}

// victim is the threat that is given up first: of the lowest severity, and of these a
// repeat before what is news, and then the oldest.
func (q *queue) victim() int {
	rank := func(w *waiting) int {
		r := 2 * int(w.Severity)
		if !w.Repeat {
			r++
		}
		return r
	}
	best, at := 2*int(finding.Critical)+2, 0
	for i := range q.waiting {
		if r := rank(&q.waiting[i]); r < best {
			best, at = r, i
		}
	}
	return at
}

// cut removes what has a number up to n.
func (q *queue) cut(n uint64) {
	k := 0
	for k < len(q.waiting) && q.waiting[k].Number <= n {
		q.bytes -= len(q.waiting[k].line)
		k++
	}
	q.waiting = slices.Delete(q.waiting, 0, k)
}

// append writes a line.
func (q *queue) append(line []byte) {
	if q.file == "" {
		return
	}
	if q.out == nil || q.size > maxJournal || len(q.waiting) == 0 && q.size > emptyJournal {
		q.rewrite()
		return
	}
	n, err := q.out.Write(append(slices.Clip(line), '\n'))
	q.size += int64(n)
	if err != nil {
		q.fail(err)
	}
}

// rewrite makes the file anew, with what waits.
func (q *queue) rewrite() {
	if q.out != nil {
		if err := q.out.Close(); err != nil {
			q.log.Warn("file of threats not closed", "error", err)
		}
		q.out = nil
	}
	head, err := json.Marshal(entry{Series: q.series, Next: q.first()})
	if err != nil {
		q.fail(err)
		return
	}
	b := append(head, '\n')
	for i := range q.waiting {
		b = append(append(b, q.waiting[i].line...), '\n')
	}
	if err := whole.WriteSoon(q.file, b); err != nil {
		q.fail(err)
		return
	}
	if q.out, err = os.OpenFile(q.file, os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		q.fail(err)
		return
	}
	q.size = int64(len(b))
	if q.trouble != "" {
		q.log.Info("threats are kept on disk again")
	}
	q.trouble = ""
}

// first is the number of the oldest that waits.
func (q *queue) first() uint64 {
	if len(q.waiting) > 0 {
		return q.waiting[0].Number
	}
	return q.next
}

// fail has threats wait in memory alone until the next is written.
func (q *queue) fail(err error) {
	if q.trouble == "" {
		q.log.Error("threats are not kept on disk", "error", err)
	}
	q.trouble, q.out = err.Error(), nil
}

func (q *queue) peek(now time.Time) (out []link.NumberedThreat, series string, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Before(q.until) && q.until.Sub(now) <= lastPause {
		return nil, q.series, false
	}
	size := 0
	for i := range q.waiting {
		if size += len(q.waiting[i].line); i > 0 && size > maxReported || i == link.MaxThreats {
			return out, q.series, true
		}
		out = append(out, q.waiting[i].NumberedThreat)
	}
	return out, q.series, false
}

func (q *queue) taken(number uint64, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if number == 0 {
		q.pause = min(max(2*q.pause, firstPause), lastPause)
		q.until = now.Add(q.pause)
		return
	}
	q.pause, q.until = 0, time.Time{}
	q.cut(number)
	q.note(number)
}

func (q *queue) refused(number uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	before := len(q.waiting)
	q.cut(number)
	q.dropped += uint64(before - len(q.waiting))
	q.note(number)
	q.log.Error("server refuses threats; they are lost", "count", before-len(q.waiting))
}

// note writes down that threats up to a number wait no more.
func (q *queue) note(number uint64) {
	line, err := json.Marshal(entry{Taken: number})
	if err != nil {
		q.fail(fmt.Errorf("write a number: %w", err))
		return
	}
	q.append(line)
}

func (q *queue) status(d *asset.Detection) {
	q.mu.Lock()
	defer q.mu.Unlock()
	d.Waiting, d.Dropped, d.Error = uint64(len(q.waiting)), q.dropped, q.trouble
	if len(q.waiting) > 0 {
		d.Oldest = q.waiting[0].First
	}
}

func (q *queue) close() (kept, lost int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.file != "" {
		q.rewrite()
	}
	if q.out == nil {
		return 0, len(q.waiting), nil
	}
	err = errors.Join(q.out.Sync(), q.out.Close())
	q.out = nil
	return len(q.waiting), 0, err
}
