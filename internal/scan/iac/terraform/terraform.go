// Package terraform reads configurations in Terraform's language and its JSON
// form, and plans that `terraform show -json` wrote. Variables have their
// defaults or what *.tfvars say, local modules are read with what they are called
// with, count and for_each stand for one unless they are known to be none. What only a plan or a provider knows
// stays unknown.
//
// Nothing is fetched or run, and no file is read outside of the folder that is
// scanned. It is not for what a resource means (see iac).
package terraform

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// Limits on configurations.
const (
	// maxFile bounds one file: real ones are below 200 KB.
	maxFile = 1 << 20
	// maxCalls bounds how often modules are read within one another.
	maxCalls = 500
	// maxNesting bounds how deep modules call modules.
	maxNesting = 10
	// maxBrackets bounds how deep a file nests: the parser recurses on it.
	maxBrackets = 200
)

// Resource is one resource or data source.
type Resource struct {
	Type, Name string
	// Address is as Terraform writes it: module.web.aws_ecs_service.api.
	Address string
	// Key is the address within its own module, as references have it.
	Key    string
	Module string // the module's address, "" for the root
	Body   *tree.Node
}

// Problem is a file that could not be read, or not whole.
type Problem struct {
	File string
	Err  error
	Lost bool // resources may be missing, or not be known for what they are
}

// Reader reads the modules below one folder.
type Reader struct {
	files    fs.FS
	modules  map[string]*module // by folder
	called   map[string]bool
	rootDir  string // of the root module that is read
	calls    int
	work     int // of the root module that is read, and of those that it calls
	total    int
	stand    bool // see NewValueReader
	Problems []Problem
}

// NewReader returns a reader of what is in files.
func NewReader(files fs.FS) *Reader {
	return &Reader{files: files, modules: map[string]*module{}, called: map[string]bool{}}
}

// NewValueReader returns a reader for who asks where values stand, not where they are
// used: each text has the place where it is written, whatever refers to it. Defaults
// of sensitive variables are values, and *.tfvars that Terraform does not read by
// itself count where nothing else gives a value. Beside resources it returns how
// modules are called, as resources of the type module.
func NewValueReader(files fs.FS) *Reader {
	r := NewReader(files)
	r.stand = true
	return r
}

// module is a folder of configuration, as it is written.
type module struct {
	dir       string
	variables map[string]*hclsyntax.Block
	defaults  map[string]*tree.Node // of variables in the JSON form
	given     map[string]hclsyntax.Expression
	locals    map[string]hclsyntax.Expression
	blocks    []*hclsyntax.Block // resource, data, module
	json      []jsonBlock
	jsonLocal map[string]*tree.Node
	read      bool // by itself or as others call it
}

// Add reads a file into the module of its folder. Call it with all files before
// Resources, in the order of their names.
func (r *Reader) Add(name string) {
	b, err := r.read(name)
	if err == nil {
		m := r.module(path.Dir(name))
		switch {
		case strings.HasSuffix(name, ".tf"), strings.HasSuffix(name, ".tofu"):
			err = m.addFile(b, name)
		case strings.HasSuffix(name, ".json"):
			err = m.addJSON(b, name)
		case strings.HasSuffix(name, ".tfvars"):
			err = m.addValues(b, name, isAutomatic(name))
		}
	}
	if err != nil {
		r.Problems = append(r.Problems, Problem{File: name, Err: err})
	}
}

func (r *Reader) read(name string) ([]byte, error) {
	info, err := fs.Stat(r.files, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%d bytes, and at most %d are read", info.Size(), maxFile)
	}
	b, err := fs.ReadFile(r.files, name)
	if err == nil && len(b) > maxFile { // it has grown meanwhile
		err = fmt.Errorf("%d bytes, and at most %d are read", len(b), maxFile)
	}
	return b, err
}

func (r *Reader) module(dir string) *module {
	m := r.modules[dir]
	if m == nil {
		m = &module{dir: dir, variables: map[string]*hclsyntax.Block{}, defaults: map[string]*tree.Node{}, given: map[string]hclsyntax.Expression{},
			locals: map[string]hclsyntax.Expression{}, jsonLocal: map[string]*tree.Node{}}
		r.modules[dir] = m
	}
	return m
}

