// Package link_test kills: castellan server and an agent that has joined it run
// as processes of their own, with the real store and the real link between
// them, and either is killed at random. What was sensed must be stored, once and
// in order.
//
// It is not for what sensors see (test/docker), nor for the forms of the link
// (internal/link).
package link_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// The environment of an agent that the test starts: the test binary itself, as
// castellan agent but for the kernel and the container engine.
const (
	dirEnv   = "CASTELLAN_LINK_DIR"   // its data folder; makes the binary an agent
	startEnv = "CASTELLAN_LINK_START" // which start it is, from 1; 0 senses nothing
)

func TestMain(m *testing.M) {
	if os.Getenv(dirEnv) == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if err := watch(ctx, log); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// note appends one line to a file, in one write.
func note(path, format string, args ...any) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(f, format+"\n", args...); err != nil {
		return err
	}
	return f.Close()
}
