package kernel

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/whole"
)

// limitRung is the rung of profile.ControlResource.
const limitRung = "limits of the container's cgroup"

// Limiter holds containers to the limits of their groups' profiles, by the files of
// their cgroups: processes, memory, processor time, bytes written to disks, and
// descriptors by the processes' own limits. It only ever makes a limit narrower
// than the engine's, and keeps on disk what was before, so that letting go, after a
// restart too, gives that back. Limits stay in force when this program ends. It is
// safe for concurrent use.
//
// Connections begun in a second are not the cgroup's to limit.
type Limiter struct {
	host *Host
	file string

	mu     sync.Mutex
	groups map[asset.Group]profile.Rules
	held   map[string]*limited // by container
	kept   fs.FileInfo         // of the file, as last read or written; nil: there is none
}

// limited is one container that is held; on disk with all others.
type limited struct {
	Group   asset.Group    `json:"group"`
	Limits  profile.Limits `json:"limits"` // that are in force
	Changes []change       `json:"changes,omitempty"`
	// Folder and Inode are of one of its cgroups: a container that is started again
	// has new ones, without limits.
	Folder string `json:"folder,omitempty"`
	Inode  uint64 `json:"inode,omitempty"`
	// Descriptors is the limit that its processes had.
	Descriptors *descriptorLimit `json:"descriptors,omitempty"`
	// former says that a former start wrote this down: it may have been killed before it
	// had set the limits.
	former bool
}

// change is a file of a cgroup that was written.
type change struct {
	File   string `json:"file"`
	Before string `json:"before"` // what gives back what was
}

// Limiter returns one that keeps what was before in a file, and takes up what that
// says. A file that can't be read is an error: what it knew would be lost.
func (h *Host) Limiter(file string) (*Limiter, error) {
	l := &Limiter{host: h, file: file, groups: map[asset.Group]profile.Rules{}}
	if err := l.read(); err != nil {
		return nil, err
	}
	return l, nil
}

// read takes up what the file says.
func (l *Limiter) read() error {
	l.held = map[string]*limited{}
	b, err := readBounded(l.file, maxLimiterFile)
	if errors.Is(err, fs.ErrNotExist) {
		l.kept = nil
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, &l.held)
	}
	if err == nil {
		l.kept, err = os.Stat(l.file)
	}
	if err != nil {
		return fault.New(fault.Corrupt, "read which limits were set: %w", err).
			With("limits that were set hold until the containers end; to go on without them remove " + l.file)
	}
	maps.DeleteFunc(l.held, func(_ string, c *limited) bool { return c == nil || c.over() }) // or they would pile up
	for _, c := range l.held {
		c.former = true
	}
	return nil
}

// Lost reports that another program gave containers back what they had, as it does when
// it releases the host. The rules are to be set again.
func (l *Limiter) Lost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, err := os.Stat(l.file)
	if errors.Is(err, fs.ErrNotExist) {
		now, err = nil, nil
	}
	if err != nil || now == nil && l.kept == nil {
		return false
	}
	if now != nil && l.kept != nil && os.SameFile(now, l.kept) && now.ModTime().Equal(l.kept.ModTime()) {
		return false
	}
	before := l.held
	if err := l.read(); err != nil {
		l.held, l.kept = before, now // it is written whole with the next change
		return false
	}
	return true
}

// maxLimiterFile has room for a thousand containers.
const maxLimiterFile = 4 << 20

// SetAll is Set for many groups; the errors are in the order of the rules.
func (l *Limiter) SetAll(all []profile.Rules) []error {
	errs := make([]error, len(all))
	for i, r := range all {
		errs[i] = l.Set(r)
	}
	return errs
}

// Set makes r the rules of its group. Containers that are held get the new limits
// at once.
func (l *Limiter) Set(r profile.Rules) error {
	if err := r.Check(); err != nil {
		return fault.New(fault.Invalid, "%w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.groups[r.Group] = r
	var errs []error
	for id, c := range l.held {
		if c.Group == r.Group && (c.Limits != limitsOf(r) || c.former && l.lacks(c, id)) {
			errs = append(errs, l.free(id), l.apply(id, r))
		}
		c.former = false
	}
	return errors.Join(errs...)
}

// lacks reports that a container is less limited than was written down.
func (l *Limiter) lacks(c *limited, id string) bool {
	if c.Limits == (profile.Limits{}) {
		return false
	}
	groups := l.host.findCgroups(id)
	return len(l.host.wanted(groups, c.Limits)) > 0 || l.host.descriptorsOf(groups, c.Limits.Descriptors) != nil
}

// limitsOf returns what is to be in force: nothing where the control only looks.
func limitsOf(r profile.Rules) profile.Limits {
	if r.Answers[profile.ControlResource] != profile.Deny {
		return profile.Limits{}
	}
	return r.Limits
}

// Remove gives the containers of a group what they had.
func (l *Limiter) Remove(g asset.Group) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.groups, g)
	var errs []error
	for id, c := range l.held {
		if c.Group == g {
			errs = append(errs, l.free(id))
		}
	}
	return errors.Join(errs...)
}

