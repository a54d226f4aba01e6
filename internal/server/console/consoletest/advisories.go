package consoletest

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan"
)

// WriteAdvisories compiles the advisories that say of the shop's images what its
// findings say, into a file at path, as of now.
func (s Shop) WriteAdvisories(ctx context.Context, path string, now time.Time) (err error) {
	b, err := scan.NewDatabase(scan.DatabaseOptions{Generation: 1, Built: now})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	var list []advisory.Advisory
	var exploited []advisory.Exploited
	var likely []advisory.Probability
	for _, m := range s.Images {
		for i := range m.Findings {
			v := &m.Findings[i]
			n := slices.IndexFunc(list, func(a advisory.Advisory) bool { return a.ID == v.ID })
			if n < 0 {
				n = len(list)
				list = append(list, advisoryOf(v))
				if v.KEV != nil {
					exploited = append(exploited, *v.KEV)
				}
				if v.EPSS != nil {
					likely = append(likely, *v.EPSS)
				}
			}
			list[n].Affected = append(list[n].Affected, affectedBy(v))
		}
	}
	err = errors.Join(
		b.AddAll(ctx, scan.DatabaseSource{Name: "debian", Fetched: now}, withoutErrors(list)),
		b.AddExploited(scan.DatabaseSource{Name: "kev", Fetched: now}, exploited),
		b.AddProbabilities(scan.DatabaseSource{Name: "epss", Fetched: now}, now, withoutErrors(likely)),
	)
	if err != nil {
		return err
	}
	return b.Write(ctx, path)
}

func withoutErrors[T any](list []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range list {
			if !yield(v, nil) {
				return
			}
		}
	}
}

func advisoryOf(v *finding.Vulnerability) advisory.Advisory {
	a := advisory.Advisory{
		ID: v.ID, Aliases: v.Aliases, Published: v.Published, Modified: v.Modified, Summary: v.Summary, Weaknesses: v.Weaknesses,
	}
	for _, s := range v.Scores {
		a.Scores = append(a.Scores, advisory.Score{Vector: s.Vector, By: s.By})
	}
	for _, ref := range v.References {
		a.References = append(a.References, advisory.Reference{Kind: "web", URL: ref})
	}
	return a
}

func affectedBy(v *finding.Vulnerability) advisory.Affected {
	p := &v.Package
	a := advisory.Affected{Ecosystem: p.Ecosystem, Package: p.FullName(), Note: v.Note}
	if p.Source.Name != "" {
		a.Of = advisory.OfBinary
	}
	switch {
	case v.State == finding.WontFix:
		a.Status = advisory.WontFix
	case p.Name == HostileName:
		a.Versions = []string{p.Version} // which has no place in any order
	}
	if len(a.Versions) == 0 {
		a.Ranges = []advisory.Range{{Fixed: v.Fixed}}
	}
	a.Rating = map[finding.Severity]advisory.Rating{
		finding.Low: advisory.Low, finding.Medium: advisory.Medium, finding.High: advisory.High, finding.Critical: advisory.Critical,
	}[v.Severity]
	return a
}
