package condition

import (
	"strconv"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/grant"
)

// Kind says what rules are about: each is asked once for each of what it is about.
type Kind struct {
	Name string
	Doc  string
	// Variables are what conditions have besides those that all have.
	Variables []Variable
	// Many says that there may be hundreds of it: they are told as one reason.
	Many bool

	// OfImage says that it is an image or something that was found in one.
	OfImage bool

	each func(*View, func(*Scope) bool)
}

// Answer is what a condition said of one of the things that rules of a kind find in
// an image, in their order.
type Answer struct {
	Index int32
	Holds bool // otherwise it has to be asked
}

// Recall returns what a condition said of n things of an image when it was asked
// before; those that aren't among the answers it doesn't hold for. known is false
// if each must be asked.
type Recall func(i *Image, n int) (answers []Answer, known bool)

// Variable is a name that conditions have.
type Variable struct{ Name, Type, Doc string }

// Common are the variables that all conditions have.
func Common() []Variable {
	return []Variable{
		{"action", "string", "what is asked for: run, register, exec, change, copy, pull, build or engine"},
		{"door", "string", "where: docker, service, cloudformation, eventbridge or ci"},
		{"caller", "Caller", "who asks"},
		{"place", "Place", "where it shall run"},
		{"task", "Task", "what shall run"},
		{"images", "list(Image)", "its images, each once"},
		{"repositories", "list(Repository)", "repositories of images that are created or changed"},
		{"process", "Process", "what is to be started in a container that runs"},
		{"call", "Call", "the call of Docker's interface"},
		{"now", "timestamp", "the time"},
	}
}

// Scope is what a condition is asked about: a request, and one of what the rule is
// about. It is reused from one to the next.
type Scope struct {
	View      *View
	Container *Object
	Image     *Object
	Element   *Object // a vulnerability, a mount, …, by the kind's name
	outer     *Object // the role of a statement
	name      string  // of Element

	unknown *types.Unknown // the list itself is unknown
	now     any
	index   int
	holds   bool // it was recalled
}

// Index is the place of what is asked about among those of its image.
func (s *Scope) Index() int { return s.index }

// Holds says that the condition is known to hold.
func (s *Scope) Holds() bool { return s.holds }

// ResolveName is part of CEL's interface.
func (s *Scope) ResolveName(name string) (any, bool) {
	v := s.View
	if len(v.unknown) > 0 {
		if u := v.unknown[name]; u != nil {
			return u, true
		}
	}
	switch name {
	case s.name:
		return s.Element, s.Element != nil
	case "container":
		return s.Container, s.Container != nil
	case "image":
		return s.Image, s.Image != nil
	case "role":
		return s.outer, s.outer != nil
	case "task":
		return v.task, true
	case "place":
		return v.place, true
	case "action":
		return types.String(v.Request.Action), true
	case "door":
		return types.String(v.Request.Door), true
	case "caller":
		return v.caller, true
	case "process":
		return v.process, true
	case "call":
		return v.call, true
	case "images":
		return listed(v.images), true
	case "repositories":
		return listed(v.repositories()), true
	case "now":
		v.clock = true
		if s.now == nil {
			s.now = types.Timestamp{Time: v.Now}
		}
		return s.now, true
	}
	return nil, false
}

// Parent is part of CEL's interface.
func (s *Scope) Parent() interpreter.Activation { return nil }

// Unknown returns why what the rule is about is not known as a whole, nil if it
// is.
func (s *Scope) Unknown() *types.Unknown { return s.unknown }

// Each calls f for each of what rules of a kind are about, until it returns false.
// What a condition is known not to hold for is left out; recall may be nil.
func (k *Kind) Each(v *View, recall Recall, f func(*Scope) bool) {
	v.recall = recall
	k.each(v, f)
	v.recall = nil
}

// Keep returns a copy that stays as it is when the scope goes on to the next.
func (s *Scope) Keep() *Scope {
	out := *s
	if s.Element != nil {
		e := *s.Element
		out.Element = &e
	}
	return &out
}

