package server

import (
	"cmp"

	"github.com/castellan-security/castellan/internal/store"
)

// pageOf is how many lines a page has of which so many are asked for; 0 asks for no
// number.
func pageOf(asked int) int { return cmp.Or(asked, store.DefaultPage) }

// nextOffset is where a list that is counted goes on behind a page; 0 behind the last,
// which is not full.
func nextOffset(offset, limit, found int) int {
	if found < limit {
		return 0
	}
	return offset + found
}

// nextAfter is the id behind which a list goes on after a page; the zero one behind the
// last, which is not full.
func nextAfter[T, ID any](found []T, limit int, id func(*T) ID) (next ID) {
	if len(found) < limit || len(found) == 0 {
		return next
	}
	return id(&found[len(found)-1])
}
