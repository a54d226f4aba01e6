package engine

import (
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/detect/rule"
)

// byFile finds the entries that name the file of an event, so that a rule about a few
// files costs nothing at all others.
type byFile struct {
	folders map[string][]place // by the beginning of a path, up to a slash or the end
	names   map[string][]place // by one name of a path
	found   []*entry           // of the event before: the slice is used again
}

// place is that an entry may mean a file.
type place struct {
	entry *entry
	item  string // as the rule has it; empty if every file there is meant
}

func newByFile() *byFile {
	return &byFile{folders: map[string][]place{}, names: map[string][]place{}}
}

func (b *byFile) enter(x *entry, en rule.Entry) {
	if en.Programs != nil {
		x.programs = map[string]bool{}
		for _, p := range en.Programs {
			x.programs[p] = true
		}
	}
	for _, item := range en.Files {
		at := place{entry: x}
		if strings.Contains(item, "*") {
			at.item = item
		}
		if folder, name := rule.PlaceOf(item); folder != "" {
			b.folders[folder] = append(b.folders[folder], at)
		} else {
			b.names[name] = append(b.names[name], at)
		}
	}
}

// find returns the entries of a file that a program touches, each once. What it
// returns is good until the next call.
func (b *byFile) find(path, program string) []*entry {
	b.found = b.found[:0]
	for from := 0; from < len(path); {
		end := strings.IndexByte(path[from+1:], '/')
		if end < 0 {
			end = len(path)
		} else {
			end += from + 1
		}
		b.collect(b.folders[path[:end]], path, program)
		b.collect(b.names[strings.TrimPrefix(path[from:end], "/")], path, program)
		from = end
	}
	return b.found
}

func (b *byFile) collect(places []place, path, program string) {
	for i := range places {
		at := &places[i]
		x := at.entry
		if slices.Contains(b.found, x) || x.programs != nil && !x.programs[program] || at.item != "" && !rule.Like(path, at.item) {
			continue
		}
		b.found = append(b.found, x)
	}
}
