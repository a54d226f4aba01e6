package main

import (
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/scan"
)

// progressEvery is how often the line is written anew: as often as an eye wants.
const progressEvery = 100 * time.Millisecond

// progress returns what shows how far a scan is, on a terminal alone: one line
// that is written over and over.
func (s *scanning) progress() func(scan.Progress) {
	if _, ok := terminal(s.err); !ok {
		return nil
	}
	var last time.Time
	return func(p scan.Progress) {
		if now := time.Now(); now.Sub(last) >= progressEvery {
			last, s.shown = now, true
			fmt.Fprintf(s.err, "\r\x1b[K%s", s.paint(progressText(p), faint))
		}
	}
}

func progressText(p scan.Progress) string {
	const mb = 1e6
	if p.Total > p.Read {
		return fmt.Sprintf("read %.0f of %.0f MB, %d %%", float64(p.Read)/mb, float64(p.Total)/mb, p.Read*100/p.Total)
	}
	return fmt.Sprintf("read %.0f MB", float64(p.Read)/mb)
}

// clearProgress takes the line away.
func (s *scanning) clearProgress() {
	if s.shown {
		fmt.Fprint(s.err, "\r\x1b[K")
		s.shown = false
	}
}
