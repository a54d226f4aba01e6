package scan

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/iac"
)

// Deployments reads documents as Documents does, and returns what they would
// deploy, for a decision on it: a request for each task definition, for each service
// that runs one, and for each repository. What a document leaves open is Unknown in the request,
// and what the scanner says of it is among the Faults.
func Deployments(ctx context.Context, files fs.FS, name string, o DocumentOptions) ([]admission.Request, DocumentResult, error) {
	var all []*blueprint.Document
	o.Tell = func(d *blueprint.Document) {
		kept := *d
		all = append(all, &kept)
	}
	found, err := iac.Scan(ctx, files, name, o)
	if err != nil {
		return nil, found, err
	}
	info, err := fs.Stat(files, name)
	if err != nil {
		return nil, found, err
	}
	only := ""
	if !info.IsDir() {
		only = name
	}
	var out []admission.Request
	for _, d := range all {
		p := plan{document: d, faults: found.Faults, only: only, prefix: o.Prefix}
		out = append(out, p.requests()...)
	}
	for i := range out {
		out[i].ID, out[i].At = fmt.Sprintf("ci-%d", i+1), o.Now
	}
	return out, found, nil
}

// plan is a document on its way to requests.
type plan struct {
	document     *blueprint.Document
	faults       []finding.Misconfiguration
	only, prefix string
}

func (p *plan) meant(r *blueprint.Resource) bool { return p.only == "" || r.At.File == p.only }

func (p *plan) requests() []admission.Request {
	var out []admission.Request
	run := make([]bool, len(p.document.Services))
	for i := range p.document.Tasks {
		t := &p.document.Tasks[i]
		if !p.meant(&t.Resource) {
			continue
		}
		services := 0
		for k := range p.document.Services {
			if s := &p.document.Services[k]; runs(s, t) {
				run[k] = true
				services++
				out = append(out, p.request(t, s))
			}
		}
		if services == 0 {
			out = append(out, p.request(t, nil))
		}
	}
	for k := range p.document.Services {
		if s := &p.document.Services[k]; !run[k] && p.meant(&s.Resource) {
			out = append(out, p.request(nil, s))
		}
	}
	for i := range p.document.Repositories {
		if r := &p.document.Repositories[i]; p.meant(&r.Resource) {
			out = append(out, p.repository(r))
		}
	}
	return out
}

// repository makes a request of a repository.
func (p *plan) repository(d *blueprint.Repository) admission.Request {
	var w writer
	const at = "repositories[0]."
	r := admission.Repository{Name: w.text(d.Called, at+"name"), Key: w.text(d.Key, at+"key"), ScanOnPush: w.flag(d.ScanOnPush, at+"scan_on_push")}
	r.Immutable = strings.EqualFold(w.text(d.Mutability, at+"immutable"), "IMMUTABLE") // with exclusions some tags move
	if kind := w.text(d.Encryption, at+"key"); d.Key.Absent() && strings.HasPrefix(strings.ToUpper(kind), "KMS") {
		r.Key = "alias/aws/ecr" // AWS's own for it
	}
	if policy := w.text(d.Policy, at+"policy"); policy != "" {
		if r.Policy = json.RawMessage(policy); !json.Valid(r.Policy) {
			r.Policy = nil
			w.unknown = append(w.unknown, at+"policy")
		}
	}
	if r.Name == "" {
		r.Name = d.Name
	}
	slices.Sort(w.unknown)
	return admission.Request{Door: admission.CI, Action: admission.Register, FaultsKnown: true, Place: admission.Place{File: path.Join(p.prefix, d.At.File)},
		Repositories: []admission.Repository{r}, Unknown: slices.Compact(w.unknown)}
}

// runs says whether a service runs a task definition of the same document.
func runs(s *blueprint.Service, t *blueprint.Task) bool {
	d := s.TaskDefinition
	if d.Ref != "" {
		return d.Ref == t.Key && s.Module == t.Module
	}
	family := t.Family.V
	return d.Known() && t.Family.Known() && (d.V == family || strings.HasPrefix(d.V, family+":") || strings.HasSuffix(d.V, "/"+family) || strings.Contains(d.V, "/"+family+":"))
}

// request makes one of a task, a service, or a service that runs a task.
func (p *plan) request(t *blueprint.Task, s *blueprint.Service) admission.Request {
	var w writer
	r := admission.Request{Door: admission.CI, Action: admission.Register, FaultsKnown: true}
	at := blueprint.Resource{}
	if t != nil {
		at = t.Resource
		w.task(&r.Task, t)
		w.roles(&r.Task, t, p.document.Roles)
		if t.Cut != "" {
			w.unknown = append(w.unknown, "task.containers")
		}
	} else {
		at = s.Resource
		r.Task.ARN = w.text(s.TaskDefinition, "task.arn")
		w.unknown = append(w.unknown, "task.containers", "task.volumes", "task.roles", "task.network", "task.pid", "task.ipc", "task.family")
	}
	r.Place.File = path.Join(p.prefix, at.At.File)
	if r.Task.ARN == "" {
		r.Task.ARN = at.Name
	}
	if s != nil {
		r.Place.Service = w.text(s.Called, "place.service")
		r.Place.Cluster = clusterName(w.text(s.Cluster, "place.cluster"))
		r.Task.Exec = w.flag(s.Exec, "task.exec")
		r.Task.PublicIP = w.flag(s.PublicIP, "task.public_ip") || len(s.PublicSubnets) > 0 && !blueprint.IsFalse(s.PublicIP)
		r.Task.Launch = cmp.Or(w.text(s.LaunchType, "task.launch"), r.Task.Launch)
	}
	r.Faults = p.faultsOf(t, s, r.Place.File)
	quiet(&r)
	slices.Sort(w.unknown)
	r.Unknown = slices.Compact(w.unknown)
	return r
}

