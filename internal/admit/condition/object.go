package condition

import (
	"fmt"
	"reflect"
	"strconv"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/castellan-security/castellan/internal/admission"
)

// Struct is a type of objects that conditions see.
type Struct struct {
	Name   string
	Doc    string
	Fields []Field

	facts  bool // it is of what is known of an image, or the image
	typ    *types.Type
	byName map[string]*Field
}

// Field is one field of a Struct.
type Field struct {
	Name string
	Type string // as it is written: "list(Mount)"
	Doc  string

	typ *types.Type
	get func(*Object) any
	// For Basis: an image's field of how it was asked for, or of the request
	// beside; and the times by which a field follows the clock, nil if it doesn't.
	asked, request bool
	times          func(*admission.Facts) []time.Time
}

// at says by which times a field follows the clock.
func (f Field) at(times func(*admission.Facts) []time.Time) Field {
	f.times = times
	return f
}

// Object is a value of a Struct: something of a request or of what is known of an
// image. It never changes.
type Object struct {
	kind *Struct
	view *View
	path string // from the request on, if the request has anything unknown
	v    any    // pointer to the noun
}

// of returns the noun that an object stands for.
func of[T any](o *Object) *T { return o.v.(*T) }

// field returns a field's value: Unknown if the request says that nobody knows it.
func (o *Object) field(f *Field) any {
	if len(o.view.unknown) > 0 && o.path != "" {
		if u := o.view.unknownAt(o.path, f.Name); u != nil {
			return u
		}
	}
	return f.get(o)
}

// within is the path of a field, "" if nothing is unknown anyway.
func (o *Object) within(field string) string {
	if o.path == "" {
		return ""
	}
	return o.path + "." + field
}

// child returns an object that is the value of a field.
func (o *Object) child(kind, field string, v any) *Object {
	return &Object{kind: o.view.schema.structs[kind], view: o.view, path: o.within(field), v: v}
}

// children returns the objects of a list.
func children[T any](o *Object, kind, field string, list []T) []*Object {
	out, all := make([]*Object, len(list)), make([]Object, len(list))
	at := o.within(field)
	for i := range list {
		all[i] = Object{kind: o.view.schema.structs[kind], view: o.view, v: &list[i]}
		if at != "" {
			all[i].path = at + "[" + strconv.Itoa(i) + "]"
		}
		out[i] = &all[i]
	}
	return out
}

// listed makes objects a list for conditions.
func listed(all []*Object) ref.Val {
	out := make([]ref.Val, len(all))
	for i, o := range all {
		out[i] = o
	}
	return types.NewRefValList(types.DefaultTypeAdapter, out)
}

func texts(all []string) ref.Val { return types.NewStringList(types.DefaultTypeAdapter, all) }

func textMap(m map[string]string) ref.Val {
	return types.NewStringStringMap(types.DefaultTypeAdapter, m)
}

// ConvertToNative is part of CEL's interface.
func (o *Object) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("%s can't become %s", o.kind.Name, t)
}

// ConvertToType is part of CEL's interface.
func (o *Object) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return o.kind.typ
	}
	return types.NewErr("%s can't become %s", o.kind.Name, t.TypeName())
}

// Equal says whether both stand for the same thing.
func (o *Object) Equal(other ref.Val) ref.Val {
	x, ok := other.(*Object)
	return types.Bool(ok && x.v == o.v)
}

// Type is part of CEL's interface.
func (o *Object) Type() ref.Type { return o.kind.typ }

// Value is part of CEL's interface: the object itself.
func (o *Object) Value() any { return o }
