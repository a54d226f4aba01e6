package node

import (
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/scan/pull"
)

// takeYarn reads a yarn.lock. Its first format is like YAML without colons
// behind keys; the later one is YAML.
func takeYarn(l *list, r io.Reader, size int64) error {
	lines := pull.NewLines(r, size, maxLock)
	var e yarnEntry
	for {
		b, err := lines.Next()
		if err == io.EOF {
			return e.add(l)
		}
		if err != nil {
			return err
		}
		s := string(b)
		text := strings.TrimLeft(s, " ")
		switch indent := len(s) - len(text); {
		case text == "" || text[0] == '#':
		case indent == 0:
			if err := e.add(l); err != nil {
				return err
			}
			e = yarnEntry{patterns: strings.TrimSuffix(text, ":")}
		case indent == 2:
			key, value, _ := strings.Cut(text, " ")
			value = strings.Trim(value, `"`)
			switch strings.Trim(key, `":`) {
			case "version":
				e.version = value
			case "resolved":
				e.fetched = fetchedName(value)
			case "resolution":
				e.resolution = value
			case "linkType":
				e.soft = value == "soft"
			}
		}
	}
}

// yarnEntry is one entry of a yarn.lock.
type yarnEntry struct {
	patterns   string // what was asked for: "a@^1", "a@^1.2":
	version    string
	resolution string // in the later format: a@npm:1.2.3
	soft       bool   // a workspace
	fetched    string // the name in the address of a registry, in the first format
}

// add adds the package, unless it is of the project itself.
func (e *yarnEntry) add(l *list) error {
	if e.patterns == "" || e.patterns == "__metadata" || e.version == "" || e.soft {
		return nil
	}
	asked := e.resolution
	if asked == "" {
		asked, _, _ = strings.Cut(e.patterns, ",")
	}
	name, rng := cutVersion(strings.Trim(asked, `"`))
	for _, local := range []string{"workspace:", "link:", "portal:", "file:"} {
		if strings.HasPrefix(rng, local) {
			return nil
		}
	}
	if alias, ok := strings.CutPrefix(rng, "npm:"); ok && e.resolution == "" {
		if other, v := cutVersion(alias); v != "" {
			name = other
		}
	}
	if isName(e.fetched) {
		name = e.fetched // what is there, whatever it was asked for by
	}
	return l.add(name, e.version, false, false)
}

// fetchedName is the name in an address of a registry, before /-/:
// https://host/@scope/name/-/name-1.0.0.tgz. It is empty for other addresses.
func fetchedName(address string) string {
	before, _, ok := strings.Cut(address, "/-/")
	_, rest, web := strings.Cut(before, "://")
	if !ok || !web {
		return ""
	}
	rest = strings.ReplaceAll(strings.ReplaceAll(rest, "%2f", "/"), "%2F", "/")
	folder, name := cutLast(rest)
	if folder == "" {
		return ""
	}
	if _, scope := cutLast(folder); strings.HasPrefix(scope, "@") {
		return scope + "/" + name
	}
	return name
}
