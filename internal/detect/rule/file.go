package rule

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/event"
)

// OfFile says whether a file is meant by an item of files: it is the path that the
// item names or is below it; or it is of the pattern, if there is a * in it.
func OfFile(path, item string) bool {
	if strings.Contains(item, "*") {
		return Like(path, item)
	}
	return under(path, item)
}

// PlaceOf returns by what the files of an item are found: a folder or file from the
// root on, or else one name of the path. Both are empty for an item of whose files no
// name is certain.
func PlaceOf(item string) (folder, name string) {
	item = strings.TrimSuffix(item, "/")
	star := strings.IndexByte(item, '*')
	if star < 0 {
		if strings.HasPrefix(item, "/") {
			return item, ""
		}
		return "", ""
	}
	if i := strings.LastIndexByte(item[:star], '/'); i > 0 && item[0] == '/' {
		return item[:i], ""
	}
	// The last name without a *, because the first ones are of more files.
	parts := strings.Split(item, "/")
	slices.Reverse(parts)
	for _, p := range parts {
		if p != "" && !strings.Contains(p, "*") {
			return "", p
		}
	}
	return "", ""
}

// FileOf returns the path by which rules find the file of an event: the name that it
// has afterwards. It is empty where there is no file.
func FileOf(e *event.Event) string {
	if e.File == nil {
		return ""
	}
	return fileTarget(e.File)
}

func (w *compiling) files(n *yaml.Node, on []event.Kind) []string {
	all := w.strings(n, "files")
	for _, item := range all {
		if folder, name := PlaceOf(item); folder == "" && name == "" {
			w.reader.Wrong(n, "name a path from / on, or a name behind **/", "files can't be found by %.80q", item)
		}
	}
	if !slices.ContainsFunc(on, func(k event.Kind) bool { return k.Sensor() == "file" }) {
		w.reader.Wrong(n, "it is for events file.…", "files are never there in the events that the rule looks at")
	}
	if len(all) == 0 {
		return []string{} // none, and not any
	}
	return all
}
