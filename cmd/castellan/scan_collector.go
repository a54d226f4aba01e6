package main

import (
	"os"
	"runtime/debug"
	"runtime/metrics"

	"github.com/castellan-security/castellan/internal/scan"
)

// How much garbage a scan lets pile up.
const (
	// knownPercent of what is held: a scan of what is known is over before there is
	// any worth collecting.
	knownPercent = 400
	// While layers are read, garbageBytes or leastPercent: little leaves garbage
	// then, and most of what is held is what layers are decompressed with.
	garbageBytes = 5 << 20
	leastPercent = 20
)

// collector sees to it that a scan's garbage is collected when it is worth it.
type collector struct{ percent int }

// set sets how much garbage may pile up; whoever set GOGC has decided it.
func (c *collector) set(percent int) {
	if percent != c.percent && os.Getenv("GOGC") == "" {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
}

// watching calls show, and sets how much garbage may pile up while layers are
// read.
func (c *collector) watching(show func(scan.Progress)) func(scan.Progress) {
	held := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	var looked int64
	return func(p scan.Progress) {
		const seldom = 2 << 20 // bytes read between looks
		if p.Read == 0 || p.Read-looked > seldom {
			looked = p.Read
			metrics.Read(held)
			c.set(percentFor(held[0].Value.Uint64()))
		}
		if show != nil {
			show(p)
		}
	}
}

// percentFor is what part of the bytes that are held may pile up, in steps: to
// set it anew stops all for a moment.
func percentFor(held uint64) int {
	const step = 20
	percent := 100 * garbageBytes / max(held, garbageBytes)
	return max(leastPercent, int(percent)/step*step)
}

// read says that layers are read no more: what they took is given back before
// reports take anything.
func (c *collector) read() {
	if c.percent != knownPercent {
		debug.FreeOSMemory()
	}
}
