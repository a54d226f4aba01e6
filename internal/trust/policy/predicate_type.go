package policy

import (
	"maps"
	"slices"
)

// PredicateNames are the short names of types of predicates.
func PredicateNames() []string { return slices.Sorted(maps.Keys(predicates())) }

// PredicateTypes returns what a short name stands for, the one to be written
// first; nil if there is no such name.
func PredicateTypes(name string) []string { return predicates()[name] }
