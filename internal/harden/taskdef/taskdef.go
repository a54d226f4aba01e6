// Package taskdef hardens a task definition of ECS by a profile of behaviour: it
// takes away what the group does not need, and says of each line why.
//
// Only what a task definition can say is changed, and only of the container that
// the profile is about; what can't be said, or would break what the profile has,
// is left as it is and noted.
package taskdef

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/harden/intent"
	"github.com/castellan-security/castellan/internal/profile"
)

// Options say what is hardened, and for which hosts.
type Options struct {
	// File is the name of the document, for the diff.
	File string
	// Container is the name of the container; empty for the last part of the group.
	Container string
	// Module is the security module of the hosts.
	Module Module
	// AppArmor and SELinux are the names of the profiles that are named for it.
	AppArmor, SELinux string
}

// Module is a security module of hosts.
type Module string

// The modules. The zero value names no profile.
const (
	NoModule Module = ""
	AppArmor Module = "apparmor"
	SELinux  Module = "selinux"
)

// Change is one thing that was changed, and why.
type Change struct {
	Path   string `json:"path"`             // where: containerDefinitions[0].user
	Before string `json:"before,omitempty"` // as JSON; empty where there was nothing
	After  string `json:"after"`            // as JSON
	Reason string `json:"reason"`
}

// Result is a hardened task definition.
type Result struct {
	Document string // as JSON, in the order and the style of the one given
	Diff     string // unified; empty if nothing changes
	Changes  []Change
	Notes    []intent.Note
}

// Harden hardens a task definition.
func Harden(document []byte, p *profile.Profile, o Options) (Result, error) {
	h := &hardener{p: p, o: o}
	before, after, err := h.harden(document)
	if err != nil {
		return Result{}, err
	}
	name := o.File
	if name == "" {
		name = "task-definition.json"
	}
	return Result{
		Document: joined(after), Changes: h.changes, Notes: h.notes,
		Diff: unified(compare(before, after), intent.Line(name), intent.Line(strings.TrimSuffix(name, ".json"))+".hardened.json"),
	}, nil
}

// harden returns the lines of the document as it was and as it is then.
func (h *hardener) harden(document []byte) (before, after []line, err error) {
	if err := h.open(document); err != nil {
		return nil, nil, err
	}
	indent := indentOf(document)
	before = render(h.root, indent)
	for _, step := range []func() error{
		h.privileged, h.files, h.capabilities, h.user, h.limits, h.options, h.init, h.terminal, h.memory, h.host,
	} {
		if err := step(); err != nil {
			return nil, nil, err
		}
	}
	return before, render(h.root, indent), nil
}

// hardener changes one document.
type hardener struct {
	p       *profile.Profile
	o       Options
	root    any
	task    *object // the task definition
	at      string  // its place in the document
	c       *object // the container
	place   string  // its place
	fargate bool
	changes []Change
	notes   []intent.Note
}

func (h *hardener) note(e intent.Effect, c profile.Control, about, format string, args ...any) {
	h.notes = append(h.notes, intent.Note{Effect: e, Control: c, About: about, Text: fmt.Sprintf(format, args...)})
}

// open finds the container in the document.
func (h *hardener) open(document []byte) error {
	root, err := parse(document)
	if err != nil {
		return invalid("read task definition: %w", err)
	}
	h.root = root
	task, ok := root.(*object)
	if !ok {
		return invalid("read task definition: it is no object")
	}
	if inner, ok := task.get("taskDefinition"); ok {
		if task, ok = inner.(*object); !ok {
			return invalid("read task definition: taskDefinition is no object")
		}
		h.at = "taskDefinition"
	}
	h.task = task
	all, err := h.listOf(task, h.at, "containerDefinitions")
	if err != nil {
		return err
	}
	if err := h.pick(all); err != nil {
		return err
	}
	return h.where()
}

