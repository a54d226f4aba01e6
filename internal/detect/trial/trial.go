// Package trial tries rules of detection: events in a short form, and which rules
// they must make fire. The built-in rules are tested by it, and users can test theirs.
//
// A document has cases of a rule:
//
//	cases:
//	- rule: escape-core-pattern
//	  fires:
//	  - - {on: privilege.kernel, exe: /bin/sh, target: /proc/sys/kernel/core_pattern}
//	  silent:
//	  - - {on: privilege.kernel, exe: /bin/sh, target: /proc/sys/kernel/hostname}
//
// An event names its kind, its process, and the fields of its payload as the API
// writes them. What it leaves out: exe is /usr/bin/app, pid 100, parent 1, workload
// w1, group shop/web/app; name is the process's, and of a dns event what is asked for;
// asked is the name that a connection's peer was asked for by.
// A process began as many seconds after its host as its number says: what the first
// process (1) started belongs to the container's start up to number 61.
// A call of AWS (on: trail.call) has a form of its own: see callOf.
// With count it is one event that stands for so many, and lasts says for how long.
// With repeat it happens so often, every so far apart, and
// {n} in its texts is which time it is.
package trial

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/detect/tree"
	"github.com/castellan-security/castellan/internal/event"
)

// Document is a text of cases.
type Document struct {
	Cases []Case `yaml:"cases"`
}

// Case has what must make a rule fire, and what looks alike and must not.
type Case struct {
	Rule   string    `yaml:"rule"`
	Fires  [][]Event `yaml:"fires"`
	Silent [][]Event `yaml:"silent"`
	// Params are what the rule's parameters are for it.
	Params map[string]any `yaml:"params,omitempty"`
}

// Event is an event in short form.
type Event map[string]any

// maxRepeat bounds a trial.
const maxRepeat = 200_000

// Read reads a document.
func Read(b []byte) (*Document, error) {
	var d Document
	if err := yaml.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("read cases: %w", err)
	}
	return &d, nil
}

// step is the time between two events that say nothing of it.
const step = 10 * time.Millisecond

// Events returns the events of a list of short ones, from a time on.
func Events(all []Event, from time.Time) ([]*event.Event, error) {
	var out []*event.Event
	at := from
	for i, short := range all {
		times, err := numberOf(short, "repeat", 1)
		if err != nil || times < 1 || times > maxRepeat {
			return nil, fmt.Errorf("event %d: repeat %v: want 1 to %d", i+1, short["repeat"], maxRepeat)
		}
		every, err := spanOf(short, "every", step)
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", i+1, err)
		}
		after, err := spanOf(short, "after", step)
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", i+1, err)
		}
		at = at.Add(after)
		for n := range times {
			if n > 0 {
				at = at.Add(every)
			}
			e, err := one(short, n, at)
			if err != nil {
				return nil, fmt.Errorf("event %d: %w", i+1, err)
			}
			e.Seq = uint64(len(out) + 1)
			out = append(out, e)
		}
	}
	return out, nil
}

func spanOf(short Event, name string, otherwise time.Duration) (time.Duration, error) {
	s, ok := short[name].(string)
	if !ok {
		return otherwise, nil
	}
	return time.ParseDuration(s)
}

func numberOf(short Event, name string, otherwise int) (int, error) {
	switch v := short[name].(type) {
	case nil:
		return otherwise, nil
	case int:
		return v, nil
	case string:
		return strconv.Atoi(v)
	}
	return 0, fmt.Errorf("%s is no number", name)
}

// one makes the n-th event of a short one.
func one(short Event, n int, at time.Time) (*event.Event, error) {
	m := Event{}
	for k, v := range short {
		m[k] = filled(v, n)
	}
	e := &event.Event{Version: event.Version, AgentID: "a1", Boot: "b1", Time: at, WorkloadID: "w1", Group: "shop/web/app"}
	kind, _ := m["on"].(string)
	e.Kind = event.Kind(kind)
	if host, _ := m["host"].(bool); host {
		e.WorkloadID, e.Group = "", ""
	}
	take(m, "workload", &e.WorkloadID)
	take(m, "group", &e.Group)
	if e.Kind != event.KindCall { // which has one that is a program
		take(m, "agent", &e.AgentID)
	}
	if err := process(m, e); err != nil {
		return nil, err
	}
	count, err := numberOf(m, "count", 0)
	if err != nil {
		return nil, err
	}
	e.Count = uint64(count)
	lasts, err := spanOf(m, "lasts", 0)
	if err != nil {
		return nil, err
	}
	if lasts > 0 {
		e.Last = at.Add(lasts)
	}
	for _, own := range []string{"on", "host", "pid", "parent", "exe", "name", "cpid", "uid", "euid", "count", "lasts", "repeat", "every", "after"} {
		if own == "name" && e.Kind.Sensor() == "dns" {
			continue // what is asked for
		}
		delete(m, own)
	}
	if e.Kind == event.KindCall {
		return e, callOf(m, e)
	}
	if asked, ok := m["asked"]; ok && e.Kind.Sensor() == "network" && e.Kind != event.KindUnix {
		m["name"] = asked
		delete(m, "asked")
	}
	return e, payload(m, e)
}

