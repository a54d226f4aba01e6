package console

import (
	"strconv"

	"github.com/castellan-security/castellan/internal/store"
)

// onePageAnd is what a list asks the store for: one more than a page, to know
// whether there is another.
const onePageAnd = store.DefaultPage + 1

// pages lead on from one page of a list; "" where there is no such page.
type pages struct {
	First string // not on the first
	Next  string
}

func (p pages) any() bool { return p.First != "" || p.Next != "" }

// onePage is what of a list one page shows, and whether there is more of it.
func onePage[T any](list []T) (page []T, more bool) {
	if len(list) <= store.DefaultPage {
		return list, false
	}
	return list[:store.DefaultPage], true
}

// offsetPages are those of a list that goes on by number.
func offsetPages(f filter, offset int, more bool) (p pages) {
	if more {
		p.Next = f.address("offset", strconv.Itoa(offset+store.DefaultPage))
	}
	if offset > 0 {
		p.First = f.address()
	}
	return p
}

// afterPages are those of a list that goes on behind its last line.
func afterPages(f filter, last string, more, first bool) (p pages) {
	if more {
		p.Next = f.address("after", last)
	}
	if !first {
		p.First = f.address()
	}
	return p
}
