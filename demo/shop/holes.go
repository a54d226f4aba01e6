package main

// Everything in this file is wrong on purpose: these are the holes that
// demo/attacks goes through. Each says what it is and how it ought to be.

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"

	"github.com/jackc/pgx/v5"
)

// search finds products by a part of their name.
//
// HOLE 1, reflected cross-site scripting: what was searched for goes back into
// the page as it came. html/template would escape it.
//
// HOLE 2, SQL injection: the query is put together as text and sent as a
// simple query, which may hold several statements. A parameter ($1) would do.
func (s *storefront) search(w http.ResponseWriter, r *http.Request) {
	q := r.FormValue("q")
	var found [][]string
	err := s.db.ask(r.Context(), func(ctx context.Context, c *pgx.Conn) error {
		results, err := c.PgConn().Exec(ctx, "SELECT name, cents FROM product WHERE name ILIKE '%"+q+"%'").ReadAll()
		for _, result := range results {
			for _, row := range result.Rows {
				var cells []string
				for _, cell := range row {
					cells = append(cells, string(cell))
				}
				found = append(found, cells)
			}
		}
		return err
	})
	if err != nil {
		s.fail(w, err)
		return
	}
	s.head(w)
	fmt.Fprintf(w, "<p>You searched for %s.</p>\n<ul>", q)
	for _, cells := range found {
		fmt.Fprintf(w, "<li>%s</li>\n", cells)
	}
	fmt.Fprint(w, "</ul>\n")
	s.foot(w)
}

// label shows how a text will look on a gift label.
//
// HOLE 3, command injection: the text becomes part of a shell's command line.
// It belongs on the standard input of fold, without a shell.
func (s *storefront) label(w http.ResponseWriter, r *http.Request) {
	command := exec.CommandContext(r.Context(), "/bin/sh", "-c", "echo "+r.FormValue("text")+" | fold -s -w 24")
	out, err := command.CombinedOutput()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		out = fmt.Appendf(out, "(%v)\n", err)
	}
	if _, err := w.Write(out); err != nil {
		s.log.Info("client left", "error", err)
	}
}

// file hands out a file of the shop's own folder.
//
// HOLE 4, path traversal: "../" leads out of the folder. os.Root would not let
// it.
func (s *storefront) file(w http.ResponseWriter, r *http.Request) {
	content, err := os.ReadFile(s.static + "/" + r.FormValue("file"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	if strings.HasSuffix(r.FormValue("file"), ".css") {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
	}
	if _, err := w.Write(content); err != nil {
		s.log.Info("client left", "error", err)
	}
}
