package images

import (
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
)

// inUse knows the files of one image that its workloads executed, mapped or hold
// open.
type inUse struct {
	paths  map[string]bool
	sorted []string
}

// newInUse returns what is known from paths, as the store keeps them.
func newInUse(paths []string) *inUse {
	u := &inUse{paths: make(map[string]bool, len(paths)), sorted: make([]string, 0, len(paths))}
	for _, p := range paths {
		if p = merged(p); !u.paths[p] {
			u.paths[p] = true
			u.sorted = append(u.sorted, p)
		}
	}
	slices.Sort(u.sorted)
	return u
}

// merged returns a path as it is where /usr is merged: /lib/x and /usr/lib/x are
// then one file, which packages list by one name and the kernel shows by the
// other. Where they are two, they are the same by convention.
func merged(p string) string {
	for _, dir := range [...]string{"/lib/", "/bin/", "/sbin/", "/lib64/", "/lib32/", "/libx32/"} {
		if strings.HasPrefix(p, dir) {
			return "/usr" + p
		}
	}
	return p
}

// of reports whether one of the files belongs to the package: it owns the file,
// is shown by it (a program that has the package built in, an archive), or has
// it in its own folder.
func (u *inUse) of(p *inventory.Package) bool {
	if len(u.sorted) == 0 {
		return false
	}
	for _, f := range p.Files {
		if u.paths[merged(f)] {
			return true
		}
	}
	for _, at := range p.Places {
		// Of an archive in an archive only the outer one is a file.
		file, _, _ := strings.Cut(at.Path, "!")
		if u.paths[merged(file)] || len(file) == len(at.Path) && u.inFolderOf(p, merged(file)) {
			return true
		}
	}
	return false
}

// inFolderOf reports whether a file in use lies where the package itself lies
// whose manifest this is. A lock file or a list of what is installed shows many
// packages, and its folder is none of theirs.
func (u *inUse) inFolderOf(p *inventory.Package, manifest string) bool {
	dir, base := path.Split(manifest)
	switch {
	case base == "package.json":
		return u.below(dir, "node_modules/")
	case base == "METADATA", base == "PKG-INFO", strings.HasSuffix(manifest, ".egg-info"):
		return u.ofDistribution(p.Name, manifest)
	case strings.HasSuffix(base, ".gemspec"):
		// …/specifications/NAME-VERSION.gemspec describes …/gems/NAME-VERSION/.
		root, ok := strings.CutSuffix(dir, "specifications/")
		name := strings.TrimSuffix(base, ".gemspec")
		return ok && (u.below(root+"gems/"+name+"/", "") || u.belowExtension(root+"extensions/", name))
	case strings.HasSuffix(base, ".deps.json"):
		return u.paths[dir+p.Name+".dll"]
	}
	return false
}

// ofDistribution reports whether a file in use is of a Python distribution. Its
// modules lie beside the folder of its metadata, by its name; compiled libraries
// that it carries lie in NAME.libs.
func (u *inUse) ofDistribution(name, manifest string) bool {
	info := path.Dir(manifest)
	if strings.HasSuffix(manifest, ".egg-info") {
		info = manifest
	}
	if u.below(info+"/", "") {
		return true
	}
	if strings.HasSuffix(info, "/EGG-INFO") {
		return u.below(path.Dir(info)+"/", "")
	}
	site := path.Dir(info) + "/"
	name = module(name)
	for i := u.from(site); i < len(u.sorted) && strings.HasPrefix(u.sorted[i], site); i++ {
		rest := u.sorted[i][len(site):]
		top, _, folder := strings.Cut(rest, "/")
		if !folder {
			top, _, _ = strings.Cut(top, ".") // of NAME.cpython-313-x86_64-linux-gnu.so
		}
		if m := module(strings.TrimSuffix(top, ".libs")); m == name {
			return true
		}
	}
	return false
}

// module writes the name of a Python distribution as its module's folder has it.
func module(name string) string {
	return strings.ToLower(strings.NewReplacer("-", "_", ".", "_").Replace(name))
}

// belowExtension reports whether a compiled part of a gem is in use: they lie in
// extensions/PLATFORM/ABI/NAME-VERSION/.
func (u *inUse) belowExtension(extensions, name string) bool {
	for i := u.from(extensions); i < len(u.sorted) && strings.HasPrefix(u.sorted[i], extensions); i++ {
		parts := strings.SplitN(u.sorted[i][len(extensions):], "/", 4)
		if len(parts) == 4 && parts[2] == name {
			return true
		}
	}
	return false
}

// below reports whether a file in use lies in the folder, but not in what lies
// there by the name of without: that belongs to others.
func (u *inUse) below(dir, without string) bool {
	if dir == "/" {
		return false // everything lies there, and nothing is shown by it
	}
	for i := u.from(dir); i < len(u.sorted) && strings.HasPrefix(u.sorted[i], dir); i++ {
		if without == "" || !strings.Contains("/"+u.sorted[i][len(dir):], "/"+without) {
			return true
		}
	}
	return false
}

// from returns where the paths begin that begin with prefix.
func (u *inUse) from(prefix string) int {
	i, _ := slices.BinarySearch(u.sorted, prefix)
	return i
}
