package python

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/pull"
)

const (
	maxRecord = 64 << 20 // the largest seen, of a framework with its data, has 3 MiB
	// maxOwned bounds the programs and libraries of one distribution; the largest
	// have some hundred.
	maxOwned = 20_000
)

// Files by which an installer notes what it has installed (recording installed
// projects specification; egg-info before it), each beside the metadata of the
// distribution, by whose path its files are joined with it: the name of the folder
// is not always that of the distribution.
const (
	recordName    = "RECORD"
	recordOf      = "METADATA"
	installedName = "installed-files.txt"
	installedOf   = "PKG-INFO"
)

// takeRecord reads the paths of a distribution's files, and keeps those that are
// executed or mapped.
func takeRecord(e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	info := "/" + e.Folder()
	owned := analyse.Owned{Type: "pypi", Name: path.Join(info, installedOf)}
	base := info // paths are relative to it
	if e.Base() == recordName {
		owned.Name, base = path.Join(info, recordOf), path.Dir(info)
	}
	lines := pull.NewLines(r, e.Size, maxRecord)
	for {
		line, err := lines.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if lines.Cut {
			continue // no path is that long
		}
		file := string(line)
		if e.Base() == recordName {
			file = firstField(file)
		}
		if file == "" || len(file) > analyse.MaxPath {
			continue
		}
		if !path.IsAbs(file) {
			file = path.Join(base, file)
		}
		if file = path.Clean(file); len(file) > analyse.MaxPath || !analyse.Runs(file) {
			continue
		}
		if len(owned.Files) == maxOwned {
			return fmt.Errorf("more than %d programs and libraries of one distribution", maxOwned)
		}
		owned.Files = append(owned.Files, file)
	}
	if len(owned.Files) > 0 {
		slices.Sort(owned.Files)
		shown.Owned = append(shown.Owned, owned)
	}
	return nil
}

// firstField returns the first of a line of comma-separated values (RFC 4180).
func firstField(line string) string {
	rest, quoted := strings.CutPrefix(line, `"`)
	if !quoted {
		field, _, _ := strings.Cut(line, ",")
		return field
	}
	var field strings.Builder
	for {
		part, more, ok := strings.Cut(rest, `"`)
		if !ok {
			return "" // it goes on in the next line, as no path of a wheel does
		}
		field.WriteString(part)
		if rest, ok = strings.CutPrefix(more, `"`); !ok {
			return field.String()
		}
		field.WriteByte('"')
	}
}
