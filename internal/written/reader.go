package written

import (
	"fmt"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// Reader is what readers of documents have in common: it collects what is wrong with
// one, and reads its plain parts.
type Reader struct {
	File     string
	Most     int // problems that are collected; those after them are left out
	Problems Problems
}

// Wrong notes what is wrong with a node.
func (r *Reader) Wrong(n *yaml.Node, remedy, format string, args ...any) {
	r.WrongAt(At(n), remedy, format, args...)
}

// WrongAt notes what is wrong at a place.
func (r *Reader) WrongAt(p Position, remedy, format string, args ...any) {
	if len(r.Problems) < r.Most {
		r.Problems = append(r.Problems, Problem{File: r.File, Position: p, Text: fmt.Sprintf(format, args...), Remedy: remedy})
	}
}

// List calls do for each item; a single value is a list of one.
func (r *Reader) List(n *yaml.Node, what string, limit int, do func(*yaml.Node)) {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	if len(items) > limit {
		r.Wrong(n, "", "%s has %d items: at most %d are read", what, len(items), limit)
		return
	}
	for _, item := range items {
		do(item)
	}
}

// Bool reads true or false; false where it is neither, which is noted.
func (r *Reader) Bool(n *yaml.Node, what string) bool {
	b, err := strconv.ParseBool(n.Value)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || err != nil {
		r.Wrong(n, "write true or false", "%s is neither true nor false", what)
		return false
	}
	return b
}

// Moment reads a date, which means its first second in UTC, or a time; the zero time
// where it is neither, which is noted.
func (r *Reader) Moment(n *yaml.Node, what string) time.Time {
	t, ok := Moment(n)
	if !ok {
		r.Wrong(n, "write 2026-12-31, or 2026-12-31T23:59:59Z", "%s is no date", what)
	}
	return t
}
