// Package library has the built-in rules of detection, in the words of users' own: a
// file is a theme. Beside them in testdata are, for each rule, what fires it and what
// looks alike and does not.
//
// It is only their text: package rule reads it.
package library

import (
	"embed"
	"fmt"
	"path"
)

//go:embed *.yaml
var files embed.FS

// File is the text of one theme.
type File struct {
	Name string
	Text []byte
}

// Files returns all themes, in the order of their names.
func Files() ([]File, error) {
	return read(files, ".")
}

func read(from embed.FS, folder string) ([]File, error) {
	entries, err := from.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("list the built-in rules: %w", err)
	}
	var out []File
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		b, err := from.ReadFile(path.Join(folder, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read the built-in rules: %w", err)
		}
		out = append(out, File{e.Name(), b})
	}
	return out, nil
}
