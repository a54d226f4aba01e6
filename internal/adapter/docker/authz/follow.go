package authz

import (
	"errors"
	"io/fs"
	"path/filepath"
)

// HostPath tells where a path leads when all symbolic links are followed, for a
// program in the engine's own root. What is not there yet is made where its last
// folder that is there leads.
func HostPath(path string) (string, error) {
	rest := ""
	for dir := filepath.Clean(path); ; dir = filepath.Dir(dir) {
		to, err := filepath.EvalSymlinks(dir)
		if err == nil {
			return filepath.Join(to, rest), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return "", err
		}
		rest = filepath.Join(filepath.Base(dir), rest)
	}
}
