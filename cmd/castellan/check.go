package main

import (
	"context"
	"fmt"
	"net/http"
)

// problems is the API's answer to a check of a document.
type problems struct {
	Problems []struct {
		Line   int    `json:"line"`
		Column int    `json:"column"`
		Text   string `json:"text"`
		Remedy string `json:"remedy"`
	} `json:"problems"`
	// Warnings are what it can be used with, and may not be what is meant.
	Warnings []string `json:"warnings,omitempty"`
}

// checkable is a document in a file that a server can say what is wrong with.
type checkable struct {
	file, what, path string // path of the API
	most             int64  // bytes
}

// checkWritten asks the server what is wrong with a document, and prints it line by
// line; something wrong is errViolated.
func (g *globals) checkWritten(ctx context.Context, o askOptions, f form, w checkable) error {
	b, err := g.readSmall(w.file, w.most)
	if err != nil {
		return fmt.Errorf("read %s: %w", w.what, err)
	}
	api, err := g.dial(o)
	if err != nil {
		return err
	}
	var told problems
	if err := api.do(ctx, http.MethodPost, w.path, map[string]any{"text": string(b)}, &told); err != nil {
		return err
	}
	err = g.print(f, told, func() error {
		for _, p := range told.Problems {
			fmt.Fprintf(g.out, "%s:%d:%d: %s\n", printable(w.file), p.Line, p.Column, printable(p.Text))
			if p.Remedy != "" {
				fmt.Fprintf(g.out, "  remedy: %s\n", printable(p.Remedy))
			}
		}
		if len(told.Problems) == 0 {
			fmt.Fprintf(g.out, "%s is well-formed\n", printable(w.file))
		}
		for _, warning := range told.Warnings {
			fmt.Fprintf(g.out, "warning: %s\n", printable(warning))
		}
		return nil
	})
	if err == nil && len(told.Problems) > 0 {
		return errViolated
	}
	return err
}
