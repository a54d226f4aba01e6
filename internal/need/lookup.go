package need

import (
	"os/exec"
	"path/filepath"
)

// systemFolders are where Debian keeps daemons; `su` without `-` leaves them
// out of root's PATH.
func systemFolders() []string { return []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} }

// lookup finds a program in PATH or a system folder.
func lookup(name string) (string, bool) {
	if path, err := exec.LookPath(name); err == nil {
		return path, true
	}
	for _, folder := range systemFolders() {
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
			return path, true
		}
	}
	return "", false
}
