// Package iac reads documents that say how containers shall be built and run, and
// says what is wrong with them, with the lines where it stands:
//
//   - task definitions in JSON, as ECS takes and returns them,
//   - templates of CloudFormation, SAM and the CDK, in JSON and YAML,
//   - Terraform, in its own language, in JSON, and as a plan in JSON,
//   - compose files, and Dockerfiles.
//
// All of them become one blueprint, so that each check is written once (see
// check). Nothing is fetched, nothing is run, and no file outside of what is
// scanned is read. Documents are hostile: each is read within limits, and one that
// cannot be read is a Problem while the others stand.
package iac

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/check"
	"github.com/castellan-security/castellan/internal/scan/iac/cloudformation"
	"github.com/castellan-security/castellan/internal/scan/iac/dockerfile"
	"github.com/castellan-security/castellan/internal/scan/iac/terraform"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// Limits on one scan.
const (
	// MaxFiles bounds the files of a folder that are looked at.
	MaxFiles = 200_000
	// MaxDepth bounds how deep folders are walked.
	MaxDepth = 64
	// maxFaults bounds what is said of one folder.
	maxFaults = 50_000
	// maxJudged bounds the texts of one document that are looked at, those that
	// references repeat counted each time, and maxJudgedInAll those of a scan: ECS
	// takes 64 KiB of a definition.
	maxJudged      = 16 << 20
	maxJudgedInAll = 512 << 20
	// maxWords and maxWordsInAll are the same for commands, which are taken apart
	// into words: four seconds of a processor for 16 MB, of which a document of 20 KB
	// can have as much by naming one text a thousand times.
	maxWords      = 2 << 20
	maxWordsInAll = 64 << 20
	// maxServices bounds those of a compose file; people write dozens.
	maxServices = 1000
)

// Result is what a scan found.
type Result struct {
	// Faults are in the order of files and lines; accepted ones are among them.
	Faults []finding.Misconfiguration
	// Files is how many documents were understood, Resources how many tasks,
	// services, clusters, roles and builds they describe.
	Files, Resources int
	Problems         []inventory.Problem
}

// Options say how to scan.
type Options struct {
	Prefix string    // put before the names of files in the result
	Now    time.Time // by which comments that accept something hold
	// Tell is told of each document that is looked at, nil for nobody.
	Tell func(*blueprint.Document)
}

// Scan reads one file or folder. name is it within files, "." for all.
func Scan(ctx context.Context, files fs.FS, name string, o Options) (Result, error) {
	s := &scan{files: files, o: o, terraform: terraform.NewReader(files), seen: map[string]bool{}}
	info, err := fs.Stat(files, name)
	if err != nil {
		return Result{}, err
	}
	if info.IsDir() {
		err = s.walk(ctx, name)
	} else {
		err = s.single(name)
	}
	if err != nil {
		return Result{}, err
	}
	s.readTerraform()
	return s.result(), nil
}

type scan struct {
	files     fs.FS
	o         Options
	terraform *terraform.Reader
	only      string // with a file alone: what is said of others is left out
	faults    []*check.Fault
	problems  []inventory.Problem
	seen      map[string]bool // files that were understood
	resources int
	judged    int  // bytes of texts
	words     int  // of these, of commands
	tooMany   bool // it was said that faults are left out
}

// single reads one file that somebody named. What it is by its name counts less
// than what is in it.
func (s *scan) single(name string) error {
	s.only = name
	switch {
	case isTerraform(name):
		// What it refers to is beside it, and in the modules that it calls.
		s.addTerraform(path.Dir(name), map[string]bool{})
		return nil
	case isDockerfile(name):
		s.dockerfile(name)
		return nil
	}
	b, err := s.read(name)
	if err != nil {
		return err
	}
	before := len(s.seen) + len(s.problems)
	if json := jsonLike(b); json || strings.HasSuffix(name, ".json") {
		s.document(name, b, true)
	} else if looksLikeDockerfile(b) {
		s.dockerfile(name)
	} else {
		s.document(name, b, false)
	}
	switch {
	case len(s.seen)+len(s.problems) != before:
	case bytes.Contains(b, []byte("AWSTemplateFormatVersion")):
		s.problem(name, fmt.Errorf("it is a template of CloudFormation in which nothing says how containers are run"))
	default:
		s.problem(name, fmt.Errorf("neither a task definition, a template of CloudFormation, Terraform, a compose file nor a Dockerfile"))
	}
	return nil
}

