package condition

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"cel.dev/cel-go/common/types"

	"github.com/castellan-security/castellan/internal/admission"
)

// View is a request with what is known of its images, as conditions see them. It
// is for one decision and for one goroutine.
type View struct {
	Request *admission.Request
	Now     time.Time

	schema  *Schema
	unknown map[string]*types.Unknown // by path
	missing []Missing

	task, caller, place, process, call *Object
	containers                         []*Object
	images                             []*Object // each once
	entries, found                     int       // of all lists of the request, and of the facts
	clock                              bool      // the time was asked for
	recall                             Recall    // nil: nothing is known beforehand
}

// Missing is something that nobody knows (yet).
type Missing struct {
	What  string          // as conditions name it: "image.vulnerabilities", "task.network"
	State admission.State // Waiting: somebody is about to find out
	Text  string          // one sentence
	// Remedy says how it can become known.
	Remedy string
	Image  string // reference of the image that it is about, if it is about one
}

// Image is an image with what is known of it.
type Image struct {
	*admission.Image
	Facts      *admission.Facts // nil: nothing
	Containers []string         // names of those that run it

	scan, trust *types.Unknown // nil: known
	unsaid      bool
}

// Unsaid says that nobody knows yet which image it will be.
func (i *Image) Unsaid() bool { return i.unsaid }

// Limits of a request, so that nobody can make a decision take longer than it may.
// ECS runs ten containers in a task, and takes 64 KiB of a definition.
const (
	maxContainers = 500
	maxOfEach     = 10_000 // of all lists of all containers together, and of each other list
	maxUnknown    = 10_000 // fields; a template has dozens of parameters
)

// tooLarge says which limit a request goes beyond, nil if none.
func tooLarge(r *admission.Request) error {
	t := &r.Task
	of := 0
	for i := range t.Containers {
		of += within(&t.Containers[i])
	}
	for _, l := range []struct {
		what    string
		n, most int
	}{
		{"containers", len(t.Containers), maxContainers}, {"entries of containers", of, maxOfEach}, {"volumes", len(t.Volumes), maxOfEach},
		{"roles", len(t.Roles), maxContainers}, {"repositories", len(r.Repositories), maxOfEach}, {"faults", len(r.Faults), maxOfEach}, {"unknown fields", len(r.Unknown), maxUnknown},
	} {
		if l.n > l.most {
			return fmt.Errorf("the request has %d %s: at most %d are looked at", l.n, l.what, l.most)
		}
	}
	return nil
}

// within counts what the lists of a container have.
func within(c *admission.Container) int {
	return len(c.Mounts) + len(c.Ports) + len(c.Env) + len(c.Secrets) + len(c.CapAdd) + len(c.CapDrop) + len(c.SecurityOpt) +
		len(c.Devices) + len(c.Command) + len(c.Entrypoint) + len(c.Labels) + len(c.Sysctls) + len(c.Ulimits) + len(c.From)
}

// NewView returns the view of a request; the error is of one that is too large to
// be looked at, which is never leave. facts returns what is known of an image,
// nil if nothing is.
func (s *Schema) NewView(r *admission.Request, facts func(*admission.Image) *admission.Facts, now time.Time) (*View, error) {
	if err := tooLarge(r); err != nil {
		return nil, err
	}
	v := &View{Request: r, Now: now, schema: s, entries: entriesOf(r)}
	if len(r.Unknown) > 0 {
		v.unknown = make(map[string]*types.Unknown, len(r.Unknown))
		for _, path := range r.Unknown {
			v.unknown[path] = v.miss(Missing{
				What: path, Text: "the value of " + path + " is not known before it runs",
				Remedy: "give the parameter that " + path + " comes from a value, or decide where it is known",
			})
		}
	}
	v.task, v.caller, v.place = v.root("Task", "task", &r.Task), v.root("Caller", "caller", &r.By), v.root("Place", "place", &r.Place)
	process, call := r.Exec, r.Call
	if process == nil {
		process = &admission.Process{}
	}
	if call == nil {
		call = &admission.Call{}
	}
	v.process, v.call = v.root("Process", "process", process), v.root("Call", "call", call)
	v.look(facts)
	return v, nil
}

func (v *View) root(kind, path string, noun any) *Object {
	o := &Object{kind: v.schema.structs[kind], view: v, v: noun}
	if len(v.unknown) > 0 {
		o.path = path
	}
	return o
}

// container is a container with its image.
type container struct {
	*admission.Container
	image *Object
}

// look makes the containers and the images.
func (v *View) look(facts func(*admission.Image) *admission.Facts) {
	list := v.Request.Task.Containers
	v.containers = make([]*Object, len(list))
	type name struct{ reference, digest, id string }
	seen := make(map[name]*Object, len(list))
	for i := range list {
		c := &list[i]
		o := v.root("Container", "task.containers["+strconv.Itoa(i)+"]", nil)
		key := name{c.Image.Reference, c.Image.Digest, c.Image.ID}
		image := seen[key]
		unknown := v.unknownAt(o.path, "image")
		for _, part := range []string{"reference", "registry", "repository"} {
			if unknown == nil {
				unknown = v.unknownAt(o.within("image"), part)
			}
		}
		if image == nil || unknown != nil {
			image = v.root("Image", o.within("image"), v.image(&c.Image, facts(&c.Image), unknown))
			v.images = append(v.images, image)
			if unknown == nil {
				seen[key] = image
			}
		}
		of[Image](image).Containers = append(of[Image](image).Containers, c.Name)
		o.v = &container{c, image}
		v.containers[i] = o
	}
	// Images that are mounted are images, too: what is in them can be run.
	for i := range list {
		for _, mounted := range list[i].Images()[1:] {
			key := name{mounted.Reference, mounted.Digest, mounted.ID}
			if seen[key] == nil {
				seen[key] = v.root("Image", "", v.image(mounted, facts(mounted), nil))
				v.images = append(v.images, seen[key])
			}
			of[Image](seen[key]).Containers = append(of[Image](seen[key]).Containers, list[i].Name)
		}
	}
}

