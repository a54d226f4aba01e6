package analyse

import (
	"path"
	"strings"
)

// Anchored is an Analyser whose files lie at fixed places, as the databases of
// package managers do. If a symbolic link on the way makes such a place another
// name of a folder elsewhere, a layer is read once more to look there; without
// Anchors nobody would know.
type Anchored interface {
	Analyser
	// Anchors are files and folders, clean and relative to the root:
	// "var/lib/dpkg". A place that a system may have under two names has both.
	Anchors() []string
}

// recordNames and recordEndings are the files by which packages of languages are
// found, and which packages of distributions bring along.
var (
	recordNames   = [...]string{"package.json", "PKG-INFO", "METADATA", "installed.json", "installed.php"}
	recordEndings = [...]string{".jar", ".war", ".ear", ".egg-info", ".gemspec", ".deps.json", ".egg"}
)

// Keeps says whether ownership of a path is kept: of what Runs, and of what
// records packages of languages, so that python3-requests' requests is not taken
// for one that pip installed.
func Keeps(p string) bool {
	if Runs(p) {
		return true
	}
	name := path.Base(p)
	for _, n := range recordNames {
		if name == n {
			return true
		}
	}
	for _, e := range recordEndings {
		if strings.HasSuffix(name, e) {
			return true
		}
	}
	return false
}
