package match

import (
	"cmp"
	"slices"

	"github.com/castellan-security/castellan/internal/inventory"
)

// gaps collects what could not be looked up.
type gaps map[gapKey]*Gap

type gapKey struct {
	why       Why
	ecosystem string
}

func (g *gaps) add(why Why, p *inventory.Package) {
	if *g == nil {
		*g = gaps{}
	}
	key := gapKey{why, p.Ecosystem}
	if p.Ecosystem == "" {
		key.ecosystem = p.Type
	}
	gap := (*g)[key]
	if gap == nil {
		gap = &Gap{Why: why, Ecosystem: key.ecosystem}
		(*g)[key] = gap
	}
	gap.Packages++
	if len(gap.Examples) < gapExamples {
		gap.Examples = append(gap.Examples, nameAndVersion(p))
	}
}

// join adds what another part of the inventory lacks, which comes after this one.
func (g *gaps) join(other gaps) {
	for key, more := range other {
		gap := (*g)[key]
		if gap == nil {
			if *g == nil {
				*g = gaps{}
			}
			(*g)[key] = more
			continue
		}
		gap.Packages += more.Packages
		gap.Examples = append(gap.Examples, more.Examples...)
		gap.Examples = gap.Examples[:min(len(gap.Examples), gapExamples)]
	}
}

func nameAndVersion(p *inventory.Package) string {
	if p.Version == "" {
		return p.FullName()
	}
	return p.FullName() + " " + p.Version
}

// list returns the gaps, the widest first.
func (g gaps) list() []Gap {
	var list []Gap
	for _, gap := range g {
		list = append(list, *gap)
	}
	slices.SortFunc(list, func(a, b Gap) int {
		return cmp.Or(cmp.Compare(b.Packages, a.Packages), cmp.Compare(a.Ecosystem, b.Ecosystem), cmp.Compare(a.Why, b.Why))
	})
	return list
}
