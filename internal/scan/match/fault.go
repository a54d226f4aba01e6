package match

import (
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
)

// meetsFault says whether a rule is about a fault: its check, by any name that it
// has, its file and its resource.
func (r *Rule) meetsFault(m *finding.Misconfiguration) bool {
	if r.Package != "" {
		return false // it is about what is installed
	}
	if r.ID != "" && !strings.EqualFold(r.ID, m.Check) && !slices.ContainsFunc(slices.Concat(m.Elsewhere.SecurityHub, m.Elsewhere.Prowler, m.Elsewhere.Checkov), func(id string) bool { return strings.EqualFold(id, r.ID) }) {
		return false
	}
	if r.Path != "" && (m.File == "" || !r.meetsPath(m.File)) {
		return false
	}
	if r.Resource == "" {
		return true
	}
	for _, name := range []string{m.Resource, m.Resource + "/" + m.Container} {
		if ok, err := path.Match(r.Resource, name); err == nil && ok {
			return true
		}
	}
	return false
}
