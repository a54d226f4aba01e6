// Package passwd reads /etc/passwd (passwd(5)): which names of users an image
// gives the number 0, and which others it has. It reads the file as container
// engines do when they look for a container's user, and not as a C library does.
package passwd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
)

const (
	// maxFile: the files of distributions have 1 to 3 KiB.
	maxFile = 256 << 10
	// maxUsers bounds the names that are kept: no image needs a hundred, and they go
	// to every host that runs one.
	maxUsers = 2048
	// maxName bounds a name; Linux' own programs take 32 bytes. A longer one is told
	// as a file that can't be read: left out, it would count as a name that is not there.
	maxName = 256
)

// File is where the file is.
const File = "etc/passwd"

// Analyser reads the file at its one place.
type Analyser struct{}

// Name is analyse.Analyser.
func (Analyser) Name() string { return "passwd" }

// Anchors is analyse.Anchored.
func (Analyser) Anchors() []string { return []string{File} }

// Wants is analyse.Analyser.
func (Analyser) Wants(e *analyse.Entry, head []byte) bool { return head != nil && e.Path == File }

// Take is analyse.Analyser.
func (Analyser) Take(_ context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	b, err := analyse.ReadAll(r, e.Size, maxFile)
	if err != nil {
		return err
	}
	root := map[string]bool{}
	for line := range bytes.SplitSeq(b, []byte("\n")) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		name, zero := read(line)
		switch {
		case len(name) > maxName:
			return fmt.Errorf("a name of %d bytes, at most %d are read", len(name), maxName)
		case !utf8.Valid(name):
			continue // nobody can ask for it: requests are JSON
		}
		root[string(name)] = root[string(name)] || zero
		if len(root) > maxUsers {
			return fmt.Errorf("more than %d names of users", maxUsers)
		}
	}
	shown.Users = sorted(root)
	return nil
}

// read returns the name of a line and whether its number is 0. Engines take
// something that is no number, or is not there, for 0, and a line that begins with
// # for one of a user with such a name.
func read(line []byte) (name []byte, zero bool) {
	name, rest, _ := bytes.Cut(line, []byte(":"))
	_, rest, _ = bytes.Cut(rest, []byte(":")) // the password
	number, _, _ := bytes.Cut(rest, []byte(":"))
	n, _ := strconv.Atoi(string(number))
	return name, n == 0
}

func sorted(root map[string]bool) *inventory.Users {
	var u inventory.Users
	for name, zero := range root {
		if zero {
			u.Root = append(u.Root, name)
		} else {
			u.Others = append(u.Others, name)
		}
	}
	slices.Sort(u.Root)
	slices.Sort(u.Others)
	return &u
}
