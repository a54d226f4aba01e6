// Package mode is the life of a group's profile: it learns, it reports, it blocks.
// Step is pure: what it comes to is told, and whoever asked does it.
package mode

import (
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/profile"
)

// Promote says what happens when a profile has been settled for long enough.
type Promote string

// What happens. The zero value is nothing: modes change by a person alone.
const (
	Never   Promote = ""
	Propose Promote = "propose" // a person is asked
	Auto    Promote = "promote" // it is done
)

// NewVersion says what a protected group does when a new version of its image
// comes.
type NewVersion string

// What it does.
const (
	// Relearn: the group reports and does not block, and learns from the new version,
	// until that has settled; then it protects again. The zero value.
	Relearn NewVersion = ""
	// Hold: it goes on to block what the old version did not do.
	Hold NewVersion = "hold"
)

// Defaults of a policy, and the measure from which a profile counts as settled.
const (
	DefaultAfter   = 24 * time.Hour
	SettledMeasure = 0.95
)

// Policy is how a group's mode changes by itself.
type Policy struct {
	Promote Promote `json:"promote,omitempty"`
	// After is for how long the profile must have been settled, and in monitor for how
	// long nothing must have been outside; 0 is DefaultAfter.
	After time.Duration `json:"after_ns,omitempty"`
	// Most is the mode that it is promoted to at most; the zero value is Protect.
	Most       profile.Mode `json:"most,omitempty"`
	NewVersion NewVersion   `json:"new_version,omitempty"`
}

func (p Policy) after() time.Duration {
	if p.After <= 0 {
		return DefaultAfter
	}
	return p.After
}

func (p Policy) most() profile.Mode {
	if p.Most == profile.Discover {
		return profile.Protect
	}
	return p.Most
}

// State is where a group is. The zero value discovers.
type State struct {
	Mode   profile.Mode `json:"mode"`
	Policy Policy       `json:"policy"`
	Since  time.Time    `json:"since,omitzero"` // of the mode
	// Settled is since when the profile has been settled without a break; zero if it
	// is not. In monitor and protect it is since when nothing was outside.
	Settled time.Time `json:"settled,omitzero"`
	// Proposed is the mode that a person is asked about; Discover if none is.
	Proposed profile.Mode `json:"proposed,omitempty"`
	// Version is the digest of the newest image; Relearning says that a protected
	// group learns from it and does not block.
	Version    string `json:"version,omitempty"`
	Relearning bool   `json:"relearning,omitempty"`
	// Released says that nothing is held for now, whatever the mode: somebody let go.
	Released bool `json:"released,omitempty"`
}

// Effective is the mode that hosts hold the group to.
func (s State) Effective() profile.Mode {
	switch {
	case s.Released && s.Mode == profile.Protect, s.Relearning && s.Mode == profile.Protect:
		return profile.Monitor
	}
	return s.Mode
}

// Learns reports whether something is learned from a workload of that version.
func (s State) Learns(version string) bool {
	return s.Mode == profile.Discover || s.Relearning && (version == s.Version || version == "")
}

// Input is what comes to pass: one of Tick, Decide, Decline, Image, Release, Arm,
// Outside and ClockSet.
type Input interface{ input() }

// Tick is time that goes by.
type Tick struct {
	Now     time.Time
	Settled profile.Settled
}

// Decide is a person's decision for a mode.
type Decide struct {
	Now    time.Time
	Mode   profile.Mode
	Policy *Policy // nil: as it is
	Actor  string
	Reason string
}

// Decline is a person's no to what was proposed.
type Decline struct {
	Now   time.Time
	Actor string
}

// Image is a version of the image that a workload of the group was started from.
type Image struct {
	Now       time.Time
	Version   string // digest
	Reference string
	Known     bool // the profile has learned from it before
}

// Outside is something that lay outside the profile.
type Outside struct{ Now time.Time }

// ClockSet is a clock that was set: for how long anything has been so is not known any
// more, and counts anew.
type ClockSet struct{ Now time.Time }

// Release lets go of a group at once.
type Release struct {
	Now    time.Time
	Actor  string
	Reason string
}

// Arm ends a release.
type Arm struct {
	Now   time.Time
	Actor string
}

func (Tick) input()     {}
func (Decide) input()   {}
func (Decline) input()  {}
func (Image) input()    {}
func (Outside) input()  {}
func (ClockSet) input() {}
func (Release) input()  {}
func (Arm) input()      {}

// EffectKind is what is to be done.
type EffectKind string

// The effects.
const (
	Rules    EffectKind = "rules"    // hosts get other rules
	Record   EffectKind = "record"   // it is written down for people: the audit log
	Ask      EffectKind = "ask"      // a person is asked about Mode
	Withdraw EffectKind = "withdraw" // what was asked is void
)

// Effect is one thing to be done.
type Effect struct {
	Kind     EffectKind   `json:"kind"`
	Mode     profile.Mode `json:"mode"` // of the group, or what is asked about
	Actor    string       `json:"actor,omitempty"`
	Sentence string       `json:"sentence,omitempty"`
}

