package rule

import (
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/decls"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// Function is one that conditions have beside CEL's own and those of its strings.
type Function struct {
	Form string // as it is written
	Doc  string

	name string
	test func(text, item string) bool // nil: it is not of a text and a list
}

// Functions lists them.
func Functions() []Function {
	return []Function{
		{"under(path, folders)", "the path is one of the folders, or is below one", "under", under},
		{"startsAny(text, beginnings)", "the text begins with one of these", "startsAny", strings.HasPrefix},
		{"endsAny(text, ends)", "the text ends with one of these", "endsAny", strings.HasSuffix},
		{"containsAny(text, parts)", "one of these is in the text", "containsAny", strings.Contains},
		{"like(text, patterns)", "the text is of one of the patterns: * stands for any letters but /, ** for any", "like", Like},
		{"shares(texts, texts)", "one text is in both lists", "shares", nil},
	}
}

func under(path, folder string) bool {
	rest, ok := strings.CutPrefix(path, folder)
	return ok && (rest == "" || rest[0] == '/' || strings.HasSuffix(folder, "/"))
}

// Like says whether a text is of a pattern: * stands for any letters but /, ** for
// any. It takes the product of both lengths at most.
func Like(text, pattern string) bool {
	// What stands after the last * tells most texts from most patterns at once.
	if !strings.HasSuffix(text, pattern[strings.LastIndexByte(pattern, '*')+1:]) {
		return false
	}
	t, p := 0, 0
	star, from, deep := -1, 0, false
	starSlash, fromSlash := -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			deep = p+1 < len(pattern) && pattern[p+1] == '*'
			p++
			if deep {
				p++
				starSlash, fromSlash = p, t
				star = -1
			} else {
				star, from = p, t
			}
		case p < len(pattern) && pattern[p] == text[t]:
			t++
			p++
		case star >= 0 && text[from] != '/':
			from++
			t, p = from, star
		case starSlash >= 0:
			fromSlash++
			t, p, star = fromSlash, starSlash, -1
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// unguarded has CEL not look at the types of arguments before each call, for which it
// takes half of the time: the functions do so themselves.
var unguarded = decls.DisableTypeGuards(true)

func functions() []cel.EnvOption {
	var out []cel.EnvOption
	for _, f := range Functions() {
		if f.test == nil {
			continue
		}
		out = append(out, cel.Function(f.name, unguarded, cel.Overload(f.name+"_string_list",
			[]*cel.Type{cel.StringType, cel.ListType(cel.StringType)}, cel.BoolType,
			cel.BinaryBinding(func(a, b ref.Val) ref.Val {
				text, ok := a.(types.String)
				if !ok {
					return types.MaybeNoSuchOverloadErr(a)
				}
				return eachOf(b, func(item string) bool { return f.test(string(text), item) })
			}))))
	}
	return append(out, cel.Function("shares", unguarded, cel.Overload("shares_list_list",
		[]*cel.Type{cel.ListType(cel.StringType), cel.ListType(cel.StringType)}, cel.BoolType,
		cel.BinaryBinding(func(a, b ref.Val) ref.Val {
			return eachOf(a, func(x string) bool { return eachOf(b, func(y string) bool { return x == y }) == types.True })
		}))))
}

// eachOf says whether something is true of one item of a list of texts.
func eachOf(v ref.Val, is func(string) bool) ref.Val {
	l, ok := v.(traits.Lister)
	if !ok {
		return types.MaybeNoSuchOverloadErr(v)
	}
	switch items := l.Value().(type) {
	case []string: // a field, a parameter, a list
		return types.Bool(slices.ContainsFunc(items, is))
	case []ref.Val: // written in the condition
		return types.Bool(slices.ContainsFunc(items, func(v ref.Val) bool { s, ok := v.(types.String); return ok && is(string(s)) }))
	}
	n, ok := l.Size().(types.Int)
	if !ok {
		return types.MaybeNoSuchOverloadErr(v)
	}
	for i := range n {
		if s, ok := l.Get(i).(types.String); ok && is(string(s)) {
			return types.True
		}
	}
	return types.False
}
