package scan

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/layer"
	"github.com/castellan-security/castellan/internal/scan/match"
	"github.com/castellan-security/castellan/internal/scan/secret"
)

// secrets are those of all layers, also of files that an upper layer deletes or
// replaces: whoever has the image has them all the same. One that stands in the
// same file from one layer on is of the layer that brought it.
func secrets(v *view, layers []*layer.Result, st strata) []inventory.Secret {
	var all []inventory.Secret
	at := map[standing]int{} // where in all
	eachShown(layers, func(i int, f *layer.File, shown *analyse.Shown) {
		for _, s := range shown.Secrets {
			s.Place = st.place(moved(s.Place, f.Path, f.Path), i)
			s.Hidden = st.hidden(v, layers, i, f.Path)
			id := standing{s.Path, s.Print}
			if k, ok := at[id]; ok && stays(layers, i, all[k].Hidden) {
				all[k].Hidden, all[k].Line, all[k].Column, all[k].Allowed = s.Hidden, s.Line, s.Column, s.Allowed
				continue
			}
			at[id] = len(all)
			all = append(all, s)
		}
	})
	slices.SortFunc(all, inventory.CompareSecrets)
	return all
}

// eachShown calls each with what was found in every file of all layers, once,
// however many names a file has.
func eachShown(layers []*layer.Result, each func(i int, f *layer.File, shown *analyse.Shown)) {
	for i, r := range layers {
		for k := range r.Files {
			f := &r.Files[k]
			for n := range f.By {
				if by := &f.By[n]; by.As == "" {
					each(i, f, &by.Shown)
				}
			}
		}
	}
}

// standing is something that was found at a path.
type standing struct{ path, print string }

// stays says that what was hidden by a layer was hidden by the very layer that has
// it again.
func stays(layers []*layer.Result, i int, h *inventory.Hidden) bool {
	return h != nil && !h.Deleted && h.Layer == i+1 && i < len(layers)
}

// hidden says which layer of the image takes a file of layer i out of sight; none
// is named if what runs does.
func (st strata) hidden(v *view, layers []*layer.Result, i int, path string) *inventory.Hidden {
	h := hidden(v, layers, i, path)
	if h != nil && h.Layer > st.layers {
		h.Layer = 0
	}
	return h
}

// hidden says which layer takes a file of layer i out of sight; nil: none does.
func hidden(v *view, layers []*layer.Result, i int, path string) *inventory.Hidden {
	key := layer.HashPath(path).Key()
	for k := i + 1; k < len(layers); k++ {
		r := layers[k]
		if whitedOut(r, path) {
			// A layer that clears a folder and fills it anew replaces what it has.
			return &inventory.Hidden{Layer: k + 1, Deleted: !r.Names.Has(key)}
		}
		if r.Names.Has(key) || r.Folders.Has(key) {
			return &inventory.Hidden{Layer: k + 1}
		}
		if above(path, func(folder string) bool { return r.Names.Has(layer.HashPath(folder).Key()) }) {
			return &inventory.Hidden{Layer: k + 1}
		}
	}
	// What goes through links of other layers is known to the view alone.
	n := v.find(path)
	if n == nil || len(n.versions) == 0 {
		return &inventory.Hidden{Deleted: true}
	}
	return nil
}

// whitedOut says whether a layer's whiteouts or opaque folders hide a path.
func whitedOut(r *layer.Result, path string) bool {
	if len(r.Whiteouts)+len(r.Opaque) == 0 {
		return false
	}
	if has(r.Whiteouts, path) || has(r.Opaque, "") {
		return true
	}
	return above(path, func(folder string) bool { return has(r.Whiteouts, folder) || has(r.Opaque, folder) })
}

func has(sorted []string, s string) bool {
	_, found := slices.BinarySearch(sorted, s)
	return found
}

// above asks for each folder on the way to a path.
func above(path string, is func(folder string) bool) bool {
	for i := strings.LastIndexByte(path, '/'); i > 0; i = strings.LastIndexByte(path[:i], '/') {
		if is(path[:i]) {
			return true
		}
	}
	return false
}

// NewSecrets returns what looks for secrets, for Options. Prints made with another
// salt cannot be compared.
func NewSecrets(salt []byte) (*Secrets, error) { return secret.New(secret.Options{Salt: salt}) }

// Redact returns an image without the values of the secrets in its texts, to be
// shown or kept; see secret.Engine.Redact. s may be what the scan looked with.
func Redact(s *Secrets, i *inventory.Image) *inventory.Image { return s.Redact(i) }

// JudgeSecrets says what the secrets of an inventory are worth, and marks those
// that rules accept and those that a baseline knows, by their fingerprints. They
// are in the order in which they matter; rules that have ended are returned.
func JudgeSecrets(inv *inventory.Inventory, rules []Rule, known map[string]bool, now time.Time) (found []finding.Secret, expired []Rule) {
	found = make([]finding.Secret, 0, len(inv.Secrets))
	for _, s := range inv.Secrets {
		f := secret.Finding(s, now)
		f.Known = known[f.Fingerprint]
		found = append(found, f)
	}
	expired = match.AcceptSecrets(found, rules, now)
	slices.SortStableFunc(found, func(a, b finding.Secret) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), inventory.CompareSecrets(a.Secret, b.Secret))
	})
	return found, expired
}
