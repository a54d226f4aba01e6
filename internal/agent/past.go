package agent

import "github.com/castellan-security/castellan/internal/event"

// maxPast bounds the processes of the past that are remembered, at some 200
// bytes each. What is counted is told up to a minute after it happened, by the
// process that was the first: one of a few hundred at a time.
const maxPast = 4_096

// past remembers what the processes ran that ended last, and those that were
// looked up. The oldest gives way to the newest.
type past struct {
	paths map[event.Key]string
	order []event.Key // a ring
	next  int
}

func newPast() past { return past{paths: map[event.Key]string{}} }

func (p *past) find(k event.Key) (path string, known bool) {
	path, known = p.paths[k]
	return path, known
}

// add remembers the path, which may be empty: that nobody knows.
func (p *past) add(k event.Key, path string) {
	if _, known := p.paths[k]; known {
		p.paths[k] = path
		return
	}
	p.paths[k] = path
	if len(p.order) < maxPast {
		p.order = append(p.order, k)
		return
	}
	delete(p.paths, p.order[p.next])
	p.order[p.next] = k
	p.next = (p.next + 1) % maxPast
}
