package condition

import (
	"fmt"
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/castellan-security/castellan/internal/finding"
)

// severityType is how conditions know severities: they can be compared with each
// other and with nothing else.
var severityType = types.NewOpaqueType("severity").WithTraits(traits.ComparerType)

// severity is a severity as conditions see it.
type severity finding.Severity

// ConvertToNative is part of CEL's interface.
func (s severity) ConvertToNative(t reflect.Type) (any, error) {
	if t == reflect.TypeFor[finding.Severity]() {
		return finding.Severity(s), nil
	}
	return nil, fmt.Errorf("a severity can't become %s", t)
}

// ConvertToType is part of CEL's interface.
func (s severity) ConvertToType(t ref.Type) ref.Val {
	switch t {
	case types.StringType:
		return types.String(finding.Severity(s).String())
	case types.TypeType:
		return severityType
	}
	return types.NewErr("a severity can't become %s", t.TypeName())
}

// Equal is part of CEL's interface.
func (s severity) Equal(other ref.Val) ref.Val {
	o, ok := other.(severity)
	return types.Bool(ok && o == s)
}

// Compare orders severities.
func (s severity) Compare(other ref.Val) ref.Val {
	o, ok := other.(severity)
	switch {
	case !ok:
		return types.MaybeNoSuchOverloadErr(other)
	case s < o:
		return types.IntNegOne
	case s > o:
		return types.IntOne
	}
	return types.IntZero
}

// Type is part of CEL's interface.
func (s severity) Type() ref.Type { return severityType }

// Value is part of CEL's interface.
func (s severity) Value() any { return finding.Severity(s) }

// severities declares the names of severities, and how they are compared.
func severities() []cel.EnvOption {
	var out []cel.EnvOption
	for s := finding.Unknown; s <= finding.Critical; s++ {
		name := s.String()
		if s == finding.Unknown {
			name = "unrated" // "unknown" means something else to rules
		}
		out = append(out, cel.Constant(name, severityType, severity(s)))
	}
	for _, o := range []struct{ op, name string }{{"_<_", "less"}, {"_<=_", "less_equals"}, {"_>_", "greater"}, {"_>=_", "greater_equals"}} {
		out = append(out, cel.Function(o.op, cel.Overload(o.name+"_severity", []*cel.Type{severityType, severityType}, cel.BoolType)))
	}
	return append(out, cel.Function("string", cel.Overload("severity_to_string", []*cel.Type{severityType}, cel.StringType)))
}
