package match

import (
	"cmp"
	"slices"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/scan/vulndb"
)

// maxReferences are shown of a finding, those of the advisories that describe it
// best.
const maxReferences = 10

// describe fills in what there is to read. Texts are compressed in blocks, so
// they are read in the order in which they lie, each once.
func (m *matcher) describe(list []*found) error {
	var wanted []*record
	texts := map[vulndb.Number]vulndb.Texts{}
	for _, f := range list {
		for _, r := range f.texts {
			if _, ok := texts[r.number]; !ok {
				texts[r.number] = vulndb.Texts{}
				wanted = append(wanted, r)
			}
		}
	}
	slices.SortFunc(wanted, func(a, b *record) int { return cmp.Compare(a.number, b.number) })
	reader := m.db.Texts()
	for _, r := range wanted {
		t, err := reader.Read(r.Record)
		if err != nil {
			return err
		}
		texts[r.number] = t
	}
	known := map[*rated]*found{} // findings that share it have the same to read
	for _, f := range list {
		if other := known[f.rated]; other != nil {
			f.summary, f.urls = other.summary, other.urls
			continue
		}
		known[f.rated] = f
		for _, r := range f.texts {
			t := texts[r.number]
			f.summary = cmp.Or(f.summary, t.Summary)
			f.urls = appendReferences(f.urls, t.References)
		}
	}
	return nil
}

func appendReferences(list []string, more []advisory.Reference) []string {
	for _, r := range more {
		if len(list) < maxReferences && !slices.Contains(list, r.URL) {
			list = append(list, r.URL)
		}
	}
	return list
}
