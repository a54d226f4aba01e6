package layer

import (
	"path"
	"strings"

	"github.com/castellan-security/castellan/internal/scan/analyse"
)

const (
	// maxName is NAME_MAX of Linux: no engine can unpack a longer one.
	maxName = 255
	// maxDepth bounds how deep a path may be. Linux has no bound but the length
	// of paths; nested node_modules, the deepest that are seen, stay below 60.
	maxDepth = 256
	// maxLinks is how many symbolic links one path may go through: containerd
	// follows so many while it unpacks, the kernel 40.
	maxLinks = 255
	// maxSteps bounds the names looked at while links are followed, for links
	// whose targets are long.
	maxSteps = 1024
)

// clean returns a path relative to the root, as containerd makes it: absolute
// names are below the root, ".." goes no higher than it. The root itself is "".
func clean(name string) string {
	name = strings.TrimPrefix(name, "./")
	name = strings.Trim(name, "/")
	if isClean(name) {
		return name
	}
	return path.Clean("/" + name)[1:]
}

// isClean says that no part of name is empty, "." or "..".
func isClean(name string) bool {
	start := 0
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		switch name[start:i] {
		case "", ".", "..":
			return false
		}
		start = i + 1
	}
	return true
}

// tooLong says, in words, why no engine can make a file of that name, or "".
func tooLong(p string) string {
	if len(p) <= maxName {
		return "" // and then it cannot be deep either
	}
	if len(p) > analyse.MaxPath {
		return "path is longer than 4096 bytes"
	}
	depth := 0
	for name := range strings.SplitSeq(p, "/") {
		if len(name) > maxName {
			return "a name in the path is longer than 255 bytes"
		}
		depth++
	}
	if depth > maxDepth {
		return "path is more than 256 folders deep"
	}
	return ""
}

// Resolve follows the symbolic links on the way to a folder, within the root,
// and returns where it really is. link returns a link's target. It is false if
// links go in a circle.
func Resolve(folder string, link func(path string) (target string, ok bool)) (string, bool) {
	at, rest := "", folder
	links, steps := 0, 0
	for rest != "" {
		name, after, _ := strings.Cut(rest, "/")
		rest = after
		if steps++; steps > maxSteps {
			return "", false
		}
		switch name {
		case "", ".":
			continue
		case "..":
			at = parent(at)
			continue
		}
		next := join(at, name)
		target, ok := link(next)
		if !ok {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", false
		}
		if strings.HasPrefix(target, "/") {
			at = ""
		}
		rest = target + "/" + rest
	}
	return at, true
}

func parent(p string) string {
	return p[:max(0, strings.LastIndexByte(p, '/'))]
}

func join(folder, name string) string {
	if folder == "" {
		return name
	}
	return folder + "/" + name
}

// below says whether p is inside folder; the root holds all.
func below(p, folder string) bool {
	return folder == "" || len(p) > len(folder) && p[len(folder)] == '/' && p[:len(folder)] == folder
}
