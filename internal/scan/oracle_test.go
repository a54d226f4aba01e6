package scan_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/castellan-security/castellan/internal/scan"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// errUnpack says that no engine could unpack an image.
var errUnpack = errors.New("cannot be unpacked")

// unpack is the oracle: it unpacks an image to a folder, entry by entry, as
// containerd does, and lists what the analysers of these tests find there.
func unpack(t testing.TB, layers [][]string) []string {
	t.Helper()
	root, err := os.MkdirTemp("", "oracle")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(root)
	pointed := map[string]bool{}
	for i, lines := range layers {
		put := map[string]string{}
		hides := slices.ContainsFunc(lines, func(s string) bool { return strings.HasPrefix(s, "gone ") || strings.HasPrefix(s, "opaque ") })
		if i > 0 && hides && slices.ContainsFunc(lines, func(s string) bool { return replacesLink(root, parse(s)) }) {
			return []string{errUnpack.Error() + ": " + errTurned.Error()}
		}
		for _, s := range lines {
			turns := i > 0 && (s != lines[0] && replacesLink(root, parse(s)) || linksAside(root, put, parse(s)))
			at, err := unpackLine(root, parse(s))
			if err == nil && (turns || i > 0 && turned(put, at, parse(s))) {
				err = errTurned
			}
			if err != nil {
				return []string{errUnpack.Error() + ": " + err.Error()}
			}
		}
		if isWay(root, pointed) {
			return []string{errUnpack.Error() + ": " + errTurned.Error()}
		}
	}
	lines, err := found(root)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// errTurned says that a layer puts two things at one place by two names, or
// replaces a folder that it has put something into: where a symbolic link of a
// lower layer is on the way, Docker and containerd don't agree on what is there.
var errTurned = errors.New("engines disagree")

// isWay says whether one of the files that symbolic links pointed to has become
// something that they lead through: links to files of their own layer are not
// kept. It adds those that links point to now.
func isWay(root string, pointed map[string]bool) bool {
	for p := range pointed {
		if info, err := os.Lstat(p); err == nil && !info.Mode().IsRegular() {
			return true
		}
	}
	_ = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink == 0 {
			return err
		}
		target, err := os.Readlink(file)
		if err != nil {
			return err
		}
		if strings.HasPrefix(target, "/") {
			target = filepath.Join(root, target)
		} else {
			target = filepath.Join(filepath.Dir(file), target)
		}
		pointed[target] = true
		if real, err := rooted(root, strings.TrimPrefix(file, root)); err == nil {
			pointed[real] = true
		}
		for p := range pointed {
			if info, err := os.Lstat(p); err != nil || !info.Mode().IsRegular() {
				delete(pointed, p)
			}
		}
		return nil
	})
	return false
}

// replacesLink says whether a symbolic link goes away that earlier entries may
// have gone through.
func replacesLink(root string, l line) bool {
	folder, err := rooted(root, path.Dir(path.Clean("/"+l.name)))
	if err != nil || l.what == "gone" || l.what == "opaque" {
		return false
	}
	at := filepath.Join(folder, path.Base(l.name))
	info, err := os.Lstat(at)
	if err == nil && l.what == "hard" {
		return true // of two names for one file, one may be the other's target
	}
	if err == nil && info.IsDir() && l.what != "dir" {
		return true // with the links inside
	}
	_, err = os.Readlink(at)
	return err == nil
}

// linksAside says whether a hard link's target was put there by another name.
func linksAside(root string, put map[string]string, l line) bool {
	target := path.Clean("/" + l.more)
	folder, err := rooted(root, path.Dir(target))
	if err != nil || l.what != "hard" {
		return false
	}
	name, ok := put[filepath.Join(folder, path.Base(target))]
	return ok && name != target[1:]
}

func turned(put map[string]string, at string, l line) bool {
	if at == "" || l.what == "gone" || l.what == "opaque" {
		return false
	}
	for p, name := range put {
		if p == at && name != path.Clean(l.name) || l.what != "dir" && strings.HasPrefix(p, at+"/") {
			return true
		}
	}
	put[at] = path.Clean(l.name)
	return false
}

