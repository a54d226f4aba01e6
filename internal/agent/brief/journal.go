package brief

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/whole"
)

const (
	// unsentFile has the verdicts that wait, one a line, in their order.
	unsentFile = "unsent.jsonl"
	// olderFile had all of them as one list, before.
	olderFile = "unsent.json"
)

// journal is the file of the verdicts that wait. Each is added at its end: writing
// all of them down anew for one more would cost a host whose server is away more than
// its containers do. The zero value is written anew when it is needed.
type journal struct {
	file       *os.File // nil: it must be written anew
	first, end int      // numbers of the verdict of the first line, and after the last
}

// saveUnsent writes down the verdicts that wait and are not yet. Should this process
// be killed then, they are there; only if the host ends they may be lost on their way
// to the disk. It is for the one goroutine that runs the keeper, as are those below.
func (k *Keeper) saveUnsent() {
	d := &k.disk
	k.mu.Lock()
	first := k.first
	all := k.unsent[:len(k.unsent):len(k.unsent)]
	k.mu.Unlock()
	// What waits no more is taken out in time; while a server is away it may be as much
	// as what waits.
	if anew := d.file == nil || first-d.first > maxUnsent; anew {
		if len(all) > 0 {
			k.note(k.rewriteUnsent(first, all))
		}
		return
	}
	begin := max(d.end, first)
	if begin == first+len(all) {
		return
	}
	if begin > d.end { // lost before they were written down: lines are of verdicts in a row
		k.note(k.rewriteUnsent(first, all))
		return
	}
	lines := k.encode(begin, all[begin-first:])
	_, err := d.file.Write(lines)
	if err != nil { // perhaps a part of it is there
		err = errors.Join(unwritten(d.file.Name(), err), d.close())
	} else {
		d.end = first + len(all)
	}
	k.note(err)
}

// tidyUnsent takes what was sent out of the file.
func (k *Keeper) tidyUnsent() {
	k.saveUnsent()
	d := &k.disk
	k.mu.Lock()
	first := k.first
	all := k.unsent[:len(k.unsent):len(k.unsent)]
	k.mu.Unlock()
	switch {
	case d.file == nil || first == d.first:
	case len(all) > 0:
		k.note(k.rewriteUnsent(first, all))
	default:
		err := d.file.Truncate(0)
		if err != nil {
			err = errors.Join(unwritten(d.file.Name(), err), d.close())
		} else {
			d.first, d.end = first, first
		}
		k.note(err)
	}
}

// closeUnsent writes down what waits, and closes the file.
func (k *Keeper) closeUnsent() {
	k.tidyUnsent()
	k.note(k.disk.close())
}

// close makes the file one that must be written anew.
func (d *journal) close() error {
	if d.file == nil {
		return nil
	}
	f := d.file
	*d = journal{}
	return f.Close()
}

// rewriteUnsent replaces the file by one of all that wait, of which the first has that
// number.
func (k *Keeper) rewriteUnsent(first int, all []waiting) error {
	d := &k.disk
	path := filepath.Join(k.o.Dir, unsentFile)
	err := errors.Join(d.close(), whole.WriteSoon(path, k.encode(first, all)))
	if err == nil {
		d.file, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	}
	if err != nil {
		return unwritten(path, err)
	}
	d.first, d.end = first, first+len(all)
	if err := os.Remove(filepath.Join(k.o.Dir, olderFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the list of verdicts of an older version: %w", err)
	}
	return nil
}

// encode returns lines of verdicts, of which the first has that number, and notes how
// long each is. One that no server would take is told to nobody, and has an empty line.
func (k *Keeper) encode(first int, all []waiting) []byte {
	var lines bytes.Buffer
	sizes := make([]int, len(all))
	for i := range all {
		b, err := json.Marshal(&all[i].ReportedVerdict)
		sizes[i] = len(b)
		if err != nil || len(b) > maxVerdict {
			sizes[i], b = untellable, nil
			if all[i].size != untellable {
				k.o.Log.Error("a verdict is lost: it is too large to be told", "request_id", all[i].Request.ID, "bytes", len(b), "error", err)
			}
		}
		lines.Write(b)
		lines.WriteByte('\n')
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, size := range sizes {
		at := first + i - k.first
		if at < 0 {
			continue // lost meanwhile
		}
		if one := &k.unsent[at]; one.size != size {
			if one.size = size; size == untellable {
				k.lost++
			}
		}
	}
	return lines.Bytes()
}

// readUnsent takes up the verdicts that were not sent. What can't be read of them is
// left out: a process that was killed may have written half of a line.
func (k *Keeper) readUnsent() {
	take := func(name string, parse func([]byte) (int, error)) {
		path := filepath.Join(k.o.Dir, name)
		b, err := readBounded(path)
		damaged := 0
		if err == nil {
			damaged, err = parse(b)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) || damaged > 0 {
			k.o.Log.Error("verdicts that were not sent can't be read", "file", path, "lines", damaged, "error", err)
		}
	}
	add := func(v link.ReportedVerdict) { k.unsent = append(k.unsent, waiting{ReportedVerdict: v}) }
	take(olderFile, func(b []byte) (int, error) {
		var all []link.ReportedVerdict
		if err := json.Unmarshal(b, &all); err != nil {
			return 0, fmt.Errorf("decode: %w", err)
		}
		for _, v := range all {
			add(v)
		}
		return 0, nil
	})
	take(unsentFile, func(b []byte) (damaged int, err error) {
		for line := range bytes.SplitSeq(b, []byte{'\n'}) {
			if len(line) == 0 {
				continue
			}
			var v link.ReportedVerdict
			if json.Unmarshal(line, &v) != nil {
				damaged++
				continue
			}
			add(v)
		}
		return damaged, nil
	})
	k.drop(len(k.unsent) - maxUnsent)
}
