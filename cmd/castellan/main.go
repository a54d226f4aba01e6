// Command castellan guards containers on Amazon ECS from build to run.
//
// This is the only place where rooms meet doors: one file a subcommand, with
// its flags, its wiring and its printing. Nothing is decided here.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run())
}

// run is main without the exit, so that scripts can run it in a test process.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal while stopping ends the program at once.
	context.AfterFunc(ctx, stop)
	return execute(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr})
}
