package sigstore

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/pull"
	"github.com/castellan-security/castellan/internal/signature"
)

// object is a JSON object that was read strictly: names are exact, none stands
// twice, and reading a field of the wrong type is an error that is kept.
type object struct {
	path   string
	fields map[string]any // nil, bool, number, string, []any, map[string]any
	errs   *[]error
}

var (
	errNotUTF8  = errors.New("it is not UTF-8")
	errNoObject = errors.New("it is not a JSON object")
	errSubjects = beyond("more than %d subjects", maxSubjects)
)

// errTwice is what a name is that stands twice in one object: readers differ in
// which they believe.
func errTwice(name string) error { return fmt.Errorf("the field %q stands twice", clip(name)) }

// limitError is beyond a limit, not wrong by itself.
type limitError struct{ what string }

func (e *limitError) Error() string { return e.what }

func beyond(format string, args ...any) error { return &limitError{fmt.Sprintf(format, args...)} }

// number is a number as it was written.
type number string

// parseObject reads a document that is one object. Two fields of one name are an
// error: readers differ in which they believe.
func parseObject(data []byte) (object, error) {
	if !utf8.Valid(data) {
		return object{}, errNotUTF8
	}
	var r pull.Reader
	r.Reset(data)
	left := maxNodes
	v := value(&r, &left)
	if err := r.End(); err != nil {
		return object{}, err
	}
	fields, ok := v.(map[string]any)
	if !ok {
		return object{}, errNoObject
	}
	return object{fields: fields, errs: new([]error)}, nil
}

func value(r *pull.Reader, left *int) any {
	if *left--; *left < 0 {
		r.Fail(beyond("it has more than %d values", maxNodes))
		return nil
	}
	switch r.Kind() {
	case pull.Struct:
		fields := map[string]any{}
		for r.Object(); r.Next(); {
			name := r.Name()
			if _, twice := fields[name]; twice {
				r.Fail(errTwice(name))
				break
			}
			fields[name] = value(r, left)
		}
		return fields
	case pull.List:
		list := []any{}
		for r.Array(); r.Next(); {
			list = append(list, value(r, left))
		}
		return list
	case pull.String:
		return r.Text()
	case pull.Number:
		return number(r.Scalar())
	case pull.Bool:
		return r.True()
	}
	r.Skip() // null, or what is no value
	return nil
}

// unique goes through a value without keeping it, and fails if a name stands
// twice in an object.
func unique(r *pull.Reader) {
	var u uniquer
	u.walk(r, 0)
}

// uniquer remembers the names of the objects it is in. Bills of materials have
// a hundred thousand objects with the same few names.
type uniquer struct {
	known  map[string]string
	levels [pull.MaxDepth + 1][]string
}

// fewNames is up to how many names are looked through one by one.
const fewNames = 24

func (u *uniquer) walk(r *pull.Reader, depth int) {
	switch r.Kind() {
	case pull.Struct:
		u.object(r, depth)
	case pull.List:
		for r.Array(); r.Next(); {
			u.walk(r, depth+1)
		}
	default:
		r.Skip()
	}
}

func (u *uniquer) object(r *pull.Reader, depth int) {
	var many map[string]struct{}
	if !r.Object() {
		return
	}
	seen := u.levels[depth][:0]
	for r.Next() {
		name := u.name(r.Key())
		_, twice := many[name]
		if many == nil {
			twice = slices.Contains(seen, name)
			seen = append(seen, name)
		} else {
			many[name] = struct{}{}
		}
		if twice {
			r.Fail(errTwice(name))
			return
		}
		if len(seen) == fewNames && many == nil {
			many = make(map[string]struct{}, 2*fewNames)
			for _, n := range seen {
				many[n] = struct{}{}
			}
		}
		u.walk(r, depth+1)
	}
	u.levels[depth] = seen
}

// name keeps one string for a name that comes again and again.
func (u *uniquer) name(key []byte) string {
	const most = 256 // names; a document of ever new ones costs no more than itself
	if s, ok := u.known[string(key)]; ok {
		return s
	}
	s := string(key)
	if u.known == nil {
		u.known = map[string]string{}
	}
	if len(u.known) < most {
		u.known[s] = s
	}
	return s
}

func (o object) fail(name, format string, args ...any) {
	*o.errs = append(*o.errs, fmt.Errorf("%s: %w", o.at(name), fmt.Errorf(format, args...)))
}

