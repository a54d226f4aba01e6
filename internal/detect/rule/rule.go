// Package rule is the language of rules of detection: documents of YAML with
// conditions in CEL over a typed schema of events, and a small language for what is
// more than one event: counts, sequences, and what comes up for the first time.
//
// A rule's state is bounded, and its clock is that of the events. The engine decides
// which event meets which rule, and makes threats of what matches.
package rule

import (
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/threat"
)

// Detector is a rule as the engine sees it, whether it is written in YAML or in Go.
// It is for one goroutine.
type Detector interface {
	// About says what people are told of it. It is not changed after the engine has
	// begun to use the detector.
	About() *threat.Rule
	// Entries are what the engine calls it for.
	Entries() []Entry
}

// Rememberer is a detector that learns over days what is usual, so that it must
// outlive the engine. It is for the goroutine that the engine is for.
type Rememberer interface {
	Detector
	// Memory returns what it knows, to be given to Remember of the same rule; nil for
	// nothing.
	Memory() ([]byte, error)
	// Remember takes up what Memory gave, in the place of what it knows. On an error it
	// knows what it did.
	Remember([]byte) error
}

// Entry is which events a detector looks at, and how.
type Entry struct {
	Kinds []event.Kind
	// Programs are those of the process that the event is of, or of a call of AWS what
	// was called; nil is any.
	Programs []string
	// Files are paths and patterns of the event's file as it is called afterwards: see
	// PlaceOf and OfFile. Nil is any. They say nothing of kinds of event without a file.
	Files []string
	// Look returns what the detector has to say of a subject, nil for nothing. The
	// error is of a condition that could be neither true nor false.
	Look func(*Subject) (*Match, error)
}

// Match is that a rule fires at a subject.
type Match struct {
	Says string // one sentence
	// About is what tells it from other matches in the same tree.
	About []string
	// Before are the events before the subject's that it rests on, oldest first.
	Before []threat.Evidence
	Count  uint64 // at least 1
	Files  []string
	Peers  []threat.Peer
}

// MatchOf returns a match of a subject's event that says this.
func MatchOf(s *Subject, says string, about ...string) *Match {
	m := &Match{Says: threat.Clip(says), About: about, Count: s.Event.Times(), Files: s.files()}
	if p, ok := s.peer(); ok {
		m.Peers = []threat.Peer{p}
	}
	return m
}

// Rule is a rule of a document. It implements Detector.
type Rule struct {
	about    threat.Rule
	matchers []matcher
	state    state // nil for a rule of single events
	says     []piece
	names    []*Field
}

// matcher is what one event must be.
type matcher struct {
	kinds    []event.Kind
	programs []string
	files    []string
	when     *condition // nil is always true
	key      *Field
}

// About is part of Detector.
func (r *Rule) About() *threat.Rule { return &r.about }

// Entries is part of Detector.
func (r *Rule) Entries() []Entry {
	var out []Entry
	for i := range r.matchers {
		m := &r.matchers[i]
		out = append(out, Entry{Kinds: m.kinds, Programs: m.programs, Files: m.files, Look: func(s *Subject) (*Match, error) { return r.look(s, m, i) }})
	}
	return out
}

// Memory is part of Rememberer. Only what a rule knows as normal is remembered: counts
// and sequences are of minutes.
func (r *Rule) Memory() ([]byte, error) {
	if f, ok := r.state.(*firsts); ok {
		return f.memory()
	}
	return nil, nil
}

// Remember is part of Rememberer.
func (r *Rule) Remember(b []byte) error {
	if f, ok := r.state.(*firsts); ok {
		return f.remember(b)
	}
	return nil
}

func (r *Rule) look(s *Subject, m *matcher, step int) (*Match, error) {
	if m.when != nil {
		if is, err := m.when.holds(s); !is || err != nil {
			return nil, err
		}
	}
	var before []threat.Evidence
	count := s.Event.Times()
	if r.state != nil {
		var fires bool
		if before, count, fires = r.state.matched(s, step, m.key); !fires {
			return nil, nil
		}
	}
	about := make([]string, len(r.names))
	for i, f := range r.names {
		about[i] = s.text(f)
	}
	match := MatchOf(s, s.fill(r.says), about...)
	match.Before, match.Count = before, count
	return match, nil
}
