// Package condition is the language of admission rules: a typed schema of what
// conditions can name, expressions of CEL over it that are checked when a policy
// is read, and messages with values in them.
//
// What is not known is a value of its own: a condition whose result depends on it
// is neither true nor false but Unknown, and says what is missing. What can be
// said without it is said: "image.tag == 'latest' || image.scan.incomplete" is true
// for a tag latest, scanned or not.
//
// It knows nothing of rules, modes and exceptions: those are package policy's and
// decide's.
package condition

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
)

// Limits of a condition. A person writes it, but what it is held against is a
// stranger's text.
const (
	MaxExpression = 4096
	maxNesting    = 50
	maxLists      = 8       // within each other; types of such lists are compared in full, which takes the square of it
	maxCost       = 250_000 // in CEL's own units: some hundredths of a second; one look at each of 10,000 vulnerabilities is a quarter of it
	checkEvery    = 100     // steps of a loop between two looks at the clock
)

// Param is a parameter of a rule, which conditions call params.NAME.
type Param struct {
	Name string
	Type string // string, bool, int, double, duration, severity, list(string)
	// Value is what that type is in Go: string, bool, int64, float64, time.Duration,
	// finding.Severity, []string.
	Value any
}

// Complaint is what is wrong with an expression, and where in it.
type Complaint struct {
	Text, Remedy string
	Line, Column int // from 1, within the expression
}

// Error says what is wrong, without the place.
func (c *Complaint) Error() string { return c.Text }

// Compiler compiles conditions. It is for one goroutine.
type Compiler struct {
	Schema *Schema

	base     *cel.Env
	provider *provider
	kinds    map[string]*cel.Env
}

// NewCompiler returns a compiler.
func NewCompiler(s *Schema) (*Compiler, error) {
	p := &provider{Provider: types.NewEmptyRegistry(), schema: s}
	macros := []cel.Macro{cel.AllMacro, cel.ExistsMacro, cel.ExistsOneMacro, cel.MapMacro, cel.MapFilterMacro, cel.FilterMacro}
	options := slices.Concat([]cel.EnvOption{
		cel.CustomTypeProvider(p),
		cel.ClearMacros(), cel.Macros(macros...), // no has(): what is empty is empty, and what is unknown stays unknown
		cel.ParserRecursionLimit(maxNesting),
		cel.ParserExpressionSizeLimit(MaxExpression),
		ext.Strings(),
	}, severities(), functions(s))
	for _, v := range Common() {
		options = append(options, cel.Variable(v.Name, s.parseType(v.Type)))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("prepare conditions: %w", err)
	}
	return &Compiler{Schema: s, base: env, provider: p, kinds: map[string]*cel.Env{}}, nil
}

// env returns what the expressions of a rule are compiled in.
func (c *Compiler) env(k *Kind, params []Param) (*cel.Env, error) {
	env := c.kinds[k.Name]
	if env == nil {
		var options []cel.EnvOption
		for _, v := range k.Variables {
			options = append(options, cel.Variable(v.Name, c.Schema.parseType(v.Type)))
		}
		var err error
		if env, err = c.base.Extend(options...); err != nil {
			return nil, err
		}
		c.kinds[k.Name] = env
	}
	if len(params) == 0 {
		return env, nil
	}
	var options []cel.EnvOption
	for _, p := range params {
		options = append(options, cel.Constant("params."+p.Name, c.Schema.parseType(p.Type), constant(p.Value)))
	}
	return env.Extend(options...)
}

// Expression is a compiled expression.
type Expression struct {
	Text    string
	Basis   Basis
	program cel.Program
	loops   bool        // it goes through lists: it is limited while it runs
	quick   cel.Program // of one that loops: without limits, for little work
	work    work
}

// Loops says that it goes through lists: asking it takes its time.
func (e *Expression) Loops() bool { return e.loops }

// Condition compiles an expression that is true or false. The error is a
// *Complaint where it is about the text.
func (c *Compiler) Condition(k *Kind, params []Param, text string) (*Expression, error) {
	e, t, err := c.compile(k, params, text)
	if err == nil && !t.IsExactType(cel.BoolType) {
		return nil, &Complaint{Text: fmt.Sprintf("the condition gives %s, and must be true or false", t), Line: 1, Column: 1}
	}
	return e, err
}

