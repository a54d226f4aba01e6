package written

import (
	"errors"
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
)

// Position is a place in a document's text; lines and columns count from 1.
type Position struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

// Problem is one thing that is wrong with a document.
type Problem struct {
	File     string `json:"file"`
	Position        // 0, 0 if it is about the whole
	Text     string `json:"text"`
	Remedy   string `json:"remedy,omitempty"`
}

// Error says what is wrong, and where.
func (p Problem) Error() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s", p.File, p.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Text)
}

// Problems is the error of a document that can't be used: all that is wrong with
// it, in the order of its lines. It is never empty.
type Problems []Problem

// Error has a line for each problem, with its remedy.
func (p Problems) Error() string {
	var b strings.Builder
	for i, x := range p {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(x.Error())
		if x.Remedy != "" && len(p) > 1 {
			b.WriteString(" (" + x.Remedy + ")")
		}
	}
	return b.String()
}

// ProblemsOf returns what is wrong with a document, nil if the error is of
// something else.
func ProblemsOf(err error) Problems {
	var p Problems
	if errors.As(err, &p) {
		return p
	}
	return nil
}

// Refused is the error, of kind Invalid, of a text in which these are wrong: the
// first of them a line each, and how many more there are. There is one at least.
func Refused(problems []Problem) error {
	const told = 10
	var b strings.Builder
	for i, p := range problems[:min(len(problems), told)] {
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(p.Error())
	}
	if len(problems) > told {
		fmt.Fprintf(&b, "\nand %d more", len(problems)-told)
	}
	return fault.New(fault.Invalid, "%w", errors.New(b.String())).With(problems[0].Remedy)
}
