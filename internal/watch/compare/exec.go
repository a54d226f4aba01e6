package compare

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/learn"
	"github.com/castellan-security/castellan/internal/watch/widen"
)

func (x *Index) exec(e *event.Event, w *asset.Workload) *outside {
	file := e.Process.Executable
	if e.Exec.PathTruncated && (e.Exec.Origin == event.OriginImage || e.Exec.Origin == event.OriginUnknown) || file == "" {
		return nil // which file of the image it was is not known
	}
	script := learn.Script(e)
	var best *outside
	for _, list := range [][]*program{x.programs[file], x.widened} {
		for _, p := range list {
			if !p.fits(file, e.Exec.Origin) {
				continue
			}
			o := x.within(p, e, script)
			if o == nil {
				o = p.replaced(e, w)
			}
			if o == nil {
				return nil
			}
			best = o
		}
	}
	if best != nil {
		return best
	}
	o := &outside{control: profile.ControlExec, subject: file, alike: file, did: "ran " + file, permit: permitExec(e, script)}
	switch e.Exec.Origin {
	case event.OriginWritten:
		o.did += ", which did not come with the image but was written after the container was made"
	case event.OriginMount:
		o.did += ", which did not come with the image but lies on a volume or in memory"
	case event.OriginMemory:
		o.did += ", a file in memory that never had a name"
	}
	if e.Exec.Origin == event.OriginMemory {
		o.permit = &profile.Profile{Executables: []profile.Executable{{Path: profile.Pattern(file), Origin: event.OriginMemory, Evidence: person}}}
	}
	o.instead = x.programsOf(parentOf(e))
	return o
}

// person is the evidence of what a person permits.
var person = profile.Evidence{Source: profile.Person}

// fits reports whether an entry is about a file of that origin.
func (p *program) fits(file string, origin event.Origin) bool {
	if origin != event.OriginUnknown && p.Origin != event.OriginUnknown && p.Origin != origin {
		return false
	}
	return string(p.Path) == file || !p.Path.Exact() && p.Path.Match(file)
}

// within holds what a known program was asked to do against its entry.
func (x *Index) within(p *program, e *event.Event, script string) *outside {
	file := e.Process.Executable
	o := &outside{control: profile.ControlExec, subject: file, unheld: true}
	entry := profile.Executable{Path: p.Path, Origin: p.Origin, Parents: p.Parents, Users: p.Users, Evidence: person}
	loose := x.writes.has(script) || widen.Temporary(script) // it did not come with the image
	runs := script == "" || p.scripts.has(script) && (!loose || slices.Contains(p.Loose, profile.Pattern(script))) ||
		learn.Loader(path.Base(file)) && x.known(script)
	loads := x.loaded(p, e)
	switch parent := parentOf(e); {
	case !runs:
		entry.Scripts, entry.Loads = []profile.Pattern{profile.Pattern(script)}, loads
		if loose {
			entry.Loose = entry.Scripts
		}
		shape := learn.FilePattern(script)
		o.subject, o.alike = script, file+" "+script
		o.did = "ran " + script + " by " + file
		// A host holds to scripts by where they came from: one of the image may run.
		o.unheld = !loose
		o.instead = "the profile allows " + path.Base(file) + " no file to run"
		if p.scripts.n > 0 {
			o.instead = fmt.Sprintf("the profile allows %s only %s", path.Base(file), some(p.Scripts))
		}
		if loose && shape != script {
			o.alike = file + " " + shape
			o.instead += fmt.Sprintf("; its name is another each time, so no permit is for the next: if %s is to run what it writes, have that reported alone (castellan watch controls %s --set exec=audit)", x.p.Group, x.p.Group)
		}
	case len(loads) > 0:
		entry.Loads = loads
		first := string(loads[0])
		o.subject, o.alike = first, file+" loads "+first
		o.did = "had " + file + " load code from " + first
		if first == learn.StandardInput {
			o.did = "ran what came by the standard input of " + file
		}
		o.instead = "the profile has " + path.Base(file) + " load no code besides"
		if p.loads.n > 0 {
			o.instead = fmt.Sprintf("the profile has %s load only from %s", path.Base(file), some(p.Loads))
		}
	case p.parents != nil && parent != unknownParent && !p.parents.has(parent) && !(parent == "" && slices.Contains(p.Parents, "")):
		entry.Parents = append([]profile.Pattern{profile.Pattern(parent)}, p.Parents...)
		o.alike = file + " of " + parent
		o.did = "ran " + file
		o.instead = "the profile allows that only to " + parentWords(p.Parents)
	case len(p.Users) > 0 && !slices.Contains(p.Users, e.Process.EUID):
		entry.Users = append([]uint32{e.Process.EUID}, p.Users...)
		o.alike = file + " as " + strconv.FormatUint(uint64(e.Process.EUID), 10)
		o.did = fmt.Sprintf("ran %s as user %d", file, e.Process.EUID)
		o.instead = "the profile allows it as user " + numbers(p.Users)
	default:
		return nil
	}
	o.permit = &profile.Profile{Executables: []profile.Executable{entry}}
	return o
}