// addTerraform adds the module in a folder, and the local ones that it calls.
func (s *scan) addTerraform(dir string, added map[string]bool) {
	const enough = 200 // folders
	if added[dir] || len(added) == enough {
		return
	}
	added[dir] = true
	entries, err := fs.ReadDir(s.files, dir)
	if err != nil {
		return // a module that is not here says nothing
	}
	for _, e := range entries {
		if name := path.Join(dir, e.Name()); !e.IsDir() && isTerraform(name) {
			s.terraform.Add(name)
		}
	}
	for _, source := range s.terraform.Sources(dir) {
		s.addTerraform(source, added)
	}
}

func (s *scan) read(name string) ([]byte, error) {
	info, err := fs.Stat(s.files, name)
	if err != nil {
		return nil, err
	}
	if info.Size() > tree.MaxBytes || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%d bytes, and at most %d are read", info.Size(), tree.MaxBytes)
	}
	return fs.ReadFile(s.files, name)
}

func (s *scan) problem(name string, err error) {
	s.problems = append(s.problems, inventory.Problem{Place: inventory.Place{Path: name}, What: err.Error()})
}

// lost says that something is not in the result at all: a gate does not hold then.
func (s *scan) lost(name string, err error) {
	s.problem(name, err)
	s.problems[len(s.problems)-1].Lost = true
}

// take checks what a document describes.
func (s *scan) take(d *blueprint.Document, files ...string) {
	n := len(d.Tasks) + len(d.Services) + len(d.Clusters) + len(d.Roles) + len(d.Builds) + len(d.Repositories)
	for _, f := range files {
		s.seen[f] = true
	}
	s.resources += n
	name := ""
	if len(files) > 0 {
		name = files[0]
	}
	for i := range d.Tasks {
		if t := &d.Tasks[i]; t.Cut != "" {
			s.lost(cmp.Or(t.At.File, name), fmt.Errorf("%s has %s", t.Name, t.Cut))
		}
	}
	judged, words := weight(d)
	if s.judged += judged; judged > maxJudged || s.judged > maxJudgedInAll {
		s.lost(name, fmt.Errorf("it names texts of %d bytes in all, and is not looked at: at most %d of one document are, and %d of a scan", judged, maxJudged, maxJudgedInAll))
		return
	}
	if s.words += words; words > maxWords || s.words > maxWordsInAll {
		s.lost(name, fmt.Errorf("its commands have %d bytes in all, and it is not looked at: at most %d of one document are, and %d of a scan", words, maxWords, maxWordsInAll))
		return
	}
	if s.tooMany {
		return
	}
	if s.o.Tell != nil {
		s.o.Tell(d)
	}
	faults := check.Run(d)
	if room := maxFaults - len(s.faults); len(faults) > room {
		faults, s.tooMany = faults[:room], true
		s.lost(name, fmt.Errorf("there are more than %d faults; what follows is left out, here and in the files after it", maxFaults))
	}
	s.faults = append(s.faults, faults...)
}

// weight is how many bytes the texts of a document's containers have, in which
// secrets are looked for, and how many of them are of commands.
func weight(d *blueprint.Document) (n, words int) {
	for i := range d.Tasks {
		for k := range d.Tasks[i].Containers {
			c := &d.Tasks[i].Containers[k]
			for _, list := range [][]blueprint.Variable{c.Environment, c.Secrets} {
				for v := range list {
					n += len(list[v].Name.V) + len(list[v].Value.V)
				}
			}
			for _, list := range [][]blueprint.Text{c.Command.V, c.Entrypoint.V} {
				for v := range list {
					words += len(list[v].V)
				}
			}
		}
	}
	return n + words, words
}

func (s *scan) dockerfile(name string) {
	b, err := s.read(name)
	if err == nil && s.only == "" && !hasFrom(b) {
		return // a fragment, or something else of such a name
	}
	if err == nil {
		var build blueprint.Build
		if build, err = dockerfile.Parse(b, name); err == nil {
			s.take(&blueprint.Document{Builds: []blueprint.Build{build}}, name)
			return
		}
	}
	s.problem(name, err)
}

