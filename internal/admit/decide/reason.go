package decide

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/condition"
	"github.com/castellan-security/castellan/internal/admit/policy"
)

// lack is something that isn't known, and what comes of it.
type lack struct {
	container, image, text string
	effect                 admission.Effect
	exception              *admission.Exception
}

// missing is what rules need and nobody knows. One reason is told for all rules
// that need the same.
type missing struct {
	lack
	condition.Missing
	rules  []*policy.Rule
	lapsed *admission.Exception
}

// lacking notes that a rule can't be told.
func (d *decision) lacking(rule *policy.Rule, s *condition.Scope, mode policy.Mode, all []condition.Missing) {
	d.step().Unknown++
	effect := admission.Denies
	switch rule.Unknown {
	case policy.UnknownWarns:
		effect = admission.Warns
	case policy.UnknownWaits:
		// Waiting for one thing helps only if nothing else is missing for good.
		if !slices.ContainsFunc(all, func(m condition.Missing) bool { return m.State != admission.Waiting }) {
			effect = admission.Waits
		}
	}
	if mode == policy.Audit && effect != admission.Warns {
		effect = admission.Audited
	}
	e, lapsed := d.excepted(rule, s)
	if e != nil {
		effect = admission.Excepted
		d.before(e.Expires)
	}
	for _, m := range all {
		l := lack{text: m.Text, image: m.Image, effect: effect, exception: e}
		if m.Image == "" {
			l.container = s.ContainerName()
		}
		x := d.absent[l]
		if x == nil {
			x = &missing{lack: l, Missing: m, lapsed: lapsed}
			d.absent[l] = x
			d.lacks = append(d.lacks, x)
		}
		if !slices.Contains(x.rules, rule) {
			x.rules = append(x.rules, rule)
		}
	}
}

// verdict makes reasons of what was noted.
func (d *decision) verdict() admission.Verdict {
	v := admission.Verdict{Request: d.r.ID, Outcome: admission.Allow, Policy: d.p.Digest, At: d.now}
	for _, g := range d.order {
		if g.failure == nil && g.count <= g.rule.AtMost {
			continue
		}
		v.Reasons = append(v.Reasons, d.reasons(g)...)
	}
	for _, m := range d.lacks {
		v.Reasons = append(v.Reasons, m.reason())
	}
	waits := false
	for i := range v.Reasons {
		switch v.Reasons[i].Effect {
		case admission.Denies:
			v.Outcome = admission.Deny
		case admission.Waits:
			waits = true
		}
	}
	if waits && v.Outcome == admission.Allow {
		v.Outcome, v.Again = admission.Wait, d.p.AskAgain
	}
	slices.SortStableFunc(v.Reasons, func(a, b admission.Reason) int {
		return cmp.Or(cmp.Compare(place(a.Effect), place(b.Effect)), -cmp.Compare(a.Severity, b.Severity))
	})
	if more := len(v.Reasons) - MaxReasons; more > 0 {
		v.Reasons, v.Omitted = v.Reasons[:MaxReasons], more
	}
	boundSubjects(v.Reasons)
	for _, i := range d.view.Images() {
		if i.Facts != nil && i.Facts.Trust.State == admission.Known {
			d.before(i.Facts.Trust.Until)
		}
	}
	if d.clock {
		d.before(d.now.Add(recheck))
	}
	v.Until = d.until
	return v
}

// place orders effects: what denies first.
func place(e admission.Effect) int {
	return slices.Index([]admission.Effect{admission.Denies, admission.Waits, admission.Audited, admission.Excepted, admission.Warns}, e)
}

// reasons tells what a rule refuses: of kinds of which there are many, the gravest
// in a sentence and the others by name.
func (d *decision) reasons(g *group) []admission.Reason {
	one := func(s *condition.Scope) admission.Reason {
		r := admission.Reason{
			Effect: g.effect, Rule: g.rule.ID, Severity: g.rule.Severity, Container: g.container, Image: g.image, Line: g.rule.At.Line, Exception: g.exception,
			Message: g.rule.Message.Write(d.ctx, s), Remedy: g.rule.Remedy.Write(d.ctx, s),
		}
		if f := s.Fault(); f != nil {
			r.Container, r.Severity = f.Container, f.Severity
		}
		if g.failure != nil {
			r.Message, r.Remedy = fmt.Sprintf("the rule %s could not be asked: %v", g.rule.ID, g.failure), "correct the rule's deny"
		}
		r.Message += ended(g.lapsed)
		return r
	}
	if g.rule.For.Many {
		r := one(g.worst[0])
		r.Subjects = subjects(g.worst)
		if g.count > 1 {
			r.Count = g.count
		}
		r.Message += others(g, r.Subjects)
		return []admission.Reason{r}
	}
	out := make([]admission.Reason, 0, len(g.worst))
	for i, s := range g.worst {
		r := one(s)
		r.Subjects = subjects(g.worst[i : i+1])
		out = append(out, r)
	}
	return out
}

// subjects are what things are called, each once.
func subjects(all []*condition.Scope) (out []string) {
	for _, s := range all {
		if n := s.Subject(); n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

const (
	// maxSubject is how long a name may be that exceptions can be made for.
	maxSubject = 512
	// maxSubjects bounds the names of one verdict, which come from whoever asks:
	// doors must send and stores must keep it.
	maxSubjects = 16 << 10
)

// boundSubjects leaves out names beyond the limits; those of what denies stand
// first. A part of a name would be another one.
func boundSubjects(all []admission.Reason) {
	left := maxSubjects
	for i := range all {
		all[i].Subjects = slices.DeleteFunc(all[i].Subjects, func(s string) bool {
			if len(s) > min(left, maxSubject) {
				return true
			}
			left -= len(s)
			return false
		})
		if len(all[i].Subjects) == 0 {
			all[i].Subjects = nil
		}
	}
}

// others names what a rule refuses besides the gravest.
func others(g *group, names []string) string {
	if g.count < 2 {
		return ""
	}
	text := fmt.Sprintf(" – and %d more", g.count-1)
	if first := g.worst[0].Subject(); first != "" {
		names = names[1:]
	}
	if len(names) > 0 {
		text += ": " + strings.Join(names, ", ")
		if g.count > len(g.worst) {
			text += ", …"
		}
	}
	return text
}

// ended tells of an exception that is over.
func ended(e *admission.Exception) string {
	if e == nil {
		return ""
	}
	return fmt.Sprintf(" (an exception of %s ended on %s)", e.Owner, e.Expires.Format(time.DateOnly))
}

// sentence begins as the remedies of rules do.
func sentence(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(first)) + s[size:]
}

func (m *missing) reason() admission.Reason {
	r := admission.Reason{
		Effect: m.effect, Rule: m.rules[0].ID, Container: m.container, Image: m.image, Line: m.rules[0].At.Line,
		Unknown: m.What, Remedy: sentence(m.Remedy), Exception: m.exception,
	}
	ids := make([]string, 0, len(m.rules))
	for _, rule := range m.rules {
		r.Severity = max(r.Severity, rule.Severity)
		ids = append(ids, rule.ID)
	}
	const enough = 12
	more := ""
	if len(ids) > enough {
		more = fmt.Sprintf(" and %d more", len(ids)-enough)
		ids = ids[:enough]
	}
	r.Message = m.Text + " (needed by " + strings.Join(ids, ", ") + more + ")" + ended(m.lapsed)
	return r
}
