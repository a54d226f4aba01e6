package tree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
)

// maxDocuments bounds the documents of one file in YAML.
const maxDocuments = 100

// YAML reads the documents of a file in YAML.
func YAML(b []byte, file string) (documents []*Node, err error) {
	if len(b) > MaxYAML {
		return nil, fmt.Errorf("%d bytes, and at most %d are read", len(b), MaxYAML)
	}
	defer func() {
		// The library is known to panic on some damaged documents.
		if r := recover(); r != nil {
			documents, err = nil, fmt.Errorf("no YAML: %v", r)
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(b))
	r := &yamlReader{file: file}
	for {
		var n yaml.Node
		switch err := d.Decode(&n); {
		case errors.Is(err, io.EOF):
			return documents, nil
		case err != nil:
			return nil, err
		case len(documents) == maxDocuments:
			return nil, fmt.Errorf("more than %d documents", maxDocuments)
		}
		t, err := r.of(&n, 0)
		if err != nil {
			return nil, err
		}
		documents = append(documents, t)
	}
}

type yamlReader struct {
	budget
	file string
}

func (r *yamlReader) span(n *yaml.Node) blueprint.Span {
	p := finding.Position{Line: n.Line, Column: n.Column}
	return blueprint.Span{File: r.file, Start: p, End: p}
}

func (r *yamlReader) of(n *yaml.Node, depth int) (*Node, error) {
	if err := r.take(depth); err != nil {
		return nil, err
	}
	t := &Node{At: r.span(n)}
	if strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") {
		t.Tag = n.Tag
	}
	switch n.Kind {
	case yaml.DocumentNode:
		if len(n.Content) == 0 {
			return t, nil
		}
		return r.of(n.Content[0], depth)
	case yaml.AliasNode:
		return r.of(n.Alias, depth+1)
	case yaml.ScalarNode:
		if r.texts += len(n.Value); r.texts > MaxTexts {
			return nil, fmt.Errorf("its texts, those that aliases repeat counted each time, come to more than %d bytes", MaxTexts)
		}
		r.scalar(t, n)
	case yaml.SequenceNode:
		t.Kind = List
		for _, c := range n.Content {
			item, err := r.of(c, depth+1)
			if err != nil {
				return nil, err
			}
			t.Items = append(t.Items, item)
		}
	case yaml.MappingNode:
		t.Kind = Map
		if err := r.members(t, n, depth); err != nil {
			return nil, err
		}
	}
	t.At.End = endOf(t)
	return t, nil
}

// endOf is where the last of what is in a value ends.
func endOf(t *Node) finding.Position {
	last := t.At.End
	if k := len(t.Items); k > 0 {
		last = t.Items[k-1].At.End
	}
	if k := len(t.Fields); k > 0 {
		last = t.Fields[k-1].Value.At.End
	}
	if last.Line < t.At.End.Line { // through an alias
		return t.At.End
	}
	return last
}

func (r *yamlReader) members(t *Node, n *yaml.Node, depth int) error {
	var merged []*Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		v, err := r.of(n.Content[i+1], depth+1)
		if err != nil {
			return err
		}
		if n.Content[i].Tag == "!!merge" {
			merged = append(merged, v.Each()...)
			continue
		}
		t.Fields = append(t.Fields, Field{n.Content[i].Value, r.span(n.Content[i]), v})
	}
	if len(merged) > 0 {
		return r.merge(t, merged, depth)
	}
	return nil
}

// merge adds what a map takes over from others and does not have itself.
func (r *yamlReader) merge(t *Node, from []*Node, depth int) error {
	have := map[string]bool{}
	for _, f := range t.Fields {
		have[f.Key] = true
	}
	for _, m := range from {
		for _, f := range m.Fields {
			if have[f.Key] {
				continue
			}
			if err := r.take(depth); err != nil {
				return err
			}
			have[f.Key] = true
			t.Fields = append(t.Fields, f)
		}
	}
	return nil
}

func (r *yamlReader) scalar(t *Node, n *yaml.Node) {
	t.Kind, t.Text = Text, n.Value
	switch n.Tag {
	case "!!null":
		t.Kind = Null
	case "!!int", "!!float":
		t.Kind = Number
	case "!!bool":
		t.Kind = Bool
	}
	lines := strings.Count(n.Value, "\n")
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		t.At.End.Line += max(lines, 1)
	case lines == 0:
		t.At.End.Column += len(n.Value)
	}
}