// document reads JSON or YAML, whatever it is of the kinds that are known.
func (s *scan) document(name string, b []byte, isJSON bool) {
	if !mayMatter(b) {
		return
	}
	var documents []*tree.Node
	var err error
	if isJSON {
		var n *tree.Node
		n, err = tree.JSON(b, name, finding.Position{})
		documents = []*tree.Node{n}
	} else {
		documents, err = tree.YAML(b, name)
	}
	if err != nil {
		s.problem(name, err)
		return
	}
	var d blueprint.Document
	understood := false
	for _, n := range documents {
		understood = s.describe(n, &d) || understood
	}
	if understood {
		s.take(&d, name)
	}
}

// describe adds what a document says, if it is one of the kinds that are known.
func (s *scan) describe(n *tree.Node, d *blueprint.Document) bool {
	switch {
	case n == nil:
		return false
	case cloudformation.Is(n):
		if !fromCloudFormation(n, d) {
			s.lost(n.At.File, errors.New("it comes to more than is worked out of one template; the rest of it is unknown"))
		}
	case terraform.IsPlan(n):
		fromTerraform(terraform.Plan(n, isWanted), d)
	case isCompose(n):
		if services := n.Exact("services"); len(services.Fields) > maxServices {
			s.lost(n.At.File, fmt.Errorf("more than %d services; the others are left out", maxServices))
			services.Fields = services.Fields[:maxServices]
		}
		d.Tasks = append(d.Tasks, composeTasks(n)...)
	default:
		if len(n.Each()) > maxDefinitions {
			s.lost(n.At.File, fmt.Errorf("more than %d entries; the others are left out", maxDefinitions))
		}
		return taskDefinitions(n, d)
	}
	return true
}

// mayMatter looks quickly whether a document can be one of the kinds that are
// known: most JSON and YAML in a repository is not.
func mayMatter(b []byte) bool {
	for _, mark := range []string{"ontainerDefinitions", "AWS::ECS::", "AWS::ECR::Repository", "ecs-tasks.amazonaws.com", "services", "planned_values", "root_module"} {
		if bytes.Contains(b, []byte(mark)) {
			return true
		}
	}
	return false
}

func jsonLike(b []byte) bool {
	b = bytes.TrimSpace(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")))
	return bytes.HasPrefix(b, []byte("{")) || bytes.HasPrefix(b, []byte("["))
}

func (s *scan) readTerraform() {
	for _, module := range s.terraform.Resources(isWanted) {
		var d blueprint.Document
		fromTerraform(module, &d)
		var files []string
		for _, r := range module {
			files = append(files, r.Body.At.File)
		}
		s.take(&d, files...)
	}
	for _, p := range s.terraform.Problems {
		s.problem(p.File, p.Err)
		s.problems[len(s.problems)-1].Lost = p.Lost
	}
}

// result accepts what comments accept, gives fingerprints, and sorts.
func (s *scan) result() Result {
	r := Result{Resources: s.resources, Problems: s.problems}
	if s.only != "" {
		s.faults = slices.DeleteFunc(s.faults, func(f *check.Fault) bool { return f.File != s.only })
		r.Problems = slices.DeleteFunc(r.Problems, func(p inventory.Problem) bool { return p.Path != s.only && !p.Lost })
		s.seen = map[string]bool{s.only: s.seen[s.only]}
	}
	for _, there := range s.seen {
		if there {
			r.Files++
		}
	}
	slices.SortStableFunc(s.faults, func(a, b *check.Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Start.Line, b.Start.Line), cmp.Compare(a.Start.Column, b.Start.Column), cmp.Compare(a.Check, b.Check))
	})
	s.heedComments(&r)
	printed := map[string]int{}
	if len(s.faults) > 0 {
		r.Faults = make([]finding.Misconfiguration, 0, len(s.faults))
	}
	for _, f := range s.faults {
		m := f.Misconfiguration
		m.File = path.Join(s.o.Prefix, m.File)
		m.Print(0)
		nth := printed[m.Fingerprint]
		if printed[m.Fingerprint]++; nth > 0 {
			m.Print(nth)
		}
		r.Faults = append(r.Faults, m)
	}
	for i := range r.Problems {
		r.Problems[i].Path = path.Join(s.o.Prefix, r.Problems[i].Path)
	}
	slices.SortStableFunc(r.Problems, func(a, b inventory.Problem) int { return cmp.Compare(a.Path, b.Path) })
	return r
}