// tooDeep says whether brackets nest deeper than the parser is to be troubled
// with.
func tooDeep(b []byte) bool {
	depth := 0
	for _, c := range b {
		switch c {
		case '(', '[', '{':
			if depth++; depth > maxBrackets {
				return true
			}
		case ')', ']', '}':
			depth--
		}
	}
	// Operators nest without brackets.
	return slices.ContainsFunc([]string{"!", "-"}, func(op string) bool { return strings.Contains(string(b), strings.Repeat(op, maxBrackets)) })
}

func parse(b []byte, name string) (*hclsyntax.Body, error) {
	if tooDeep(b) {
		return nil, fmt.Errorf("nested deeper than %d", maxBrackets)
	}
	f, diags := hclsyntax.ParseConfig(b, name, hcl.InitialPos)
	if f == nil {
		return nil, diags
	}
	body, ok := f.Body.(*hclsyntax.Body)
	if !ok {
		return nil, diags
	}
	if diags.HasErrors() {
		d := diags[0]
		line := 0
		if d.Subject != nil {
			line = d.Subject.Start.Line
		}
		return body, fmt.Errorf("line %d: %s", line, d.Summary)
	}
	return body, nil
}

// addFile adds what is whole of a file, even if something in it is not.
func (m *module) addFile(b []byte, name string) error {
	body, err := parse(b, name)
	if body == nil {
		return err
	}
	m.add(body)
	return err
}

// add adds the blocks of a file.
func (m *module) add(body *hclsyntax.Body) {
	for _, block := range body.Blocks {
		switch {
		case block.Type == "variable" && len(block.Labels) == 1:
			m.variables[block.Labels[0]] = block
		case block.Type == "locals":
			for _, a := range block.Body.Attributes {
				m.locals[a.Name] = a.Expr
			}
		case (block.Type == "resource" || block.Type == "data") && len(block.Labels) == 2, block.Type == "module" && len(block.Labels) == 1:
			m.blocks = append(m.blocks, block)
		}
	}
}

// addValues adds terraform.tfvars and *.auto.tfvars, which Terraform reads by
// itself.
func (m *module) addValues(b []byte, name string, automatic bool) error {
	body, err := parse(b, name)
	if body == nil {
		return err
	}
	for _, a := range body.Attributes {
		if m.given[a.Name] == nil || automatic {
			m.given[a.Name] = a.Expr
		}
	}
	return err
}

// isAutomatic says that Terraform reads a file of values by itself.
func isAutomatic(name string) bool {
	base := path.Base(name)
	return base == "terraform.tfvars" || strings.HasSuffix(base, ".auto.tfvars")
}

// Resources returns the resources of the types that are wanted, of all modules
// that were added: of those that others call, as they are called.
func (r *Reader) Resources(wanted func(typ string) bool) [][]Resource {
	dirs := make([]string, 0, len(r.modules))
	for dir, m := range r.modules {
		dirs = append(dirs, dir)
		for _, source := range m.sources() {
			r.called[source] = true
		}
	}
	slices.Sort(dirs)
	var all [][]Resource
	for _, dir := range dirs {
		if !r.called[dir] {
			all = append(all, r.root(dir, wanted))
		}
	}
	// Modules that call each other have no root: each is read by itself.
	for _, dir := range dirs {
		if r.called[dir] && !r.modules[dir].read {
			all = append(all, r.root(dir, wanted))
		}
	}
	return all
}

// root reads a module that nobody calls, with those that it calls.
func (r *Reader) root(dir string, wanted func(string) bool) []Resource {
	if r.total > maxTotal {
		r.Problems = append(r.Problems, Problem{dir, errors.New("not read: the configurations before it came to more than is worked out in one scan"), true})
		return nil
	}
	r.work, r.calls, r.rootDir = 0, 0, dir
	out := r.resources(&scope{r: r, m: r.modules[dir]}, "", wanted, 0)
	if r.work > maxWork || r.calls > maxCalls {
		r.Problems = append(r.Problems, Problem{dir, errors.New("it comes to more than is worked out of one configuration; the rest of it is unknown"), true})
	}
	r.total += r.work
	return out
}

