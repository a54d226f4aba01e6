package rule

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/threat"
)

// condition is what must be true of an event. It is compiled at the latest when it is
// asked for the first time: of the rules that come with the program a host meets few,
// and to compile one takes some 100 KiB for the moment, and 10 for as long as it is
// there.
type condition struct {
	text    string
	names   *names
	program cel.Program // nil until it is compiled
	err     error       // why it can't be
}

// names are what the conditions of one rule can name: what all can, and its parameters.
type names struct {
	base   *cel.Env
	params []*param
	env    *cel.Env // nil until it is asked for
}

func (n *names) surroundings() (*cel.Env, error) {
	if n.env != nil {
		return n.env, nil
	}
	n.env = n.base
	if len(n.params) == 0 {
		return n.env, nil
	}
	var options []cel.EnvOption
	for _, p := range n.params {
		options = append(options, cel.Constant("params."+p.Name, celType(p.Type), constant(p.value)))
	}
	env, err := n.base.Extend(options...)
	if err != nil {
		return nil, err
	}
	n.env = env
	return env, nil
}

// condition reads a condition. One that is not compiled at once was when the program
// was tested.
func (w *compiling) condition(n *yaml.Node, on []event.Kind) *condition {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" && n.Tag != "!!bool" {
		w.reader.Wrong(n, "", "when is no condition")
		return nil
	}
	c := &condition{text: n.Value, names: w.names}
	if !w.all && !w.spec.changed && w.spec.Source == threat.BuiltIn {
		return c
	}
	env, err := w.names.surroundings()
	if err != nil {
		w.reader.Wrong(w.spec.node, "", "rule %s: %v", w.spec.ID, err)
		return nil
	}
	checked, issues := env.Compile(n.Value)
	if issues.Err() != nil {
		w.complain(n, issues)
		return nil
	}
	if !checked.OutputType().IsExactType(cel.BoolType) {
		w.reader.Wrong(n, "", "the condition gives %s, and must be true or false", checked.OutputType())
		return nil
	}
	w.check(n, checked.NativeRep(), on)
	if c.program, err = programOf(env, checked); err != nil {
		w.reader.Wrong(n, "", "%v", err)
	}
	return c
}

// compile makes the condition ready.
func (c *condition) compile() error {
	env, err := c.names.surroundings()
	if err != nil {
		return err
	}
	checked, issues := env.Compile(c.text)
	if err := issues.Err(); err != nil {
		return err
	}
	c.program, err = programOf(env, checked)
	return err
}

func programOf(env *cel.Env, checked *cel.Ast) (cel.Program, error) {
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if loops(checked.NativeRep()) {
		options = append(options, cel.CostLimit(maxCost))
	}
	return env.Program(checked, options...)
}

// loops says that an expression goes through lists, or makes something.
func loops(a *ast.AST) bool {
	found := false
	ast.PostOrderVisit(a.Expr(), ast.NewExprVisitor(func(x ast.Expr) {
		found = found || x.Kind() == ast.ComprehensionKind || x.Kind() == ast.StructKind || x.Kind() == ast.MapKind
	}))
	return found
}

// holds says whether a condition is true of a subject; the error is of one that
// can't be told.
func (c *condition) holds(s *Subject) (bool, error) {
	if c.program == nil {
		if c.err == nil {
			c.err = c.compile()
		}
		if c.err != nil {
			return false, c.err
		}
	}
	v, _, err := c.program.Eval(s.vars)
	if err != nil {
		return false, err
	}
	return v == types.True, nil
}
