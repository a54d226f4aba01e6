package learn

import (
	"cmp"
	"slices"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// ContentOf returns what the file of an exec holds and of which layer it is; false
// where one of them is not known, or the file did not come with the image: what was
// written may be anything.
func ContentOf(e *event.Event, w *asset.Workload) (profile.Content, bool) {
	if e.Exec == nil || e.Exec.Digest == "" || e.Exec.Origin != event.OriginImage || w == nil {
		return profile.Content{}, false
	}
	layer := e.Exec.Layer.DiffID(w.Image.Layers)
	last := e.Time
	if e.Last.After(last) {
		last = e.Last
	}
	return profile.Content{Layer: layer, Digest: e.Exec.Digest, Last: last.UTC()}, layer != ""
}

// joinContents returns the newest contents of both, sorted by layer and digest.
func joinContents(a, b []profile.Content) []profile.Content {
	if len(b) == 0 {
		return a
	}
	out := slices.Clone(a)
	for _, c := range b {
		i := slices.IndexFunc(out, func(o profile.Content) bool { return o.Layer == c.Layer && o.Digest == c.Digest })
		switch {
		case i < 0:
			out = append(out, c)
		case c.Last.After(out[i].Last):
			out[i].Last = c.Last
		}
	}
	if len(out) > profile.MaxContents {
		slices.SortFunc(out, func(a, b profile.Content) int { return cmp.Or(b.Last.Compare(a.Last), compareContents(a, b)) })
		out = out[:profile.MaxContents]
	}
	slices.SortFunc(out, compareContents)
	return out
}

func compareContents(a, b profile.Content) int {
	return cmp.Or(cmp.Compare(a.Layer, b.Layer), cmp.Compare(a.Digest, b.Digest))
}
