package field

import (
	"io/fs"

	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/iac/terraform"
)

// Modules reads files of Terraform as the modules that they make, and returns what
// each file gives: a value that another file uses, or a module that is called, is
// given under the name that it has there, at the place where it stands. names are the
// files in their order. With ErrMany something is left out.
func Modules(files fs.FS, names []string) (map[string]*Fields, error) {
	r := terraform.NewValueReader(files)
	for _, name := range names {
		r.Add(name)
	}
	out := map[string]*Fields{}
	of := func(at blueprint.Span) *Fields {
		f := out[at.File]
		if f == nil {
			f = &Fields{}
			out[at.File] = f
		}
		return f
	}
	many := false
	for _, root := range r.Resources(func(string) bool { return true }) {
		w := &walker{}
		for i := range root {
			w.value(root[i].Body, where{}, 0)
		}
		many = many || w.many
		for _, f := range w.out.Fields {
			to := of(f.At)
			to.Fields = append(to.Fields, f)
		}
		for _, c := range w.out.Commands {
			told := map[string]bool{}
			for _, at := range c.At {
				if !told[at.File] {
					told[at.File] = true
					to := of(at)
					to.Commands = append(to.Commands, c)
				}
			}
		}
		for _, t := range w.out.Texts {
			to := of(t.At)
			to.Texts = append(to.Texts, t)
		}
	}
	for _, p := range r.Problems {
		many = many || p.Lost
	}
	if many {
		return out, ErrMany
	}
	return out, nil
}
