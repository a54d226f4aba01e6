package agent

import (
	"time"

	"github.com/castellan-security/castellan/internal/event"
)

// maxPast bounds the processes of the past that are remembered, at some 200
// bytes each. What is counted is told up to a minute after it happened, by the
// process that was the first: one of a few hundred at a time.
const maxPast = 4_096

// past remembers what the processes ran that ended last, and those that were
// looked up. The oldest gives way to the newest.
type past struct {
	ran   map[event.Key]pastRun
	order []event.Key // a ring
	next  int
}

// pastRun is what a process ran: a path, "" if nobody knows, and those before it, the
// newest last.
type pastRun struct {
	path   string
	before []replaced[string]
}

func newPast() past { return past{ran: map[event.Key]pastRun{}} }

// find returns what a process ran at a time.
func (p *past) find(k event.Key, at time.Time) (path string, known bool) {
	r, known := p.ran[k]
	if path, ok := ranAt(r.before, at); ok && path != "" {
		return path, true
	}
	return r.path, known
}

// add remembers the path, which may be empty: that nobody knows.
func (p *past) add(k event.Key, path string, before []replaced[*event.Running]) {
	r := pastRun{path: path}
	for _, b := range before {
		r.before = append(r.before, replaced[string]{b.ran.Process.Executable, b.until})
	}
	_, known := p.ran[k]
	p.ran[k] = r
	if known {
		return
	}
	if len(p.order) < maxPast {
		p.order = append(p.order, k)
		return
	}
	delete(p.ran, p.order[p.next])
	p.order[p.next] = k
	p.next = (p.next + 1) % maxPast
}
