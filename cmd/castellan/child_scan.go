package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/adapter/self"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/scan"
)

// What a scan in a child process may take of its host.
const (
	// scanMemory is what the child's heap aims to stay below.
	scanMemory = 192 << 20
	// scanHeld is how much it may hold of what it finds: an image with 10,000
	// packages needs a twentieth of it.
	scanHeld = 128 << 20
	// scanWithin is how long it may take on a host that has other things to do.
	scanWithin = 30 * time.Minute
	// scanAnalyser is how much of a processor one analyser may take of that: an agent
	// has ten minutes for an image (internal/server/images), of which what is made to
	// cost two analysers theirs leaves the greater part, and so the rest of the scan.
	scanAnalyser = 2 * time.Minute
	// scanCache is how much of its disk is kept of layers.
	scanCache = 256 << 20
)

// childScan has a child process scan an image, which is lent to it at a socket,
// and returns the inventory as a server takes it. The child reads the salt by
// self.Bound. An error of the child, or of what runs it, is an *unscanned; any other
// kept the image from being lent.
func childScan(ctx context.Context, program *self.Program, socket string, lend func(context.Context, net.Listener) error,
	salt []byte, args []string,
) ([]byte, error) {
	l, err := program.Listen(socket)
	if err != nil {
		return nil, err
	}
	lending, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var lendErr error
	wg.Go(func() { lendErr = lend(lending, l) })
	out, err := program.Run(ctx, self.Task{Args: args, Input: salt, Output: link.MaxInventory, Memory: scanMemory, Within: scanWithin})
	stop()
	wg.Wait()
	switch {
	case lendErr != nil:
		return nil, errors.Join(lendErr, err) // what the child made of that follows from it
	case err != nil && ctx.Err() == nil:
		return nil, &unscanned{err}
	case err != nil:
		return nil, err
	case out.Code == exitDone:
		return out.Stdout, nil
	}
	return nil, &unscanned{readScanError(out)}
}

// unscanned is an error of a child, or of what runs it.
type unscanned struct{ error }

// Unwrap returns the cause.
func (u *unscanned) Unwrap() error { return u.error }

// scanError is what a child writes instead of an inventory.
type scanError struct {
	Kind   string `json:"kind"`
	Error  string `json:"error"`
	Remedy string `json:"remedy,omitempty"`
}

// readScanError makes an error of what a child left. The child may have been
// taken over: what it says is only text.
func readScanError(out self.Output) error {
	var said scanError
	if err := json.Unmarshal(out.Stdout, &said); err != nil || said.Error == "" {
		return fault.New(fault.Unavailable, "the scan ended with code %d: %s", out.Code, printable(string(out.Stderr)))
	}
	for k := fault.Unknown; k <= fault.Corrupt; k++ {
		if k.String() == said.Kind {
			return fault.New(k, "%s", said.Error).With(said.Remedy)
		}
	}
	return errors.New(said.Error)
}

// answerScan is how a child ends: it writes what it found, or why it could not.
func (g *globals) answerScan(inv inventory.Inventory, err error) error {
	if err == nil {
		err = writeInventory(g.out, inv)
	}
	return g.childEnds(err)
}

// childEnds tells the parent why a child could not do what it was started for, if
// it could not.
func (g *globals) childEnds(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(errSaid, json.NewEncoder(g.out).Encode(scanError{Kind: fault.Of(err).String(), Error: err.Error(), Remedy: fault.Remedy(err)}))
}

// childOptions are what a child is told.
type childOptions struct {
	cache string
	salt  []byte // of the installation; empty: secrets are not looked for
}

// withoutSecrets is the analysis of before secrets were looked for. What a scan
// without a salt finds counts as of that one, so that a server that has a salt
// asks for more.
const withoutSecrets = 3

// scanLayers scans an opened image within the limits of a child, and closes it.
func scanLayers(ctx context.Context, i scan.Layers, o childOptions, log *slog.Logger) (inventory.Inventory, error) {
	secrets, err := scan.NewSecrets(o.salt)
	if err != nil {
		return inventory.Inventory{}, errors.Join(err, i.Close())
	}
	hostile, _, err := scan.NewMalware(scan.MalwareOptions{})
	if err != nil {
		return inventory.Inventory{}, errors.Join(err, i.Close())
	}
	so := scan.Options{
		Cache: o.cache, CacheBytes: scanCache, Parallel: 1, Limits: scan.Limits{Held: scanHeld, AnalyserTime: scanAnalyser}, Malware: hostile, Log: log,
	}
	if len(o.salt) > 0 {
		so.Secrets = secrets
	}
	inv, err := scan.New(so).Image(ctx, i)
	if err = errors.Join(err, i.Close()); err != nil {
		return inventory.Inventory{}, err
	}
	if len(o.salt) == 0 {
		inv.Analysis = withoutSecrets
	}
	// What leaves the child has no password that somebody put into a build.
	inv.Image = scan.Redact(secrets, inv.Image)
	return inv, nil
}

// writeInventory writes what a scan found as the server takes it, whole or not
// at all.
func writeInventory(w io.Writer, inv inventory.Inventory) error {
	b, err := json.Marshal(inv)
	if err != nil {
		return fmt.Errorf("write inventory: %w", err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return fmt.Errorf("write inventory: %w", err)
	}
	packed := enc.EncodeAll(b, nil)
	if len(packed) > link.MaxInventory {
		return fault.New(fault.Exhausted, "the inventory has %d bytes; at most %d are taken", len(packed), link.MaxInventory).
			With("look at who made this image: no honest one has so many packages")
	}
	if _, err := w.Write(packed); err != nil {
		return fmt.Errorf("write inventory: %w", err)
	}
	return nil
}
