// Package harden writes what a profile of behaviour comes to for those who can
// hold a container to it without Castellan: an AppArmor profile, a seccomp
// profile, a module for SELinux, rules for Landlock, and a hardened task
// definition of ECS.
//
// Each output says what its language can say, and notes what is wider or
// narrower than the profile. It is pure: it reads and writes nothing.
//
//	r, err := harden.Compile(&p, harden.Options{Outputs: harden.Outputs()})
//	for _, f := range r.Files { … f.Name, f.Content … }
package harden

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/harden/apparmor"
	"github.com/castellan-security/castellan/internal/harden/intent"
	"github.com/castellan-security/castellan/internal/harden/landlock"
	"github.com/castellan-security/castellan/internal/harden/seccomp"
	"github.com/castellan-security/castellan/internal/harden/selinux"
	"github.com/castellan-security/castellan/internal/harden/taskdef"
	"github.com/castellan-security/castellan/internal/profile"
)

// Output is one form of a profile.
type Output string

// The outputs.
const (
	AppArmor       Output = "apparmor"
	Seccomp        Output = "seccomp"
	SELinux        Output = "selinux"
	Landlock       Output = "landlock"
	TaskDefinition Output = "task-definition"
)

// Outputs lists every output in the order in which they are written.
func Outputs() []Output { return []Output{AppArmor, Seccomp, SELinux, Landlock, TaskDefinition} }

// Effect says in which way an output is not the profile.
type Effect = intent.Effect

// The effects.
const (
	Wider    = intent.Wider    // it permits more than the profile
	Narrower = intent.Narrower // it refuses something that the profile has
	Advice   = intent.Advice   // something that a person must do or know
)

// Note is one thing that an output can't say, or says in another way.
type Note struct {
	Output Output `json:"output"`
	intent.Note
}

// Change is one thing that was changed in a task definition, and why.
type Change = taskdef.Change

// Options say what is written.
type Options struct {
	Outputs []Output
	// TaskDefinition is the document to harden, and File its name.
	TaskDefinition []byte
	File           string
	// Container is the name of the container in it; empty for the last part of the
	// group.
	Container string
	// Module is whose profile the task definition names: AppArmor, SELinux, or none.
	Module Output
}

// File is one output.
type File struct {
	Output  Output `json:"output"`
	Name    string `json:"name"` // of the file, without a folder
	Content string `json:"-"`
}

// Result is what a profile comes to.
type Result struct {
	Group    asset.Group `json:"group"`
	Revision int64       `json:"revision"`
	Files    []File      `json:"files"`
	// Diff and Changes are of the task definition.
	Diff    string   `json:"diff,omitempty"`
	Changes []Change `json:"changes,omitempty"`
	Notes   []Note   `json:"notes,omitempty"`
}

// Compile writes a profile in the forms that are asked for. An error of kind
// Invalid or NotFound says what is wrong with the profile or the task definition.
func Compile(p *profile.Profile, o Options) (Result, error) {
	if err := intent.Check(p); err != nil {
		return Result{}, err
	}
	r := Result{Group: p.Group, Revision: p.Revision}
	for _, output := range o.Outputs {
		if err := r.write(p, output, o); err != nil {
			return Result{}, err
		}
	}
	return r, nil
}

func (r *Result) write(p *profile.Profile, output Output, o Options) error {
	var content, name string
	var notes []intent.Note
	var err error
	switch base := apparmor.Name(p); output {
	case AppArmor:
		name = base + ".apparmor"
		content, notes = apparmor.Write(p)
	case Seccomp:
		name = base + ".seccomp.json"
		content, notes, err = seccomp.Write(p)
	case SELinux:
		name = selinux.Name(p) + ".cil"
		content, notes = selinux.Write(p)
	case Landlock:
		name = base + ".landlock.json"
		if content, notes, err = landlock.Write(p); err == nil && len(content) > MaxRules {
			err = fault.New(fault.Exhausted, "the rules for Landlock have %d bytes, at most %d are read", len(content), MaxRules).
				With("have fewer or wider paths in the profile")
		}
	case TaskDefinition:
		return r.task(p, base+".task-definition.json", o)
	default:
		return fault.New(fault.Invalid, "there is no output %q", output)
	}
	if err != nil {
		return err
	}
	r.add(output, name, content, notes)
	return nil
}

func (r *Result) task(p *profile.Profile, name string, o Options) error {
	t, err := taskdef.Harden(o.TaskDefinition, p, taskdef.Options{
		File: o.File, Container: o.Container, Module: taskdef.Module(o.Module), AppArmor: apparmor.Name(p), SELinux: selinux.Type(p),
	})
	if err != nil {
		return err
	}
	r.Diff, r.Changes = t.Diff, t.Changes
	r.add(TaskDefinition, name, t.Document, t.Notes)
	return nil
}

func (r *Result) add(output Output, name, content string, notes []intent.Note) {
	r.Files = append(r.Files, File{output, name, content})
	for _, n := range notes {
		r.Notes = append(r.Notes, Note{output, n})
	}
}

// MaxProfile and MaxRules bound documents that are read, in bytes: far more than
// the largest profile that can be stored.
const (
	MaxProfile = 32 << 20
	MaxRules   = 16 << 20
)

// ReadProfile reads a profile from JSON.
func ReadProfile(b []byte) (p profile.Profile, err error) {
	if err := read(b, MaxProfile, &p, false); err != nil {
		return p, fault.New(fault.Invalid, "read profile: %w", err).With("give a profile as JSON, as castellan watch profile GROUP -o json writes it")
	}
	return p, nil
}

// ReadLandlock reads rules for Landlock as Compile writes them. What it does not
// know is an error: rules must not be put in force in part.
func ReadLandlock(b []byte) (l profile.Landlock, err error) {
	err = read(b, MaxRules, &l, true)
	if err == nil {
		err = l.Check()
	}
	if err != nil {
		return l, fault.New(fault.Invalid, "read Landlock rules: %w", err).With("write them again: castellan harden GROUP --output landlock")
	}
	return l, nil
}

func read(b []byte, limit int, to any, strict bool) error {
	if len(b) > limit {
		return errors.New("it is longer than any")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if strict {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(to); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows its end")
	}
	return nil
}