// rooted follows symbolic links on the way to p, all of them within root.
func rooted(root, p string) (string, error) {
	at, todo := root, strings.Split(p, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			if at != root {
				at = filepath.Dir(at)
			}
			continue
		}
		target, err := os.Readlink(filepath.Join(at, name))
		if err != nil {
			at = filepath.Join(at, name)
			continue
		}
		if links++; links > 100 {
			return "", errUnpack
		}
		if strings.HasPrefix(target, "/") {
			at = root
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return at, nil
}

func unpackLine(root string, l line) (at string, err error) {
	name := path.Clean("/" + l.name)
	if l.what == "opaque" {
		folder, err := rooted(root, name)
		if err != nil {
			return "", err
		}
		entries, err := os.ReadDir(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(folder, e.Name())); err != nil {
				return "", err
			}
		}
		return "", nil
	}
	folder, err := rooted(root, path.Dir(name))
	if err != nil {
		return "", err
	}
	at = filepath.Join(folder, path.Base(name))
	if at == root || path.Base(name) == "/" {
		return "", nil
	}
	if l.what == "gone" {
		return at, os.RemoveAll(at)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return at, err
	}
	info, err := os.Lstat(at)
	if err == nil && !(info.IsDir() && l.what == "dir") {
		if err := os.RemoveAll(at); err != nil {
			return at, err
		}
	}
	return at, makeEntry(root, at, l)
}

func makeEntry(root, at string, l line) error {
	switch l.what {
	case "file":
		return os.WriteFile(at, []byte(l.more), 0o644)
	case "link":
		return os.Symlink(l.more, at)
	case "hard":
		target := path.Clean("/" + l.more)
		from, err := rooted(root, path.Dir(target))
		if err != nil {
			return err
		}
		file := filepath.Join(from, path.Base(target))
		if _, err := os.Readlink(file); err == nil {
			return errUnpack // hard links to symbolic links of lower layers are not followed
		}
		return os.Link(file, at)
	}
	return os.MkdirAll(at, 0o755)
}

// doubt begins a line that says of which file nothing is to be compared.
const doubt = "doubt "

// certain leaves out what is in doubt, from what was unpacked and what was found.
func certain(want, got []string) ([]string, []string) {
	doubtful := func(line string) bool {
		return strings.HasPrefix(line, doubt) || slices.ContainsFunc(want, func(w string) bool {
			file, ok := strings.CutPrefix(w, doubt)
			return ok && strings.HasPrefix(line, "named ") && strings.HasSuffix(line, " "+file)
		})
	}
	left := slices.DeleteFunc(slices.Clone(want), doubtful)
	return left, slices.DeleteFunc(got, doubtful)
}

// found lists what the analysers find, as listing does but for the layer.
func found(root string) ([]string, error) {
	var lines []string
	show := func(typ, file string) error {
		b, err := os.ReadFile(file)
		for _, w := range strings.Fields(string(b)) {
			lines = append(lines, typ+" "+w+" "+strings.TrimPrefix(file, root))
		}
		return err
	}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if d.Type().IsRegular() {
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if bytes.HasPrefix(b, []byte("pkg:")) {
				if err := show("content", file); err != nil {
					return err
				}
			}
		}
		if d.Name() != "db" {
			return nil
		}
		real, err := rooted(root, strings.TrimPrefix(file, root))
		if err != nil {
			return nil // links in a circle
		}
		if info, err := os.Lstat(real); err == nil && info.Mode().IsRegular() {
			// A wanted name that is a link to a file which is a hard link itself is
			// not followed further: it would take all names to see where it ends.
			st, ok := info.Sys().(*syscall.Stat_t)
			if ok && (st.Nlink > 2 || st.Nlink > 1 && real != file) {
				lines = append(lines, doubt+strings.TrimPrefix(real, root))
				return nil
			}
			return show("named", real)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// What analysers go by a fixed place for may be behind a link.
	place, err := rooted(root, "var/lib/pkg")
	if err != nil {
		return nil, nil
	}
	err = filepath.WalkDir(place, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipAll
		}
		if d.Type().IsRegular() && place != root {
			return show("fixed", file)
		}
		return nil
	})
	slices.Sort(lines)
	return slices.Compact(lines), err
}

