package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"

	"github.com/castellan-security/castellan/internal/signature"
)

// Limits of a condition. A predicate is a stranger's text until its signer is
// known, and can be a signer's mistake after that.
const (
	maxExpression = 4096
	maxNesting    = 50        // of an expression
	maxCost       = 2_000_000 // in CEL's own units; a quarter of a second of work at most, and a scan of some megabytes is far below
	maxConditionT = time.Second
	checkEvery    = 100      // steps of a loop between two looks at the clock
	maxPredicate  = 16 << 20 // bytes
)

// Condition is a compiled expression about an attestation.
type Condition struct {
	Text    string
	At      Position
	UsesNow bool // its value can change by itself

	program cel.Program
}

// About is what a condition is asked about.
type About struct {
	Statement *signature.Statement
	Signer    string // its name in the policy
	Signed    *signature.Signed
	Digest    string // of the image that the statement is about
	Now       time.Time
}

// conditions returns what expressions are compiled in.
func conditions() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("predicate", cel.DynType),
		cel.Variable("statement", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("signer", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("now", cel.TimestampType),
		cel.OptionalTypes(),
		cel.ParserRecursionLimit(maxNesting),
		cel.ParserExpressionSizeLimit(maxExpression),
		ext.Strings(),
	)
}

// complaint is what is wrong with an expression, and where in it.
type complaint struct {
	text         string
	line, column int // from 1, within the expression
}

func (c *complaint) Error() string { return c.text }

// compile compiles an expression.
func compile(env *cel.Env, text string) (*Condition, error) {
	if len(text) > maxExpression {
		return nil, &complaint{fmt.Sprintf("an expression of %d bytes: at most %d are read", len(text), maxExpression), 1, 1}
	}
	ast, issues := env.Compile(text)
	if err := issues.Err(); err != nil {
		c := &complaint{err.Error(), 1, 1}
		if all := issues.Errors(); len(all) > 0 {
			c = located(all[0])
		}
		return nil, c
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, &complaint{fmt.Sprintf("the expression gives %s, and a condition must be true or false", t), 1, 1}
	}
	program, err := env.Program(ast, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(checkEvery), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, &complaint{err.Error(), 1, 1}
	}
	c := &Condition{Text: text, program: program}
	for _, r := range ast.NativeRep().ReferenceMap() {
		c.UsesNow = c.UsesNow || r.Name == "now"
	}
	return c, nil
}

func located(e *common.Error) *complaint {
	return &complaint{e.Message, e.Location.Line(), e.Location.Column() + 1}
}

// Holds evaluates the condition. An error says why it could be evaluated to
// neither true nor false: something that is not there, or too much work; that is
// as good as false. The error wraps ctx's if that is over.
func (c *Condition) Holds(ctx context.Context, a About, predicate any) (bool, error) {
	limited, cancel := context.WithTimeout(ctx, maxConditionT)
	defer cancel()
	v, _, err := c.program.ContextEval(limited, map[string]any{
		"predicate": predicate,
		"statement": map[string]any{"predicateType": a.Statement.Predicate, "digest": a.Digest, "subjects": a.Statement.Subjects},
		"signer":    signerMap(a),
		"now":       a.Now,
	})
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case limited.Err() != nil:
		return false, fmt.Errorf("took longer than %s", maxConditionT)
	case err != nil:
		return false, err
	}
	b, ok := v.(types.Bool)
	if !ok {
		return false, fmt.Errorf("gives %s, neither true nor false", v.Type().TypeName())
	}
	return bool(b), nil
}

func signerMap(a About) map[string]any {
	id := a.Signed.Identity
	claims := id.Claims
	if claims == nil {
		claims = map[string]string{}
	}
	return map[string]any{
		"name": a.Signer, "kind": string(a.Signed.Kind), "key": id.Key, "issuer": id.Issuer, "subject": id.Subject,
		"claims": claims, "certificate": id.Name, "store": id.Store, "profile": id.Profile,
		"at": a.Signed.At, "proof": string(a.Signed.Proof),
	}
}

// errPredicateSize is of a predicate that is too large to be looked at.
var errPredicateSize = errors.New("the predicate is larger than 16 MiB")

// Predicate returns a statement's predicate as conditions see it.
func Predicate(s *signature.Statement) (any, error) {
	if len(s.Body) > maxPredicate {
		return nil, errPredicateSize
	}
	var v any
	if err := json.Unmarshal(s.Body, &v); err != nil {
		return nil, fmt.Errorf("the predicate is no JSON: %w", err)
	}
	return v, nil
}