// clusterName is the name of a cluster that is named by it or by its ARN.
func clusterName(s string) string {
	if i := strings.LastIndex(s, "cluster/"); i >= 0 {
		return s[i+len("cluster/"):]
	}
	return s
}

// faultsOf are those of the task, of the service, and of the clusters and roles of
// the same document.
func (p *plan) faultsOf(t *blueprint.Task, s *blueprint.Service, file string) []finding.Misconfiguration {
	names := map[string]bool{}
	if t != nil {
		names[t.Name] = true
	}
	if s != nil {
		names[s.Name] = true
	}
	for i := range p.document.Clusters {
		names[p.document.Clusters[i].Name] = true
	}
	for i := range p.document.Roles {
		names[p.document.Roles[i].Name] = true
	}
	var out []finding.Misconfiguration
	for i := range p.faults {
		f := &p.faults[i]
		if names[f.Resource] && path.Dir(f.File) == path.Dir(file) {
			out = append(out, *f)
		}
	}
	return out
}

// quiet leaves out the values that the scanner takes for secrets: of variables each
// such value, of a command that has one all but its first word.
func quiet(r *admission.Request) {
	variables, commands := map[[2]string]bool{}, map[string]bool{}
	for i := range r.Faults {
		switch f := &r.Faults[i]; f.Check {
		case secretInEnvironment:
			variables[[2]string{f.Container, strings.TrimPrefix(f.Subject, "environment ")}] = true
		case secretInCommand:
			commands[f.Container] = true
		}
	}
	for i := range r.Task.Containers {
		c := &r.Task.Containers[i]
		for k := range c.Env {
			if variables[[2]string{c.Name, c.Env[k].Name}] {
				c.Env[k].Value = ""
			}
		}
		if commands[c.Name] {
			c.Entrypoint, c.Command = firstWord(c.Entrypoint), firstWord(c.Command)
		}
	}
}

func firstWord(command []string) []string {
	if len(command) < 2 {
		return nil // a line for a shell, or nothing
	}
	return append(command[:1:1], "…")
}

// The checks that find secrets in tasks.
const (
	secretInEnvironment = "CAST-TASK-016"
	secretInCommand     = "CAST-TASK-017"
)

// roles are those that a task names, with their policies where the document has
// all of them.
func (w *writer) roles(to *admission.Task, t *blueprint.Task, roles []blueprint.Role) {
	for _, r := range []struct {
		use string
		arn blueprint.Text
	}{{"task", t.TaskRole}, {"execution", t.ExecutionRole}} {
		if r.arn.Absent() {
			continue
		}
		role := admission.Role{Use: r.use, ARN: r.arn.V}
		for i := range roles {
			if d := &roles[i]; r.arn.Ref != "" && d.Ref == r.arn.Ref && d.Module == t.Module {
				if !r.arn.Known() {
					role.ARN = d.Name
				}
				role.Policies, role.Known = policiesOf(d.Statements, d.Denials, d.Open)
				if b := d.Boundary; b != nil {
					role.Bounded = true
					if documents, known := policiesOf(b.Allows, b.Denials, b.Open); known && len(documents) == 1 {
						role.Boundary = documents[0]
					} else {
						role.Known = false
					}
				}
			}
		}
		to.Roles = append(to.Roles, role)
	}
}

// statement is one of a policy, as IAM writes it.
type statement struct {
	Effect      string
	Action      []string       `json:",omitempty"`
	NotAction   []string       `json:",omitempty"`
	Resource    []string       `json:",omitempty"`
	NotResource []string       `json:",omitempty"`
	Condition   map[string]any `json:",omitempty"`
}

// policiesOf writes what a document says of a role as a policy, and says whether
// that is all: a policy that is attached by its name is elsewhere.
func policiesOf(allows, denials []blueprint.Grant, open bool) ([]json.RawMessage, bool) {
	whole := !open
	var all []statement
	for i := range allows {
		if s, known := statementOf(&allows[i], "Allow"); len(s.Action)+len(s.NotAction) > 0 {
			all, whole = append(all, s), whole && known
		} else {
			whole = whole && known
		}
	}
	for i := range denials {
		// What is denied in part alone is left: it might be taken for more.
		s, known := statementOf(&denials[i], "Deny")
		if whole = whole && known; known && len(s.Action)+len(s.NotAction) > 0 {
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		return nil, whole
	}
	b, err := json.Marshal(map[string]any{"Statement": all})
	if err != nil {
		return nil, false // texts can always be written
	}
	return []json.RawMessage{b}, whole
}

// statementOf writes one, and says whether all of it is known.
func statementOf(g *blueprint.Grant, effect string) (s statement, known bool) {
	known = true
	texts := func(v blueprint.Texts) []string {
		known = known && v.Is != blueprint.Unknown
		var out []string
		for _, t := range v.V {
			// Of an unknown text what is known stays: "arn:aws:s3:::${Bucket}/*" is no "*".
			if known = known && (t.Known() || t.V != ""); t.V != "" {
				out = append(out, t.V)
			}
		}
		return out
	}
	s = statement{Effect: effect, Action: texts(g.Actions), NotAction: texts(g.NotActions), Resource: texts(g.Resources), NotResource: texts(g.NotResources)}
	if g.Conditions {
		keys := map[string]string{"castellan:unknown": "*"} // what it is compared with counts for nothing
		for _, k := range g.Keys {
			keys[k] = "*"
		}
		s.Condition = map[string]any{"StringLike": keys}
	}
	return s, known
}
