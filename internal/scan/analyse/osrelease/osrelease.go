// Package osrelease reads os-release files (os-release(5)): which operating
// system an image has. Which of two files counts is decided where the image is
// put together.
package osrelease

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
)

const (
	// maxFile: the longest file that a distribution ships has 2 KiB.
	maxFile = 64 << 10
	// maxValue bounds one value: they are names and numbers.
	maxValue = 256
	// maxLike bounds the list of similar systems; none names more than three.
	maxLike = 16
)

// Analyser reads os-release files at their two places.
type Analyser struct{}

// Name is analyse.Analyser.
func (Analyser) Name() string { return "os-release" }

// Anchors is analyse.Anchored.
func (Analyser) Anchors() []string { return []string{"etc/os-release", "usr/lib/os-release"} }

// Wants is analyse.Analyser.
func (Analyser) Wants(e *analyse.Entry, head []byte) bool {
	return head != nil && (e.Path == "etc/os-release" || e.Path == "usr/lib/os-release")
}

// Take is analyse.Analyser. Lines that are no assignments are passed over, as
// everything that reads this file does.
func (Analyser) Take(_ context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	b, err := analyse.ReadAll(r, e.Size, maxFile)
	if err != nil {
		return err
	}
	os := inventory.OS{}
	known := false
	for line := range strings.SplitSeq(string(b), "\n") {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		value, ok = unquote(value)
		if !ok || len(value) > maxValue {
			continue
		}
		known = set(&os, name, value) || known
	}
	if !known {
		return errors.New("names no operating system")
	}
	if os.ID == "" {
		os.ID = "linux" // its default
	}
	shown.OS = &os
	return nil
}

// set keeps a value; it is false for names that say nothing here.
func set(os *inventory.OS, name, value string) bool {
	switch name {
	case "ID":
		os.ID = strings.ToLower(value)
	case "ID_LIKE":
		os.Like = strings.Fields(value)
		os.Like = os.Like[:min(len(os.Like), maxLike)]
	case "VERSION_ID":
		os.Version = value
	case "VERSION_CODENAME":
		os.Codename = value
	case "PRETTY_NAME":
		os.Name = value
	case "NAME": // PRETTY_NAME's place holder
		if os.Name == "" {
			os.Name = value
		}
	default:
		return false
	}
	return true
}

// unquote reads a value as a shell does, without anything that a shell would
// work out: parts in single quotes, in double quotes, or bare.
func unquote(s string) (string, bool) {
	var b strings.Builder
	quote := byte(0)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case c == quote:
			quote = 0
		case c == '\\' && quote != '\'':
			if i++; i == len(s) {
				return "", false
			}
			if quote == '"' && !strings.ContainsRune("$`\"\\", rune(s[i])) {
				b.WriteByte('\\')
			}
			b.WriteByte(s[i])
		case quote == 0 && (c == ' ' || c == '\t'):
			return b.String(), true // what follows is not of the value
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), quote == 0
}
