package dpkg

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/scan/analyse"
)

// maxOwned bounds the programs and libraries of one package: texlive and the
// like have some thousands.
const maxOwned = 50_000

// takeList reads the files of one package: a path a line, or with sums a
// checksum, two blanks and a path without its leading slash.
func takeList(ctx context.Context, pkg string, sums bool, r io.Reader, shown *analyse.Shown) error {
	name, arch, _ := strings.Cut(pkg, ":")
	owned := analyse.Owned{Type: "deb", Name: name, Arch: arch}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4<<10), analyse.MaxPath+64) // a checksum stands before the path
	for lines.Scan() {
		file := lines.Text()
		if sums {
			_, rest, ok := strings.Cut(file, "  ")
			if !ok {
				continue
			}
			file = "/" + rest
		}
		if !analyse.Keeps(file) {
			continue
		}
		if len(owned.Files) == maxOwned {
			return fmt.Errorf("package %.100q owns more than %d programs and libraries", pkg, maxOwned)
		}
		owned.Files = append(owned.Files, file)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the files of %.100q: %w", pkg, err)
	}
	if len(owned.Files) == 0 {
		return ctx.Err()
	}
	slices.Sort(owned.Files)
	shown.Owned = append(shown.Owned, owned)
	return ctx.Err()
}