// Subject names what a scope is about beyond container and image: the number of
// a vulnerability, the id of a check, the source of a mount; "" if nothing.
func (s *Scope) Subject() string {
	if s.Element == nil {
		return ""
	}
	switch v := s.Element.v.(type) {
	case *admission.Vulnerability:
		return v.ID
	case *admission.Found:
		return v.Rule
	case *finding.Misconfiguration:
		return v.Check
	case *admission.Mount:
		return v.Source
	case *admission.Variable:
		return v.Name
	case *admission.Volume:
		return v.Name
	case *admission.Role:
		return v.ARN
	case *admission.Repository:
		return v.Name
	case *admission.Port:
		return strconv.Itoa(int(v.Host))
	}
	return ""
}

// Weight orders what a rule refuses: the graver the higher.
func (s *Scope) Weight() float64 {
	if s.Element == nil {
		return 0
	}
	const kev, severity = 0.5, 2.0
	switch v := s.Element.v.(type) {
	case *admission.Vulnerability:
		w := float64(v.Severity)*severity + v.EPSS/10
		if v.KEV {
			w += kev
		}
		return w
	case *admission.Found:
		return float64(v.Severity)
	case *finding.Misconfiguration:
		return float64(v.Severity)
	}
	return 0
}

// Fault is the scanner's fault that a scope is about, nil if it is about none.
func (s *Scope) Fault() *finding.Misconfiguration {
	if s.Element == nil {
		return nil
	}
	f, _ := s.Element.v.(*finding.Misconfiguration)
	return f
}

// ContainerName is the name of the container that a scope is about, "" if none.
func (s *Scope) ContainerName() string {
	if s.Container == nil {
		return ""
	}
	return of[container](s.Container).Name
}

// ImageOf is the image that a scope is about, nil if none.
func (s *Scope) ImageOf() *Image {
	if s.Image == nil {
		return nil
	}
	return of[Image](s.Image)
}

func (v *View) repositories() []*Object {
	root := v.root("", "", v.Request) // a parent without a name
	out := children(root, "Repository", "repositories", v.Request.Repositories)
	if len(v.unknown) > 0 {
		for i := range out {
			out[i].path = "repositories[" + strconv.Itoa(i) + "]"
		}
	}
	return out
}

// whole tells of a list that is unknown as a whole.
func (v *View) whole(paths ...string) *types.Unknown {
	if len(v.unknown) == 0 {
		return nil
	}
	for _, p := range paths {
		if u := v.unknown[p]; u != nil {
			return u
		}
	}
	return nil
}

// unnamed tells of containers that nobody names.
func (v *View) unnamed() *types.Unknown {
	if u := v.whole("task", "task.containers"); u != nil {
		return u
	}
	return v.nothing()
}

