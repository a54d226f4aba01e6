package feeds

import (
	"slices"

	"github.com/castellan-security/castellan/internal/advisory"
)

// builder collects the packages of one advisory, and makes one of those that
// differ only in their architecture.
type builder struct {
	limit int
	all   []advisory.Affected
	index map[builderKey]int
}

type builderKey struct {
	ecosystem, name, repository string
	of                          advisory.Of
	status                      advisory.Status
	fixed, note                 string
}

// add adds p for one architecture, "" for all.
func (b *builder) add(p advisory.Affected, arch string) error {
	key := builderKey{p.Ecosystem, p.Package, p.Repository, p.Of, p.Status, "", p.Note}
	if len(p.Ranges) > 0 {
		key.fixed = p.Ranges[0].Fixed
	}
	if b.index == nil {
		b.index = map[builderKey]int{}
	}
	i, ok := b.index[key]
	if !ok {
		if len(b.all) == b.limit {
			return tooMany("affected packages", b.limit)
		}
		i = len(b.all)
		b.index[key] = i
		if arch != "" {
			p.Arches = []string{arch}
		}
		b.all = append(b.all, p)
		return nil
	}
	have := &b.all[i]
	switch {
	case arch == "":
		have.Arches = nil
	case len(have.Arches) > 0 && !slices.Contains(have.Arches, arch):
		have.Arches = append(have.Arches, arch)
	}
	return nil
}

// merge adds packages, each for all of its architectures.
func (b *builder) merge(all []advisory.Affected) error {
	for _, p := range all {
		arches := p.Arches
		if p.Arches = nil; len(arches) == 0 {
			arches = []string{""}
		}
		for _, arch := range arches {
			if err := b.add(p, arch); err != nil {
				return err
			}
		}
	}
	return nil
}
