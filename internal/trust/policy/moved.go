package policy

import (
	"bytes"
	"slices"

	"github.com/castellan-security/castellan/internal/signature"
)

// Moved says how what signatures are held against differs from another policy:
// whether a key is there that was not, or with other dates, and whether anything
// else is other than it was (stores, trusted roots, revocation lists). Keys that
// are gone are neither: Key tells them.
func (p *Policy) Moved(from *Policy) (keys, others bool) {
	for print, k := range p.keys {
		was := from.keys[print]
		if was == nil || !k.NotBefore.Equal(was.NotBefore) || !k.NotAfter.Equal(was.NotAfter) || !k.Lost.Equal(was.Lost) {
			keys = true
		}
	}
	a, b := &p.roots, &from.roots
	others = !sameSet(a.Sigstore, b.Sigstore, bytes.Compare) || !sameSet(a.Revoked, b.Revoked, bytes.Compare) ||
		!sameSet(stores(a), stores(b), slices.Compare)
	return keys, others
}

// stores are a policy's certificates, each with the kind and the name of its
// store.
func stores(r *signature.Roots) (all [][]string) {
	for _, s := range r.Stores {
		for _, c := range s.Certificates {
			all = append(all, []string{string(s.Kind), s.Name, string(c.Raw)})
		}
	}
	return all
}

// sameSet compares lists whose order means nothing.
func sameSet[T any](a, b []T, compare func(T, T) int) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, compare)
	slices.SortFunc(b, compare)
	return slices.EqualFunc(a, b, func(x, y T) bool { return compare(x, y) == 0 })
}