func take(m Event, name string, to *string) {
	if s, ok := m[name].(string); ok {
		*to = s
		delete(m, name)
	}
}

// filled puts the number in the place of {n}, and for {hex} something long that looks
// random and is the same each time.
func filled(v any, n int) any {
	switch v := v.(type) {
	case string:
		v = strings.ReplaceAll(v, "{n}", strconv.Itoa(n))
		if strings.Contains(v, "{hex}") {
			v = strings.ReplaceAll(v, "{hex}", noise(n))
		}
		return v
	case Event: // as the reader of YAML makes maps within one
		out := make(Event, len(v))
		for k := range v {
			out[k] = filled(v[k], n)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = filled(v[i], n)
		}
		return out
	}
	return v
}

func noise(n int) string {
	var b strings.Builder
	x := uint64(n)*0x9e3779b97f4a7c15 + 1
	for range 3 {
		x ^= x >> 27
		x *= 0x94d049bb133111eb
		x ^= x >> 31
		fmt.Fprintf(&b, "%016x", x)
	}
	return b.String()
}

func process(m Event, e *event.Event) error {
	pid, err := numberOf(m, "pid", 100)
	if err != nil {
		return err
	}
	parent, err := numberOf(m, "parent", 1)
	if err != nil {
		return err
	}
	uid, err := numberOf(m, "uid", 0)
	if err != nil {
		return err
	}
	inside, err := numberOf(m, "cpid", 0)
	if err != nil {
		return err
	}
	p := &e.Process
	p.Executable = "/usr/bin/app"
	if s, ok := m["exe"].(string); ok {
		p.Executable = s
	}
	p.Name = tree.Base(p.Executable)
	if s, ok := m["name"].(string); ok && e.Kind.Sensor() != "dns" {
		p.Name = s
	}
	const comm = 15 // bytes that the kernel keeps
	p.Name = p.Name[:min(len(p.Name), comm)]
	p.Key, p.Parent = key(pid), key(parent)
	p.ContainerPID = uint32(inside)
	euid, err := numberOf(m, "euid", uid)
	if err != nil {
		return err
	}
	p.UID, p.EUID = uint32(uid), uint32(euid)
	return nil
}

func key(pid int) event.Key {
	if pid == 0 {
		return event.Key{}
	}
	return event.Key{PID: uint32(pid), Start: uint64(pid) * 1e9}
}

// payload reads the rest of a short event as the API writes it.
func payload(m Event, e *event.Event) error {
	var to any
	switch e.Kind {
	case event.KindExec:
		e.Exec = &event.Exec{}
		if line, ok := m["run"].(string); ok {
			delete(m, "run")
			m["args"] = strings.Fields(line)
		}
		if m["args"] == nil {
			m["args"] = []string{e.Process.Executable}
		}
		if m["origin"] == nil {
			m["origin"] = string(event.OriginImage)
		}
		to = e.Exec
	case event.KindExit:
		e.Exit = &event.Exit{}
		to = e.Exit
	case event.KindFork:
		return nil
	default:
		switch e.Kind.Sensor() {
		case "file":
			e.File = &event.File{}
			to = e.File
		case "network":
			e.Connection = &event.Connection{Protocol: "tcp"}
			if e.Kind == event.KindUnix {
				e.Connection.Protocol = "unix"
			}
			to = e.Connection
		case "dns":
			e.DNS = &event.DNS{Type: "A", Protocol: "udp"}
			to = e.DNS
		case "privilege":
			e.Privilege = &event.Privilege{}
			to = e.Privilege
		case "memory":
			e.Memory = &event.Memory{}
			to = e.Memory
		case "resource":
			e.Resource = &event.Resource{}
			to = e.Resource
		default:
			return fmt.Errorf("kind %q: there is no short form of it", e.Kind)
		}
	}
	return decode(m, to)
}

func decode(m Event, to any) error {
	plain := maps.Clone(map[string]any(m))
	if pid, ok := plain["process"].(int); ok {
		plain["process"] = key(pid).String() // the other process
	}
	b, err := json.Marshal(plain)
	if err != nil {
		return err
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return fmt.Errorf("%s: %w", b, err)
	}
	return nil
}
