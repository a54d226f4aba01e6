package blueprint

import (
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
)

// baseLabel is where builders say what an image is built upon.
const baseLabel = "org.opencontainers.image.base.name"

// imageName is the resource of what is found in an image: which one is meant the
// report says, and a fault is the same in the next version of it.
const imageName = "image"

// OfImage is how an image was built, as its configuration, its history and what is
// in it tell; ok says whether it is one. A layer's number stands for a line.
func OfImage(inv *inventory.Inventory) (b Build, ok bool) {
	image := inv.Image
	if image == nil || inv.Subject.Kind == inventory.KindSBOM {
		return b, false // a bill of materials does not tell how its image was built
	}
	b = Build{Resource: Resource{Name: imageName}, Origin: Built, Windows: image.Platform.OS == "windows"}
	c := &image.Config
	if c.User != "" {
		b.User = KnownText(c.User, Span{})
	}
	if len(c.Healthcheck) > 0 && !strings.EqualFold(c.Healthcheck[0], "NONE") {
		b.Health = Known
	}
	if base := c.Labels[baseLabel]; base != "" {
		b.Base = KnownText(base, Span{})
		b.Steps = append(b.Steps, Step{Word: "FROM", Args: base, Image: b.Base, Last: true})
	}
	for _, p := range c.ExposedPorts {
		b.Ports = append(b.Ports, KnownText(p, Span{}))
	}
	for _, e := range c.Env {
		b.Env = append(b.Env, variable(e))
	}
	for _, k := range sorted(c.Labels) {
		b.Env = append(b.Env, Variable{Name: KnownText(k, Span{}), Value: KnownText(c.Labels[k], Span{})})
	}
	b.history(image)
	for _, f := range inv.Files {
		b.Files = append(b.Files, File{Path: f.Path, Why: string(f.Why), Size: f.Size, Owner: f.Owner, Layer: f.Layer})
	}
	for i := range inv.Packages {
		p := &inv.Packages[i]
		if !p.FromDistribution() {
			continue
		}
		one := Installed{Name: p.Name}
		if len(p.Places) > 0 {
			one.Layer = p.Places[0].Layer
		}
		b.Packages = append(b.Packages, one)
	}
	return b, true
}

func sorted(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func variable(e string) Variable {
	name, value, _ := strings.Cut(e, "=")
	return Variable{Name: KnownText(name, Span{}), Value: KnownText(value, Span{})}
}

// history adds the steps of the build, and the arguments that it was given.
func (b *Build) history(image *inventory.Image) {
	layer := 0
	for _, h := range image.History {
		if !h.Empty {
			layer++
		}
		word, args, _ := strings.Cut(strings.TrimSpace(h.Instruction), " ")
		s := Step{Word: strings.ToUpper(word), Args: strings.TrimSpace(args), Last: true, At: Span{Start: finding.Position{}}}
		if !h.Empty {
			s.Layer = layer
		}
		if rest, ok := arguments(h.Instruction); ok {
			given, command, _ := strings.Cut(rest, shell)
			s.Word, s.Args = "RUN", strings.TrimSpace(command)
			for w := range strings.FieldsSeq(given) {
				if v := variable(w); strings.Contains(w, "=") && !b.hasVariable(v) {
					b.Env = append(b.Env, v)
				}
			}
		}
		b.Steps = append(b.Steps, s)
	}
}

const shell = "/bin/sh -c "

// arguments returns what follows the mark of build arguments: "|2 A=1 B=2
// /bin/sh -c make".
func arguments(instruction string) (string, bool) {
	s := strings.TrimPrefix(strings.TrimSpace(instruction), "RUN ")
	rest, ok := strings.CutPrefix(s, "|")
	if !ok {
		return "", false
	}
	_, rest, ok = strings.Cut(rest, " ")
	return rest, ok
}

func (b *Build) hasVariable(v Variable) bool {
	return slices.ContainsFunc(b.Env, func(h Variable) bool { return h.Name.V == v.Name.V && h.Value.V == v.Value.V })
}
