package feeds

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/advisory"
)

// repairs are the fixed packages of one vulnerability, each with the version that
// has the fix first.
//
// A release is told of once for each of its minor ones, and a weakness that is
// fixed in 9.2 is named again when 9.3 comes out, with a higher version. What is
// installed of 9.2 is fixed all the same, so the lowest counts: of minor releases
// that live on beside others the fixes are told under their own names (rhel_eus).
type repairs map[repairKey]*repair

type repairKey struct {
	ecosystem, name, module string
	of                      advisory.Of
}

type repair struct {
	version string
	arches  []string // nil: all
}

func (rs repairs) add(p advisory.Affected, version, arch string) {
	key := repairKey{p.Ecosystem, p.Package, p.Repository, p.Of}
	have := rs[key]
	if have == nil || natural(version, have.version) < 0 {
		have = &repair{version: version}
		if arch != "" {
			have.arches = []string{arch}
		}
		rs[key] = have
		return
	}
	if version != have.version {
		return
	}
	switch {
	case arch == "":
		have.arches = nil
	case have.arches != nil && !slices.Contains(have.arches, arch):
		have.arches = append(have.arches, arch)
	}
}

// addTo adds the packages to an advisory. Source packages are left out where
// binary ones of the same version are named, which are more exact.
func (rs repairs) addTo(packages *builder) error {
	type build struct{ ecosystem, version string }
	built := map[build]bool{}
	for key, r := range rs {
		if key.of == advisory.OfBinary {
			built[build{key.ecosystem, withoutEpoch(r.version)}] = true
		}
	}
	keys := slices.SortedFunc(maps.Keys(rs), func(a, b repairKey) int {
		return cmp.Or(cmp.Compare(a.ecosystem, b.ecosystem), cmp.Compare(a.name, b.name), cmp.Compare(a.module, b.module), cmp.Compare(a.of, b.of))
	})
	for _, key := range keys {
		r := rs[key]
		if key.of == advisory.OfSource && built[build{key.ecosystem, withoutEpoch(r.version)}] {
			continue
		}
		slices.Sort(r.arches)
		err := packages.add(advisory.Affected{
			Ecosystem: key.ecosystem, Package: key.name, Of: key.of, Repository: key.module,
			Arches: r.arches, Ranges: []advisory.Range{{Fixed: r.version}},
		}, "")
		if err != nil {
			return err
		}
	}
	return nil
}

func withoutEpoch(version string) string {
	if e, rest, ok := strings.Cut(version, ":"); ok && isNumber(e) {
		return rest
	}
	return version
}