// loaded returns the code that an interpreter was given besides its script and that its
// entry does not have. A folder all of whose files may be run may be loaded from.
func (x *Index) loaded(p *program, e *event.Event) (list []profile.Pattern) {
	for _, load := range learn.Loads(e) {
		inside := learn.Inside(load)
		if p.loads.has(load) || p.loads.has(inside) || p.scripts.has(load) || p.scripts.has(inside) ||
			learn.Loader(path.Base(e.Process.Executable)) && x.known(load) {
			continue
		}
		list = append(list, profile.Pattern(learn.FilePattern(load)))
	}
	return list
}

// replaced says that a known program has another content than the profile has seen
// of the same layer of the image, or than a person wrote down. Hosts hold to paths and
// where files came from alone, so that nothing but this tells of it. A content of a
// layer that was not seen before is a change of the image, and no violation.
func (p *program) replaced(e *event.Event, w *asset.Workload) *outside {
	now := e.Exec.Digest
	if now == "" {
		return nil
	}
	file := e.Process.Executable
	o := &outside{control: profile.ControlExec, subject: file, alike: file + " " + now, unheld: true}
	if p.Digest != "" && p.Source == profile.Person && p.Digest != now {
		entry := *p.Executable
		entry.Digest = now
		o.did = fmt.Sprintf("ran %s with the content %s", file, shortDigest(now))
		o.instead = "the profile allows it with the content " + shortDigest(p.Digest) + " alone"
		o.permit = &profile.Profile{Executables: []profile.Executable{entry}}
		return o
	}
	c, known := learn.ContentOf(e, w)
	if !known {
		return nil
	}
	var was string
	for _, have := range p.Contents {
		if have.Layer != c.Layer {
			continue
		}
		if have.Digest == c.Digest {
			return nil
		}
		was = have.Digest
	}
	if was == "" {
		return nil
	}
	o.did = fmt.Sprintf("ran %s, which was replaced: its content is %s", file, shortDigest(now))
	o.instead = fmt.Sprintf("in the same layer of the image the profile has seen %s", shortDigest(was))
	entry := profile.Executable{Path: profile.Pattern(file), Origin: event.OriginImage, Parents: p.Parents, Users: p.Users, Evidence: person}
	entry.Contents = []profile.Content{c}
	o.permit = &profile.Profile{Executables: []profile.Executable{entry}}
	return o
}

// shortDigest is as much of a digest as people compare.
func shortDigest(d string) string {
	const shown = len("sha256:") + 12
	return d[:min(len(d), shown)]
}

// known reports whether a file is one of the image's programs.
func (x *Index) known(file string) bool {
	return len(x.programs[file]) > 0 || slices.ContainsFunc(x.widened, func(p *program) bool { return p.Path.Match(file) })
}

