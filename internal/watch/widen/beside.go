package widen

import (
	"path"
	"slices"
	"strings"
)

// Beside returns the patterns of what a program writes beside a file that it wrote, at
// another time than one that was watched, or in a way that no sensor sees: a name that a
// socket is bound to is made by no open, and taken away when the program ends or begins
// again; SQLite sorts in memory until there is too much of it; a table of Erlang is
// repaired under another name after a crash; Python tries a folder for temporary files with
// a name that chance has made of letters alone now and then; a file without a name (O_TMPFILE,
// told as "#" and its number) has one for a moment where a file system knows none such, as
// overlays before Linux 6.10. programs are those that wrote it.
func Beside(file string, programs []string) []string {
	if stem, ok := strings.CutSuffix(file, ".pid"); ok && strings.HasPrefix(file, "/run/") {
		return []string{stem + ".sock"}
	}
	for _, ending := range []string{"-journal", "-wal"} {
		if strings.HasSuffix(file, ending) {
			return []string{"/var/tmp/etilqs_*", "/tmp/etilqs_*"}
		}
	}
	if strings.HasSuffix(file, ".dets") {
		return []string{file + ".TMP"}
	}
	folder, name := path.Split(file)
	if nameless(name) && slices.Contains(temporary, path.Clean(folder)) {
		if slices.ContainsFunc(programs, python) {
			return []string{folder + "tmp*"}
		}
		return []string{folder + "tmpf*"} // tmpfile of the C library
	}
	if slices.Contains(temporary, path.Clean(folder)) && len(name) == pythonRandom && lowerWord(name) && slices.ContainsFunc(programs, python) {
		return []string{folder + "*"}
	}
	return nil
}

func python(program string) bool { return strings.HasPrefix(path.Base(program), "python") }

// nameless reports whether a name, or the pattern of such names, is what the kernel calls a
// file that has none.
func nameless(name string) bool {
	rest, ok := strings.CutPrefix(name, "#")
	return ok && (rest == "*" || allDigits(rest))
}
