// Package engine holds events against rules: an event meets those of its kind,
// program and file only, and what matches becomes a threat, with its process's place in the
// tree; repeats are counted up.
package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/detect/keep"
	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/detect/tree"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/threat"
)

// Bounds of what is alike.
const (
	maxTold    = 16 << 10       // prints of which it is known when they were told
	repeatSpan = time.Minute    // repeats are told together after it
	maxOpen    = 4096           // prints with repeats that are not told yet
	forgetTold = 24 * time.Hour // after which a repeat is news again
)

// Options are what an engine is made of.
type Options struct {
	Rules    []rule.Detector // those that are Off are left out
	Silences []threat.Silence
}

// Engine holds events against rules. It is for one goroutine.
type Engine struct {
	tree    *tree.Tree
	subject rule.Subject
	nobody  tree.Process // whose doing calls of AWS are: no process that is known
	index   map[event.Kind]*byKind
	rules   []*counted
	hush    []threat.Silence
	looks   uint64 // at events, by any rule

	told *keep.Map[string, *repeats]
	open []*repeats // with repeats, by when they are due
	next time.Time  // when the first of them is
}

// repeats are what came after a threat was told.
type repeats struct {
	print string
	due   time.Time
	held  *threat.Threat // nil for none
}

// byKind are the entries for events of a kind.
type byKind struct {
	any       []*entry
	byProgram map[string][]*entry
	byFile    *byFile // nil for none
}

type entry struct {
	rule     *counted
	look     func(*rule.Subject) (*rule.Match, error)
	programs map[string]bool // of one that is found by files; nil is any
}

type counted struct {
	rule.Detector
	stats Stats
	hosts bool
}

// Stats say how a rule fares.
type Stats struct {
	Rule     string `json:"rule"`
	Looked   uint64 `json:"looked"`             // events that it was held against
	Hits     uint64 `json:"hits"`               // how often it fired, silenced or not
	Silenced uint64 `json:"silenced,omitempty"` // hits that a silence kept
	// Spent is the time that it took, as one of sampleLooks of its looks tells.
	Spent  time.Duration `json:"spent_ns,omitempty"`
	Errors uint64        `json:"errors,omitempty"` // events of which its condition was neither true nor false
	Error  string        `json:"error,omitempty"`  // the newest of those
	Last   time.Time     `json:"last,omitzero"`    // of the newest hit
}

// New returns an engine that has seen nothing.
func New(o Options) *Engine {
	e := &Engine{tree: tree.New(), index: map[event.Kind]*byKind{}, hush: o.Silences, told: keep.New[string, *repeats](maxTold, forgetTold)}
	for _, d := range o.Rules {
		c := &counted{Detector: d, stats: Stats{Rule: d.About().ID}, hosts: d.About().Hosts}
		e.rules = append(e.rules, c)
		if d.About().Off {
			continue
		}
		for _, en := range d.Entries() {
			e.enter(&entry{rule: c, look: en.Look}, en)
		}
	}
	return e
}

func (e *Engine) enter(x *entry, en rule.Entry) {
	for _, k := range en.Kinds {
		at := e.index[k]
		if at == nil {
			at = &byKind{byProgram: map[string][]*entry{}}
			e.index[k] = at
		}
		if en.Files != nil && k.Sensor() == "file" {
			if at.byFile == nil {
				at.byFile = newByFile()
			}
			at.byFile.enter(x, en)
			continue
		}
		if en.Programs == nil {
			at.any = append(at.any, x)
		}
		seen := map[string]bool{}
		for _, p := range en.Programs {
			if !seen[p] {
				seen[p] = true
				at.byProgram[p] = append(at.byProgram[p], x)
			}
		}
	}
}

// Observe notes an event, and returns the threats that it gives: at once what is new,
// and with it repeats of others that are due. Events of one host must come in the
// order in which they happened, more or less. The event is not kept.
func (e *Engine) Observe(ev *event.Event) []threat.Threat {
	if ev.Kind == event.KindConnect && ev.Reaction == event.ReactionAudited {
		// A guard tells of a call before there is anything of it. That it was made in
		// vain, or not, the sensor tells; counted twice, a scan would be of peers that answer.
		return nil
	}
	p, program := &e.nobody, ""
	if ev.Call != nil {
		program = ev.Call.Is()
	} else {
		p = e.tree.Observe(ev)
		program = p.Program
	}
	var out []threat.Threat
	if at := e.index[ev.Kind]; at != nil {
		e.subject.Set(ev, e.tree, p)
		out = e.meet(at.any, out)
		out = e.meet(at.byProgram[program], out)
		if at.byFile != nil {
			out = e.meet(at.byFile.find(rule.FileOf(ev), program), out)
		}
	}
	if len(e.open) > 0 && !ev.Time.Before(e.next) {
		out = append(out, e.Due(ev.Time)...)
	}
	return out
}

