package terraform

import (
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// none says that a block is known to stand for nothing: its count is 0, or its
// for_each has no members.
func (s *scope) none(b *hclsyntax.Body) bool {
	if a := b.Attributes["count"]; a != nil && isZero(s.value(a.Expr, 0)) {
		return true
	}
	a := b.Attributes["for_each"]
	return a != nil && isEmpty(s.value(a.Expr, 0))
}

// noneJSON is none in the JSON form.
func (s *scope) noneJSON(b *tree.Node) bool {
	if n := b.Exact("count"); n != nil && isZero(s.jsonValue(n, 0)) {
		return true
	}
	n := b.Exact("for_each")
	return n != nil && isEmpty(s.jsonValue(n, 0))
}

func isZero(n *tree.Node) bool {
	count := n.AsNumber()
	return count.Known() && count.V == 0
}

func isEmpty(n *tree.Node) bool {
	return (n.Kind == tree.List || n.Kind == tree.Map) && !n.Open && len(n.Items)+len(n.Fields) == 0
}
