package kernel

import (
	"io"
	"os"
	"strings"
)

// Limits of what is read. The kernel writes these files, but hostile programs
// choose part of what is in them.
const (
	// lineLimit is for files of one line, of which the longest is the list of
	// security modules.
	lineLimit = 4 << 10
	// fileLimit is for files of the whole machine: os-release, meminfo.
	fileLimit = 64 << 10
	// mountsLimit holds about 10,000 mounts; an agent on a host with more of
	// them still finds the cgroup mounts, which come first.
	mountsLimit = 2 << 20
)

// readBounded reads at most limit bytes of a file.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// readLine reads a file of one line without its end; empty if it can't be read.
func readLine(path string) string {
	b, err := readBounded(path, lineLimit)
	if err != nil {
		return ""
	}
	return text(strings.TrimSpace(string(b)))
}

// text makes bytes that a program chose into valid UTF-8.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
