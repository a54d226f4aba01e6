package answer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Write keeps what a tool said of an image with that digest.
func Write(dir, image, tool, digest string, lines []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text := digest + "\n" + strings.Join(lines, "\n") + "\n"
	return os.WriteFile(recorded(dir, image, tool), []byte(text), 0o644)
}

// Read returns what Write kept, in order.
func Read(dir, image, tool string) (digest string, lines []string, err error) {
	b, err := os.ReadFile(recorded(dir, image, tool))
	if err != nil {
		return "", nil, fmt.Errorf("what %s said of %s (make compare asks anew): %w", tool, image, err)
	}
	digest, rest, _ := strings.Cut(string(b), "\n")
	return digest, strings.FieldsFunc(rest, func(r rune) bool { return r == '\n' }), nil
}

func recorded(dir, image, tool string) string {
	return filepath.Join(dir, image+"."+tool+".txt")
}
