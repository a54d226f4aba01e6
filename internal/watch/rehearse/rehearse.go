// Package rehearse holds recorded events against a profile: what would protect have
// blocked, and would that have been wrong?
package rehearse

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/compare"
)

// Judgement says whether a block would have been wrong.
type Judgement string

// The judgements. They are what the circumstances suggest, which Because names; a
// person decides.
const (
	Wrong   Judgement = "wrong"   // it looks like ordinary work
	Right   Judgement = "right"   // it looks like something that should be blocked
	Unclear Judgement = "unclear" // it could be either
)

// Case is one violation of a rehearsal, with all of its events.
type Case struct {
	profile.Violation
	Blocked   bool      `json:"blocked"` // protect would have blocked it; else it would have been reported
	Hosts     int       `json:"hosts"`
	Workloads int       `json:"workloads"`
	Days      int       `json:"days"` // on how many days
	Judgement Judgement `json:"judgement"`
	Because   []string  `json:"because"` // the circumstances, in sentences
}

// Result is what a rehearsal came to.
type Result struct {
	From     time.Time `json:"from,omitzero"` // the first event
	To       time.Time `json:"to,omitzero"`   // the last
	Events   uint64    `json:"events"`        // that were held against the profile
	Blocked  uint64    `json:"blocked"`       // of these would have been
	Reported uint64    `json:"reported"`      // would have been reported alone
	Cases    []Case    `json:"cases,omitempty"`
	More     uint64    `json:"more,omitempty"` // events outside beyond MaxCases different ones
	Sentence string    `json:"sentence"`
}

// Bounds of a rehearsal.
const (
	MaxCases    = 1_000 // different violations; a profile that has more is none yet
	maxTold     = 256   // hosts, workloads and days told apart for one
	maxIncident = 2_000
	// near is how close to an event that looks like an incident something must lie, in
	// the same container, to belong to it.
	near = 10 * time.Minute
	// often is from how many times something is taken for ordinary work, if it came on
	// several days or from several containers.
	often = 5
)

// Options are what a rehearsal depends on besides the profile.
type Options struct {
	// Answers are those for each control; nil is deny for all.
	Answers map[profile.Control]profile.Answer
}

// Run holds the events, in any order, against a profile. An error of the events ends
// it.
func Run(p *profile.Profile, events iter.Seq2[event.Event, error], o Options) (Result, error) {
	r := rehearsal{x: compare.NewIndex(p), o: o, cases: map[string]*gathered{}, apart: map[string][]*gathered{}, incidents: map[string][]sign{}}
	for e, err := range events {
		if err != nil {
			return Result{}, fmt.Errorf("rehearse the profile of %s: %w", p.Group, err)
		}
		r.take(&e)
	}
	return r.result(), nil
}

type rehearsal struct {
	x         *compare.Index
	o         Options
	out       Result
	cases     map[string]*gathered
	apart     map[string][]*gathered // by folder: those of cases that are told one by one
	incidents map[string][]sign      // by workload
	n         int                    // of incidents
}

// gathered are the events of one violation.
type gathered struct {
	Case
	hosts, workloads map[string]bool
	days, told       map[string]bool // by the clocks of hosts, and of the server
	times            []told
	foreign, entered bool
	image            bool
}

// sign is an event that looks like an incident.
type sign struct {
	at          time.Time
	fingerprint string
}

type told struct {
	workload string
	at       time.Time
}

func (r *rehearsal) take(e *event.Event) {
	if e.WorkloadID == "" {
		return
	}
	n := e.Times()
	r.out.Events += n
	if r.out.From.IsZero() || e.Time.Before(r.out.From) {
		r.out.From = e.Time
	}
	if e.Time.After(r.out.To) {
		r.out.To = e.Time
	}
	v := r.x.Compare(e)
	if v == nil {
		return
	}
	if incident(e) && r.n < maxIncident {
		r.n++
		r.incidents[e.WorkloadID] = append(r.incidents[e.WorkloadID], sign{e.Time, v.Fingerprint})
	}
	blocked := !v.Unheld && (r.o.Answers == nil || r.o.Answers[v.Control] == profile.Deny)
	if blocked {
		r.out.Blocked += n
	} else {
		r.out.Reported += n
	}
	if g := r.caseOf(v, blocked); g != nil {
		g.add(e, v, n)
	} else {
		r.out.More += n
	}
}

func (g *gathered) add(e *event.Event, v *profile.Violation, n uint64) {
	g.Count += n
	if v.First.Before(g.First) {
		g.First = v.First
	}
	if v.Last.After(g.Last) {
		g.Last, g.EventID, g.AgentID, g.WorkloadID = v.Last, v.EventID, v.AgentID, v.WorkloadID
	}
	put := func(set map[string]bool, s string) {
		if len(set) < maxTold {
			set[s] = true
		}
	}
	put(g.hosts, e.AgentID)
	put(g.workloads, e.WorkloadID)
	put(g.days, e.Time.UTC().Format(time.DateOnly))
	if !e.Received.IsZero() {
		put(g.told, e.Received.UTC().Format(time.DateOnly))
	}
	if len(g.times) < maxTold {
		g.times = append(g.times, told{e.WorkloadID, e.Time})
	}
	origin := event.OriginUnknown
	switch {
	case e.Exec != nil:
		origin = e.Exec.Origin
		g.entered = g.entered || e.Exec.Entered
	case e.Memory != nil:
		origin = e.Memory.Origin
	}
	g.foreign = g.foreign || origin != event.OriginUnknown && origin != event.OriginImage
	g.image = g.image || origin == event.OriginImage
}