// kinds are the kinds of rules.
func kinds() []*Kind {
	image := Variable{"image", "Image", "the image"}
	ofContainer := []Variable{{"container", "Container", "the container"}, {"image", "Image", "its image"}}
	with := func(v Variable, before ...Variable) []Variable { return append(append([]Variable{}, before...), v) }
	return []*Kind{
		{Name: "request", Doc: "the request as a whole", each: func(v *View, f func(*Scope) bool) { f(&Scope{View: v}) }},
		{Name: "container", Doc: "each container", Variables: ofContainer, each: eachContainer},
		{Name: "image", Doc: "each image, once, however many containers run it", Variables: []Variable{image}, OfImage: true, each: eachWhole},
		{Name: "vulnerability", Doc: "each known vulnerability of each image", Many: true, OfImage: true,
			Variables: with(Variable{"vulnerability", "Vulnerability", "the vulnerability"}, image),
			each:      ofImages("vulnerability", "Vulnerability", func(s *admission.Scan) []admission.Vulnerability { return s.Vulnerabilities })},
		{Name: "secret", Doc: "each secret that was found in an image", Many: true, OfImage: true, Variables: with(Variable{"secret", "Found", "the secret"}, image),
			each: ofImages("secret", "Found", func(s *admission.Scan) []admission.Found { return s.Secrets })},
		{Name: "malware", Doc: "all malware that was found in an image", Many: true, OfImage: true, Variables: with(Variable{"malware", "Found", "the malware"}, image),
			each: ofImages("malware", "Found", func(s *admission.Scan) []admission.Found { return s.Malware })},
		{Name: "image_fault", Doc: "each thing that is set wrongly in an image", Many: true, OfImage: true, Variables: with(Variable{"image_fault", "Found", "the fault"}, image),
			each: ofImages("image_fault", "Found", func(s *admission.Scan) []admission.Found { return s.Faults })},
		{Name: "fault", Doc: "each thing that the scanner finds wrong with the task, its service or its cluster", Many: true,
			Variables: []Variable{{"fault", "Fault", "the fault"}}, each: eachFault},
		{Name: "mount", Doc: "each mount of each container", Variables: with(Variable{"mount", "Mount", "the mount"}, ofContainer...),
			each: ofContainers("mount", "Mount", "mounts", func(c *admission.Container) []admission.Mount { return c.Mounts })},
		{Name: "port", Doc: "each open port of each container", Variables: with(Variable{"port", "Port", "the port"}, ofContainer...),
			each: ofContainers("port", "Port", "ports", func(c *admission.Container) []admission.Port { return c.Ports })},
		{Name: "variable", Doc: "each variable of the environment of each container", Many: true, Variables: with(Variable{"variable", "Variable", "the variable"}, ofContainer...),
			each: ofContainers("variable", "Variable", "env", func(c *admission.Container) []admission.Variable { return c.Env })},
		{Name: "volume", Doc: "each volume of the task", Variables: []Variable{{"volume", "Volume", "the volume"}}, each: eachVolume},
		{Name: "role", Doc: "each IAM role of the task", Variables: []Variable{{"role", "Role", "the role"}}, each: eachRole},
		{Name: "statement", Doc: "each statement of the policies of each role of the task", Many: true,
			Variables: []Variable{{"role", "Role", "the role"}, {"statement", "Statement", "the statement"}}, each: eachStatement},
		{Name: "repository", Doc: "each repository that is created or changed", Variables: []Variable{{"repository", "Repository", "the repository"}}, each: eachRepository},
	}
}

func eachContainer(v *View, f func(*Scope) bool) {
	s := &Scope{View: v}
	if s.unknown = v.unnamed(); s.unknown != nil && !f(s) {
		return
	}
	s.unknown = nil
	for _, c := range v.containers {
		s.Container, s.Image = c, of[container](c).image
		if !f(s) {
			return
		}
	}
}

func eachImage(v *View, f func(*Scope) bool) {
	s := &Scope{View: v}
	if s.unknown = v.unnamed(); s.unknown != nil && !f(s) {
		return
	}
	s.unknown = nil
	for _, i := range v.images {
		if s.Image = i; !f(s) {
			return
		}
	}
}

// each goes through n things of an image, or those of them that aren't known not
// to matter.
func (v *View) each(s *Scope, i *Image, n int, enter func(int), f func(*Scope) bool) bool {
	if v.recall != nil {
		if answers, known := v.recall(i, n); known {
			for _, a := range answers {
				enter(int(a.Index))
				if s.index, s.holds = int(a.Index), a.Holds; !f(s) {
					return false
				}
			}
			return true
		}
	}
	for k := range n {
		enter(k)
		if s.index = k; !f(s) {
			return false
		}
	}
	return true
}

// eachWhole goes through the images as such.
func eachWhole(v *View, f func(*Scope) bool) {
	eachImage(v, func(s *Scope) bool {
		if s.unknown != nil {
			return f(s)
		}
		in := Scope{View: v, Image: s.Image}
		return v.each(&in, of[Image](s.Image), 1, func(int) {}, f)
	})
}

