package images

import "time"

// Newest is how far the advisories reach: the newest change of any source, or,
// where none tells, when the database was compiled.
func (d Database) Newest() time.Time {
	var newest time.Time
	for _, s := range d.Sources {
		if s.Newest.After(newest) {
			newest = s.Newest
		}
	}
	if newest.IsZero() {
		return d.Built
	}
	return newest
}
