package python

import (
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/pull"
)

// takeRequirements reads a requirements file of pip. Only a requirement that
// allows a single version has one.
func takeRequirements(r io.Reader, size int64, shown *analyse.Shown) error {
	lines := pull.NewLines(r, size, maxLock)
	long := ""
	for {
		b, err := lines.Next()
		if err == io.EOF && long == "" {
			return nil
		}
		if err != nil && err != io.EOF {
			return err
		}
		s := long + string(b)
		if before, ok := strings.CutSuffix(s, `\`); ok && len(s) < pull.MaxText {
			long = before
			continue
		}
		long = ""
		name, version := requirement(s)
		if name == "" {
			continue
		}
		// Copies: else each would keep its whole line, which may have hashes.
		if err := shown.Add(asPackage(strings.Clone(name), strings.Clone(version), inventory.Declared)); err != nil {
			return err
		}
	}
}

// requirement reads "name[extra] == 1.0 ; marker --hash=…  # comment". The name is
// empty for options, addresses and what is none.
func requirement(s string) (name, version string) {
	s = strings.TrimSpace(strings.TrimPrefix(s, "\ufeff"))
	if s == "" || s[0] == '#' || s[0] == '-' {
		return "", ""
	}
	for _, end := range []string{" #", "\t#", ";", " -", "\t-"} {
		s, _, _ = strings.Cut(s, end)
	}
	s = strings.TrimSpace(s)
	i := strings.IndexAny(s, "[=<>!~@ \t(")
	if i < 0 {
		i = len(s)
	}
	if name = s[:i]; !isName(name) {
		return "", ""
	}
	rest := strings.TrimSpace(s[i:])
	if strings.HasPrefix(rest, "[") {
		_, rest, _ = strings.Cut(rest, "]")
	}
	rest = strings.Trim(rest, " \t()")
	rest, pinned := strings.CutPrefix(rest, "==")
	rest = strings.TrimSpace(strings.TrimPrefix(rest, "="))
	if !pinned || rest == "" || strings.ContainsAny(rest, "*, <>=!~ $") {
		return name, ""
	}
	return name, rest
}

// takePipfile reads a Pipfile.lock.
func takePipfile(r io.Reader, size int64, shown *analyse.Shown) error {
	j := pull.NewJSON(r, size, maxLock)
	return j.Object(func(key []byte) error {
		section := string(key)
		if section == "_meta" {
			return nil
		}
		return j.Object(func(key []byte) error {
			name, version := string(key), ""
			err := j.Object(func(key []byte) (err error) {
				if string(key) == "version" {
					version, err = j.Text()
				}
				return err
			})
			if err != nil {
				return err
			}
			p := asPackage(name, strings.TrimPrefix(version, "=="), inventory.Declared)
			p.Dev = section == "develop"
			return shown.Add(p)
		})
	})
}
