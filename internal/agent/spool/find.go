package spool

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// A start's folder is NUMBER-BOOT, a segment in it SERIES-ORDINAL-KEY.seg. What
// is called otherwise is not the spool's and is left alone.
var (
	bootForm    = regexp.MustCompile(`^([0-9]{8,20})-([A-Za-z0-9_-]{8,64})$`)
	segmentForm = regexp.MustCompile(`^(low|rest)-([0-9]{20})-([0-9a-f]{16})\.seg$`)
)

func bootName(number uint64, id string) string { return fmt.Sprintf("%08d-%s", number, id) }

func segmentName(series string, first uint64, k key) string {
	return fmt.Sprintf("%s-%020d-%s.seg", series, first, k)
}

// find takes in what former starts left, and begins this one. Whatever the
// error, this start can be used.
func (s *Spool) find(now time.Time) error {
	d := &s.disk
	err := s.findFormer(now)
	d.number++
	cur := newBoot(s.boot, bootName(d.number, s.boot))
	cur.current = true
	d.boots = append(d.boots, cur)
	return err
}

func (s *Spool) findFormer(now time.Time) error {
	d := &s.disk
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return fmt.Errorf("list spool: %w", err)
	}
	numbers := map[*boot]uint64{}
	for _, e := range entries {
		m := bootForm.FindStringSubmatch(e.Name())
		if m == nil || !e.IsDir() {
			continue
		}
		n, err := strconv.ParseUint(m[1], 10, 63)
		if err != nil {
			continue
		}
		d.number = max(d.number, n)
		b := newBoot(m[2], e.Name())
		b.made = true
		numbers[b] = n
		d.boots = append(d.boots, b)
	}
	slices.SortStableFunc(d.boots, func(x, y *boot) int { return cmp.Compare(numbers[x], numbers[y]) })
	for _, b := range slices.Clone(d.boots) {
		if err := s.findBoot(b, now); err != nil {
			return err
		}
	}
	return nil
}

// findBoot takes in what one former start left.
func (s *Spool) findBoot(b *boot, now time.Time) error {
	entries, err := fs.ReadDir(s.disk.root.FS(), b.dir)
	if err != nil {
		return fmt.Errorf("list spool: %w", err)
	}
	for _, e := range entries { // sorted by name: each series in order
		m := segmentForm.FindStringSubmatch(e.Name())
		if m == nil || !e.Type().IsRegular() {
			continue
		}
		first, err := strconv.ParseUint(m[2], 10, 63)
		if err != nil {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // gone
		}
		ser := &b.series[rest]
		if m[1] == b.series[low].name {
			ser = &b.series[low]
		}
		seg := &segment{series: ser, path: path.Join(b.dir, e.Name()), first: first, size: info.Size(), begun: info.ModTime(), written: info.ModTime(), synced: true}
		if _, err := hex.Decode(seg.key[:], []byte(m[3])); err != nil {
			continue
		}
		ser.segs = append(ser.segs, seg)
		s.disk.bytes += seg.size
		s.disk.files++
	}
	for i := range b.series {
		s.count(&b.series[i])
	}
	if len(b.series[low].segs)+len(b.series[rest].segs) == 0 {
		s.disk.boots = slices.DeleteFunc(s.disk.boots, func(o *boot) bool { return o == b })
		s.disk.delete(b.dir, s.log)
	}
	return nil
}

// count reads a series of a former start through, to know how many events wait
// in each segment and how many are damaged: the records count themselves.
func (s *Spool) count(ser *series) {
	var expected, lastSeq, damaged uint64
	segs := slices.Clone(ser.segs)
	for i, seg := range segs {
		if i > 0 && seg.first > expected {
			damaged += seg.first - expected
		}
		expected = max(expected, seg.first)
		var c cursor
		if err := c.open(s.disk.root, seg, seg.size); err != nil {
			s.log.Warn("segment of the spool not read", "path", seg.path, "error", err)
			s.disk.bytes -= seg.size
			s.disk.files--
			ser.segs = slices.DeleteFunc(ser.segs, func(o *segment) bool { return o == seg })
			continue
		}
		for rec, ok := c.scan.scan(); ok; rec, ok = c.scan.scan() {
			if rec.seq <= lastSeq {
				continue // written twice
			}
			lastSeq = rec.seq
			damaged += max(rec.ordinal, expected) - expected
			expected = max(expected, rec.ordinal+1)
			seg.left++
		}
		if i == len(segs)-1 {
			damaged += max(c.scan.next, expected) - expected
			if c.scan.broken {
				damaged++ // at least
			}
		}
		c.close()
		seg.waiting = seg.left
		s.disk.waiting += seg.waiting
		if seg.left == 0 {
			s.disk.remove(seg, s.log)
		}
	}
	if damaged > 0 {
		s.lost[LostDamaged] += damaged
		s.log.Warn("spool is damaged", "boot", ser.boot.id, "series", ser.name, "events_lost", damaged)
	}
}