// unknownParent stands for a parent that nobody could name.
const unknownParent = "?"

// parentOf is the program that started one: "" for the engine.
func parentOf(e *event.Event) string {
	if parent, known := learn.Parent(e); known {
		return parent
	}
	return unknownParent
}

func permitExec(e *event.Event, script string) *profile.Profile {
	file := profile.Pattern(e.Process.Executable)
	if file.Check() != nil || !file.Exact() {
		return nil
	}
	x := profile.Executable{Path: file, Origin: e.Exec.Origin, Users: []uint32{e.Process.EUID}, Evidence: person}
	if x.Origin == event.OriginUnknown {
		x.Origin = event.OriginImage
	}
	if p := parentOf(e); p != unknownParent {
		x.Parents = []profile.Pattern{profile.Pattern(p)}
	}
	if script != "" {
		x.Scripts = []profile.Pattern{profile.Pattern(script)}
	}
	for _, load := range learn.Loads(e) {
		x.Loads = append(x.Loads, profile.Pattern(learn.FilePattern(load)))
	}
	return &profile.Profile{Executables: []profile.Executable{x}}
}

// programsOf says what a program may start.
func (x *Index) programsOf(parent string) string {
	var list []profile.Pattern
	for i := range x.p.Executables {
		if e := &x.p.Executables[i]; slices.Contains(e.Parents, profile.Pattern(parent)) {
			list = append(list, e.Path)
		}
	}
	whose := "it"
	switch {
	case parent == "":
		whose = "the engine"
	case parent != unknownParent:
		whose = path.Base(parent)
	}
	if len(list) == 0 {
		return "the profile allows " + whose + " no other program"
	}
	return "the profile allows " + whose + " only " + some(list)
}

// shown is how many entries a sentence names.
const shown = 3

// some names a few entries.
func some(list []profile.Pattern) string {
	var parts []string
	for _, p := range list[:min(len(list), shown)] {
		parts = append(parts, string(p))
	}
	return and(parts, len(list)-len(parts))
}

func and(parts []string, more int) string {
	switch {
	case more > 0:
		return strings.Join(parts, ", ") + fmt.Sprintf(" and %d more", more)
	case len(parts) > 1:
		return strings.Join(parts[:len(parts)-1], ", ") + " and " + parts[len(parts)-1]
	}
	return strings.Join(parts, "")
}

func parentWords(list []profile.Pattern) string {
	var parts []string
	for _, p := range list[:min(len(list), shown)] {
		if p == "" {
			parts = append(parts, "the engine")
			continue
		}
		parts = append(parts, path.Base(string(p)))
	}
	return and(parts, len(list)-len(parts))
}

func numbers(list []uint32) string {
	var parts []string
	for _, n := range list[:min(len(list), shown)] {
		parts = append(parts, strconv.FormatUint(uint64(n), 10))
	}
	return and(parts, len(list)-len(parts))
}

func (x *Index) memory(e *event.Event) *outside {
	if e.Kind != event.KindExecMap {
		return x.call(e, "")
	}
	m := e.Memory
	if m.Path == "" || m.Origin == event.OriginImage || m.Origin == event.OriginUnknown || x.foreign.has(m.Path) {
		return nil
	}
	o := &outside{control: profile.ControlExec, subject: m.Path, alike: m.Path, did: "mapped " + m.Path + " as code, which did not come with the image"}
	o.instead = "the profile allows no code but the image's"
	if x.foreign.n > 0 {
		o.instead = fmt.Sprintf("the profile allows %s besides the image's code", string(x.foreign.first))
	}
	if file := profile.Pattern(m.Path); file.Check() == nil && file.Exact() {
		o.permit = &profile.Profile{Executables: []profile.Executable{{Path: file, Origin: m.Origin, Evidence: person}}}
	}
	return o
}
