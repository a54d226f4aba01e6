package python

import (
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/pull"
)

// takeGrouped reads a lock file that lists packages with the groups that want
// them, of which main is what is not for development: those of Poetry, PDM and
// the common one (PEP 751), which names no groups.
func takeGrouped(r io.Reader, size int64, table, main string, shown *analyse.Shown) error {
	return pull.NewTOML(r, size, maxLock).Tables(table, func(m map[string]string) error {
		switch pull.TOMLText(m["source.type"]) {
		case "directory", "file":
			return nil // of the project itself
		}
		p := asPackage(pull.TOMLText(m["name"]), pull.TOMLText(m["version"]), inventory.Declared)
		groups := pull.TOMLTexts(m["groups"])
		p.Dev = pull.TOMLText(m["category"]) == "dev" || len(groups) > 0 && !slices.Contains(groups, main)
		return shown.Add(p)
	})
}

// maxEdges bounds the dependencies between packages that are kept; the largest
// projects seen have 20,000.
const maxEdges = 1 << 18

var errEdges = errors.New("too many dependencies between packages")

// takeUV reads a uv.lock. Which packages are for development shows in what the
// project's own ones reach.
func takeUV(r io.Reader, size int64, shown *analyse.Shown) error {
	needs := map[string][]string{}
	direct, reached := map[string]bool{}, map[string]bool{}
	var queue []string
	edges := 0
	err := pull.NewTOML(r, size, maxLock).Tables("package", func(m map[string]string) error {
		name, version := pull.TOMLText(m["name"]), pull.TOMLText(m["version"])
		wants := names(m["dependencies"])
		for key, value := range m {
			if strings.HasPrefix(key, "optional-dependencies.") {
				wants = append(wants, names(value)...)
			}
		}
		if edges += len(wants); edges > maxEdges {
			return errEdges
		}
		if !isOwn(m["source"]) {
			needs[name] = append(needs[name], wants...)
			return shown.Add(asPackage(name, version, inventory.Declared))
		}
		for _, w := range wants {
			direct[w] = true
			if !reached[w] {
				reached[w] = true
				queue = append(queue, w)
			}
		}
		for key, value := range m {
			if strings.HasPrefix(key, "dev-dependencies.") {
				for _, w := range names(value) {
					direct[w] = true
					edges++
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for len(queue) > 0 {
		name := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, next := range needs[name] {
			if !reached[next] {
				reached[next] = true
				queue = append(queue, next)
			}
		}
	}
	for i := range shown.Packages {
		p := &shown.Packages[i]
		p.Dev = len(direct) > 0 && !reached[p.Name]
		p.Indirect = len(direct) > 0 && !direct[p.Name]
	}
	return nil
}

// isOwn says whether a source is a folder: the project itself, or a part of it.
func isOwn(source string) bool {
	for _, kind := range []string{"editable", "virtual", "directory", "path"} {
		if _, ok := pull.TOMLField(source, kind); ok {
			return true
		}
	}
	return false
}

// names returns the names in a list of inline tables: [{ name = "a" }, …].
func names(list string) []string {
	var all []string
	for len(list) > 0 {
		i := strings.IndexByte(list, '{')
		if i < 0 {
			break
		}
		list = list[i:]
		if name, ok := pull.TOMLField(list, "name"); ok {
			all = append(all, pull.TOMLText(name))
		}
		if i = strings.IndexByte(list, '}'); i < 0 {
			break
		}
		list = list[i:]
	}
	return all
}
