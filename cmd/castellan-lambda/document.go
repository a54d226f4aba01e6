package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/scan"
)

// readDocument makes requests of what a template describes: its tasks, as the
// scanner reads them, and its repositories. A template in which there is neither is
// no error and no request.
func readDocument(ctx context.Context, d admission.Document) ([]admission.Request, error) {
	outline, err := outlineOf(d.Body)
	if err != nil {
		return nil, fault.New(fault.Invalid, "%s is no template that is understood: %w", d.Name, err).With("castellan scan iac says what is wrong with it")
	}
	var all []admission.Request
	if outline.runs {
		f := document{name: "template.yaml", body: d.Body}
		if json.Valid(d.Body) {
			f.name = "template.json"
		}
		requests, found, err := scan.Deployments(ctx, f, f.name, scan.DocumentOptions{Now: time.Now().UTC()})
		if err != nil {
			return nil, fault.New(fault.Invalid, "%s is not read: %w", d.Name, err).With("castellan scan iac says more")
		}
		for _, p := range found.Problems {
			if p.Lost || len(requests) == 0 {
				return nil, fault.New(fault.Invalid, "%s is not read whole: %s", d.Name, p.What).With("castellan scan iac says more")
			}
		}
		if len(requests) == 0 {
			return nil, fault.New(fault.Invalid, "%s has tasks or services, and none was found", d.Name).With("castellan scan iac says more")
		}
		for i := range requests {
			requests[i].Place.File = ""
		}
		all = requests
	}
	for i := range outline.repositories {
		all = append(all, repositoryOf(&outline.repositories[i]))
	}
	return all, nil
}

// outline is what of a template is looked at here.
type outline struct {
	runs         bool // there is something that says how containers are run
	repositories []yaml.Node
}

// outlineOf looks for the resources of a template. JSON is YAML, too.
func outlineOf(b []byte) (outline, error) {
	const most = 4 << 20 // CloudFormation takes 1 MB
	var o outline
	if len(b) > most {
		return o, fmt.Errorf("it has more than %d bytes", most)
	}
	var t struct {
		Resources map[string]struct {
			Type       string    `yaml:"Type"`
			Properties yaml.Node `yaml:"Properties"`
		} `yaml:"Resources"`
		Rest map[string]yaml.Node `yaml:",inline"`
	}
	if err := yaml.Unmarshal(b, &t); err != nil {
		return o, err
	}
	for _, r := range t.Resources {
		switch r.Type {
		case "AWS::ECS::TaskDefinition", "AWS::ECS::Service", "AWS::ECS::TaskSet":
			o.runs = true
		case "AWS::ECR::Repository":
			o.repositories = append(o.repositories, r.Properties)
		}
	}
	return o, nil
}

// repositoryOf makes a request of a repository's properties. What a function of
// CloudFormation stands for is unknown.
func repositoryOf(n *yaml.Node) admission.Request {
	var r admission.Repository
	var unknown []string
	text := func(n *yaml.Node, name string) string {
		switch {
		case n == nil:
			return ""
		case n.Kind == yaml.ScalarNode && (n.Tag == "!!str" || n.Tag == "!!bool" || n.Tag == "!!int"):
			return n.Value
		}
		unknown = append(unknown, "repositories[0]."+name)
		return ""
	}
	r.Name = text(member(n, "RepositoryName"), "name")
	r.Immutable = text(member(n, "ImageTagMutability"), "immutable") == "IMMUTABLE" // with exclusions some tags move
	r.ScanOnPush = text(member(member(n, "ImageScanningConfiguration"), "ScanOnPush"), "scan_on_push") == "true"
	encryption := member(n, "EncryptionConfiguration")
	if r.Key = text(member(encryption, "KmsKey"), "key"); r.Key == "" && text(member(encryption, "EncryptionType"), "key") == "KMS" {
		r.Key = "alias/aws/ecr"
	}
	if policy := member(n, "RepositoryPolicyText"); policy != nil {
		var v any
		if err := policy.Decode(&v); err == nil && !calculated(policy) {
			r.Policy, err = json.Marshal(v)
			if err == nil && r.Policy[0] == '"' { // it may be a text with JSON in it
				var s string
				if json.Unmarshal(r.Policy, &s) == nil && json.Valid([]byte(s)) {
					r.Policy = json.RawMessage(s)
				}
			}
			if err != nil {
				r.Policy = nil
			}
		}
		if r.Policy == nil {
			unknown = append(unknown, "repositories[0].statements")
		}
	}
	return admission.Request{Repositories: []admission.Repository{r}, Unknown: unknown, FaultsKnown: true}
}

// member is a member of a map; what a function stands for has none, and is itself.
func member(n *yaml.Node, name string) *yaml.Node {
	switch {
	case n == nil || n.Kind == 0:
		return nil
	case n.Kind == yaml.AliasNode:
		return member(n.Alias, name)
	case n.Kind != yaml.MappingNode || function(n):
		return n
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

// function says whether a value is a function of CloudFormation.
func function(n *yaml.Node) bool {
	if len(n.Tag) > 1 && n.Tag[0] == '!' && n.Tag[1] != '!' {
		return true
	}
	if n.Kind != yaml.MappingNode || len(n.Content) != 2 {
		return false
	}
	name := n.Content[0].Value
	return name == "Ref" || len(name) > 4 && name[:4] == "Fn::"
}

// calculated says whether there is a function in a value.
func calculated(n *yaml.Node) bool {
	if function(n) || n.Kind == yaml.AliasNode {
		return true
	}
	for _, c := range n.Content {
		if calculated(c) {
			return true
		}
	}
	return false
}

// document is a file system with one file, in memory.
type document struct {
	name string
	body []byte
}

// Open returns the file.
func (d document) Open(name string) (fs.File, error) {
	if name != d.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &opened{Reader: bytes.NewReader(d.body), d: d}, nil
}

type opened struct {
	*bytes.Reader
	d document
}

func (o *opened) Stat() (fs.FileInfo, error) { return o.d, nil }
func (o *opened) Close() error               { return nil }

func (d document) Name() string       { return d.name }
func (d document) Size() int64        { return int64(len(d.body)) }
func (d document) Mode() fs.FileMode  { return 0o444 }
func (d document) ModTime() time.Time { return time.Time{} }
func (d document) IsDir() bool        { return false }
func (d document) Sys() any           { return nil }
