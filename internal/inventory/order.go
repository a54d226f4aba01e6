package inventory

import (
	"cmp"
	"slices"
)

func comparePackages(a, b Package) int {
	return cmp.Or(
		cmp.Compare(a.Type, b.Type),
		cmp.Compare(a.Namespace, b.Namespace),
		cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.Version, b.Version),
		cmp.Compare(a.Arch, b.Arch),
		cmp.Compare(a.Ecosystem, b.Ecosystem),
		slices.CompareFunc(a.Places, b.Places, ComparePlaces),
	)
}

// ComparePlaces orders places by layer, then path.
func ComparePlaces(a, b Place) int {
	return cmp.Or(cmp.Compare(a.Layer, b.Layer), cmp.Compare(a.Path, b.Path))
}