// pick chooses the container of the group.
func (h *hardener) pick(all []any) error {
	want := h.o.Container
	if want == "" {
		parts := strings.Split(string(h.p.Group), "/")
		want = parts[len(parts)-1]
	}
	var names []string
	for i, item := range all {
		c, ok := item.(*object)
		if !ok {
			return invalid("read task definition: containerDefinitions[%d] is no object", i)
		}
		name, _ := c.get("name")
		text, _ := name.(string)
		names = append(names, text)
		if text == want {
			h.c, h.place = c, fmt.Sprintf("%s[%d]", within(h.at, "containerDefinitions"), i)
		}
	}
	if h.c == nil {
		return fault.New(fault.NotFound, "the task definition has no container %q: it has %s", want, intent.Line(strings.Join(names, ", "))).
			With("name the one that the profile is about: --container NAME")
	}
	return nil
}

// where finds on which hosts the task may run.
func (h *hardener) where() error {
	kinds, err := h.listOf(h.task, h.at, "requiresCompatibilities")
	if err != nil {
		return err
	}
	h.fargate = slices.Contains(kinds, any("FARGATE"))
	platform, err := h.objectOf(h.task, h.at, "runtimePlatform")
	if err != nil {
		return err
	}
	if platform != nil {
		if family, _ := platform.get("operatingSystemFamily"); strings.HasPrefix(fmt.Sprint(family), "WINDOWS") {
			return fault.New(fault.Unsupported, "the task is for Windows").With("profiles are of Linux containers: give the task definition of one")
		}
	}
	if h.fargate && slices.Contains(kinds, any("EC2")) {
		h.note(intent.Advice, "", "requiresCompatibilities", "the task may run on Fargate and on EC2: it is hardened as far as Fargate allows; one task definition for each would allow more on EC2")
	}
	if len(kinds) == 0 {
		h.note(intent.Advice, "", "requiresCompatibilities", "it does not say where the task runs: EC2 is assumed; say [\"FARGATE\"] and harden it again if that is where")
	}
	if _, registered := h.task.get("taskDefinitionArn"); registered {
		h.note(intent.Advice, "", "taskDefinitionArn", "this is how ECS describes a task definition: leave taskDefinitionArn, revision, status, requiresAttributes, compatibilities, registeredAt and registeredBy out before you register it")
	}
	return nil
}

// listOf returns the items of a list, none if it is not there.
func (h *hardener) listOf(o *object, place, key string) ([]any, error) {
	v, _ := o.get(key)
	if v == nil {
		return nil, nil
	}
	l, ok := v.(*list)
	if !ok {
		return nil, invalid("read task definition: %s is no list", within(place, key))
	}
	items := make([]any, len(l.items))
	for i, item := range l.items {
		items[i] = bare(item)
	}
	return items, nil
}

// objectOf returns an object, nil if it is not there.
func (h *hardener) objectOf(o *object, place, key string) (*object, error) {
	v, _ := o.get(key)
	if v == nil {
		return nil, nil
	}
	inner, ok := v.(*object)
	if !ok {
		return nil, invalid("read task definition: %s is no object", within(place, key))
	}
	return inner, nil
}

// set changes a member, unless it is so already.
func (h *hardener) set(o *object, place, key string, value any, reason string, args ...any) {
	change := Change{Path: within(place, key), After: encode(value), Reason: fmt.Sprintf(reason, args...)}
	if old, ok := o.get(key); ok {
		if change.Before = encode(old); change.Before == change.After {
			return
		}
	}
	o.put(key, value)
	h.changes = append(h.changes, change)
}

// linux returns the container's Linux parameters, made if they are not there yet.
func (h *hardener) linux(reason string) (*object, string, error) {
	const key = "linuxParameters"
	o, err := h.objectOf(h.c, h.place, key)
	if err != nil {
		return nil, "", err
	}
	if o == nil {
		o = &object{}
		h.c.put(key, o)
		h.changes = append(h.changes, Change{Path: within(h.place, key), After: "{}", Reason: reason})
	}
	return o, within(h.place, key), nil
}

// isTrue reports whether a member is there and true.
func isTrue(o *object, key string) bool {
	v, _ := o.get(key)
	b, _ := v.(bool)
	return b
}

// amount returns a number, 0 if it is not there. ECS takes numbers as text in
// some places.
func amount(o *object, key string) uint64 {
	v, _ := o.get(key)
	var n uint64
	switch v := v.(type) {
	case json.Number:
		_, _ = fmt.Sscan(string(v), &n)
	case string:
		_, _ = fmt.Sscan(v, &n)
	}
	return n
}
