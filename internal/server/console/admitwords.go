package console

import (
	"strings"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/server/gate"
)

const (
	scopesShown = 100 // of a policy in words
	rulesNamed  = 50  // of one mode in one scope
)

// admissionPassages say what a policy means; nothing of a text that is none.
func admissionPassages(text string) []passage {
	p, err := admit.Read([]byte(text), gate.PolicyName)
	if err != nil {
		return nil // Check has said why
	}
	first := passage{Text: "What a rule has something against is refused, where no scope says otherwise."}
	if p.Mode() != admit.Enforce {
		first.Text = "What a rule has something against is told and let pass, where no scope says otherwise."
	}
	for _, d := range admission.Doors() {
		if p.OnError(d) == admission.Allow {
			first.Parts = append(first.Parts, passage{Text: "The door " + doorWords(d) + " lets pass what nobody can decide."})
		}
	}
	if all := p.Scopes(); len(all) == 1 {
		first.Parts = append(first.Parts, modePassages(&all[0], p.Rules())...)
	}
	out := append([]passage{first}, scopePassages(p)...)
	for _, r := range p.Rules() {
		x := passage{Line: r.Line, Text: r.Title}
		says := "rule " + r.ID
		if r.Use != "" && r.Use != r.ID {
			says += ", which is the built-in rule " + r.Use
		}
		if r.Mode != admit.Enforce {
			says += "; mode " + string(r.Mode) + ", whatever holds elsewhere"
		}
		x.Parts = []passage{{Text: says}}
		out = append(out, x)
	}
	for _, e := range p.Exceptions() {
		out = append(out, passage{
			Text:  "Excepted until " + day(e.Expires) + ": " + strings.Join(e.Rules, ", "),
			Parts: []passage{{Text: exceptionFor(&e)}, {Text: e.Owner + ": " + e.Reason}},
		})
	}
	return out
}

// scopePassages say where which rules refuse and where they only tell; nothing of a
// policy without scopes.
func scopePassages(p *admit.Policy) (out []passage) {
	all, rules := p.Scopes(), p.Rules()
	if len(all) == 1 { // what holds everywhere is said already
		return nil
	}
	for _, s := range all[:min(len(all), scopesShown)] {
		x := passage{Line: s.Line, Parts: modePassages(&s, rules)}
		switch {
		case s.Name != "":
			x.Text = "Scope " + s.Name + ": " + whereWords(s.Where)
		default:
			x.Text = "Wherever none of these scopes fits; of those that fit, the first counts"
		}
		out = append(out, x)
	}
	if more := len(all) - scopesShown; more > 0 {
		out = append(out, passage{Text: "And " + plural(more, "scope", "scopes") + " more."})
	}
	return out
}

// modePassages name the rules by what becomes of what they refuse in a scope.
func modePassages(s *admit.Scope, rules []admit.Rule) (out []passage) {
	for _, m := range []struct {
		mode      admit.Mode
		every, of string
	}{
		{admit.Enforce, "Every rule refuses", "Refuse (enforce): "}, {admit.Audit, "Every rule only tells (audit)", "Only tell (audit): "}, {admit.Off, "No rule is asked (off)", "Not asked (off): "},
	} {
		var ids []string
		for _, r := range rules {
			if s.Modes[r.ID] == m.mode {
				ids = append(ids, r.ID)
			}
		}
		switch more := len(ids) - rulesNamed; {
		case len(ids) == len(rules):
			out = append(out, passage{Text: m.every})
		case more > 0:
			out = append(out, passage{Text: m.of + strings.Join(ids[:rulesNamed], ", ") + " and " + plural(more, "other", "others")})
		case len(ids) > 0:
			out = append(out, passage{Text: m.of + strings.Join(ids, ", ")})
		}
	}
	return out
}

// whereWords say where a scope holds.
func whereWords(all []admit.Where) string {
	const few = 8 // patterns of one field
	var out []string
	for _, w := range all {
		patterns := strings.Join(w.Patterns[:min(len(w.Patterns), few)], " or ")
		if more := len(w.Patterns) - few; more > 0 {
			patterns += " or one of " + count(more) + " others"
		}
		out = append(out, w.Field+" is "+patterns)
	}
	return "where " + strings.Join(out, ", and ")
}
