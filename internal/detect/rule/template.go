package rule

import (
	"fmt"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/castellan-security/castellan/internal/threat"
)

// piece is a part of a template: text, or a field.
type piece struct {
	text  string
	field *Field
}

// template reads what a rule says: text with {field}s in it.
func (w *compiling) template() []piece {
	n := w.spec.says
	if n == nil {
		return nil
	}
	var out []piece
	rest := w.reader.text(n, "says")
	for rest != "" {
		before, after, ok := strings.Cut(rest, "{")
		out = append(out, piece{text: before})
		if !ok {
			break
		}
		name, tail, ok := strings.Cut(after, "}")
		f := byName[name]
		if !ok || f == nil {
			w.reader.Wrong(n, "docs/detect.md lists the fields", "says has {%.80s}, and there is no such field", name)
			return nil
		}
		out, rest = append(out, piece{field: f}), tail
	}
	return out
}

// maxQuoted bounds a value in a sentence; the threat has the whole of most.
const maxQuoted = 200 // bytes

func (s *Subject) fill(pieces []piece) string {
	if len(pieces) == 0 {
		return s.Event.Process.Name + " " + s.Event.Words()
	}
	var b strings.Builder
	for _, p := range pieces {
		if p.field == nil {
			b.WriteString(p.text)
			continue
		}
		v := s.text(p.field)
		if len(v) > maxQuoted {
			v = strings.ToValidUTF8(v[:maxQuoted], "") + "…"
		}
		b.WriteString(v)
	}
	return threat.Clip(b.String())
}

// text is the value of a field as text.
func (s *Subject) text(f *Field) string { return textOf(s.value(f)) }

func textOf(v ref.Val) string {
	switch v := v.(type) {
	case types.String:
		return string(v)
	case types.Duration:
		return v.Round(time.Millisecond).String()
	}
	if l, ok := v.Value().([]string); ok {
		return strings.Join(l, " ")
	}
	return fmt.Sprint(v.Value())
}