func (o object) at(name string) string { return strings.TrimPrefix(o.path+"."+name, ".") }

// err returns the first thing that was wrong.
func (o object) err() error {
	if len(*o.errs) == 0 {
		return nil
	}
	return (*o.errs)[0]
}

// malformed returns the first thing that was wrong as a refusal.
func (o object) malformed(what string) error {
	if err := o.err(); err != nil {
		return unreadable(what, err)
	}
	return nil
}

// unreadable refuses what can't be read, or is too large to be.
func unreadable(what string, err error) error {
	reason := signature.Malformed
	var l *limitError
	if errors.As(err, &l) {
		reason = signature.TooLarge
	}
	return signature.Refuse(reason, "%s can't be read: %v", what, err)
}

// only makes any other field an error: what is not understood could change the
// meaning of what is.
func (o object) only(names ...string) {
	for name := range o.fields {
		known := false
		for _, n := range names {
			known = known || n == name
		}
		if !known {
			o.fail(name, "the field is not known")
		}
	}
}

// has reports whether a field is there and not null.
func (o object) has(name string) bool { return o.fields[name] != nil }

func (o object) object(name string) object {
	child := object{path: o.at(name), errs: o.errs}
	switch v := o.fields[name].(type) {
	case nil:
	case map[string]any:
		child.fields = v
	default:
		o.fail(name, "want an object")
	}
	return child
}

// objects returns the objects of a list of at most limit.
func (o object) objects(name string, limit int) []object {
	list := o.list(name, limit)
	all := make([]object, 0, len(list))
	for i, v := range list {
		at := name + "[" + strconv.Itoa(i) + "]"
		fields, ok := v.(map[string]any)
		if !ok {
			o.fail(at, "want an object")
		}
		all = append(all, object{path: o.at(at), fields: fields, errs: o.errs})
	}
	return all
}

func (o object) list(name string, limit int) []any {
	list, ok := o.fields[name].([]any)
	if !ok && o.has(name) {
		o.fail(name, "want a list")
	}
	if len(list) > limit {
		o.fail(name, "%w", beyond("%d elements, more than %d", len(list), limit))
		return nil
	}
	return list
}

func (o object) text(name string) string {
	s, ok := o.fields[name].(string)
	if !ok && o.has(name) {
		o.fail(name, "want a string")
	}
	return s
}

// bytes reads bytes in base64, as protocol buffers' JSON writes them.
func (o object) bytes(name string, limit int) []byte {
	b, err := decode64(o.text(name), limit)
	if err != nil {
		o.fail(name, "%w", err)
	}
	return b
}

// byteses reads a list of them.
func (o object) byteses(name string, limit, size int) [][]byte {
	var all [][]byte
	for i, v := range o.list(name, limit) {
		s, _ := v.(string)
		b, err := decode64(s, size)
		if err == nil && len(b) == 0 {
			err = errors.New("it is empty")
		}
		if err != nil {
			o.fail(name+"["+strconv.Itoa(i)+"]", "want bytes in base64: %w", err)
		}
		all = append(all, b)
	}
	return all
}

// decode64 takes both alphabets, with and without padding.
func decode64(s string, limit int) ([]byte, error) {
	if base64.StdEncoding.DecodedLen(len(s)) > limit+4 {
		return nil, beyond("more than %d bytes", limit)
	}
	enc := base64.RawStdEncoding
	if strings.IndexByte(s, '-') >= 0 || strings.IndexByte(s, '_') >= 0 {
		enc = base64.RawURLEncoding
	}
	trimmed := strings.TrimRight(s, "=")
	if pad := len(s) - len(trimmed); pad > 0 && len(s)%4 != 0 {
		return nil, errors.New("wrong padding of base64")
	}
	if strings.IndexByte(s, '\r') >= 0 || strings.IndexByte(s, '\n') >= 0 { // the decoder would skip them
		return nil, errors.New("a line break in base64")
	}
	b, err := enc.Strict().DecodeString(trimmed)
	if err != nil {
		return nil, err
	}
	if len(b) > limit {
		return nil, beyond("more than %d bytes", limit)
	}
	return b, nil
}

// integer reads a whole number, which protocol buffers' JSON writes as text.
func (o object) integer(name string) int64 {
	var s string
	switch v := o.fields[name].(type) {
	case nil:
		return 0
	case string:
		s = v
	case number:
		s = string(v)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != s {
		o.fail(name, "want a whole number, not negative, without leading zeros")
		return 0
	}
	return n
}
