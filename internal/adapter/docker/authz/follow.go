package authz

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
)

// HostPath tells where a path leads when all symbolic links are followed, for a
// program in the engine's own root. What is not there yet is made where its last
// folder that is there leads.
func HostPath(path string) (string, error) {
	rest := ""
	// Not cleaned: to the kernel, /var/run/.. is where /var/run leads to, and up.
	for dir := path; ; {
		to, err := filepath.EvalSymlinks(dir)
		if err == nil {
			return filepath.Join(to, rest), nil
		}
		dir = strings.TrimRight(dir, "/")
		if !errors.Is(err, fs.ErrNotExist) || dir == "" {
			return "", err
		}
		last := strings.LastIndexByte(dir, '/')
		rest = filepath.Join(dir[last+1:], rest)
		dir = dir[:last+1]
		if dir == "" {
			return "", err
		}
	}
}
