package main

import (
	"io"
	"os"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
)

// readSmall reads a file, or the standard input for "-", that has at most so many
// bytes.
func (g *globals) readSmall(name string, most int64) ([]byte, error) {
	if name == "-" {
		return atMost(g.in, name, most)
	}
	info, err := os.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = fault.New(fault.Invalid, "%s is no regular file", name)
	}
	if err != nil {
		return nil, err
	}
	return readAtMost(name, most)
}

// readText is readSmall for a line of text.
func (g *globals) readText(name string, most int64) (string, error) {
	b, err := g.readSmall(name, most)
	return strings.TrimSpace(string(b)), err
}

// readAtMost reads a file, which may be a pipe, and refuses one of more than most
// bytes.
func readAtMost(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return atMost(f, name, most)
}

func atMost(in io.Reader, name string, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(in, most+1))
	if err == nil && int64(len(b)) > most {
		err = fault.New(fault.Invalid, "%s has more than %d bytes", name, most)
	}
	return b, err
}
