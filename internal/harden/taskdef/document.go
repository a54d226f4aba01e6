package taskdef

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// maxDocument bounds a task definition: ECS takes 64 KiB, and what describes one
	// adds to that.
	maxDocument = 1 << 20
	// maxDepth bounds values within values; ECS has seven levels.
	maxDepth = 32
	// defaultIndent is how AWS's command line writes.
	defaultIndent = "    "
)

// object is a JSON object whose members stay in their order.
type object struct {
	members []member
	inline  string // as it stands in one line; empty if it does not, or was changed
}

type member struct {
	key   string
	value any // *object, *list, scalar, or one of scalar's
}

// list is a JSON array.
type list struct {
	items  []any
	inline string // see object
}

// scalar is a plain value as it was written.
type scalar struct {
	value any // string, json.Number, bool or nil
	text  string
}

func (o *object) get(key string) (any, bool) {
	for _, m := range o.members {
		if m.key == key {
			return bare(m.value), true
		}
	}
	return nil, false
}

// bare is a value without how it was written.
func bare(v any) any {
	if s, ok := v.(scalar); ok {
		return s.value
	}
	return v
}

// put sets a member. A new one becomes the last but one, so that no line but its
// own changes.
func (o *object) put(key string, value any) {
	o.inline = ""
	for i, m := range o.members {
		if m.key == key {
			o.members[i].value = value
			return
		}
	}
	o.members = slices.Insert(o.members, max(0, len(o.members)-1), member{key, value})
}

// of makes an object of keys and values in turn.
func of(pairs ...any) *object {
	o := &object{}
	for i := 0; i+1 < len(pairs); i += 2 {
		key, _ := pairs[i].(string)
		o.members = append(o.members, member{key, pairs[i+1]})
	}
	return o
}

func texts(all ...string) *list {
	l := &list{}
	for _, s := range all {
		l.items = append(l.items, s)
	}
	return l
}

func number(n uint64) json.Number { return json.Number(strconv.FormatUint(n, 10)) }

// parse reads a document whose members stay in their order.
func parse(b []byte) (any, error) {
	if len(b) > maxDocument {
		return nil, fmt.Errorf("it has more than %d bytes", maxDocument)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	v, err := next(d, b, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows its end")
	}
	return v, nil
}

// next reads a value. Of what stands in one line it keeps how it was written.
func next(d *json.Decoder, b []byte, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("it nests deeper than %d levels", maxDepth)
	}
	start := d.InputOffset()
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	end := d.InputOffset()
	since := func(start int64) string {
		if text := string(b[start:d.InputOffset()]); !strings.Contains(text, "\n") {
			return text
		}
		return ""
	}
	switch t {
	case json.Delim('{'):
		o := &object{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			name, ok := key.(string)
			if !ok {
				return nil, fmt.Errorf("%v is no name of a member", key)
			}
			if _, twice := o.get(name); twice {
				return nil, fmt.Errorf("%q is there twice", name)
			}
			v, err := next(d, b, depth+1)
			if err != nil {
				return nil, err
			}
			o.members = append(o.members, member{name, v})
		}
		_, err := d.Token()
		o.inline = since(end - 1)
		return o, err
	case json.Delim('['):
		l := &list{}
		for d.More() {
			v, err := next(d, b, depth+1)
			if err != nil {
				return nil, err
			}
			l.items = append(l.items, v)
		}
		_, err := d.Token()
		l.inline = since(end - 1)
		return l, err
	}
	return scalar{t, strings.TrimLeft(string(b[start:end]), " \t\r\n,:")}, nil
}

// line is a line of a document, with the place of what is on it.
type line struct{ text, place string }

// render writes a value, and returns its lines.
func render(v any, indent string) []line {
	r := &renderer{indent: indent}
	r.value(v, "", "", "", "")
	return r.lines
}

type renderer struct {
	lines  []line
	indent string
}

// value writes a value behind before, which has its name, and followed by after.
func (r *renderer) value(v any, place, margin, before, after string) {
	add := func(text string) { r.lines = append(r.lines, line{text, place}) }
	if text := written(v); text != "" {
		add(margin + before + text + after)
		return
	}
	switch v := v.(type) {
	case *object:
		if len(v.members) == 0 {
			add(margin + before + "{}" + after)
			return
		}
		add(margin + before + "{")
		for i, m := range v.members {
			r.value(m.value, within(place, m.key), margin+r.indent, encode(m.key)+": ", comma(i, len(v.members)))
		}
		add(margin + "}" + after)
	case *list:
		if len(v.items) == 0 {
			add(margin + before + "[]" + after)
			return
		}
		add(margin + before + "[")
		for i, item := range v.items {
			r.value(item, fmt.Sprintf("%s[%d]", place, i), margin+r.indent, "", comma(i, len(v.items)))
		}
		add(margin + "]" + after)
	default:
		add(margin + before + encode(v) + after)
	}
}

// written is how a value stands in one line of the document that was read; empty
// if it does not, or if anything in it was changed.
func written(v any) string {
	switch v := v.(type) {
	case scalar:
		return v.text
	case *object:
		for _, m := range v.members {
			if written(m.value) == "" {
				return ""
			}
		}
		return v.inline
	case *list:
		for _, item := range v.items {
			if written(item) == "" {
				return ""
			}
		}
		return v.inline
	}
	return ""
}

// within is the place of a member.
func within(place, key string) string { return strings.TrimPrefix(place+"."+key, ".") }

func comma(i, n int) string {
	if i < n-1 {
		return ","
	}
	return ""
}

// encode writes a plain value in one line.
func encode(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(plain(v)); err != nil {
		return "null" // of what was parsed, everything can be written
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// plain turns a value into one that encoding/json knows. Members of objects are
// in the order of their names then, which is for showing alone.
func plain(v any) any {
	switch v := v.(type) {
	case scalar:
		return v.value
	case *object:
		m := map[string]any{}
		for _, x := range v.members {
			m[x.key] = plain(x.value)
		}
		return m
	case *list:
		all := make([]any, len(v.items))
		for i, x := range v.items {
			all[i] = plain(x)
		}
		return all
	}
	return v
}

// indentOf is how far the first member of a document stands in.
func indentOf(b []byte) string {
	for text := range strings.SplitSeq(string(b), "\n") {
		if trimmed := strings.TrimLeft(text, " \t"); trimmed != text && strings.HasPrefix(trimmed, `"`) {
			return text[:len(text)-len(trimmed)]
		}
	}
	return defaultIndent
}

func joined(lines []line) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.text + "\n")
	}
	return b.String()
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).
		With("give a task definition as aws ecs register-task-definition --cli-input-json takes it, or as aws ecs describe-task-definition shows it")
}