// incident reports whether an event outside the profile is one that attacks have
// and ordinary work hardly has.
func incident(e *event.Event) bool {
	switch e.Kind {
	case event.KindExec:
		return e.Exec.Origin == event.OriginWritten || e.Exec.Origin == event.OriginMemory
	case event.KindFileRead, event.KindPtrace, event.KindProcessWrite, event.KindModule, event.KindKexec, event.KindKernelKnob, event.KindMount, event.KindSetns,
		event.KindDevice, event.KindRaw, event.KindExecMap:
		return true
	}
	return false
}

func (r *rehearsal) result() Result {
	out := r.out
	wrong := 0
	for _, at := range r.incidents {
		slices.SortFunc(at, func(a, b sign) int { return a.at.Compare(b.at) })
	}
	for _, g := range r.cases {
		g.Hosts, g.Workloads, g.Days = len(g.hosts), len(g.workloads), len(g.days)
		if len(g.told) > 0 { // a host's clock that was set gives days that there were not
			g.Days = min(g.Days, len(g.told))
		}
		g.judge(r.incidents)
		if g.Blocked && g.Judgement == Wrong {
			wrong++
		}
		out.Cases = append(out.Cases, g.Case)
	}
	slices.SortFunc(out.Cases, func(a, b Case) int {
		if a.Blocked != b.Blocked {
			if a.Blocked {
				return -1
			}
			return 1
		}
		return cmp.Or(-cmp.Compare(a.Count, b.Count), cmp.Compare(a.Fingerprint, b.Fingerprint))
	})
	blocked := 0
	for _, c := range out.Cases {
		if c.Blocked {
			blocked++
		}
	}
	switch {
	case out.Events == 0:
		out.Sentence = "There were no events of the group in this time: the rehearsal says nothing."
	case blocked == 0:
		out.Sentence = fmt.Sprintf("Of %d events nothing would have been blocked.", out.Events)
	default:
		out.Sentence = fmt.Sprintf("Of %d events %d would have been blocked, %s; %s.", out.Events, out.Blocked, things(blocked), wrongWords(wrong))
	}
	return out
}

func things(n int) string {
	if n == 1 {
		return "all of one kind"
	}
	return fmt.Sprintf("of %d kinds", n)
}

func wrongWords(n int) string {
	switch n {
	case 0:
		return "none of that looks like ordinary work"
	case 1:
		return "one kind looks like ordinary work and would have been blocked wrongly"
	}
	return fmt.Sprintf("%d kinds look like ordinary work and would have been blocked wrongly", n)
}

// judge weighs the circumstances.
func (g *gathered) judge(incidents map[string][]sign) {
	say := func(format string, args ...any) { g.Because = append(g.Because, fmt.Sprintf(format, args...)) }
	score := 0 // above 0 it looks like ordinary work
	say("It happened %s, in %s on %s, on %s.", count(g.Count, "time", "times"), number(g.Workloads, "container"), number(g.Hosts, "host"), number(g.Days, "day"))
	if g.Count >= often && (g.Days > 1 || g.Workloads > 1) {
		score += 2
		say("What comes again and again, on several days or in several containers, is more likely work than an attack.")
	} else if g.Count == 1 {
		score--
		say("It happened once.")
	}
	if g.foreign {
		score -= 3
		say("What ran did not come with the image.")
	}
	if g.image {
		score++
		say("What ran is part of the image.")
	}
	if g.entered {
		say("It was started from outside the container (docker exec, ECS Exec): protect would have stopped a person or a tool.")
	}
	if g.beside(incidents) {
		score -= 2
		say("Within %d minutes the same container did something else that attacks do.", int(near/time.Minute))
	}
	switch {
	case score >= 2:
		g.Judgement = Wrong
	case score <= -2:
		g.Judgement = Right
	default:
		g.Judgement = Unclear
	}
}

// beside reports whether one of the events lies close to something that looks like
// an incident and is not the event itself.
func (g *gathered) beside(incidents map[string][]sign) bool {
	for _, t := range g.times {
		at := incidents[t.workload] // sorted
		i, _ := slices.BinarySearchFunc(at, t.at.Add(-near), func(s sign, t time.Time) int { return s.at.Compare(t) })
		for ; i < len(at) && at[i].at.Sub(t.at) <= near; i++ {
			if at[i].fingerprint != g.Fingerprint {
				return true
			}
		}
	}
	return false
}

func count(n uint64, one, many string) string {
	if n == 1 {
		return "one " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func number(n int, one string) string { return count(uint64(n), one, one+"s") }
