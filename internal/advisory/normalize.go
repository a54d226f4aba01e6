package advisory

import "strings"

// Normalize returns the form of a package name in which advisories and
// inventories meet: the same for all spellings that the ecosystem takes for one
// package, and nothing that it keeps apart.
func Normalize(ecosystem, name string) string {
	base, _, _ := strings.Cut(ecosystem, ":")
	switch base {
	case "PyPI": // PEP 503
		return pep503(name)
	case "NuGet", "Packagist", "GitHub Actions": // case does not count
		return strings.ToLower(name)
	}
	return name
}

// pep503 lowers the case and makes each run of "-", "_" and "." one "-".
func pep503(name string) string {
	b := make([]byte, 0, len(name))
	for i := range len(name) {
		c := name[i]
		switch {
		case c == '-' || c == '_' || c == '.':
			if n := len(b); n > 0 && b[n-1] == '-' {
				continue
			}
			c = '-'
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return string(b)
}
