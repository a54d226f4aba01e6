package condition

import (
	"path"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/castellan-security/castellan/internal/grant"
)

// Function is a function that conditions have besides those of CEL.
type Function struct{ Usage, Doc string }

// Functions lists them.
func Functions() []Function {
	return []Function{
		{`days(14)`, "a length of time"},
		{`TEXT.like("team/*")`, `whether a text fits a pattern: "*" stands for any letters but "/", "**" for any letters; a list of patterns is possible, too`},
		{`PATH.under("/etc")`, "whether a path is a folder or lies in it; a list of folders is possible, too"},
		{`PATH.exposes("/etc")`, "whether a path is a folder, lies in it, or has it in itself; a list of folders is possible, too"},
		{`statement.covers("iam:PassRole")`, "whether an action is among a statement's, wildcards and NotAction heeded"},
		{`role.allows("iam:PassRole")`, "whether a role may do something, on any resource at all; with a list: all of it"},
		{`string(severity)`, "the name of a severity"},
	}
}

func functions(s *Schema) []cel.EnvOption {
	listOfText := cel.ListType(cel.StringType)
	statement, role := s.structs["Statement"].typ, s.structs["Role"].typ
	two := func(name string, does func(text, arg string) bool) cel.EnvOption {
		return cel.Function(name,
			cel.MemberOverload("string_"+name+"_string", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType, cel.BinaryBinding(func(a, b ref.Val) ref.Val {
				return types.Bool(does(string(a.(types.String)), string(b.(types.String))))
			})),
			cel.MemberOverload("string_"+name+"_list", []*cel.Type{cel.StringType, listOfText}, cel.BoolType, cel.BinaryBinding(func(a, b ref.Val) ref.Val {
				for _, one := range plain(b) {
					if does(string(a.(types.String)), one) {
						return types.True
					}
				}
				return types.False
			})))
	}
	return []cel.EnvOption{
		two("like", like), two("under", under), two("exposes", func(p, folder string) bool { return exposes(p, folder) }),
		cel.Function("days", cel.Overload("days_int", []*cel.Type{cel.IntType}, cel.DurationType, cel.UnaryBinding(days))),
		cel.Function("covers", cel.MemberOverload("statement_covers", []*cel.Type{statement, cel.StringType}, cel.BoolType, cel.BinaryBinding(func(a, b ref.Val) ref.Val {
			return types.Bool(of[grant.Statement](a.(*Object)).Covers(string(b.(types.String))))
		}))),
		cel.Function("allows",
			cel.MemberOverload("role_allows_string", []*cel.Type{role, cel.StringType}, cel.BoolType, cel.BinaryBinding(func(a, b ref.Val) ref.Val {
				return roleAllows(a.(*Object), []string{string(b.(types.String))})
			})),
			cel.MemberOverload("role_allows_list", []*cel.Type{role, listOfText}, cel.BoolType, cel.BinaryBinding(func(a, b ref.Val) ref.Val {
				return roleAllows(a.(*Object), plain(b))
			}))),
	}
}

// days is so many days.
func days(v ref.Val) ref.Val {
	const most = 100 * 365
	n := v.(types.Int)
	if n < 0 || n > most {
		return types.NewErr("days(%d): want 0 to %d", n, most)
	}
	return types.Duration{Duration: time.Duration(n) * 24 * time.Hour}
}

// plain returns the texts of a list.
func plain(v ref.Val) []string {
	l, ok := v.(traits.Lister)
	if !ok {
		return nil
	}
	if all, ok := l.Value().([]string); ok {
		return all
	}
	var out []string
	for it := l.Iterator(); it.HasNext() == types.True; {
		if s, ok := it.Next().(types.String); ok {
			out = append(out, string(s))
		}
	}
	return out
}

// exposes says whether a path is a folder, lies in it, or has it in itself.
func exposes(p, folder string) bool {
	return strings.HasPrefix(p, "/") && (under(p, folder) && path.Clean("/"+folder) != "/" || under(folder, p))
}

// Like says whether a text fits a pattern: "*" stands for any letters but "/",
// "**" for any letters. It takes no time out of proportion, whatever the pattern.
func Like(text, pattern string) bool { return like(text, pattern) }

func like(text, pattern string) bool {
	if !strings.Contains(pattern, "*") {
		return text == pattern
	}
	return fits(tokens(pattern), text)
}

// token is a letter, or a wildcard.
type token struct {
	letter byte
	star   bool
	deep   bool // "**"
}

func tokens(pattern string) []token {
	out := make([]token, 0, len(pattern))
	for i := 0; i < len(pattern); i++ {
		switch {
		case strings.HasPrefix(pattern[i:], "**"):
			out = append(out, token{star: true, deep: true})
			i++
		case pattern[i] == '*':
			out = append(out, token{star: true})
		default:
			out = append(out, token{letter: pattern[i]})
		}
	}
	return out
}

// fits holds a text against a pattern, a letter at a time, by the set of places in
// the pattern that it can be at.
func fits(p []token, text string) bool {
	at, next := make([]bool, len(p)+1), make([]bool, len(p)+1)
	enter := func(set []bool, i int) {
		for ; ; i++ {
			set[i] = true
			if i == len(p) || !p[i].star {
				return
			}
		}
	}
	enter(at, 0)
	for k := 0; k < len(text); k++ {
		clear(next)
		for i := range p {
			switch {
			case !at[i]:
			case p[i].star && (p[i].deep || text[k] != '/'):
				enter(next, i)
			case !p[i].star && p[i].letter == text[k]:
				enter(next, i+1)
			}
		}
		at, next = next, at
	}
	return at[len(p)]
}
