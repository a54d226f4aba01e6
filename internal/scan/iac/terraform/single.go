package terraform

import (
	"io/fs"
	"path"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// nowhere has no files: what is read alone refers to nothing beside it.
type nowhere struct{}

func (nowhere) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// File reads one file in the language as a tree, whatever blocks it has: each is a
// map under its last label, or else its type. References are worked out within the
// file. whole is false if it came to more than is worked out of one configuration.
// A file of which something is no part of the language gives what is, with an
// error.
func File(b []byte, name string) (n *tree.Node, whole bool, err error) {
	if len(b) > maxFile {
		return nil, false, nil
	}
	body, err := parse(b, name)
	if body == nil {
		return nil, false, err
	}
	r := NewValueReader(nowhere{})
	m := r.module(path.Dir(name))
	m.add(body)
	s := &scope{r: r, m: m}
	n = &tree.Node{Kind: tree.Map, At: blueprint.Span{File: name}}
	for _, a := range inOrder(body.Attributes) {
		n.Fields = append(n.Fields, tree.Field{Key: a.Name, KeyAt: spanAt(a.NameRange), Value: s.attribute(a, 0)})
	}
	for _, block := range body.Blocks {
		n.Fields = append(n.Fields, s.topBlock(block))
	}
	return n, r.work <= maxWork, err
}

// topBlock is a block that stands by itself.
func (s *scope) topBlock(block *hclsyntax.Block) tree.Field {
	key := block.Type
	if n := len(block.Labels); n > 0 {
		key = block.Labels[n-1]
	}
	at := spanOf(block.DefRange(), block.Range())
	return tree.Field{Key: key, KeyAt: at, Value: s.body(block.Body, at, 0)}
}
