// Package field reads the names and values that a document gives in fields of
// their own, whatever the document's language and however they are spelt: task
// definitions, CloudFormation, Terraform, compose files, and any other JSON and
// YAML. Functions, references, anchors, heredocs, folded and encoded texts are
// worked out as far as the document itself tells.
//
//	fields, err := field.Read(b, "deploy/main.tf")
//
// It is not for judging what was read (see judge), and not for what a document
// means (see iac).
package field

import (
	"bytes"
	"errors"
	"path"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/iac/cloudformation"
	"github.com/castellan-security/castellan/internal/scan/iac/terraform"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// Limits on one document.
const (
	// MaxBytes bounds a document: CloudFormation takes 1 MB, ECS 64 KiB, and files of
	// Terraform are below 200 KB.
	MaxBytes = 1 << 20
	// maxPlain bounds one in YAML that is no template: its reader holds ten times as
	// much, and what deploys something is far shorter.
	maxPlain = 256 << 10
	// maxFields bounds what is told of one, and with it what references, which may
	// repeat what they name, can cost.
	maxFields = 50_000
	// maxText bounds the texts that are told, all together.
	maxText = 8 << 20
	// maxDepth bounds nesting, with the documents within documents.
	maxDepth = tree.MaxDepth + 20
	// maxWithin bounds documents within documents.
	maxWithin = 3
)

// Part is a part of a container's definition, or of what is like one.
type Part uint8

// The parts.
const (
	Elsewhere Part = iota
	// Variables are those of a program, as of a function or a build.
	Variables
	// Environment are variables of a container that ECS runs.
	Environment
	// Service are variables of a service of a compose file.
	Service
	// Command is what a container runs.
	Command
)

// Field is a name with its value.
type Field struct {
	Name, Value string
	At          blueprint.Span // of the value
	Part        Part
}

// Words are those of a command.
type Words struct {
	Texts []string
	At    []blueprint.Span
	Part  Part
}

// Text is a text that is to be looked through by itself: a script, or what was
// encoded.
type Text struct {
	Text string
	At   blueprint.Span
}

// Fields is what a document gives.
type Fields struct {
	Fields   []Field
	Commands []Words
	Texts    []Text
}

// ErrMany says that a document has more than is read of one: what was read until
// then is there.
var ErrMany = errors.New("it comes to more than is read of one document")

// Is says by its name whether a file may be a document.
func Is(name string) bool {
	switch base := path.Base(name); strings.ToLower(path.Ext(base)) {
	case ".json":
		return base != "package-lock.json" && base != "npm-shrinkwrap.json"
	case ".yaml", ".yml":
		return base != "pnpm-lock.yaml"
	case ".template", ".config", ".tf", ".tofu", ".tfvars", ".hcl", ".tfstate":
		return true
	}
	return false
}

// ErrLong says that a document is longer than those that are read.
var ErrLong = errors.New("it is longer than documents that are read")

// Read reads a document. What is no document is an error, and so is one that is
// too long (ErrLong); with ErrMany something was read.
func Read(b []byte, name string) (Fields, error) {
	if len(b) > MaxBytes {
		return Fields{}, ErrLong
	}
	w := &walker{}
	switch strings.ToLower(path.Ext(name)) {
	case ".tf", ".tofu", ".tfvars", ".hcl":
		n, whole, err := terraform.File(b, name)
		if n == nil {
			return Fields{}, err
		}
		w.many = !whole
		w.value(n, where{}, 0)
	case ".yaml", ".yml", ".config":
		if len(b) > maxPlain && !bytes.Contains(b, []byte("AWS::")) {
			return Fields{}, ErrLong
		}
		w.block = 1
		documents, err := tree.YAML(b, name)
		if err != nil {
			return Fields{}, err
		}
		for _, n := range documents {
			w.document(n)
		}
	default:
		n, err := tree.JSON(b, name, finding.Position{})
		if err != nil && strings.HasSuffix(name, ".template") { // CloudFormation's name for both
			w.block = 1
			documents, yamlErr := tree.YAML(b, name)
			if yamlErr != nil {
				return Fields{}, yamlErr
			}
			for _, n := range documents {
				w.document(n)
			}
			break
		}
		if err != nil {
			return Fields{}, err
		}
		w.document(n)
	}
	if w.many {
		return w.out, ErrMany
	}
	return w.out, nil
}

// document walks through one as it is written, and a template as it is worked out,
// too.
func (w *walker) document(n *tree.Node) {
	w.value(n, where{}, 0)
	if n == nil || !cloudformation.Is(n) {
		return
	}
	w.resolved = true
	resources, whole := cloudformation.Read(n, func(string) bool { return true })
	w.many = w.many || !whole
	for _, r := range resources {
		w.value(r.Properties, where{}, 0)
	}
	w.resolved = false
}
