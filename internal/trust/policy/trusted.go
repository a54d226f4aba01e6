package policy

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/castellan-security/castellan/internal/written"
	"go.yaml.in/yaml/v3"
)

// trusted reads a trusted root of Sigstore: a file's name, or a map that gives it
// a name, by which keyless signers say whose Fulcio may vouch for them.
func (r *roots) trusted(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		r.file(n, MaxFile, func(n *yaml.Node, b []byte) { r.sigstore(n, "", b) })
		return
	}
	name := ""
	var docs [][]byte
	keep := func(_ *yaml.Node, b []byte) { docs = append(docs, b) }
	if !r.Fields(n, "a trusted root", map[string]func(*yaml.Node){
		"name": func(n *yaml.Node) { name = r.rootName(n) },
		"file": func(n *yaml.Node) { r.file(n, MaxFile, keep) },
		"pem":  func(n *yaml.Node) { r.inline(n, keep) },
	}) {
		return
	}
	if len(docs) > 1 {
		r.Wrong(n, "file or pem, one of both", "a trusted root has two sources")
		return
	}
	for _, b := range docs {
		r.sigstore(n, name, b)
	}
}

func (r *roots) rootName(n *yaml.Node) string {
	s, ok := r.short(n, "the trusted root's name")
	_, taken := r.circle[s]
	switch {
	case !ok:
		return ""
	case !written.IsName(s):
		r.Wrong(n, "", "%q can't be a name: letters, digits and . _ - only, at most 100", s)
		return ""
	case taken:
		r.Wrong(n, "choose another name", "two trusted roots are called %s", s)
		return ""
	}
	return s
}

// sigstore keeps a trusted root, and the fingerprints of its authorities if it
// has a name.
func (r *roots) sigstore(n *yaml.Node, name string, b []byte) {
	const remedy = "a trusted root is a file trusted_root.json"
	var root struct {
		MediaType              string `json:"mediaType"`
		CertificateAuthorities []struct {
			CertChain struct {
				Certificates []struct {
					RawBytes []byte `json:"rawBytes"`
				} `json:"certificates"`
			} `json:"certChain"`
		} `json:"certificateAuthorities"`
	}
	if err := json.Unmarshal(b, &root); err != nil {
		r.Wrong(n, remedy, "no trusted root: %v", err)
		return
	}
	if !strings.HasPrefix(root.MediaType, "application/vnd.dev.sigstore.trustedroot") {
		r.Wrong(n, remedy, "no trusted root of Sigstore: its media type is %q", root.MediaType)
		return
	}
	for _, have := range r.out.Sigstore {
		if bytes.Equal(have, b) {
			r.Wrong(n, "name it once", "the same trusted root twice")
			return
		}
	}
	r.out.Sigstore = append(r.out.Sigstore, b)
	if name == "" {
		return
	}
	prints := []string{}
	for _, ca := range root.CertificateAuthorities {
		if c := ca.CertChain.Certificates; len(c) > 0 {
			prints = append(prints, sum(c[len(c)-1].RawBytes)) // the root comes last
		}
	}
	r.circle[name] = prints
}

// bind binds a keyless signer to one trusted root: whoever runs a Fulcio can
// write any issuer into its certificates, so that with several of them an issuer
// alone says nothing.
func (s *signers) bind(n *yaml.Node, i *Identity) {
	name, ok := s.short(n, "root")
	if !ok {
		return
	}
	prints, known := s.circle[name]
	switch {
	case !known:
		s.Wrong(n, "give it that name: roots: {sigstore: [{name: "+name+", file: trusted_root.json}]}", "no trusted root of roots.sigstore is called %s", name)
	case len(prints) == 0:
		s.Wrong(n, "", "the trusted root %s has no certificate authority", name)
	}
	i.Root, i.roots = name, prints
}
