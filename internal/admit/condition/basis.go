package condition

import (
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/castellan-security/castellan/internal/admission"
)

// Basis is what the value of a condition rests on, as far as its text shows it.
// With it what a condition said of an image can be said again without asking:
// of the same facts, and of the same of what else it reads.
type Basis struct {
	// Lasting says that the condition reads nothing but facts of the image that it
	// is asked about and what is said here. What can't be told isn't lasting.
	Lasting bool
	// Image says that it reads how the image was asked for: its reference, its tag.
	Image               bool
	Place, Door, Action bool

	turns []turn
}

// turn is what a condition reads of the clock: on which side of some times, so much
// later, it is now.
type turn struct {
	times func(*admission.Facts) []time.Time
	after time.Duration
}

// maxTurn bounds lengths of time that are compared with ages: Go's own end at 292
// years, and what is beyond stays there.
const maxTurn = 200 * 365 * 24 * time.Hour

// Span returns for how long a condition says the same of facts as it says now: as
// long as it is after since and before until; zero is no limit. ok is false if it
// may say something else in a moment.
func (b *Basis) Span(f *admission.Facts, now time.Time) (since, until time.Time, ok bool) {
	for _, t := range b.turns {
		for _, at := range t.times(f) {
			if at.IsZero() {
				continue
			}
			switch at = at.Add(t.after); {
			case at.Equal(now):
				return since, until, false
			case at.Before(now) && (since.IsZero() || at.After(since)):
				since = at
			case at.After(now) && (until.IsZero() || at.Before(until)):
				until = at
			}
		}
	}
	return since, until, true
}

// basisOf reads an expression that was checked.
func basisOf(s *Schema, k *Kind, a *ast.AST) Basis {
	r := basisReader{schema: s, kind: k, ast: a, locals: map[string]bool{}}
	r.Lasting = true
	r.read(a.Expr())
	return r.Basis
}

type basisReader struct {
	Basis
	schema *Schema
	kind   *Kind
	ast    *ast.AST
	locals map[string]bool // variables of loops
}

func (r *basisReader) read(e ast.Expr) {
	if !r.Lasting || r.constant(e) != nil {
		return
	}
	switch e.Kind() {
	case ast.LiteralKind:
	case ast.IdentKind:
		r.name(e.AsIdent())
	case ast.SelectKind:
		if f := r.field(e); f != nil && f.times != nil {
			// A length of time can be asked anything; only what is compared with a
			// fixed one changes at times that are known.
			r.Lasting = r.Lasting && f.typ != types.DurationType
			r.turns = append(r.turns, turn{f.times, 0})
		}
	case ast.CallKind:
		r.call(e.AsCall())
	case ast.ListKind:
		r.all(e.AsList().Elements()...)
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			r.all(entry.AsMapEntry().Key(), entry.AsMapEntry().Value())
		}
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		for _, v := range []string{c.IterVar(), c.IterVar2(), c.AccuVar()} {
			r.locals[v] = true
		}
		r.all(c.IterRange(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result())
	default:
		r.Lasting = false
	}
}

func (r *basisReader) all(es ...ast.Expr) {
	for _, e := range es {
		r.read(e)
	}
}

// constant returns the value of a name that stands for one, as a parameter does.
func (r *basisReader) constant(e ast.Expr) any {
	if ref := r.ast.ReferenceMap()[e.ID()]; ref != nil && ref.Value != nil {
		return ref.Value
	}
	return nil
}

// name notes a variable. A loop's that is called like one of the schema's counts
// as that.
func (r *basisReader) name(name string) {
	for _, v := range r.kind.Variables {
		if s := r.schema.structs[v.Type]; v.Name == name && s != nil {
			r.Lasting = r.Lasting && s.facts
			return
		}
	}
	switch name {
	case "action":
		r.Action = true
		return
	case "door":
		r.Door = true
		return
	case "place":
		r.Place = true
		return
	}
	for _, v := range Common() {
		if v.Name == name {
			r.Lasting = false
			return
		}
	}
	r.Lasting = r.Lasting && r.locals[name]
}

// field notes that a field is read, and returns it if it is one of the schema's.
func (r *basisReader) field(e ast.Expr) *Field {
	s := e.AsSelect()
	r.read(s.Operand())
	of := r.ast.GetType(s.Operand().ID())
	if of.Kind() == types.MapKind {
		return nil
	}
	t := r.schema.structs[of.TypeName()]
	if t == nil || !t.facts && t.Name != "Place" || s.IsTestOnly() {
		r.Lasting = false // of what it is isn't known before it runs, or it is of the request
		return nil
	}
	f := t.byName[s.FieldName()]
	if f == nil || f.request {
		r.Lasting = false
		return nil
	}
	r.Image = r.Image || f.asked
	return f
}

// call notes a function: a comparison of an age with a fixed length of time turns
// when the age is that.
func (r *basisReader) call(c ast.CallExpr) {
	if args := c.Args(); compares(c.FunctionName()) && len(args) == 2 {
		for i, one := range args {
			after, fixed := r.length(args[1-i])
			if !fixed || one.Kind() != ast.SelectKind || r.constant(one) != nil {
				continue
			}
			if f := r.field(one); f != nil && f.times != nil && f.typ == types.DurationType {
				r.turns = append(r.turns, turn{f.times, after})
				return
			}
		}
	}
	if c.IsMemberFunction() {
		r.read(c.Target())
	}
	r.all(c.Args()...)
}

func compares(function string) bool {
	switch function {
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals, operators.Equals, operators.NotEquals:
		return true
	}
	return false
}

// length returns a length of time that is the same whatever is asked.
func (r *basisReader) length(e ast.Expr) (time.Duration, bool) {
	d, ok := r.constant(e).(types.Duration)
	if !ok && e.Kind() == ast.CallKind && !e.AsCall().IsMemberFunction() && len(e.AsCall().Args()) == 1 {
		arg := e.AsCall().Args()[0]
		value := r.constant(arg)
		if arg.Kind() == ast.LiteralKind {
			value = arg.AsLiteral()
		}
		switch v := value.(type) {
		case types.Int:
			if e.AsCall().FunctionName() == "days" {
				d, ok = days(v).(types.Duration)
			}
		case types.String:
			if e.AsCall().FunctionName() == "duration" {
				d, ok = v.ConvertToType(types.DurationType).(types.Duration)
			}
		}
	}
	return d.Duration, ok && d.Duration > -maxTurn && d.Duration < maxTurn
}
