package spool

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// Tend does what is due from time to time: it drops what is too old, forces
// completed segments to the disk, and tries a disk again that could not be
// used. It may wait for the disk; Push does not wait for it.
func (s *Spool) Tend() {
	now := time.Now()
	s.mu.Lock()
	d := &s.disk
	if s.opts.Dir != "" && !d.usable && !now.Before(d.retryAt) {
		s.retry(now)
	}
	if d.root == nil {
		s.mu.Unlock()
		return
	}
	if d.usable {
		if err := s.room(); err != nil {
			s.fail(err, now)
		}
	}
	s.expire(now)
	d.sweep(s.log)
	due := s.unsynced(now.Add(-syncAfter))
	s.mu.Unlock()
	for _, seg := range due {
		if err := s.sync(seg); err != nil {
			s.log.Warn("segment of the spool not synced", "path", seg.path, "error", err)
		}
	}
}

// fail stops using the disk for a while.
func (s *Spool) fail(err error, now time.Time) {
	d := &s.disk
	if d.usable || d.trouble == "" {
		s.log.Warn("spool not usable, events are held in memory", "error", err)
	}
	d.usable, d.trouble, d.retryAt = false, err.Error(), now.Add(retryEvery)
	for _, b := range d.boots {
		for i := range b.series {
			s.complete(&b.series[i])
		}
	}
}

// retry takes the disk into use, and writes what was held in memory meanwhile.
func (s *Spool) retry(now time.Time) {
	d := &s.disk
	if d.root == nil {
		if err := d.open(s.opts.Dir); err != nil {
			s.fail(err, now)
			return
		}
		if err := s.find(now); err != nil {
			// Read what can be read; what is written gets a folder of its own.
			s.log.Warn("spool of former starts not read in full", "error", err)
		}
	}
	if err := s.catchUp(now); err != nil {
		s.fail(err, now)
		return
	}
	if d.trouble != "" {
		s.log.Info("spool usable again")
	}
	d.usable, d.trouble = true, ""
	s.trim()
	s.shrink()
}

// catchUp writes what is in memory alone.
func (s *Spool) catchUp(now time.Time) error {
	if err := s.room(); err != nil {
		return err
	}
	if s.hand.boot == s.boot {
		w := writing{events: s.hand.events, in: s.hand.in, now: now, handed: true}
		if err := s.write(&w); err != nil {
			return err
		}
	}
	return s.keep(s.mem.head, now)
}

// shrink keeps the limits of size, with some to spare so that they are not at
// once reached again.
func (s *Spool) shrink() {
	d := &s.disk
	if d.bytes <= s.opts.Size && d.files <= s.opts.Files {
		return
	}
	for d.bytes > s.opts.Size-s.segment || d.files > s.opts.Files-s.opts.Files/segmentShare {
		seg := s.victim()
		if seg == nil {
			return
		}
		s.drop(seg, LostSize)
	}
}

// victim returns the segment that goes first: the oldest of low value, else
// the oldest that is complete.
func (s *Spool) victim() *segment {
	for _, value := range [...]int{low, rest} {
		for _, b := range s.disk.boots {
			for _, seg := range b.series[value].segs {
				if value == low || !seg.open {
					return seg
				}
			}
		}
	}
	return nil
}

// expire keeps the limit of age. A segment is as old as its newest event; one
// that grows slowly is completed, so that it does not stay young for ever.
func (s *Spool) expire(now time.Time) {
	for _, b := range slices.Clone(s.disk.boots) {
		for i := range b.series {
			ser := &b.series[i]
			for _, seg := range slices.Clone(ser.segs) {
				switch {
				case now.Sub(seg.written) > s.opts.Age:
					s.drop(seg, LostAge)
				case seg.open && seg.left > 0 && now.Sub(seg.begun) > s.opts.Age/segmentShare:
					s.complete(ser)
				}
			}
		}
	}
}

// drop gives up a segment. What of it is handed out already is not lost: the
// server is being told.
func (s *Spool) drop(seg *segment, why string) {
	s.lost[why] += seg.waiting
	if seg.series.boot.current {
		s.mem.without(seg)
	}
	if seg.open {
		seg.left = max(seg.left, 1) // complete is not to remove it
		s.complete(seg.series)
	}
	s.disk.remove(seg, s.log)
}

// unsynced returns the completed segments of this start that were last written
// before t and are still needed.
func (s *Spool) unsynced(t time.Time) (due []*segment) {
	for _, b := range s.disk.boots {
		for i := range b.series {
			for _, seg := range b.series[i].segs {
				if !seg.open && !seg.synced && seg.written.Before(t) {
					seg.synced = true // tried once: what fails now fails again
					due = append(due, seg)
				}
			}
		}
	}
	return due
}

// sync forces a segment, and that it is there, to the disk.
func (s *Spool) sync(seg *segment) error {
	for _, name := range [...]string{seg.path, seg.series.boot.dir, "."} {
		f, err := s.disk.root.Open(name)
		if err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return nil // acknowledged meanwhile
			}
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Close forces what is held to the disk and lets the folder go. It returns how
// many events are on disk, for the next start, and how many were held in memory
// alone and are lost. The spool must not be used afterwards.
func (s *Spool) Close() (kept, lost int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, lost = int(s.disk.waiting), s.mem.only
	for _, seg := range s.hand.in {
		if seg == nil || seg.gone {
			lost++
		} else {
			kept++
		}
	}
	d := &s.disk
	if d.root == nil {
		return kept, lost, nil
	}
	for i := range s.cursors {
		s.cursors[i].close()
	}
	for _, b := range slices.Clone(d.boots) {
		for i := range b.series {
			s.complete(&b.series[i])
		}
	}
	for _, seg := range s.unsynced(time.Now().Add(time.Hour)) {
		if serr := s.sync(seg); serr != nil {
			err = errors.Join(err, fmt.Errorf("sync segment %s: %w", seg.path, serr))
		}
	}
	if cur := d.boots[len(d.boots)-1]; cur.made && len(cur.series[low].segs)+len(cur.series[rest].segs) == 0 {
		d.delete(cur.dir, s.log)
	}
	return kept, lost, errors.Join(err, d.lock.Close(), d.root.Close())
}
