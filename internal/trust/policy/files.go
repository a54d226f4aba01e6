package policy

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// Files is where a policy's files are read from.
type Files interface {
	// Read returns a file's content; it fails if that is more than most bytes.
	Read(name string, most int64) ([]byte, error)
	// List returns the names of the regular files in a folder, in order, as Read
	// takes them; it fails if they are more than most.
	List(folder string, most int) ([]string, error)
}

// Folder returns the Files of the file system, names relative to dir.
func Folder(dir string) Files { return folder(dir) }

type folder string

func (f folder) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(string(f), name)
}

func (f folder) Read(name string, most int64) ([]byte, error) {
	path := f.path(name)
	// Looked at before it is opened: a pipe would wait for somebody to write.
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return b, err
}

func (f folder) List(name string, most int) ([]string, error) {
	dir, err := os.Open(f.path(name))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(most + 1)
	if err != nil {
		return nil, err
	}
	if len(entries) > most {
		return nil, fmt.Errorf("%s holds more than %d files", name, most)
	}
	var out []string
	for _, e := range entries {
		if info, err := os.Stat(filepath.Join(f.path(name), e.Name())); err == nil && info.Mode().IsRegular() {
			out = append(out, filepath.Join(name, e.Name()))
		}
	}
	slices.Sort(out)
	return out, nil
}
