package rehearse

import (
	"maps"

	"github.com/castellan-security/castellan/internal/profile"
)

// caseOf returns the case that a violation belongs to, nil where there are too many.
func (r *rehearsal) caseOf(v *profile.Violation, blocked bool) *gathered {
	if g := r.cases[v.Fingerprint]; g != nil {
		return g
	}
	if g := r.together(v); g != nil {
		return g
	}
	if len(r.cases) >= MaxCases {
		return nil
	}
	g := &gathered{Case: Case{Violation: *v, Blocked: blocked}, hosts: map[string]bool{}, workloads: map[string]bool{}, days: map[string]bool{}, told: map[string]bool{}}
	g.Count = 0
	r.cases[v.Fingerprint] = g
	if v.Folder != nil {
		r.apart[v.Folder.Print] = append(r.apart[v.Folder.Print], g)
	}
	return g
}

// together returns the case of all that a program did to files of a folder, if that is
// told as one by now, and has it stand for v too.
func (r *rehearsal) together(v *profile.Violation) *gathered {
	if v.Folder == nil {
		return nil
	}
	print := v.Folder.Print
	all, apart := r.cases[print], r.apart[print]
	switch {
	case all != nil:
	case len(apart) < profile.MaxApart:
		return nil
	default:
		for _, g := range apart {
			delete(r.cases, g.Fingerprint)
			g.Gather()
		}
		all = apart[0]
		for _, g := range apart[1:] {
			all.join(g)
		}
		r.cases[print] = all
		delete(r.apart, print)
	}
	one := *v
	one.Count = 0 // it is counted with its event
	one.Gather()
	all.fold(one)
	return all
}

// fold has what g says be of a further violation of its folder too.
func (g *gathered) fold(v profile.Violation) {
	v.Fold(&g.Violation)
	g.Violation = v
}

// join has g, which is gathered, stand for another file of its folder.
func (g *gathered) join(o *gathered) {
	g.fold(o.Violation)
	for _, both := range [][2]map[string]bool{{g.hosts, o.hosts}, {g.workloads, o.workloads}, {g.days, o.days}, {g.told, o.told}} {
		maps.Copy(both[0], both[1]) // a few at most, each of which is bounded
	}
	g.times = append(g.times, o.times...)
	g.foreign, g.entered, g.image = g.foreign || o.foreign, g.entered || o.entered, g.image || o.image
}
