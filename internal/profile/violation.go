package profile

import (
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// Violation is an event outside its group's profile, and how often it happened
// since.
type Violation struct {
	ID    int64       `json:"id"` // given by the store; 0 before
	Group asset.Group `json:"group"`
	// Fingerprint is the same for what differs only in time, process id and host.
	Fingerprint string         `json:"fingerprint"`
	Control     Control        `json:"control"`
	Kind        event.Kind     `json:"kind"`
	Reaction    event.Reaction `json:"reaction,omitempty"` // what happened to it; none: it was done, and reported
	Subject     string         `json:"subject"`            // what was done to: a path, an address, a name, a call
	Program     string         `json:"program,omitempty"`  // who did it
	// Sentence says what was done, by whom, and what the profile allows instead.
	Sentence string `json:"sentence"`
	// Permit is what would be added to the profile to make it normal; empty where
	// the profile can't say it.
	Permit *Profile `json:"permit,omitempty"`
	// Folder is where it is told of together with others of its program; nil: nowhere.
	Folder *Folder `json:"folder,omitempty"`
	// Unheld says that no kernel is asked to hold to this part of a profile, such as
	// whose child a program is: it is reported, and never denied.
	Unheld     bool      `json:"unheld,omitempty"`
	Revision   int64     `json:"revision"`              // of the profile it was held against
	Mode       Mode      `json:"mode"`                  // of the group at that time
	WorkloadID string    `json:"workload_id,omitempty"` // of the last
	AgentID    string    `json:"agent_id,omitempty"`    // of the last
	EventID    int64     `json:"event_id,omitempty"`    // of the last; 0 where it is not stored any more
	Count      uint64    `json:"count"`
	First      time.Time `json:"first"`
	Last       time.Time `json:"last"`
}

// oneDeed is within which time what the sensors saw and what the kernel answered are
// one deed: both are told by the same host's clock, and a store may come between them.
const oneDeed = time.Second

// Fold makes v stand for have too, which is of the same group and fingerprint. What it
// says is from the later one. What the sensors saw and the kernel answered is told by
// both: a program that was killed at its first instruction was seen to start. That is
// one, and what the kernel did is what happened.
func (v *Violation) Fold(have *Violation) {
	out, other := *v, have
	if v.Last.Before(have.Last) {
		out, other = *have, v
	}
	out.Permit = fuller(out.Permit, other.Permit)
	out.Count = v.Count + have.Count
	if (v.Reaction == event.ReactionNone) != (have.Reaction == event.ReactionNone) && v.sameDeed(have) {
		answered := v
		if v.Reaction == event.ReactionNone {
			answered = have
		}
		out.Reaction, out.Sentence, out.Unheld = answered.Reaction, answered.Sentence, answered.Unheld
		out.Count = max(v.Count, have.Count)
	}
	if !other.First.IsZero() && other.First.Before(out.First) {
		out.First = other.First
	}
	if v.Gathered() && have.Gathered() {
		out.Folder = have.Folder.and(v.Folder)
		out.tellFolder()
	}
	*v = out
}

func (v *Violation) sameDeed(o *Violation) bool {
	return v.AgentID == o.AgentID && v.WorkloadID == o.WorkloadID && v.First.Sub(o.Last) <= oneDeed && o.First.Sub(v.Last) <= oneDeed
}

// fuller returns which of two permits says more of how a program is run, the first
// where both say as much. What comes of the kernel's answer knows neither its parent
// nor the script that it was given: permitted by that, the same would lie outside
// again for its script.
func fuller(a, b *Profile) *Profile {
	says := func(p *Profile) (n int) {
		if p == nil {
			return -1
		}
		for i := range p.Executables {
			n += len(p.Executables[i].Parents) + len(p.Executables[i].Scripts) + len(p.Executables[i].Loads)
		}
		return n
	}
	if says(b) > says(a) {
		return b
	}
	return a
}
