package condition

import (
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/castellan-security/castellan/internal/admission"
)

// maxUncounted is up to how many steps a condition that goes through lists runs
// without its work being counted, for counting takes longer than most conditions:
// some hundredths of maxCost.
const maxUncounted = 10_000

// work is how much work a condition can be at most, by its text: of the longest list
// that it may meet.
type work struct {
	steps int  // in each round of its innermost loop, at most
	depth int  // of loops within loops
	own   int  // the longest list that stands in the text
	found bool // it goes through what was found in images
	open  bool // it makes lists: nobody knows how long they get
}

// within says whether a condition takes no more than so many steps.
func (w *work) within(most int, v *View) bool {
	longest := max(w.own, v.entries, 1)
	if w.found {
		longest += v.found
	}
	steps := w.steps
	for range w.depth {
		if steps > most {
			return false
		}
		steps *= longest
	}
	return !w.open && steps <= most
}

// workOf reads an expression that was checked.
func workOf(s *Schema, a *ast.AST) work {
	r := workReader{schema: s, ast: a}
	ast.PostOrderVisit(a.Expr(), ast.NewExprVisitor(r.note))
	r.depth = depthOf(a.Expr())
	return r.work
}

type workReader struct {
	work
	schema *Schema
	ast    *ast.AST
}

func (r *workReader) note(e ast.Expr) {
	r.steps++
	if info := r.ast.ReferenceMap()[e.ID()]; info != nil && info.Value != nil {
		r.own = max(r.own, length(info.Value))
		return
	}
	switch e.Kind() {
	case ast.LiteralKind:
		r.own = max(r.own, length(e.AsLiteral()))
	case ast.ListKind:
		r.own = max(r.own, e.AsList().Size())
	case ast.MapKind:
		r.own = max(r.own, e.AsMap().Size())
	case ast.SelectKind:
		of := r.ast.GetType(e.AsSelect().Operand().ID())
		t := r.schema.structs[of.TypeName()]
		r.found = r.found || t == nil && of.Kind() != types.MapKind || t != nil && t.facts && many(r.ast.GetType(e.ID()))
	case ast.CallKind:
		// Of what adds lists, only a loop's own result is no longer than what it goes
		// through.
		name := e.AsCall().FunctionName()
		r.open = r.open || name == "split" || name == operators.Add && many(r.ast.GetType(e.ID())) && !adds(e.AsCall())
	}
}

// many says that a type is of several things, or may be.
func many(t *types.Type) bool {
	return t.Kind() == types.ListKind || t.Kind() == types.MapKind || t.Kind() == types.DynKind
}

// adds says that a call adds one thing to the result of a loop, as map and filter do.
func adds(c ast.CallExpr) bool {
	a := c.Args()
	return len(a) == 2 && a[0].Kind() == ast.IdentKind && a[0].AsIdent() == accumulator && a[1].Kind() == ast.ListKind && a[1].AsList().Size() == 1
}

// accumulator is what CEL calls the result of a loop; no text can name it.
const accumulator = "@result"

func length(v ref.Val) int {
	if s, ok := v.(traits.Sizer); ok && v.Type() != types.StringType && v.Type() != types.BytesType {
		if n, ok := s.Size().(types.Int); ok {
			return int(n)
		}
	}
	return 0
}

// depthOf returns how deep loops are within loops. What a loop goes through may be
// made by one, but is made once: it counts as within, to be safe.
func depthOf(e ast.Expr) int {
	deepest := 0
	for _, c := range inside(e) {
		deepest = max(deepest, depthOf(c))
	}
	if e.Kind() == ast.ComprehensionKind {
		deepest++
	}
	return deepest
}

// entriesOf counts what all lists of a request have, at most.
func entriesOf(r *admission.Request) int {
	t := &r.Task
	n := len(t.Containers) + len(t.Volumes) + len(t.Roles) + len(r.Repositories) + len(r.Faults)
	for i := range t.Containers {
		n += within(&t.Containers[i])
	}
	for i := range t.Volumes {
		n += len(t.Volumes[i].Options)
	}
	for i := range t.Roles {
		for _, p := range t.Roles[i].Policies {
			n += len(p) // no list in it has more entries than it has bytes
		}
	}
	for i := range r.Repositories {
		n += len(r.Repositories[i].Policy)
	}
	if r.Exec != nil {
		n += len(r.Exec.Command) + len(r.Exec.Env)
	}
	if r.Call != nil {
		n += len(r.Call.Options)
	}
	return n
}

// foundIn counts what all lists of facts have.
func foundIn(f *admission.Facts) int {
	if f == nil {
		return 0
	}
	n := len(f.Scan.Vulnerabilities) + len(f.Scan.Secrets) + len(f.Scan.Malware) + len(f.Scan.Faults) + len(f.Owners) + len(f.Labels) + len(f.Trust.Signers)
	if f.Users != nil {
		n += len(f.Users.Root) + len(f.Users.Others)
	}
	for i := range f.Trust.Signers {
		n += len(f.Trust.Signers[i].Names)
	}
	return n
}

// listsWithin returns how deep lists and maps are within each other. A result of
// map() or filter() is a list, too.
func listsWithin(e ast.Expr) int {
	deepest := 0
	for _, c := range inside(e) {
		deepest = max(deepest, listsWithin(c))
	}
	if e.Kind() == ast.ListKind || e.Kind() == ast.MapKind {
		deepest++
	}
	return deepest
}

// inside returns what an expression is made of.
func inside(e ast.Expr) []ast.Expr {
	switch e.Kind() {
	case ast.SelectKind:
		return []ast.Expr{e.AsSelect().Operand()}
	case ast.CallKind:
		if c := e.AsCall(); c.IsMemberFunction() {
			return append([]ast.Expr{c.Target()}, c.Args()...)
		}
		return e.AsCall().Args()
	case ast.ListKind:
		return e.AsList().Elements()
	case ast.MapKind:
		var all []ast.Expr
		for _, entry := range e.AsMap().Entries() {
			all = append(all, entry.AsMapEntry().Key(), entry.AsMapEntry().Value())
		}
		return all
	case ast.StructKind:
		var all []ast.Expr
		for _, f := range e.AsStruct().Fields() {
			all = append(all, f.AsStructField().Value())
		}
		return all
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		return []ast.Expr{c.IterRange(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()}
	}
	return nil
}