func (e *Engine) meet(entries []*entry, out []threat.Threat) []threat.Threat {
	host := e.subject.Event.WorkloadID == "" && e.subject.Event.Call == nil
	for _, x := range entries {
		if host && !x.rule.hosts {
			continue
		}
		x.rule.stats.Looked++
		m, err := e.look(x)
		if err != nil {
			x.rule.stats.Errors++
			x.rule.stats.Error = threat.Clip(err.Error())
			continue
		}
		if m == nil {
			continue
		}
		x.rule.stats.Hits += max(m.Count, 1)
		x.rule.stats.Last = e.subject.Event.Time
		t := e.threat(x.rule.About(), m)
		if e.silenced(&t) {
			x.rule.stats.Silenced += t.Count
			continue
		}
		if e.news(&t) {
			out = append(out, t)
		}
	}
	return out
}

// sampleLooks is how many looks of all rules there are to one whose time is taken:
// asking for the time costs a tenth of what a look does. It is a prime, so that no
// order of rules and events hides one.
const sampleLooks = 61

func (e *Engine) look(x *entry) (*rule.Match, error) {
	if e.looks++; e.looks%sampleLooks != 0 {
		return x.look(&e.subject)
	}
	began := time.Now()
	m, err := x.look(&e.subject)
	x.rule.stats.Spent += sampleLooks * time.Since(began)
	return m, err
}

// threat makes a threat of a match of the subject's event.
func (e *Engine) threat(r *threat.Rule, m *rule.Match) threat.Threat {
	s, ev := &e.subject, e.subject.Event
	root := s.Root()
	t := threat.Threat{
		Version: threat.Version, Rule: r.ID, Severity: r.Severity, Tactic: r.Tactic, Techniques: r.Techniques, Title: r.Title,
		Summary: m.Says, First: ev.Time, Last: ev.Time, Count: max(m.Count, 1),
		AgentID: ev.AgentID, WorkloadID: ev.WorkloadID, Group: ev.Group,
		Process: ev.Process, Args: clipAll(s.Process.Args), Entered: s.Process.Entered, Root: root.Key,
		Files: m.Files, Peers: m.Peers, Reaction: ev.Reaction, Failed: ev.Failed(),
		Print: threat.PrintOf(r.ID, ev.AgentID, ev.WorkloadID, root.Key, m.About...),
	}
	if ev.Last.After(t.Last) {
		t.Last = ev.Last
	}
	if ev.Call != nil {
		t.Call = threat.CallOf(ev.Call)
		t.Print = threat.PrintOf(r.ID, ev.AgentID, ev.WorkloadID, event.Key{}, append([]string{ev.Call.Account, ev.Call.Actor.ARN}, m.About...)...)
	}
	e.tree.Ancestors(ev.AgentID, s.Process, func(a *tree.Process) bool {
		t.Ancestors = append(t.Ancestors, threat.Ancestor{Key: a.Key, Name: a.Name, Executable: a.Executable, Args: clipAll(a.Args)})
		return len(t.Ancestors) < threat.MaxAncestors
	})
	for _, v := range m.Before {
		t.AddEvidence(v)
		if v.Time.Before(t.First) {
			t.First = v.Time
		}
	}
	t.AddEvidence(threat.EvidenceOf(ev))
	return t
}

// clipAll keeps MaxText bytes of arguments.
func clipAll(args []string) []string {
	left := threat.MaxText
	for i, a := range args {
		if left -= len(a); left < 0 {
			return append(append([]string{}, args[:i]...), threat.Clip(a))
		}
	}
	return args
}

// news says whether a threat is to be told now; if not it is held as a repeat.
func (e *Engine) news(t *threat.Threat) bool {
	at, ok := e.told.Get(t.Print, t.Last)
	if !ok {
		e.told.Put(t.Print, &repeats{print: t.Print, due: t.Last.Add(repeatSpan)}, t.Last)
		return true
	}
	r := *at
	t.Repeat = true
	if latest := t.Last.Add(repeatSpan); r.due.After(latest) {
		r.due = latest // the clock stepped back, or another host's is ahead
	}
	switch {
	case r.held != nil:
		r.held.Add(t)
		if r.due.Before(e.next) {
			e.next = r.due
		}
		return false
	case !t.Last.Before(r.due) || len(e.open) >= maxOpen:
		r.due = t.Last.Add(repeatSpan)
		return true
	}
	held := *t
	r.held = &held
	if len(e.open) == 0 || r.due.Before(e.next) {
		e.next = r.due
	}
	e.open = append(e.open, r)
	return false
}

