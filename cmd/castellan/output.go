package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"

	"github.com/castellan-security/castellan/internal/untrusted"
)

// printable is how text that somebody else wrote reaches the terminal.
func printable(s string) string { return untrusted.Text(s) }

// form is the value of -o.
type form string

const (
	formTable form = "table"
	formJSON  form = "json"
	formYAML  form = "yaml"
)

// String, Set and Type make form a flag.
func (f *form) String() string { return string(*f) }
func (f *form) Type() string   { return "form" }
func (f *form) Set(s string) error {
	switch form(s) {
	case formTable, formJSON, formYAML:
		*f = form(s)
		return nil
	}
	return fmt.Errorf("want table, json or yaml")
}

// outputFlag gives a command its -o.
func outputFlag(c *cobra.Command) *form {
	f := formTable
	c.Flags().VarP(&f, "output", "o", "form of the answer: table, json or yaml")
	// The flag exists: it was registered in the line above.
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	return &f
}

// print writes v in the form asked for; table is called for formTable.
func (g *globals) print(f form, v any, table func() error) error {
	switch f {
	case formJSON:
		return writeJSON(g.out, v, "  ")
	case formYAML:
		b, err := yaml.Marshal(v)
		if err != nil {
			return fmt.Errorf("write yaml: %w", err)
		}
		_, err = g.out.Write(b)
		return err
	}
	return table()
}

func writeJSON(w io.Writer, v any, indent string) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write json: %w", err)
	}
	return nil
}

// tone says what a cell means; colour only underlines what its word says.
type tone int

const (
	plain tone = iota
	good
	warn
	bad
	faint
)

var sgr = [...]string{plain: "", good: "32", warn: "33", bad: "31", faint: "2"}

// cell is one field of a table.
type cell struct {
	text string
	tone tone
}

func text(s string) cell { return cell{text: printable(s)} }

// paint wraps text in colour, when colours are on.
func (g *globals) paint(s string, t tone) string {
	if t == plain || s == "" || !g.coloured() {
		return s
	}
	return "\x1b[" + sgr[t] + "m" + s + "\x1b[0m"
}

func (g *globals) coloured() bool {
	switch g.colour {
	case "always":
		return true
	case "never":
		return false
	}
	_, ok := terminal(g.out)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// terminal returns the descriptor of a stream that somebody sits at.
func terminal(stream any) (fd int, ok bool) {
	f, ok := stream.(*os.File)
	if !ok {
		return 0, false
	}
	return int(f.Fd()), term.IsTerminal(int(f.Fd()))
}

// table prints rows in aligned columns under a heading. The last column is as
// long as it is; the others are cut at widest so that one hostile name cannot
// push the rest off the screen (json and yaml have everything).
func (g *globals) table(heading []string, rows [][]cell) error {
	const widest, gap = 48, "  "
	width := make([]int, len(heading))
	for i, h := range heading {
		width[i] = len(h)
	}
	for _, r := range rows {
		for i := range r {
			if i < len(r)-1 {
				r[i].text = cut(r[i].text, widest)
			}
			width[i] = max(width[i], utf8.RuneCountInString(r[i].text))
		}
	}
	head := make([]cell, len(heading))
	for i, h := range heading {
		head[i] = cell{h, faint}
	}
	var b strings.Builder
	for _, r := range append([][]cell{head}, rows...) {
		for i, c := range r {
			b.WriteString(g.paint(c.text, c.tone))
			if i < len(r)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(c.text)) + gap)
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(g.out, b.String())
	return err
}

func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// ago says how long before now t was, in one unit.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return span(now.Sub(t))
}

// ahead says when something is that is so far away, in one unit.
func ahead(d time.Duration) string {
	if d < time.Second {
		return "now"
	}
	return "in " + span(d)
}

func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Second:
		return "now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// plural is a number with what it counts.
func plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n) + " " + more
}

// size prints bytes in binary units.
func size(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	div, exp := uint64(unit), 0
	for n/div >= unit && exp < 5 {
		div *= unit
		exp++
	}
	return fmt.Sprintf("%.1f %ciB", float64(n)/float64(div), "KMGTPE"[exp])
}

// writeWhole writes a file that others may read: it appears whole or not at all,
// and what was there stays until then. One that is lasting is there after the
// machine's sudden end too, for which the disk is waited for.
func writeWhole(path string, lasting bool, write func(io.Writer) error) (err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return writeThrough(path, write) // a device or a pipe: nothing may take its place
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".castellan-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	err = errors.Join(write(f), f.Chmod(0o644))
	if err == nil && lasting {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// writeThrough writes to what is there.
func writeThrough(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
