// Package library has the built-in rules of admission, in the words of policies:
// whoever wants a rule of their own can begin with one of them. A file is a topic.
//
// It is only their text: package policy reads it.
package library

import "embed"

//go:embed *.yaml
var files embed.FS

// File is the text of one topic.
type File struct {
	Name string
	Text []byte
}

// Files returns all topics, in the order of their names.
func Files() []File {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil // what is embedded is there
	}
	var out []File
	for _, e := range entries {
		if b, err := files.ReadFile(e.Name()); err == nil {
			out = append(out, File{e.Name(), b})
		}
	}
	return out
}
