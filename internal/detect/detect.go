// Package detect finds threats: what is hostile whatever a group's profile says.
//
// An Engine holds events against rules, those that come with the program and those
// that users write, and gives threats. It is for one goroutine, its state is bounded,
// and its clock is that of the events, so that a recorded day gives the same as the
// day itself:
//
//	e, err := detect.New(nil)
//	...
//	for ev := range events {
//		for _, t := range e.Observe(ev) {
//			...
//		}
//	}
//
// It is not for what is done about threats (see respond), nor for the stories that
// they make.
package detect

import (
	"cmp"
	"fmt"

	"github.com/castellan-security/castellan/internal/detect/engine"
	"github.com/castellan-security/castellan/internal/detect/library"
	"github.com/castellan-security/castellan/internal/detect/pattern"
	every "github.com/castellan-security/castellan/internal/detect/pattern/all"
	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/written"
)

// Engine holds events against rules.
type Engine = engine.Engine

// Stats say how a rule fares.
type Stats = engine.Stats

// Text is a document of rules, changes and silences that users wrote.
type Text struct {
	Name string
	Body []byte
	// Source says where its rules come from; empty is threat.Written.
	Source threat.Source
}

// New returns an engine with the built-in rules, and what users' documents make of
// them. The error of documents is written.Problems, of all that can't be read.
func New(texts []Text) (*Engine, error) {
	set, err := compile(texts, false)
	if err != nil {
		return nil, err
	}
	return engine.New(*set), nil
}

// Check returns what is wrong with users' documents, or with the built-in rules beside
// them: written.Problems.
func Check(texts []Text) error {
	_, err := compile(texts, true)
	return err
}

// compile makes rules of the built-in ones and of texts: with all every condition at
// once, see rule.Compile.
func compile(texts []Text, all bool) (*engine.Options, error) {
	documents, err := builtIn()
	if err != nil {
		return nil, err
	}
	var unread written.Problems
	for _, t := range texts {
		d, err := rule.Read(t.Name, t.Body, cmp.Or(t.Source, threat.Written))
		if err != nil {
			problems := written.ProblemsOf(err)
			if problems == nil {
				return nil, err
			}
			unread = append(unread, problems...)
			continue
		}
		documents = append(documents, d)
	}
	if unread != nil {
		// What the others mean can hang on what could not be read: it is told when
		// all can be.
		return nil, unread
	}
	patterns := every.Patterns()
	var code []*threat.Rule
	makers := map[string]pattern.Maker{}
	for _, p := range patterns {
		about := p.About()
		code = append(code, about)
		makers[about.ID] = p.New
	}
	set, err := rule.Compile(documents, code, func(about *threat.Rule) error {
		_, err := makers[about.ID](about)
		return err
	}, all)
	if err != nil {
		return nil, err
	}
	o := &engine.Options{Silences: set.Silences}
	for _, r := range set.Rules {
		o.Rules = append(o.Rules, r)
	}
	for i, p := range patterns {
		d, err := p.New(code[i])
		if err != nil {
			return nil, fmt.Errorf("rule %s: %w", code[i].ID, err)
		}
		o.Rules = append(o.Rules, d)
	}
	return o, nil
}

func builtIn() ([]*rule.Document, error) {
	files, err := library.Files()
	if err != nil {
		return nil, err
	}
	var out []*rule.Document
	for _, f := range files {
		d, err := rule.Read(f.Name, f.Text, threat.BuiltIn)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// Silences says whether a silence is of a threat, by the time of what happened.
func Silences(s *threat.Silence, t *threat.Threat) bool { return engine.Silences(s, t) }

// Names says whether a silence is of a rule, whatever the group.
func Names(s *threat.Silence, rule string) bool { return engine.Names(s, rule) }

// Like says whether a text, such as the name of a group, is of a pattern of a silence: *
// stands for any letters but /, ** for any.
func Like(text, pattern string) bool { return rule.Like(text, pattern) }
