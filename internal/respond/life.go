package respond

import (
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/response"
)

// Life is how far one response is.
type Life struct {
	State response.State
	Kind  response.Kind
	Dry   bool
	// Part says that it did part of what it was to do, which holds, though it failed.
	Part bool
}

// Input is what happens to a response: one of Begin, End, Undo, Hold and Gone.
type Input struct {
	What InputKind
	Err  error // of Begin: why nothing may be tried; of End: why it did not work
}

// InputKind says what an Input is.
type InputKind int

// The inputs.
const (
	Begin InputKind = iota + 1 // its turn has come
	End                        // what was tried has ended
	Undo                       // what it did was taken back
	Hold                       // its host says that it holds, whatever was known
	Gone                       // its host says that it does not hold any more
)

// Effect is what is to be done next.
type Effect int

// The effects.
const (
	Act  Effect = iota + 1 // do the deed, and give its end as input
	Tell                   // answer
)

// Step is the life of a response: asked, running, and then done, failed or refused;
// what has an undo can be undone once it is done, and is over when it ended by itself.
// What its host says of it goes before what was known. What makes no sense changes
// nothing.
func Step(l Life, in Input) (Life, []Effect) {
	switch {
	case l.State == response.Asked && in.What == Begin && in.Err != nil:
		l.State = response.Refused
		return l, []Effect{Tell}
	case l.State == response.Asked && in.What == Begin:
		l.State = response.Running
		return l, []Effect{Act}
	case l.State == response.Running && in.What == End:
		l.State = response.Done
		if in.Err != nil {
			l.State = response.Failed
			if fault.Is(in.Err, fault.Denied) || fault.Is(in.Err, fault.Unsupported) {
				l.State = response.Refused
			}
		}
		return l, []Effect{Tell}
	case l.Kind.Undo() == "" || l.Dry: // nothing of it lasts
	case l.lasts() && in.What == Undo:
		l.State, l.Part = response.Undone, false
		return l, []Effect{Tell}
	case l.lasts() && in.What == Gone:
		l.State, l.Part = response.Over, false
		return l, []Effect{Tell}
	case !l.lasts() && in.What == Hold:
		l.State = response.Done
		return l, []Effect{Tell}
	}
	return l, nil
}

// lasts reports whether something was done that may be taken back.
func (l Life) lasts() bool { return l.State == response.Done || l.Part }
