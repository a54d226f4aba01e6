package iac

import (
	"encoding/json"
	"strings"

	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// repositoryOf reads a repository for images, whose names CloudFormation and
// Terraform have differently in a few places.
func repositoryOf(name string, n *tree.Node) blueprint.Repository {
	r := blueprint.Repository{Resource: blueprint.Resource{Name: name, At: n.At}}
	r.Called = n.Get("RepositoryName", "name").AsText()
	r.Mutability = n.Get("ImageTagMutability").AsText()
	r.ScanOnPush = n.Path("ImageScanningConfiguration", "ScanOnPush").AsBool()
	encryption := n.Get("EncryptionConfiguration").First()
	r.Encryption, r.Key = encryption.Get("EncryptionType").AsText(), encryption.Get("KmsKey").AsText()
	r.Policy = policyText(n.Get("RepositoryPolicyText"))
	return r
}

// policyText writes a policy as JSON. A text of which something is known stands for
// itself: "arn:aws:iam::${Account}:root" is nobody else. With a value of which
// nothing is known, or more than is read, the whole is unknown.
func policyText(n *tree.Node) blueprint.Text {
	if !n.There() {
		return blueprint.Text{}
	}
	t := blueprint.Text{Is: blueprint.Unknown, At: n.At, Ref: n.Ref, Attr: n.Attr}
	if n.Kind == tree.Text { // with JSON in it
		t.V, t.Is = n.Text, blueprint.Known
		return t
	}
	v, ok := plain(n)
	if !ok {
		return t
	}
	b, err := json.Marshal(v)
	if err != nil {
		return t
	}
	t.V, t.Is = string(b), blueprint.Known
	return t
}

// plain is a value without its places, and whether it is known.
func plain(n *tree.Node) (v any, ok bool) {
	switch {
	case !n.There():
		return nil, true
	case n.Kind == tree.List:
		out := make([]any, 0, len(n.Items))
		for _, item := range n.Items {
			one, ok := plain(item)
			if !ok {
				return nil, false
			}
			out = append(out, one)
		}
		return out, true
	case n.Kind == tree.Map:
		out := make(map[string]any, len(n.Fields))
		for _, f := range n.Fields {
			one, ok := plain(f.Value)
			if !ok {
				return nil, false
			}
			out[f.Key] = one
		}
		return out, !n.Open
	}
	return n.Text, n.Kind != tree.Unknown || strings.TrimFunc(n.Text, func(r rune) bool { return r == '*' || r == ':' }) != "" && !strings.HasPrefix(n.Text, "${")
}