// LetGo gives the containers of all groups what they had.
func (l *Limiter) LetGo() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.groups)
	var errs []error
	for id := range l.held {
		errs = append(errs, l.free(id))
	}
	return errors.Join(errs...)
}

// Hold limits a container. One that has no cgroup yet is left for later: until then
// it is not among Containers.
func (l *Limiter) Hold(container string, g asset.Group) error {
	if !asset.IsContainerID(container) {
		return fault.New(fault.Invalid, "%q is no container id", container)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.groups[g]
	if !ok {
		return fault.New(fault.NotFound, "group %s has no rules here", g)
	}
	if c := l.held[container]; c != nil {
		if c.Group == g && c.Limits == limitsOf(r) && !c.over() {
			return nil
		}
		if err := l.free(container); err != nil {
			return err
		}
	}
	return l.apply(container, r)
}

// HoldAll is Hold for many.
func (l *Limiter) HoldAll(containers map[string]asset.Group) error {
	var errs []error
	for id, g := range containers {
		errs = append(errs, l.Hold(id, g))
	}
	return errors.Join(errs...)
}

// Forget gives a container what it had.
func (l *Limiter) Forget(container string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.free(container)
}

// Containers are those that are limited, with their groups.
func (l *Limiter) Containers() (map[string]asset.Group, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]asset.Group{}
	for id, c := range l.held {
		if !c.over() {
			out[id] = c.Group
		}
	}
	return out, nil
}

// over reports that the cgroups are gone or are others by now.
func (c *limited) over() bool { return c.Folder != "" && inodeOf(c.Folder) != c.Inode }

func inodeOf(file string) uint64 {
	var st unix.Stat_t
	if unix.Stat(file, &st) != nil {
		return 0
	}
	return st.Ino
}

// Groups are those that have rules, and those of containers that are limited.
func (l *Limiter) Groups() ([]asset.Group, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[asset.Group]bool{}
	for g := range l.groups {
		all[g] = true
	}
	for _, c := range l.held {
		all[c.Group] = true
	}
	return slices.Sorted(maps.Keys(all)), nil
}

// Controls says how limits are held.
func (l *Limiter) Controls(answers map[profile.Control]profile.Answer) []profile.HeldControl {
	c := profile.HeldControl{Control: profile.ControlResource, Answer: answers[profile.ControlResource], Rung: limitRung}
	switch c.Answer {
	case profile.Deny:
	case profile.Audit:
		c.Answer, c.Error = profile.Off, "limits are set or not: what would be held back is not told"
	default:
		c.Answer = profile.Off
	}
	return []profile.HeldControl{c}
}

// Settle does nothing: limits are files of the kernel, which know no version.
func (l *Limiter) Settle() error { return nil }

// apply limits a container that is not; l.mu is held. What was before is on disk
// before anything is changed.
func (l *Limiter) apply(id string, r profile.Rules) error {
	c := &limited{Group: r.Group, Limits: limitsOf(r)}
	if c.Limits == (profile.Limits{}) {
		l.held[id] = c
		return l.save()
	}
	groups := l.host.findCgroups(id)
	if len(groups) == 0 {
		return nil // not started yet, or ended
	}
	c.Folder = groups.any()
	c.Inode = inodeOf(c.Folder)
	wanted := l.host.wanted(groups, c.Limits)
	for _, w := range wanted {
		c.Changes = append(c.Changes, change{File: w.file, Before: w.before})
	}
	c.Descriptors = l.host.descriptorsOf(groups, c.Limits.Descriptors)
	l.held[id] = c
	if err := l.save(); err != nil {
		delete(l.held, id)
		return err
	}
	var errs []error
	for _, w := range wanted {
		errs = append(errs, writeLimit(w.file, w.value))
	}
	if c.Descriptors != nil {
		errs = append(errs, l.host.limitDescriptors(groups, c.Limits.Descriptors))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("limit container %s: %w", asset.ShortID(id), err)
	}
	return nil
}

// free gives a container what it had; l.mu is held. One that is gone has nothing to
// be given.
func (l *Limiter) free(id string) error {
	c := l.held[id]
	if c == nil {
		return nil
	}
	if c.over() {
		delete(l.held, id)
		return l.save()
	}
	var errs []error
	for _, was := range slices.Backward(c.Changes) {
		if err := writeLimit(was.File, was.Before); err != nil && !gone(err) {
			errs = append(errs, err)
		}
	}
	if c.Descriptors != nil {
		errs = append(errs, l.host.freeDescriptors(l.host.findCgroups(id), c.Limits.Descriptors, *c.Descriptors))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("give container %s back what it had: %w", asset.ShortID(id), err)
	}
	delete(l.held, id)
	return l.save()
}

// save writes down what was before.
func (l *Limiter) save() error {
	b, err := json.Marshal(l.held)
	if err != nil {
		return fmt.Errorf("write which limits were set: %w", err)
	}
	if err := whole.Write(l.file, b); err != nil {
		return fmt.Errorf("write which limits were set: %w", err)
	}
	if l.kept, err = os.Stat(l.file); err != nil {
		return fmt.Errorf("look at what was written of limits: %w", err)
	}
	return nil
}
