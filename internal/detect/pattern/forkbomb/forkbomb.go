// Package forkbomb finds processes that make processes that make processes.
package forkbomb

import (
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/detect/keep"
	"github.com/castellan-security/castellan/internal/detect/pattern"
	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

const (
	maxWorkloads = 1024
	maxProcesses = 16 << 10         // of which it is known of which generation they are
	keepProcess  = 30 * time.Second // a bomb's generations follow each other at once
	maxParents   = 4096
	maxPrograms  = 16 // of a container that are counted apart
	maxSpan      = 10 * time.Minute
)

// About is what people are told of the rule.
func About() *threat.Rule {
	return pattern.Rule(threat.Rule{
		ID: "storm-fork-bomb", Theme: "storm", Title: "Processes make copies of themselves without end", Severity: finding.High,
		Tactic: threat.Impact, Techniques: []string{"T1499.001"}, Kinds: []event.Kind{event.KindFork, event.KindExec, event.KindLimit},
		Meaning:    "Within seconds a program forked itself, or ran itself again, over many generations and by many parents, until no process can be made; or a container came close to its limit of processes while one program made most of them.",
		FalseAlarm: "Programs that walk a tree of tasks with a process for each knot. Servers that fork many workers, make -j and CI have one parent for many children, or children that run something else.",
		Tuning:     "Raise generations or processes in groups of such programs.",
		Remedy:     "Stop the container, set a limit of processes (pids limit) in the task definition or profile, and find what started it.",
	},
		pattern.Int("processes", 30, "processes within the while that are copies of their parents"),
		pattern.Int("parents", 12, "different parents of these"),
		pattern.Int("generations", 5, "generations of copies, one of the other"),
		pattern.Int("near_limit", 40, "processes that one program made within the while before the limit came close"),
		pattern.Duration("within", 10*time.Second, "that while"),
	)
}

type bombs struct {
	processes, nearLimit uint64
	parents, generations int
	within               time.Duration
	line                 *keep.Map[pattern.Process, generations]
	workloads            *keep.Map[pattern.Workload, *births]
}

// generations are how many copies are known above a process, and below it. Children
// that end at once are told before their parents, and parents that live before theirs.
type generations struct{ above, below int }

// births are what a container made of late.
type births struct {
	copies  pattern.Rate
	parents pattern.Spread
	deepest int
	deep    time.Time // when that was
	all     pattern.Rate
	by      map[string]*pattern.Rate // by the program that was made
	trail   pattern.Trail
}

// New makes the detector.
func New(about *threat.Rule) (rule.Detector, error) {
	v := pattern.ValuesOf(about)
	d := &bombs{
		processes: uint64(v.Int("processes", 5, 100_000)), parents: int(v.Int("parents", 2, maxParents)), generations: int(v.Int("generations", 2, 1000)),
		nearLimit: uint64(v.Int("near_limit", 5, 100_000)), within: v.Duration("within", maxSpan),
		line: keep.New[pattern.Process, generations](maxProcesses, keepProcess),
	}
	d.workloads = keep.New[pattern.Workload, *births](maxWorkloads, 2*maxSpan)
	return pattern.Detector(about, pattern.On(d.fork, event.KindFork), pattern.On(d.exec, event.KindExec), pattern.On(d.limit, event.KindLimit)), v.Err()
}

func (d *bombs) of(e *event.Event) *births {
	k := pattern.WorkloadOf(e)
	at, ok := d.workloads.Get(k, e.Time)
	if !ok {
		at = d.workloads.Put(k, &births{by: map[string]*pattern.Rate{}}, e.Time)
	}
	return *at
}

func (d *bombs) fork(s *rule.Subject) *rule.Match { return d.copied(s) }

// exec looks at who runs itself again: the same line as the parent's.
func (d *bombs) exec(s *rule.Subject) *rule.Match {
	if s.Parent == nil || s.Process.Line == "" || s.Parent.Line != s.Process.Line {
		if d.line.Len() > 0 {
			d.line.Delete(pattern.ProcessOf(s.Event))
		}
		d.born(s, d.of(s.Event))
		return nil
	}
	return d.copied(s)
}

// born notes a process of whatever kind.
func (d *bombs) born(s *rule.Subject, b *births) {
	e := s.Event
	b.all.AddEvent(e, d.within)
	r := b.by[s.Process.Program]
	if r == nil {
		if len(b.by) >= maxPrograms {
			for name, other := range b.by {
				if other.Add(e.Time, d.within, 0) == 0 {
					delete(b.by, name)
				}
			}
			if len(b.by) >= maxPrograms {
				return // a bomb makes few
			}
		}
		r = &pattern.Rate{}
		b.by[s.Process.Program] = r
	}
	r.AddEvent(e, d.within)
}

// copied notes a process that is a copy of its parent.
func (d *bombs) copied(s *rule.Subject) *rule.Match {
	e := s.Event
	b := d.of(e)
	d.born(s, b)
	b.trail.Add(e)
	n := b.copies.AddEvent(e, d.within)
	parents := b.parents.Add(pattern.HashProcess(e.Process.Parent), e.Time, d.within, d.parents)
	generation := d.generation(e)
	if generation >= b.deepest || e.Time.Sub(b.deep) > d.within {
		b.deepest, b.deep = generation, e.Time
	}
	if n < d.processes || parents < d.parents || b.deepest < d.generations {
		return nil
	}
	return d.match(s, b, n, fmt.Sprintf("%s made %d processes within %s that are copies of %d parents, over %d generations", pattern.Who(s), n, d.within, parents, b.deepest))
}

// generation notes a process that is a copy, and returns how long the line of copies is
// that it is in, as far as it is known.
func (d *bombs) generation(e *event.Event) int {
	if e.Process.Parent.IsZero() {
		return 1
	}
	of := func(k event.Key) *generations {
		p := pattern.Process{Agent: e.AgentID, Key: k}
		at, ok := d.line.Get(p, e.Time)
		if !ok {
			at = d.line.Put(p, generations{}, e.Time)
		}
		return at
	}
	parent := *of(e.Process.Parent)
	child := of(e.Process.Key)
	child.above = parent.above + 1
	below := child.below + 1
	if below > parent.below {
		of(e.Process.Parent).below = below
	}
	return parent.above + below
}

// limit looks at who made the processes that there are too many of.
func (d *bombs) limit(s *rule.Subject) *rule.Match {
	e := s.Event
	if e.Resource == nil || e.Resource.What != "pids" {
		return nil
	}
	b := d.of(e)
	all, n, program := b.all.Add(e.Time, d.within, 0), uint64(0), ""
	for name, r := range b.by {
		if of := r.Add(e.Time, d.within, 0); of > n {
			n, program = of, name
		}
	}
	if n < d.nearLimit || n*2 < all {
		return nil
	}
	return d.match(s, b, n, fmt.Sprintf("%d of %d processes are there, %d of them made as %s within %s", e.Resource.Used, e.Resource.Limit, n, program, d.within))
}

func (d *bombs) match(s *rule.Subject, b *births, n uint64, says string) *rule.Match {
	m := rule.MatchOf(s, says)
	m.Before, m.Count = b.trail.Before(s.Event), n
	d.workloads.Delete(pattern.WorkloadOf(s.Event))
	return m
}
