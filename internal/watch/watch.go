// Package watch is about how the workloads of a group behave: it learns what is
// normal from their events, says what lies outside, and makes of a profile what a
// host's kernel holds them to.
//
// It has no input or output of its own: whoever sequences it brings the events and
// keeps what was learned. It is not for what is hostile whatever the profile says:
// that is for detecting threats.
//
//	l := watch.NewLearner(group)
//	for _, e := range events {
//		l.Take(&e, workload)
//	}
//	p := l.Profile()
//	if v := watch.NewIndex(p).Compare(&e); v != nil {
//		// v.Sentence says what was done, and what the profile allows instead
//	}
package watch

import (
	"iter"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/compare"
	"github.com/castellan-security/castellan/internal/watch/compile"
	"github.com/castellan-security/castellan/internal/watch/document"
	"github.com/castellan-security/castellan/internal/watch/learn"
	"github.com/castellan-security/castellan/internal/watch/mode"
	"github.com/castellan-security/castellan/internal/watch/rehearse"
	"github.com/castellan-security/castellan/internal/watch/start"
)

// What whoever is outside this room knows.
type (
	// Learner learns how the workloads of one group behave.
	Learner = learn.Learner
	// Index is a profile made ready for comparing events with it.
	Index = compare.Index
	// CompileOptions are what rules depend on besides the profile.
	CompileOptions = compile.Options
	// Document is a profile that was read from its text.
	Document = document.Document
	// Change is one difference between two profiles.
	Change = document.Change
	// Starting is a profile to begin with.
	Starting = start.Starting
	// Rehearsal is what a rehearsal came to, Case one violation of it.
	Rehearsal = rehearse.Result
	// Case is one violation of a rehearsal.
	Case = rehearse.Case
	// Judgement says whether a block would have been wrong.
	Judgement = rehearse.Judgement
	// RehearseOptions are what a rehearsal depends on besides the profile.
	RehearseOptions = rehearse.Options
)

// What the life of a group's profile is made of: see Step.
type (
	// State is where a group is.
	State = mode.State
	// ModePolicy is how a group's mode changes by itself.
	ModePolicy = mode.Policy
	// Promote says what happens when a profile has been settled for long enough.
	Promote = mode.Promote
	// NewVersion says what a protected group does when a new image comes.
	NewVersion = mode.NewVersion
	// Input is what comes to pass: one of the following.
	Input = mode.Input
	// Tick is time that goes by.
	Tick = mode.Tick
	// Decide is a person's decision for a mode.
	Decide = mode.Decide
	// Decline is a person's no to what was proposed.
	Decline = mode.Decline
	// ImageSeen is a version of the image that a workload was started from.
	ImageSeen = mode.Image
	// Outside is something that lay outside the profile.
	Outside = mode.Outside
	// ClockSet is a clock that was set.
	ClockSet = mode.ClockSet
	// Release lets go of a group at once.
	Release = mode.Release
	// Arm ends a release.
	Arm = mode.Arm
	// Effect is one thing to be done after a step.
	Effect = mode.Effect
	// EffectKind is what is to be done.
	EffectKind = mode.EffectKind
)

// The words of a policy and of effects.
const (
	PromoteNever   = mode.Never
	PromotePropose = mode.Propose
	PromoteAuto    = mode.Auto

	NewVersionRelearn = mode.Relearn
	NewVersionHold    = mode.Hold

	EffectRules    = mode.Rules
	EffectRecord   = mode.Record
	EffectAsk      = mode.Ask
	EffectWithdraw = mode.Withdraw

	JudgedWrong   = rehearse.Wrong
	JudgedRight   = rehearse.Right
	JudgedUnclear = rehearse.Unclear
)

// SettledMeasure is from which measure on a profile counts as settled.
const SettledMeasure = mode.SettledMeasure

// MaxDocument is how large the text of a profile may be.
const MaxDocument = document.MaxBytes

// NewLearner returns a learner that knows nothing yet.
func NewLearner(g asset.Group) *Learner { return learn.New(g) }

// LoadLearner makes a learner of what its Save returned.
func LoadLearner(b []byte) (*Learner, error) { return learn.Load(b) }

// NewIndex makes a profile ready for comparing.
func NewIndex(p *profile.Profile) *Index { return compare.NewIndex(p) }

// Compile returns the rules of a profile, and in sentences what they can't hold to.
func Compile(p *profile.Profile, o CompileOptions) (profile.Rules, []string, error) {
	return compile.Compile(p, o)
}

// Answer is what happens to what lies outside in a mode, where somebody set
// switched for a control, or nothing.
func Answer(m profile.Mode, switched profile.Answer) profile.Answer {
	return compile.Answer(m, switched)
}

// Merge returns what two profiles permit together, with base's group and revision.
func Merge(base, more *profile.Profile) *profile.Profile { return learn.Merge(base, more) }

// Write writes a profile as YAML: one profile always gives the same bytes, which can
// be signed. name is what people call it, and may be empty.
func Write(p *profile.Profile, name string) []byte { return document.Write(p, name) }

// Digest names what a profile permits, "sha256:HEX", whatever the evidence.
func Digest(p *profile.Profile) string { return document.Digest(p) }

// Read reads the text of a profile; file is what it is called in problems, which are
// written.Problems.
func Read(b []byte, file string) (*Document, error) { return document.Read(b, file) }

// Import returns what was read as the profile that follows current, which may be nil:
// what is the same keeps its evidence, the rest is a person's.
func Import(current, read *profile.Profile) *profile.Profile { return document.Import(current, read) }

// Changes says in plain words what after permits and before does not, and the other
// way round.
func Changes(before, after *profile.Profile) []Change { return document.Diff(before, after) }

// VersionChanges says what a version of the image, by its digest, does that earlier
// ones did not, and what only earlier ones did.
func VersionChanges(p *profile.Profile, version string) []Change { return document.Changes(p, version) }

// VersionOf names the version of the image that a workload runs, as profiles name
// it; "" if it is not known.
func VersionOf(w *asset.Workload) string { return learn.VersionOf(w) }

// Entries counts the entries of a profile.
func Entries(p *profile.Profile) int { return learn.Entries(p) }

// StartingFor returns the starting profile for an image, or for what starts in its
// containers; nil if there is none.
func StartingFor(image asset.Image, entrypoint []string) (*Starting, error) {
	return start.For(image, entrypoint)
}

// StartingNames lists the starting profiles by their names.
func StartingNames() []string { return start.Names() }

// StartingNamed returns a starting profile by its name.
func StartingNamed(name string) (*Starting, error) { return start.Named(name) }

// Step returns where a group is after an input, and what is to be done.
func Step(s State, in Input) (State, []Effect) { return mode.Step(s, in) }

// Rehearse holds recorded events, in any order, against a profile: what would protect
// have blocked, and would it have been wrong?
func Rehearse(p *profile.Profile, events iter.Seq2[event.Event, error], o RehearseOptions) (Rehearsal, error) {
	return rehearse.Run(p, events, o)
}