// Due returns the repeats that are to be told at a time. Observe does so by the
// events' own time; who has no events for a while calls it with the clock's.
func (e *Engine) Due(now time.Time) []threat.Threat {
	var out []threat.Threat
	left := e.open[:0]
	for _, r := range e.open {
		if now.Before(r.due) {
			if len(left) == 0 || r.due.Before(e.next) {
				e.next = r.due
			}
			left = append(left, r)
			continue
		}
		out = append(out, *r.held)
		r.held, r.due = nil, now.Add(repeatSpan)
	}
	clear(e.open[len(left):])
	e.open = left
	return out
}

// Rest returns all repeats that were not told yet, for who ends.
func (e *Engine) Rest() []threat.Threat {
	var out []threat.Threat
	for _, r := range e.open {
		out = append(out, *r.held)
		r.held = nil
	}
	e.open = nil
	return out
}

// silenced says whether a threat is not to be heard.
func (e *Engine) silenced(t *threat.Threat) bool {
	for i := range e.hush {
		if Silences(&e.hush[i], t) {
			return true
		}
	}
	return false
}

// Silences says whether a silence is of a threat, by the time of what happened.
func Silences(s *threat.Silence, t *threat.Threat) bool {
	if !t.Last.Before(s.Until) || !rule.Like(t.Rule, s.Rule) {
		return false
	}
	if len(s.Groups) > 0 {
		found := false
		for _, g := range s.Groups {
			found = found || rule.Like(t.Group, g)
		}
		if !found {
			return false
		}
	}
	return s.About == "" || about(t, s.About)
}

func about(t *threat.Threat, part string) bool {
	texts := append([]string{t.Summary, t.Process.Executable}, t.Files...)
	if t.Call != nil {
		texts = append(texts, t.Call.Name, t.Call.Account, t.Call.Actor, t.Call.Agent)
	}
	for _, text := range texts {
		if strings.Contains(text, part) {
			return true
		}
	}
	for i := range t.Peers {
		if strings.Contains(t.Peers[i].Name, part) || strings.Contains(t.Peers[i].Address.String(), part) {
			return true
		}
	}
	return false
}

// Know tells of processes that ran on a host before its events are observed.
func (e *Engine) Know(agentID string, running []event.Running) {
	for i := range running {
		e.tree.Know(agentID, &running[i])
	}
}

// Inherit takes over what another engine knows of processes, of which threats were
// told already, and what rules learned over days (see rule.Rememberer). What they had
// counted or seen in part begins anew. The other engine is not to be used afterwards.
// The error is of memories that are begun anew, too; all else is taken over.
func (e *Engine) Inherit(from *Engine) error {
	e.tree, e.told, e.open, e.next = from.tree, from.told, from.open, from.next
	memories, err := from.Memories()
	return errors.Join(err, e.Remember(memories))
}

// Memories returns what rules learned over days, by their ids: what Remember of an
// engine that comes later takes. It has what could be told of also with an error.
func (e *Engine) Memories() (map[string]json.RawMessage, error) {
	memories := map[string]json.RawMessage{}
	var errs []error
	for _, r := range e.rules {
		l, ok := r.Detector.(rule.Rememberer)
		if !ok {
			continue
		}
		m, err := l.Memory()
		if err != nil {
			errs = append(errs, fmt.Errorf("what rule %s learned: %w", r.stats.Rule, err))
		} else if m != nil {
			memories[r.stats.Rule] = m
		}
	}
	return memories, errors.Join(errs...)
}

// Remember has rules take up what they learned in an engine before. Those of other
// rules are left. The error is of memories that can't be read; their rules begin anew.
func (e *Engine) Remember(memories map[string]json.RawMessage) error {
	var errs []error
	for _, r := range e.rules {
		l, ok := r.Detector.(rule.Rememberer)
		m := memories[r.stats.Rule]
		if !ok || m == nil {
			continue
		}
		if err := l.Remember(m); err != nil {
			errs = append(errs, fmt.Errorf("what rule %s learned before: %w", r.stats.Rule, err))
		}
	}
	return errors.Join(errs...)
}

// Silences are those that are in force.
func (e *Engine) Silences() []threat.Silence { return e.hush }

// Silence replaces the silences. What was silenced is not told afterwards.
func (e *Engine) Silence(all []threat.Silence) { e.hush = all }

// Rules are those that the engine has, as people are told of them.
func (e *Engine) Rules() []*threat.Rule {
	var out []*threat.Rule
	for _, r := range e.rules {
		out = append(out, r.About())
	}
	return out
}

// Stats say how each rule fares, in the order of Rules.
func (e *Engine) Stats() []Stats {
	var out []Stats
	for _, r := range e.rules {
		out = append(out, r.stats)
	}
	return out
}

// Names says whether a silence is of a rule, whatever the group.
func Names(s *threat.Silence, id string) bool { return rule.Like(id, s.Rule) }
