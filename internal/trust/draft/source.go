package draft

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

// maxDocuments bounds the documents of one file.
const maxDocuments = 100

// documents parses another tool's policy. JSON is YAML; it is parsed as that for
// its lines.
func documents(b []byte) (all []*yaml.Node, err error) {
	if len(b) > policy.MaxBytes {
		return nil, fault.New(fault.Invalid, "%d bytes, and at most %d are read", len(b), policy.MaxBytes)
	}
	if json.Valid(b) {
		b = bytes.ReplaceAll(b, []byte("\t"), []byte(" "))
	}
	defer func() {
		// The library is known to panic on some damaged documents.
		if p := recover(); p != nil {
			all, err = nil, fault.New(fault.Invalid, "no YAML: %v", p)
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(b))
	for {
		var n yaml.Node
		switch err := d.Decode(&n); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fault.New(fault.Invalid, "%w", err)
		case len(all) == maxDocuments:
			return nil, fault.New(fault.Invalid, "more than %d documents", maxDocuments)
		}
		if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
			if err := plain(n.Content[0], 0); err != nil {
				return nil, err
			}
			all = append(all, n.Content[0])
		}
	}
}

// plain refuses what makes documents grow when they are read.
func plain(n *yaml.Node, depth int) error {
	const maxDepth = 50
	switch {
	case depth > maxDepth:
		return fault.New(fault.Invalid, "line %d: values within values, more than %d deep", n.Line, maxDepth)
	case n.Kind == yaml.AliasNode:
		return fault.New(fault.Invalid, "line %d: aliases are not read", n.Line).With("write the value out")
	}
	for _, c := range n.Content {
		if err := plain(c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// value is a value of another tool's policy, with its line; nil is one that is
// not there.
type value yaml.Node

// get returns a field of a map. The last of two of one name counts, as in the
// tools that this is about.
func (v *value) get(name string) *value {
	if v == nil || v.Kind != yaml.MappingNode {
		return nil
	}
	var out *value
	for i := 0; i+1 < len(v.Content); i += 2 {
		if v.Content[i].Value == name && v.Content[i+1].Tag != "!!null" {
			out = (*value)(v.Content[i+1])
		}
	}
	return out
}

// items returns the items of a list.
func (v *value) items() []*value {
	if v == nil || v.Kind != yaml.SequenceNode {
		return nil
	}
	out := make([]*value, len(v.Content))
	for i, c := range v.Content {
		out[i] = (*value)(c)
	}
	return out
}

// text returns a scalar, "" for anything else.
func (v *value) text() string {
	if v == nil || v.Kind != yaml.ScalarNode {
		return ""
	}
	return v.Value
}

func (v *value) line() int {
	if v == nil {
		return 0
	}
	return v.Line
}

// unknown tells the fields that are none of the known ones.
func (s *sheet) unknown(v *value, what string, known ...string) {
	if v == nil || v.Kind != yaml.MappingNode {
		return
	}
next:
	for i := 0; i+1 < len(v.Content); i += 2 {
		for _, k := range known {
			if v.Content[i].Value == k {
				continue next
			}
		}
		s.remark(v.Content[i].Line, false, "%s of %s is not known and was left out", fmt.Sprintf("%.100q", v.Content[i].Value), what)
	}
}
