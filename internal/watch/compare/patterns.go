package compare

import (
	"path"
	"strings"

	"github.com/castellan-security/castellan/internal/profile"
)

// patterns is a set of patterns that is asked for one path at a time: as many steps
// as the path has names, whatever the number of patterns.
type patterns struct {
	exact map[string]bool
	above map[string]bool // the folders of exact ones
	root  branch
	first profile.Pattern // for sentences
	n     int
}

type branch struct {
	kids  map[string]*branch
	globs []glob
	end   bool
	deep  bool
}

type glob struct {
	before, after string
	to            *branch
}

func patternsOf(list []profile.Pattern) *patterns {
	s := &patterns{exact: make(map[string]bool, len(list)), above: map[string]bool{}}
	for _, p := range list {
		s.add(p)
	}
	return s
}

func (s *patterns) add(p profile.Pattern) {
	if s.n == 0 {
		s.first = p
	}
	s.n++
	if p.Exact() {
		s.exact[string(p)] = true
		for folder := path.Dir(string(p)); !s.above[folder]; folder = path.Dir(folder) {
			s.above[folder] = true
		}
		return
	}
	b := &s.root
	for _, name := range p.Names() {
		if name == "**" {
			b.deep = true
			return
		}
		b = b.step(name)
	}
	b.end = true
}

func (b *branch) step(name string) *branch {
	before, after, any := strings.Cut(name, "*")
	if !any {
		if b.kids == nil {
			b.kids = map[string]*branch{}
		}
		if b.kids[name] == nil {
			b.kids[name] = &branch{}
		}
		return b.kids[name]
	}
	for _, g := range b.globs {
		if g.before == before && g.after == after {
			return g.to
		}
	}
	to := &branch{}
	b.globs = append(b.globs, glob{before, after, to})
	return to
}

// has reports whether one of the patterns stands for a path.
func (s *patterns) has(path string) bool {
	if s.exact[path] {
		return true
	}
	return strings.HasPrefix(path, "/") && s.root.has(path[1:])
}

// depth is of how many of a file's folders, from the root on, the patterns have something.
func (s *patterns) depth(file string) int {
	n := 0
	for folder := path.Dir(file); folder != "/"; folder = path.Dir(folder) {
		if s.above[folder] {
			n = strings.Count(folder, "/")
			break
		}
	}
	return max(n, s.root.depth(profile.Pattern(path.Dir(file)).Names()))
}

func (b *branch) depth(names []string) int {
	if len(names) == 0 {
		return 0
	}
	n := 0
	if kid := b.kids[names[0]]; kid != nil {
		n = 1 + kid.depth(names[1:])
	}
	for _, g := range b.globs {
		if g.fits(names[0]) {
			n = max(n, 1+g.to.depth(names[1:]))
		}
	}
	return n
}

func (g *glob) fits(name string) bool {
	return len(name) >= len(g.before)+len(g.after) && strings.HasPrefix(name, g.before) && strings.HasSuffix(name, g.after)
}

func (b *branch) has(rest string) bool {
	if rest == "" {
		return b.end
	}
	if b.deep {
		return true
	}
	name, more, slash := strings.Cut(rest, "/")
	if slash && more == "" || name == "" {
		return false
	}
	next := func(to *branch) bool {
		if !slash {
			return to.end
		}
		return to.has(more)
	}
	if kid := b.kids[name]; kid != nil && next(kid) {
		return true
	}
	for _, g := range b.globs {
		if g.fits(name) && next(g.to) {
			return true
		}
	}
	return false
}
