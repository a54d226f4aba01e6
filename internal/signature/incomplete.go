package signature

import (
	"errors"
	"fmt"
	"slices"
)

// Incomplete is the error of a door that may not have found every envelope
// that there is. The envelopes that come with it are good to use, but nothing
// may be concluded from what is not among them.
//
// Left has why, in no order: a *Refusal for what was found and is none (it is
// about another image, malformed, too large), any other error for what could
// not be looked at, as a limit that was reached or a registry that did not
// answer. More counts those that are not told.
type Incomplete struct {
	Left []error
	More int
}

// Error tells the first few reasons.
func (i *Incomplete) Error() string {
	const shown = 3
	text := "not all signatures could be read"
	for n, err := range i.Left {
		if n == shown {
			break
		}
		text += fmt.Sprintf("; %v", err)
	}
	if more := len(i.Left) - shown + i.More; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// Unwrap returns all reasons.
func (i *Incomplete) Unwrap() []error { return i.Left }

// OnlyRefused says that everything was looked at, and what is missing was
// refused: no other envelope can have been overlooked.
func (i *Incomplete) OnlyRefused() bool {
	return i.More == 0 && !slices.ContainsFunc(i.Left, func(err error) bool {
		var refused *Refusal
		return !errors.As(err, &refused)
	})
}
