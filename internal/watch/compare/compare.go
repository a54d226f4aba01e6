package compare

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/learn"
)

// Compare returns what is outside the profile about an event, nil if nothing is.
// What the host's kernel answered is outside whatever the profile says by now. The
// violation's mode, and the ids of what it is stored as, are the caller's.
func (x *Index) Compare(e *event.Event) *profile.Violation { return x.CompareOf(e, nil) }

// CompareOf is Compare with the workload whose event it is, which may be nil: with
// the layers of its image it is known whether a program was replaced.
func (x *Index) CompareOf(e *event.Event, w *asset.Workload) *profile.Violation {
	if e.WorkloadID == "" {
		return nil // a process of the host: no group's
	}
	if e.Reaction == event.ReactionNone && !learn.Done(e) {
		return nil // it failed by itself
	}
	o := x.outside(e, w)
	if o == nil {
		if e.Reaction == event.ReactionNone {
			return nil
		}
		o = answered(e)
	}
	v := &profile.Violation{
		Group: x.p.Group, Control: o.control, Kind: e.Kind, Reaction: e.Reaction, Subject: o.subject, Program: e.Process.Executable,
		Permit: o.permit, Unheld: o.unheld && e.Reaction == event.ReactionNone, Revision: x.p.Revision, WorkloadID: e.WorkloadID, AgentID: e.AgentID,
		EventID: e.ID, Count: e.Times(),
	}
	v.First, v.Last = learn.When(e)
	if v.Group == "" {
		v.Group = asset.Group(e.Group)
	}
	if o.permit != nil {
		o.permit.Group = v.Group
	}
	v.Sentence = o.sentence(e)
	v.Fingerprint = fingerprint(v, o.alike)
	if o.folder != "" {
		v.Folder = &profile.Folder{Print: fingerprint(&profile.Violation{Group: v.Group, Control: v.Control, Program: v.Program}, o.folder+"/"), Instead: o.instead}
		v.Folder.Path = path.Dir(o.alike)
		v.Folder.Below = v.Folder.Path != o.folder
	}
	return v
}

// outside is what an event has that the profile has not.
type outside struct {
	control profile.Control
	subject string
	alike   string // the subject without what changes each time
	did     string // "ran /bin/sh"
	instead string // what the profile allows
	permit  *profile.Profile
	folder  string // of which many files are told together; "": each is told by itself
	unheld  bool
}

func (x *Index) outside(e *event.Event, w *asset.Workload) *outside {
	switch {
	case e.Exec != nil:
		return x.exec(e, w)
	case e.File != nil:
		return x.file(e)
	case e.Connection != nil:
		return x.connection(e)
	case e.DNS != nil:
		return x.dns(e)
	case e.Privilege != nil:
		return x.privilege(e)
	case e.Memory != nil:
		return x.memory(e)
	}
	return nil
}

// answered is what the kernel answered though the profile has it by now, or can't
// say it: limits of resources, and what changed since.
func answered(e *event.Event) *outside {
	o := &outside{control: controlOf(e.Kind), subject: deed(e), alike: string(e.Kind), did: deed(e), instead: "the rules that the host held at that time did not have it; the profile has it now"}
	if e.Resource != nil {
		o.instead = "the limits of the profile are used up"
	}
	return o
}

// Permits reports whether an event lies within the profile, whatever a host answered
// that held other rules. w may be nil. What used up a limit lies in no profile.
func (x *Index) Permits(e *event.Event, w *asset.Workload) bool {
	return e.Resource == nil && x.outside(e, w) == nil
}

func controlOf(k event.Kind) profile.Control {
	switch k.Sensor() {
	case "file":
		return profile.ControlFile
	case "network", "dns":
		return profile.ControlNetwork
	case "privilege":
		return profile.ControlPrivilege
	case "resource":
		return profile.ControlResource
	case "memory":
		if k == event.KindExecMap {
			return profile.ControlExec
		}
		return profile.ControlPrivilege
	}
	return profile.ControlExec
}

// fingerprintBytes is how much of the hash names a violation: enough that two of a
// fleet never share one.
const fingerprintBytes = 16

func fingerprint(v *profile.Violation, alike string) string {
	h := sha256.New()
	for _, s := range []string{string(v.Group), string(v.Control), string(v.Kind), alike, v.Program} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:fingerprintBytes])
}

// sentence says what was done, by whom, what happened to it, and what the profile
// allows instead.
func (o *outside) sentence(e *event.Event) string {
	return who(e) + " " + o.did + profile.Happened(e.Reaction) + ": " + o.instead + "."
}

// who names the process: of an exec its parent, whose doing it was.
func who(e *event.Event) string {
	name := e.Process.Executable
	if e.Exec != nil {
		switch {
		case e.Exec.Entered:
			return "somebody outside the container"
		case learn.Engine(e):
			return "the container's start"
		case len(e.Exec.Ancestors) == 0:
			return "a process"
		}
		return parent(&e.Exec.Ancestors[0])
	}
	if name == "" {
		name = e.Process.Name
	}
	if name == "" {
		return "a process"
	}
	return path.Base(name)
}

// parent names a process by its program and, where that is called otherwise, by that
// too: a script has its own name, and an applet of BusyBox the applet's.
func parent(a *event.Ancestor) string {
	program := path.Base(a.Executable)
	switch {
	case a.Executable == "" && a.Name == "":
		return "a process"
	case a.Executable == "":
		return a.Name
	case a.Name == "" || strings.HasPrefix(program, a.Name) || strings.HasPrefix(a.Name, program):
		return program
	}
	return program + " (" + a.Name + ")"
}
