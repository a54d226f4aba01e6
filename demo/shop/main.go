// Command shop is the demo: a small web shop as five services, all in one
// program that becomes the service whose name it is called by.
//
//	storefront  what customers see; the only one with holes, on purpose
//	api         products and orders as JSON
//	worker      turns orders into invoices, each by a child process
//	store       the database, see package store
//	client      ordinary customers
//
// Beside them, metadata stands in for the two addresses at which AWS answers
// its containers, and route leads a container there.
//
// It exists to be guarded and attacked. Never run it where others can reach it.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// services lists what the program can be.
var services = map[string]func(ctx context.Context, log *slog.Logger) error{
	"storefront": runStorefront,
	"api":        runAPI,
	"worker":     runWorker,
	"invoice":    runInvoice,
	"store":      runStore,
	"client":     runClient,
	"metadata":   runMetadata,
	"route":      runRoute,
}

func main() {
	name := filepath.Base(os.Args[0])
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("service", name)
	run, ok := services[name]
	if !ok {
		log.Error("call this program by the name of a service: link it as storefront, api, worker, store or client")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, log); err != nil && ctx.Err() == nil {
		log.Error("stopped", "error", err)
		os.Exit(1)
	}
}

// serve answers HTTP on addr until ctx ends.
func serve(ctx context.Context, addr string, h http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      time.Minute, // a command that an attack injects may take a while
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	log.Info("serving", "address", l.Addr().String())
	select {
	case err = <-done:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	err = server.Shutdown(grace)
	<-done
	return errors.Join(err, server.Close())
}

// pause waits for d, or returns false when ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
