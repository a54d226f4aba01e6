package bpf

import "github.com/castellan-security/castellan/internal/event"

// like is what an event has in common with those that the kernel counts as being like
// it: what a sensor says of it, but for times and counts. It takes half of what an event
// does.
type like struct {
	kind     event.Kind
	workload string
	reaction event.Reaction
	process  event.Process
	// deed is the one payload of the event, as a pointer; nil for none.
	deed any
}

// likeOf returns what is kept of an event. It shares no payload with it.
func likeOf(e *event.Event) like {
	l := like{kind: e.Kind, workload: e.WorkloadID, reaction: e.Reaction, process: e.Process}
	c := e.Clone()
	switch {
	case c.Exec != nil:
		l.deed = c.Exec
	case c.Exit != nil:
		l.deed = c.Exit
	case c.File != nil:
		l.deed = c.File
	case c.Connection != nil:
		l.deed = c.Connection
	case c.DNS != nil:
		l.deed = c.DNS
	case c.Privilege != nil:
		l.deed = c.Privilege
	case c.Memory != nil:
		l.deed = c.Memory
	case c.Resource != nil:
		l.deed = c.Resource
	case c.Calls != nil:
		l.deed = c.Calls
	case c.Call != nil:
		l.deed = c.Call
	}
	return l
}

// event returns an event of it, which is the caller's.
func (l *like) event() event.Event {
	e := event.Event{Kind: l.kind, WorkloadID: l.workload, Reaction: l.reaction, Process: l.process}
	switch d := l.deed.(type) {
	case *event.Exec:
		e.Exec = d
	case *event.Exit:
		e.Exit = d
	case *event.File:
		e.File = d
	case *event.Connection:
		e.Connection = d
	case *event.DNS:
		e.DNS = d
	case *event.Privilege:
		e.Privilege = d
	case *event.Memory:
		e.Memory = d
	case *event.Resource:
		e.Resource = d
	case *event.Calls:
		e.Calls = d
	case *event.Call:
		e.Call = d
	}
	return e.Clone()
}