// Sources are the folders of the local modules that the module in a folder calls.
func (r *Reader) Sources(dir string) []string {
	if m := r.modules[dir]; m != nil {
		return m.sources()
	}
	return nil
}

// sources are the folders of the local modules that a module calls.
func (m *module) sources() []string {
	var out []string
	add := func(source string) {
		if isLocal(source) {
			out = append(out, path.Join(m.dir, source))
		}
	}
	for _, b := range m.blocks {
		if a := b.Body.Attributes["source"]; b.Type == "module" && a != nil {
			if text, ok := literal(a.Expr); ok {
				add(text)
			}
		}
	}
	for _, b := range m.json {
		if b.kind == "module" {
			add(b.body.Exact("source").AsText().V)
		}
	}
	return out
}

func (r *Reader) resources(s *scope, module string, wanted func(string) bool, depth int) []Resource {
	if r.calls++; r.calls > maxCalls || depth > maxNesting {
		return nil
	}
	s.m.read = true
	var out []Resource
	add := func(kind, typ, name string, body func() *tree.Node) {
		if !wanted(typ) {
			return
		}
		key := typ + "." + name
		if kind == "data" {
			key = "data." + key
		}
		out = append(out, Resource{Type: typ, Name: name, Key: key, Address: module + key, Module: module, Body: body()})
	}
	for _, b := range s.m.blocks {
		if s.none(b.Body) {
			continue
		}
		if b.Type != "module" {
			add(b.Type, b.Labels[0], b.Labels[1], func() *tree.Node { return s.body(b.Body, spanOf(b.DefRange(), b.Range()), 0) })
			continue
		}
		if s.r.stand {
			add("", "module", b.Labels[0], func() *tree.Node { return s.body(b.Body, spanOf(b.DefRange(), b.Range()), 0) })
		}
		if a := b.Body.Attributes["source"]; a != nil {
			source, _ := literal(a.Expr)
			if !isLocal(source) {
				if wanted(taskType) && !s.r.stand {
					out = append(out, s.farModule(b.Body, spanOf(b.DefRange(), b.Range()), b.Labels[0], module)...)
				}
				continue
			}
			inner := &scope{r: r, arguments: map[string]argument{}}
			for _, a := range b.Body.Attributes {
				inner.arguments[a.Name] = argument{expr: a.Expr, scope: s}
			}
			out = append(out, r.callModule(inner, s, source, b.Labels[0], module, wanted, depth)...)
		}
	}
	for _, b := range s.m.json {
		if s.noneJSON(b.body) {
			continue
		}
		if b.kind != "module" {
			add(b.kind, b.typ, b.name, func() *tree.Node { return s.jsonValue(b.body, 0) })
			continue
		}
		inner := &scope{r: r, arguments: map[string]argument{}}
		for _, f := range b.body.Fields {
			inner.arguments[f.Key] = argument{node: s.jsonValue(f.Value, 0)}
		}
		out = append(out, r.callModule(inner, s, b.body.Exact("source").AsText().V, b.name, module, wanted, depth)...)
	}
	return out
}

func isLocal(source string) bool {
	return strings.HasPrefix(source, "./") || strings.HasPrefix(source, "../")
}

// callModule reads a local module; others are not here.
func (r *Reader) callModule(inner, s *scope, source, name, module string, wanted func(string) bool, depth int) []Resource {
	if !isLocal(source) {
		return nil
	}
	if inner.m = r.modules[path.Join(s.m.dir, source)]; inner.m == nil {
		return nil
	}
	return r.resources(inner, module+"module."+name+".", wanted, depth+1)
}

// spanOf is from the beginning of one range to the end of another.
func spanOf(from, to hcl.Range) blueprint.Span {
	return blueprint.Span{File: from.Filename, Start: finding.Position{Line: from.Start.Line, Column: from.Start.Column},
		End: finding.Position{Line: to.End.Line, Column: to.End.Column}}
}

func spanAt(r hcl.Range) blueprint.Span { return spanOf(r, r) }
