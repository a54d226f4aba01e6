package layer

import "time"

// WithGrace shortens the time after which an analyser that doesn't stop is left
// behind.
func (o Options) WithGrace(d time.Duration) Options {
	o.grace = d
	return o
}

// SpendAll has an analyser use up its time.
func (b *Budget) SpendAll(analyser string) { b.clocks.clock(analyser).over.Store(true) }

// Clean is what becomes of an entry's name.
func Clean(name string) string { return clean(name) }