// Step returns where a group is after an input, and what is to be done.
func Step(s State, in Input) (State, []Effect) {
	switch in := in.(type) {
	case Tick:
		return s.tick(in)
	case Decide:
		return s.decide(in)
	case Decline:
		if s.Proposed == profile.Discover {
			return s, nil
		}
		no := s.Proposed
		s.Proposed, s.Settled = profile.Discover, in.Now // asked again when it has been settled as long again
		return s, []Effect{{Record, s.Mode, in.Actor, fmt.Sprintf("%s declined %s.", by(in.Actor), no)}}
	case Image:
		return s.image(in)
	case Outside:
		if s.Mode != profile.Discover {
			s.Settled = in.Now
		}
		return s.withdraw("something lay outside the profile")
	case ClockSet:
		if !s.Settled.IsZero() {
			s.Settled = in.Now
		}
		return s, nil
	case Release:
		if s.Released || s.Mode != profile.Protect {
			return s, nil
		}
		s.Released = true
		return s, []Effect{{Rules, s.Effective(), in.Actor, ""}, {Record, s.Mode, in.Actor, because(by(in.Actor)+" released the group: nothing is blocked until it is armed again", in.Reason)}}
	case Arm:
		if !s.Released {
			return s, nil
		}
		s.Released = false
		return s, []Effect{{Rules, s.Effective(), in.Actor, ""}, {Record, s.Mode, in.Actor, by(in.Actor) + " armed the group again."}}
	}
	return s, nil
}

func (s State) decide(in Decide) (State, []Effect) {
	var out []Effect
	if in.Policy != nil {
		s.Policy = *in.Policy
	}
	if s.Proposed != profile.Discover {
		s.Proposed = profile.Discover
		out = append(out, Effect{Withdraw, s.Mode, "", ""})
	}
	if s.Mode == in.Mode && !s.Relearning && !s.Released {
		return s, out
	}
	from := s.Mode
	s.Mode, s.Since, s.Settled = in.Mode, in.Now, time.Time{}
	s.Relearning, s.Released = false, false
	if s.Mode != profile.Discover {
		s.Settled = in.Now
	}
	return s, append(out, Effect{Rules, s.Mode, in.Actor, ""},
		Effect{Record, s.Mode, in.Actor, because(fmt.Sprintf("%s changed the mode from %s to %s", by(in.Actor), from, s.Mode), in.Reason)})
}

// image is about a version that is new to the group.
func (s State) image(in Image) (State, []Effect) {
	if in.Version == "" || in.Version == s.Version {
		return s, nil
	}
	first := s.Version == ""
	s.Version = in.Version
	if in.Known || first {
		return s, nil // a step back to an earlier version, or the first of all
	}
	name := in.Reference
	if name == "" {
		name = in.Version
	}
	s, out := s.withdraw("a new version of the image came")
	switch {
	case s.Mode == profile.Discover:
		s.Settled = time.Time{}
		return s, append(out, Effect{Record, s.Mode, "", fmt.Sprintf("A new version came, %s: it is learned on top.", name)})
	case s.Mode == profile.Protect && s.Policy.NewVersion == Relearn:
		s.Relearning, s.Settled = true, time.Time{}
		return s, append(out, Effect{Rules, s.Effective(), "", ""},
			Effect{Record, s.Mode, "", fmt.Sprintf("A new version came, %s: nothing is blocked until what it does has been learned.", name)})
	}
	return s, append(out, Effect{Record, s.Mode, "", fmt.Sprintf("A new version came, %s: it is held to what earlier versions did.", name)})
}

func (s State) withdraw(why string) (State, []Effect) {
	if s.Proposed == profile.Discover {
		return s, nil
	}
	was := s.Proposed
	s.Proposed = profile.Discover
	return s, []Effect{{Withdraw, s.Mode, "", fmt.Sprintf("%s is not proposed any more: %s.", was, why)}}
}

func (s State) tick(in Tick) (State, []Effect) {
	if s.Mode == profile.Discover || s.Relearning {
		if in.Settled.Measure < SettledMeasure {
			s.Settled = time.Time{}
			return s.withdraw("the profile is not settled any more")
		}
		if s.Settled.IsZero() || s.Settled.After(in.Now) { // the clock was set back
			s.Settled = in.Now
		}
	}
	if s.Settled.IsZero() || s.Settled.After(in.Now) {
		s.Settled = in.Now
	}
	if in.Now.Sub(s.Settled) < s.Policy.after() {
		return s, nil
	}
	if s.Relearning {
		s.Relearning, s.Settled = false, in.Now
		return s, []Effect{{Rules, s.Effective(), "", ""}, {Record, s.Mode, "", "What the new version does has settled: the group protects again."}}
	}
	next, ok := s.next()
	if !ok || s.Policy.Promote == Never || s.Released {
		return s, nil
	}
	why := fmt.Sprintf("its profile has been settled for %s", s.Policy.after())
	if s.Mode == profile.Monitor {
		why = fmt.Sprintf("nothing has been outside its profile for %s", s.Policy.after())
	}
	if s.Policy.Promote == Propose {
		if s.Proposed == next {
			return s, nil
		}
		s.Proposed = next
		return s, []Effect{{Ask, next, "", fmt.Sprintf("The group could change from %s to %s: %s.", s.Mode, next, why)}}
	}
	from := s.Mode
	s.Mode, s.Since, s.Settled, s.Proposed = next, in.Now, in.Now, profile.Discover
	return s, []Effect{{Rules, s.Mode, "", ""}, {Record, s.Mode, "", fmt.Sprintf("The group changed from %s to %s by itself: %s.", from, s.Mode, why)}}
}

// next is the mode after this one, if the policy lets it be reached by itself.
func (s State) next() (profile.Mode, bool) {
	switch {
	case s.Mode == profile.Discover:
		return profile.Monitor, true
	case s.Mode == profile.Monitor && s.Policy.most() == profile.Protect:
		return profile.Protect, true
	}
	return s.Mode, false
}

func by(actor string) string {
	if actor == "" {
		return "Somebody"
	}
	return actor
}

func because(what, reason string) string {
	if reason == "" {
		return what + "."
	}
	return what + ": " + reason
}