// ofImages goes through what a scan found. Of an image that was not scanned
// nothing is known.
func ofImages[T any](name, kind string, list func(*admission.Scan) []T) func(*View, func(*Scope) bool) {
	return func(v *View, f func(*Scope) bool) {
		eachImage(v, func(s *Scope) bool {
			if s.unknown != nil {
				return f(s)
			}
			i := of[Image](s.Image)
			in := Scope{View: v, Image: s.Image, name: name, unknown: i.scan}
			if i.scan != nil {
				return f(&in)
			}
			all := list(&i.Facts.Scan)
			element := Object{kind: v.schema.structs[kind], view: v}
			in.Element = &element
			return v.each(&in, i, len(all), func(k int) { element.v = &all[k] }, f)
		})
	}
}

// ofContainers goes through a list that each container has.
func ofContainers[T any](name, kind, field string, list func(*admission.Container) []T) func(*View, func(*Scope) bool) {
	return func(v *View, f func(*Scope) bool) {
		eachContainer(v, func(s *Scope) bool {
			if s.unknown != nil {
				return f(s)
			}
			in := Scope{View: v, Container: s.Container, Image: s.Image, name: name}
			if in.unknown = v.unknownAt(s.Container.path, field); in.unknown != nil && !f(&in) {
				return false
			}
			in.unknown = nil
			for _, o := range children(s.Container, kind, field, list(of[container](s.Container).Container)) {
				if in.Element = o; !f(&in) {
					return false
				}
			}
			return true
		})
	}
}

func eachFault(v *View, f func(*Scope) bool) {
	s := &Scope{View: v, name: "fault"}
	if !v.Request.FaultsKnown {
		s.unknown = v.miss(Missing{What: "faults", Text: "the scanner has not looked at the task", Remedy: "let the door ask the scanner, or run castellan admit test on the task's definition"})
		if !f(s) {
			return
		}
		s.unknown = nil
	}
	for i := range v.Request.Faults {
		s.Element = &Object{kind: v.schema.structs["Fault"], view: v, v: &v.Request.Faults[i]}
		if !f(s) {
			return
		}
	}
}

// ofTask goes through a list of the task.
func ofTask(v *View, s *Scope, field string, all []*Object, f func(*Scope) bool) {
	if s.unknown = v.whole("task", "task."+field); s.unknown != nil && !f(s) {
		return
	}
	s.unknown = nil
	for _, o := range all {
		if s.Element = o; !f(s) {
			return
		}
	}
}

func eachVolume(v *View, f func(*Scope) bool) {
	ofTask(v, &Scope{View: v, name: "volume"}, "volumes", children(v.task, "Volume", "volumes", v.Request.Task.Volumes), f)
}

func eachRole(v *View, f func(*Scope) bool) {
	ofTask(v, &Scope{View: v, name: "role"}, "roles", children(v.task, "Role", "roles", v.Request.Task.Roles), f)
}

// eachStatement goes through what is known of the roles, and tells where that is
// not all.
func eachStatement(v *View, f func(*Scope) bool) {
	eachRole(v, func(r *Scope) bool {
		if r.unknown != nil {
			return f(r)
		}
		s := Scope{View: v, outer: r.Element, name: "statement"}
		list, unknown := roleStatements(r.Element)
		if unknown != nil {
			s.unknown = unknown
			if !f(&s) {
				return false
			}
			s.unknown = nil
		}
		for i := range list {
			s.Element = &Object{kind: v.schema.structs["Statement"], view: v, path: r.Element.within("statements"), v: (*grant.Statement)(&list[i])}
			if !f(&s) {
				return false
			}
		}
		return true
	})
}

func eachRepository(v *View, f func(*Scope) bool) {
	ofTask(v, &Scope{View: v, name: "repository"}, "", v.repositories(), f)
}
