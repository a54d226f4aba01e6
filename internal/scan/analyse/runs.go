package analyse

import (
	"path"
	"strings"
)

// programFolders are where distributions put programs (Filesystem Hierarchy
// Standard 3.0, and /usr merged).
var programFolders = [...]string{"/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/", "/usr/local/bin/", "/usr/local/sbin/", "/usr/libexec/"}

func isProgram(p string) bool {
	for _, folder := range programFolders {
		if strings.HasPrefix(p, folder) {
			return true
		}
	}
	return strings.HasPrefix(p, "/opt/") && strings.Contains(p, "/bin/")
}

// isLibrary tells libx.so, libx.so.1.2 and x.so from x.solution.
func isLibrary(p string) bool {
	name := path.Base(p)
	i := strings.Index(name, ".so")
	return i > 0 && (len(name) == i+len(".so") || name[i+len(".so")] == '.')
}