// compile compiles any expression.
func (c *Compiler) compile(k *Kind, params []Param, text string) (*Expression, *cel.Type, error) {
	if len(text) > MaxExpression {
		return nil, nil, &Complaint{Text: fmt.Sprintf("a condition of %d bytes: at most %d are read", len(text), MaxExpression), Line: 1, Column: 1}
	}
	env, err := c.env(k, params)
	if err != nil {
		return nil, nil, fmt.Errorf("prepare conditions: %w", err)
	}
	c.provider.missed.in = nil
	parsed, issues := env.Parse(text)
	if issues.Err() != nil {
		return nil, nil, c.complain(k, params, issues)
	}
	if n := listsWithin(parsed.NativeRep().Expr()); n > maxLists {
		return nil, nil, &Complaint{Text: fmt.Sprintf("%d lists, maps or results of map() within each other: at most %d are read", n, maxLists), Remedy: "make it of fewer", Line: 1, Column: 1}
	}
	if parsed, issues = env.Check(parsed); issues.Err() != nil {
		return nil, nil, c.complain(k, params, issues)
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	e := &Expression{Text: text}
	made := ""
	ast.PostOrderVisit(parsed.NativeRep().Expr(), ast.NewExprVisitor(func(x ast.Expr) {
		switch x.Kind() {
		case ast.ComprehensionKind:
			e.loops = true
		case ast.StructKind:
			made = x.AsStruct().TypeName()
		}
	}))
	if made != "" {
		return nil, nil, &Complaint{Text: "a condition can't make a " + made, Line: 1, Column: 1}
	}
	e.Basis = basisOf(c.Schema, k, parsed.NativeRep())
	if e.loops {
		e.work = workOf(c.Schema, parsed.NativeRep())
		if e.quick, err = env.Program(parsed, options...); err != nil {
			return nil, nil, &Complaint{Text: err.Error(), Line: 1, Column: 1}
		}
		options = append(options, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(checkEvery))
	}
	if e.program, err = env.Program(parsed, options...); err != nil {
		return nil, nil, &Complaint{Text: err.Error(), Line: 1, Column: 1}
	}
	return e, parsed.OutputType(), nil
}

var (
	undeclared = regexp.MustCompile(`^undeclared reference to '([^']+)'`)
	misused    = regexp.MustCompile(`^found no matching overload for '([^']+)' applied to '(.*)'$`)
)

// complain says what is wrong in words that need no knowledge of CEL.
func (c *Compiler) complain(k *Kind, params []Param, issues *cel.Issues) *Complaint {
	all := issues.Errors()
	if len(all) == 0 {
		return &Complaint{Text: issues.Err().Error(), Line: 1, Column: 1}
	}
	first := all[0]
	out := &Complaint{Text: first.Message, Line: max(first.Location.Line(), 1), Column: max(first.Location.Column()+1, 1)}
	if m := c.provider.missed; strings.HasPrefix(first.Message, "undefined field") && m.in != nil {
		names := slices.Sorted(maps.Keys(m.in.byName))
		out.Text = fmt.Sprintf("%s has no field %q", m.in.Name, m.field)
		out.Text += meant(m.field, names)
		out.Remedy = "it has " + strings.Join(names, ", ") + "; castellan admit schema says what each is"
		return out
	}
	if m := undeclared.FindStringSubmatch(first.Message); m != nil {
		names := c.names(k, params)
		out.Text = fmt.Sprintf("there is no %q", m[1]) + meant(m[1], names)
		if m[1] == "has" {
			out.Text = "there is no has(): every field is there; what is not set is empty, 0 or false"
		}
		out.Remedy = fmt.Sprintf("a rule for %s has %s; castellan admit schema says what each is", k.Name, strings.Join(names, ", "))
		return out
	}
	if m := misused.FindStringSubmatch(first.Message); m != nil {
		out.Text = fmt.Sprintf("%s can't be used with %s", strings.Trim(m[1], "_@"), m[2])
		out.Remedy = "both sides must be of one kind, such as two texts, two numbers or two severities; castellan admit schema says what each field is"
	}
	return out
}

// names are what a rule's expressions can begin with.
func (c *Compiler) names(k *Kind, params []Param) []string {
	var out []string
	for _, v := range k.Variables {
		out = append(out, v.Name)
	}
	for _, p := range params {
		out = append(out, "params."+p.Name)
	}
	for _, v := range Common() {
		out = append(out, v.Name)
	}
	return out
}

// meant proposes the name that somebody may have meant.
func meant(wrote string, names []string) string {
	best, least := "", 1+len(wrote)/3
	for _, n := range names {
		if d := distance(wrote, n); d <= least && (best == "" || d < least) {
			best, least = n, d
		}
	}
	if best == "" {
		return ""
	}
	return ": did you mean " + best + "?"
}

// Nearest is what somebody may have meant who wrote something else: ": did you
// mean X?", or nothing.
func Nearest(wrote string, names []string) string { return meant(wrote, names) }

// distance is how many letters must be changed to make one text of another.
func distance(a, b string) int {
	const most = 100
	if len(a) > most || len(b) > most {
		return most
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, before+1)
		}
	}
	return row[len(b)]
}

// Holds evaluates a condition: whether it is true, or what it depends on that is
// not known. The error says why it could be evaluated to neither.
func (e *Expression) Holds(ctx context.Context, s *Scope) (holds bool, missing *types.Unknown, err error) {
	v, err := e.value(ctx, s)
	if err != nil {
		return false, nil, err
	}
	switch v := v.(type) {
	case types.Bool:
		return bool(v), nil, nil
	case *types.Unknown:
		return false, v, nil
	case nil:
		return false, nil, errNoValue
	}
	return false, nil, fmt.Errorf("it gives %s, neither true nor false", v.Type().TypeName())
}

func (e *Expression) value(ctx context.Context, s *Scope) (ref.Val, error) {
	program := e.program
	if e.loops {
		if !e.work.within(maxUncounted, s.View) {
			v, _, err := program.ContextEval(ctx, s)
			return v, err
		}
		program = e.quick
	}
	v, _, err := program.Eval(s)
	return v, err
}

// errNoValue is of a program that gives nothing.
var errNoValue = errors.New("it gives no value")
