package condition

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/castellan-security/castellan/internal/finding"
)

// Limits of a message.
const (
	MaxTemplate = 1000
	maxValue    = 300  // letters of one value
	maxMessage  = 1000 // of all of it
)

// Template is a message with values: "{container.name} runs privileged". Between
// braces stands an expression; "{{" and "}}" are braces.
type Template struct {
	Text  string
	parts []part
}

type part struct {
	text  string
	value *Expression // nil: the text
}

// Template compiles a message. The error is a *Complaint where it is about the
// text.
func (c *Compiler) Template(k *Kind, params []Param, text string) (*Template, error) {
	if len(text) > MaxTemplate {
		return nil, &Complaint{Text: fmt.Sprintf("a text of %d bytes: at most %d are read", len(text), MaxTemplate), Line: 1, Column: 1}
	}
	t := &Template{Text: text}
	var plain strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case strings.HasPrefix(text[i:], "{{"), strings.HasPrefix(text[i:], "}}"):
			plain.WriteByte(text[i])
			i++
		case text[i] == '}':
			return nil, &Complaint{Text: `a "}" without a "{"`, Remedy: `write "}}" for the letter`, Line: 1, Column: i + 1}
		case text[i] == '{':
			end := closing(text[i:])
			if end < 0 {
				return nil, &Complaint{Text: `a "{" without a "}"`, Remedy: `write "{{" for the letter`, Line: 1, Column: i + 1}
			}
			t.parts = append(t.parts, part{text: plain.String()})
			plain.Reset()
			e, _, err := c.compile(k, params, text[i+1:i+end])
			if at, ok := err.(*Complaint); ok {
				at.Line, at.Column = 1, at.Column+i+1
			}
			if err != nil {
				return nil, err
			}
			t.parts = append(t.parts, part{value: e})
			i += end
		default:
			plain.WriteByte(text[i])
		}
	}
	t.parts = append(t.parts, part{text: plain.String()})
	return t, nil
}

// closing returns where an expression ends that begins with a brace: braces within
// quotes don't count.
func closing(s string) int {
	quote := byte(0)
	for i := 1; i < len(s); i++ {
		switch {
		case quote != 0:
			if s[i] == quote {
				quote = 0
			}
		case s[i] == '"' || s[i] == '\'':
			quote = s[i]
		case s[i] == '}':
			return i
		}
	}
	return -1
}

// Write returns the message with its values; what is unknown is written so.
func (t *Template) Write(ctx context.Context, s *Scope) string {
	if t == nil {
		return ""
	}
	var b strings.Builder
	for _, p := range t.parts {
		if p.value == nil {
			b.WriteString(p.text)
			continue
		}
		v, err := p.value.value(ctx, s)
		if err != nil {
			b.WriteString("(not known)")
			continue
		}
		b.WriteString(shorten(show(v), maxValue))
	}
	return shorten(b.String(), maxMessage)
}

// show writes a value for people.
func show(v ref.Val) string {
	switch v := v.(type) {
	case *types.Unknown, nil:
		return "(not known)"
	case types.String:
		return string(v)
	case severity:
		return finding.Severity(v).String()
	case types.Timestamp:
		return v.Format(time.DateOnly)
	case types.Duration:
		return span(v.Duration)
	case types.Double:
		return fmt.Sprintf("%.3g", float64(v))
	case *Object:
		return v.kind.Name
	}
	if all := plain(v); all != nil {
		return strings.Join(all, ", ")
	}
	if native, err := v.ConvertToNative(reflect.TypeFor[any]()); err == nil {
		return fmt.Sprint(native)
	}
	return fmt.Sprint(v.Value())
}

func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day:
		return fmt.Sprintf("%d days", d/day)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	}
	return d.Round(time.Second).String()
}

func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && s[most]&0xc0 == 0x80 {
		most-- // not within a letter
	}
	return s[:most] + "…"
}

// constant makes a parameter's value one of CEL's.
func constant(v any) ref.Val {
	switch v := v.(type) {
	case string:
		return types.String(v)
	case bool:
		return types.Bool(v)
	case int64:
		return types.Int(v)
	case float64:
		return types.Double(v)
	case time.Duration:
		return types.Duration{Duration: v}
	case finding.Severity:
		return severity(v)
	case []string:
		return texts(v)
	}
	return types.NewErr("a parameter is a %T", v)
}