// FuzzMerge makes images of whatever, and holds what is found in them against the
// oracle.
func FuzzMerge(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x10\x11\x12\xff\x20\x21"))
	f.Add([]byte("\x02\x00\x05\xff\x00\x30\x05"))
	f.Add([]byte("\x03\x10\x03\x00\x00\x11\xff\x03\x00\x00\xff\x05\x01\x00"))
	f.Fuzz(func(t *testing.T, recipe []byte) {
		layers := cook(recipe)
		want := unpack(t, layers)
		if len(want) == 1 && strings.HasPrefix(want[0], errUnpack.Error()) {
			return
		}
		inv, err := scanner(scan.Options{}).Image(t.Context(), imageOf(t, layers...))
		if err != nil {
			t.Fatalf("%v\n%q", err, layers)
		}
		want, got := certain(want, slices.Compact(withoutLayer(listing(inv))))
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("packages (-unpacked +found):\n%s\nof %s", diff, strings.Join(flat(layers), "\n   "))
		}
		for _, p := range inv.Packages {
			for _, place := range p.Places {
				if place.Layer < 1 || place.Layer > len(layers) {
					t.Errorf("%s is said to be of layer %d of %d", p.Name, place.Layer, len(layers))
				}
			}
		}
	})
}

func flat(layers [][]string) (lines []string) {
	for _, l := range layers {
		lines = append(lines, append([]string{"layer"}, l...)...)
	}
	return lines
}

// cook makes at most five layers of at most eight entries: three bytes an entry,
// for what it is, its name, and its content or target; 0xff begins a layer. In a
// layer whiteouts come first, as the specification recommends: what they do
// after what they hide is not told alike by any two engines.
func cook(recipe []byte) [][]string {
	names := []string{"a", "b", "c", "a/b", "a/c", "b/a", "a/b/c", "b/a/c", "c/a/b", "a/db", "db", "c/db"}
	targets := []string{"a", "b", "c", "a/b", "../a", "/b", "/a/c", "../../c", ".", "b/a", "db"}
	var layers [][]string
	var hide, show []string
	flush := func() {
		// A hard link into a lower layer whose target the layer then replaces is
		// not followed: no builder writes it, and it would take all names to see.
		// So hard links come last here, but for those that the table has.
		slices.SortStableFunc(show, func(a, b string) int { return hardLast(a) - hardLast(b) })
		layers = append(layers, append(hide, show...))
		hide, show = nil, nil
	}
	for len(recipe) >= 3 && len(layers) < 5 {
		if recipe[0] == 0xff || len(hide)+len(show) == 8 {
			flush()
			recipe = recipe[1:]
			continue
		}
		name := names[int(recipe[1])%len(names)]
		more := int(recipe[2])
		switch recipe[0] % 8 {
		case 0, 1:
			show = append(show, "file "+name+" pkg:"+string(rune('0'+more%4)))
		case 2:
			show = append(show, "file "+name+" other")
		case 3:
			show = append(show, "link "+name+" "+targets[more%len(targets)])
		case 4:
			show = append(show, "dir "+name)
		case 5:
			hide = addApart(hide, "gone "+name)
		case 6:
			hide = addApart(hide, "opaque "+path.Dir(name))
		case 7:
			// Hard links to lower layers, which no builder writes, are in the table.
			target := names[more%len(names)]
			if len(layers) == 0 || slices.ContainsFunc(show, func(s string) bool { return strings.HasPrefix(s, "file "+target+" ") }) {
				show = append(show, "hard "+name+" "+target)
			}
		}
		recipe = recipe[3:]
	}
	flush()
	return layers
}

func hardLast(s string) int {
	if strings.HasPrefix(s, "hard ") {
		return 1
	}
	return 0
}

// addApart adds a whiteout unless another one is for what is above or below it:
// then their order would count.
func addApart(lines []string, s string) []string {
	name := parse(s).name
	for _, l := range lines {
		other := parse(l).name
		if strings.HasPrefix(other+"/", name+"/") || strings.HasPrefix(name+"/", other+"/") || name == "." || other == "." {
			return lines
		}
	}
	return append(lines, s)
}