// image says what of an image is not known.
func (v *View) image(i *admission.Image, f *admission.Facts, unknown *types.Unknown) *Image {
	out := &Image{Image: i, Facts: f}
	v.found += foundIn(f)
	if unknown != nil {
		out.scan, out.trust, out.Facts, out.unsaid = unknown, unknown, nil, true
		return out
	}
	name := i.Name()
	var scan, trust admission.State
	var scanWhy, trustWhy string
	if f != nil {
		scan, trust, scanWhy, trustWhy = f.Scan.State, f.Trust.State, f.Scan.Why, f.Trust.Why
	}
	if i.Digest == "" && i.ID == "" && f == nil && scan != admission.Known {
		out.scan = v.miss(Missing{
			What: "image.digest", Image: name, Text: "it can't be told which image " + name + " is, for nobody knows its digest",
			Remedy: "name the image by its digest, or have somebody look it up (castellan admit test --scan does that)",
		})
		out.trust = out.scan
		return out
	}
	if scan != admission.Known {
		m := Missing{What: "image.vulnerabilities", State: scan, Image: name, Text: name + " has not been scanned", Remedy: "scan the image before it runs: castellan scan " + name}
		switch scan {
		case admission.Waiting:
			m.Text, m.Remedy = name+" is being scanned", "ask again when its scan is done"
		case admission.Failed:
			m.Text = name + " could not be scanned: " + cmp.Or(scanWhy, "no reason is told")
		default:
			m.Text += because(scanWhy)
		}
		out.scan = v.miss(m)
	}
	if trust != admission.Known {
		m := Missing{What: "image.trust", State: trust, Image: name, Text: "the signatures of " + name + " have not been verified", Remedy: "verify them before it runs: castellan trust verify " + name}
		switch trust {
		case admission.Waiting:
			m.Text, m.Remedy = "the signatures of "+name+" are being verified", "ask again when they are"
		case admission.Failed:
			m.Text = "the signatures of " + name + " could not be verified: " + cmp.Or(trustWhy, "no reason is told")
		default:
			m.Text += because(trustWhy)
		}
		out.trust = v.miss(m)
	}
	return out
}

// because is a reason in brackets, if one is told.
func because(why string) string {
	if why == "" {
		return ""
	}
	return " (" + shorten(why, maxValue) + ")"
}

// miss notes something that is missing.
func (v *View) miss(m Missing) *types.Unknown {
	id := len(v.missing)
	v.missing = append(v.missing, m)
	return types.NewUnknown(int64(id), nil)
}

// unknownAt returns why an object or a field of it is unknown, nil if it isn't.
func (v *View) unknownAt(path, field string) *types.Unknown {
	if len(v.unknown) == 0 || path == "" {
		return nil
	}
	if u := v.unknown[path]; u != nil {
		return u
	}
	return v.unknown[path+"."+field]
}

// Missing returns what a condition's value depends on.
func (v *View) Missing(u *types.Unknown) []Missing {
	var out []Missing
	for _, id := range u.IDs() {
		if id >= 0 && int(id) < len(v.missing) {
			out = append(out, v.missing[id])
		}
	}
	if len(out) == 0 {
		out = []Missing{{Text: "something that the rule needs is not known"}}
	}
	return out
}

// UsedClock says whether a condition asked how late it is since the last call.
func (v *View) UsedClock() bool {
	used := v.clock
	v.clock = false
	return used
}

// age is how long ago something was.
func (v *View) age(t time.Time) any {
	v.clock = true
	return types.Duration{Duration: v.Now.Sub(t)}
}

// Images returns the images, each once.
func (v *View) Images() []*Image {
	out := make([]*Image, len(v.images))
	for i, o := range v.images {
		out[i] = of[Image](o)
	}
	return out
}

// nothing tells of a request to run something that doesn't say what: rules about
// containers and images must not pass because there are none.
func (v *View) nothing() *types.Unknown {
	if v.Request.Action != admission.Run || len(v.containers) > 0 {
		return nil
	}
	return v.miss(Missing{What: "task.containers", Text: "the request doesn't say which containers shall run", Remedy: "let the door find out what the task definition has"})
}

// IsUnknown says whether the request has a field of that path as unknown, or one
// that it is in.
func (v *View) IsUnknown(path string) bool {
	return slices.ContainsFunc(v.Request.Unknown, func(p string) bool {
		return p == path || len(path) > len(p) && path[:len(p)] == p && (path[len(p)] == '.' || path[len(p)] == '[')
	})
}
