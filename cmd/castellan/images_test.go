package main

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
)

// fleet brings the shop of consoletest, with what scans of its images found, and
// the advisories that say so, into the data folder before a server starts there. Its time stands still, so
// that what is printed is always the same; its agents stay away, so that they
// are not found silent.
func fleet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: fleet")
	}
	ctx := context.Background()
	dir, now := ts.Getenv("CASTELLAN_DATA_DIR"), time.Date(2026, 11, 23, 14, 30, 20, 0, time.UTC)
	st, err := db.Open(ctx, db.Options{Path: databasePath(dir)}, slog.New(slog.DiscardHandler))
	ts.Check(err)
	shop := consoletest.New(now)
	ts.Check(shop.WriteAdvisories(ctx, filepath.Join(dir, "advisories.db"), now))
	ts.Check(shop.Fill(ctx, st, filepath.Join(dir, "advisories.db")))
	ts.Check(st.Close())
}

// eventually asks again until what castellan prints matches a pattern:
// eventually PATTERN ARGUMENT….
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually PATTERN ARGUMENT…")
	}
	re, err := regexp.Compile(args[0])
	ts.Check(err)
	self, err := os.Executable()
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		cmd := exec.CommandContext(ctx, self, args[1:]...)
		cmd.Args[0] = "castellan"
		cmd.Env = append(os.Environ(), "CASTELLAN_DATA_DIR="+ts.Getenv("CASTELLAN_DATA_DIR"))
		out, err := cmd.Output()
		if err == nil && re.Match(out) {
			return
		}
		if ctx.Err() != nil {
			ts.Fatalf("no %s after 30 s; the last was %s", args[0], out)
		}
	}
}
