package condition

import (
	"fmt"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Schema is all that conditions can name: types with their fields, and for each
// kind of rule its variables. It never changes.
type Schema struct {
	Structs []*Struct
	Kinds   []*Kind

	structs map[string]*Struct
	kinds   map[string]*Kind
}

// NewSchema returns the schema.
func NewSchema() *Schema {
	s := &Schema{Structs: structs(), structs: map[string]*Struct{}, kinds: map[string]*Kind{}}
	for _, t := range s.Structs {
		t.typ, t.byName = types.NewObjectType(t.Name), map[string]*Field{}
		s.structs[t.Name] = t
	}
	for _, t := range s.Structs {
		for i := range t.Fields {
			f := &t.Fields[i]
			f.typ = s.parseType(f.Type)
			t.byName[f.Name] = f
		}
	}
	s.Kinds = kinds()
	for _, k := range s.Kinds {
		s.kinds[k.Name] = k
	}
	return s
}

// Kind returns the kind of rules of that name, nil if there is none.
func (s *Schema) Kind(name string) *Kind { return s.kinds[name] }

// parseType returns the type of that name. The names are the schema's own.
func (s *Schema) parseType(name string) *types.Type {
	switch name {
	case "string":
		return types.StringType
	case "bool":
		return types.BoolType
	case "int":
		return types.IntType
	case "double":
		return types.DoubleType
	case "timestamp":
		return types.TimestampType
	case "duration":
		return types.DurationType
	case "severity":
		return severityType
	case "list(string)":
		return types.NewListType(types.StringType)
	case "map(string, string)":
		return types.NewMapType(types.StringType, types.StringType)
	case "map(string, int)":
		return types.NewMapType(types.StringType, types.IntType)
	}
	if t := s.structs[name]; t != nil {
		return t.typ
	}
	const list = len("list(")
	if len(name) > list+1 && name[:list] == "list(" {
		return types.NewListType(s.parseType(name[list : len(name)-1]))
	}
	panic("the schema of conditions has no type " + name) // a mistake in schema.go, which the first test finds
}

// provider shows the schema to CEL and remembers which field was looked for in
// vain.
type provider struct {
	types.Provider
	schema *Schema
	missed struct {
		in    *Struct
		field string
	}
}

// FindStructType is part of CEL's interface.
func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if t := p.schema.structs[name]; t != nil {
		return types.NewTypeTypeWithParam(t.typ), true
	}
	return nil, false
}

// FindIdent is part of CEL's interface: types are no values here.
func (p *provider) FindIdent(string) (ref.Val, bool) { return nil, false }

// FindStructFieldNames is part of CEL's interface.
func (p *provider) FindStructFieldNames(name string) ([]string, bool) {
	t := p.schema.structs[name]
	if t == nil {
		return nil, false
	}
	var out []string
	for i := range t.Fields {
		out = append(out, t.Fields[i].Name)
	}
	return out, true
}

// FindStructFieldType is part of CEL's interface.
func (p *provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	t := p.schema.structs[name]
	if t == nil {
		return nil, false
	}
	f := t.byName[field]
	if f == nil {
		p.missed.in, p.missed.field = t, field
		return nil, false
	}
	return &types.FieldType{
		Type:  f.typ,
		IsSet: func(any) bool { return true },
		GetFrom: func(target any) (any, error) {
			switch o := target.(type) {
			case *Object:
				return o.field(f), nil
			case *types.Unknown:
				return o, nil // what is in something unknown is unknown
			}
			return nil, fmt.Errorf("%T has no field %s", target, f.Name)
		},
	}, true
}

// NewValue is part of CEL's interface: conditions make no objects.
func (p *provider) NewValue(name string, _ map[string]ref.Val) ref.Val {
	return types.NewErr("a condition can't make a %s", name)
}
