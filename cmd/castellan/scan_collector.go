package main

import (
	"os"
	"runtime/debug"

	"github.com/castellan-security/castellan/internal/scan"
)

// How much garbage a scan lets pile up, in percent of what it holds.
const (
	// A scan of what is known is over before there is any worth collecting.
	knownPercent = 400
	// What layers are decompressed with is held all the time, and what they leave
	// is used again: collecting often costs little, seldom as much memory as is held.
	readPercent = 20
)

// collector sees to it that a scan's garbage is collected when it is worth it.
type collector struct{ reads bool }

// set sets how much garbage may pile up; whoever set GOGC has decided it.
func (*collector) set(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// watching calls show, and has garbage collected more often once layers are read.
func (c *collector) watching(show func(scan.Progress)) func(scan.Progress) {
	return func(p scan.Progress) {
		if !c.reads {
			c.reads = true
			c.set(readPercent)
		}
		if show != nil {
			show(p)
		}
	}
}

// read says that layers are read no more: what they took is given back before
// reports take anything.
func (c *collector) read() {
	if c.reads {
		debug.FreeOSMemory()
	}
}
