package scan

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/layer"
)

// A layer is read a second time when an analyser wants a file by a name that
// only a link gives it: /var/lib/dpkg is a symbolic link to a folder elsewhere,
// or a hard link with a wanted name has its content under another one. Which
// names those are shows only when all layers are known. It is rare; it happens
// once, for these files alone, and what is found is kept like the first reading.

// maxAliases bounds how many names a layer is read again for. Honest images need
// one or two.
const maxAliases = 64

// reading is what is to be read again of one layer, for which result.
type reading struct {
	alias layer.Alias
	into  *layer.Result // gets what is found
}

// secondReadings returns what is to be read again, by layer. v is the view of
// the layers.
func (s *Scanner) secondReadings(v *view, layers []*layer.Result) map[*layer.Result][]reading {
	jobs := map[*layer.Result][]reading{}
	add := func(from, into *layer.Result, a layer.Alias) {
		r := reading{a, into}
		if !slices.Contains(jobs[from], r) && len(jobs[from]) < maxAliases {
			jobs[from] = append(jobs[from], r)
		}
	}
	everywhere := func(real, as string) {
		key := layer.HashPath(real).Key()
		for _, r := range layers {
			if r.Names.Has(key) || r.Folders.Has(key) || r.Implied.Has(key) {
				add(r, r, layer.Alias{Real: real, As: as})
			}
		}
		if n := v.walk(real, false); n != nil {
			for _, ver := range n.versions { // a layer may have put it there by another name
				if r := layers[ver.layer]; r.Names.Has(layer.HashPath(ver.raw).Key()) {
					add(r, r, layer.Alias{Real: ver.raw, As: as})
				}
			}
		}
	}
	for _, a := range s.o.Analysers {
		if anchored, ok := a.(analyse.Anchored); ok {
			v.anchors(anchored.Anchors(), everywhere)
		}
	}
	for _, n := range v.nodes {
		for _, m := range n.missed {
			if !m.Hard {
				// A target that is wanted by its own name was found under that.
				if real, ok := v.real(n.path()); ok && real != "" && !layer.WantsName(v.analysers[m.Analyser], real) {
					everywhere(real, n.path())
				}
				continue
			}
			if m.Entry > 0 { // its target is in the same layer
				add(layers[m.layer], layers[m.layer], layer.Alias{Real: m.Target, As: m.Path, KeepAs: true, Before: m.Entry})
				continue
			}
			real, ok := v.realFile(m.Target)
			if from := holder(layers[:m.layer], real); ok && from != nil {
				add(from, layers[m.layer], layer.Alias{Real: real, As: m.Path, KeepAs: true})
			}
		}
	}
	return jobs
}

// anchors calls found for the anchors that a symbolic link leads elsewhere,
// unless that is an anchor too.
func (v *view) anchors(anchors []string, found func(real, as string)) {
	for _, a := range anchors {
		real, ok := v.real(a)
		if !ok || real == "" || real == a {
			continue
		}
		if !slices.ContainsFunc(anchors, func(b string) bool { return real == b || strings.HasPrefix(real, b+"/") }) {
			found(real, a)
		}
	}
}

// holder is the uppermost layer with a file of that name.
func holder(layers []*layer.Result, path string) *layer.Result {
	key := layer.HashPath(path).Key()
	for _, r := range slices.Backward(layers) {
		if r.Names.Has(key) {
			return r
		}
	}
	return nil
}

// view puts the layers on one another, after reading those again for which that is
// needed.
func (j *job) view(ctx context.Context, layers []*layer.Result) (*view, error) {
	v := newView(j.s.o.Analysers, layers)
	jobs := j.s.secondReadings(v, layers)
	if len(jobs) == 0 {
		return v, nil
	}
	if err := j.again(ctx, layers, jobs); err != nil {
		return nil, err
	}
	return newView(j.s.o.Analysers, layers), nil
}

// again reads layers a second time, and adds what it finds.
func (j *job) again(ctx context.Context, layers []*layer.Result, jobs map[*layer.Result][]reading) error {
	for from, readings := range jobs {
		if second := j.s.cache.load(keyOf(from), mark(readings)); second != nil {
			distribute(second, readings)
			delete(jobs, from)
		}
	}
	wanted := func(l inventory.Layer) *layer.Result {
		if r := j.recall(l); jobs[r] != nil {
			return r
		}
		return nil
	}
	if !slices.ContainsFunc(layers, func(r *layer.Result) bool { return jobs[r] != nil && keyOf(r) != "" }) {
		return nil
	}
	skip := func(l inventory.Layer) bool { return (l.Digest != "" || l.DiffID != "") && wanted(l) == nil }
	return j.src.Each(ctx, j.s.o.Parallel, skip, func(ctx context.Context, l inventory.Layer, r io.Reader) error {
		return j.takeAgain(ctx, l, r, jobs)
	})
}

// takeAgain reads one layer a second time. Of a stream it is only known at the
// end which layer it was.
func (j *job) takeAgain(ctx context.Context, l inventory.Layer, r io.Reader, jobs map[*layer.Result][]reading) error {
	o := j.s.options(j.budget)
	from := j.recall(l)
	for result, readings := range jobs {
		if from == nil || result == from {
			for _, rd := range readings {
				o.Aliases = append(o.Aliases, rd.alias)
			}
		}
	}
	slices.SortFunc(o.Aliases, func(a, b layer.Alias) int { return strings.Compare(a.Real+"\x00"+a.As, b.Real+"\x00"+b.As) })
	second, err := layer.Read(ctx, l, r, o)
	if err != nil {
		return fmt.Errorf("%s: %w", j.describe(l), err)
	}
	stream := from == nil
	if stream {
		from = j.recall(inventory.Layer{Digest: second.Digest, DiffID: second.DiffID})
		if jobs[from] == nil {
			return nil
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if !stream {
		j.s.cache.store(second, mark(jobs[from]))
	}
	distribute(second, jobs[from])
	return nil
}

// distribute adds what a second reading found to the layers that it is for.
func distribute(second *layer.Result, readings []reading) {
	for _, rd := range readings {
		part := &layer.Result{Problems: second.Problems, Unsettled: second.Unsettled}
		for _, f := range second.Files {
			if rd.alias.KeepAs && f.Path == rd.alias.As || !rd.alias.KeepAs && (f.Path == rd.alias.Real || strings.HasPrefix(f.Path, rd.alias.Real+"/")) {
				part.Files = append(part.Files, f)
			}
		}
		second.Problems = nil
		rd.into.Add(part)
	}
}

func keyOf(r *layer.Result) string {
	if r.Digest != "" {
		return r.Digest
	}
	return r.DiffID
}

// mark tells second readings for different names from one another.
func mark(readings []reading) string {
	h := sha256.New()
	for _, rd := range readings {
		fmt.Fprintf(h, "%q %q %v %d\n", rd.alias.Real, rd.alias.As, rd.alias.KeepAs, rd.alias.Before)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// again reads a folder a second time.
func again(ctx context.Context, fsys fs.FS, t layer.Tree, readings []reading) error {
	for _, rd := range readings {
		t.Aliases = append(t.Aliases, rd.alias)
	}
	second, err := layer.ReadTree(ctx, fsys, t)
	if err != nil {
		return err
	}
	distribute(second, readings)
	return nil
}
