package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/adapter/self"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/scan"
)

// What an agent's scan may take of its host.
const (
	// scanMemory is what the child's heap aims to stay below.
	scanMemory = 192 << 20
	// scanHeld is how much it may hold of what it finds: an image with 10,000
	// packages needs a twentieth of it.
	scanHeld = 128 << 20
	// scanWithin is how long it may take on a host that has other things to do.
	scanWithin = 30 * time.Minute
	// scanCache is how much of its disk is kept of layers.
	scanCache = 256 << 20
	// scanFolder is below the agent's data folder.
	scanFolder = "scan"
	// engineSocket is where a child finds the engine.
	engineSocket = "engine.sock"
)

// imageScanner scans images of an engine, each in a child process.
type imageScanner struct {
	engine  *docker.Engine
	program *self.Program
}

// openScanner returns what scans images for the agent. Without a data folder
// there is no room for what it keeps.
func (g *globals) openScanner(engine *docker.Engine, log *slog.Logger) (*imageScanner, error) {
	program, err := self.New(self.Options{Folder: filepath.Join(g.dataDir, scanFolder)}, log.With("door", "self"))
	if err != nil {
		return nil, err
	}
	return &imageScanner{engine, program}, nil
}

// Analysis is that of agent.Scanner.
func (s *imageScanner) Analysis() int { return scan.Analysis }

// ScanImage is agent.Scanner.
func (s *imageScanner) ScanImage(ctx context.Context, w link.ScanWish) ([]byte, error) {
	l, err := s.program.Listen(engineSocket)
	if err != nil {
		return nil, err
	}
	lending, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var lendErr error
	wg.Go(func() { lendErr = s.engine.Lend(lending, l) })
	out, err := s.program.Run(ctx, self.Task{
		Args: []string{
			"agent", scanCommand, "--docker-host", "unix://" + s.program.Inside(engineSocket), "--cache-dir", s.program.Own(),
			"--reference=" + w.Reference, "--", w.ImageID,
		},
		Input: w.Salt, Output: link.MaxInventory, Memory: scanMemory, Within: scanWithin,
	})
	stop()
	wg.Wait()
	if err = errors.Join(err, lendErr); err != nil {
		return nil, err
	}
	if out.Code == exitDone {
		return out.Stdout, nil
	}
	return nil, readScanError(out)
}

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

// scanCommand is the name of the hidden command of the child.
const scanCommand = "scan-image"

func newAgentScan(g *globals) *cobra.Command {
	var host, cache, reference string
	c := &cobra.Command{
		Use:    scanCommand + " ID",
		Short:  "Scan an image for the agent that started this",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			salt, err := self.Bound()
			if err != nil {
				return err
			}
			log, err := g.logger()
			if err != nil {
				return err
			}
			inv, err := scanOne(c.Context(), asset.Image{ID: args[0], Reference: reference}, childOptions{host: host, cache: cache, salt: salt}, log)
			if err == nil {
				err = writeInventory(g.out, inv)
			}
			if err == nil {
				return nil
			}
			return errors.Join(errSaid, json.NewEncoder(g.out).Encode(scanError{Kind: fault.Of(err).String(), Error: err.Error(), Remedy: fault.Remedy(err)}))
		},
	}
	c.Flags().StringVar(&host, "docker-host", "", "the engine")
	c.Flags().StringVar(&cache, "cache-dir", "", "folder for what is known of layers")
	c.Flags().StringVar(&reference, "reference", "", "name of the image")
	return c
}

// childOptions are what a child is told.
type childOptions struct {
	host, cache string
	salt        []byte // of the installation; empty: secrets are not looked for
}

// withoutSecrets is the analysis of before secrets were looked for. What a scan
// without a salt finds counts as of that one, so that a server that has a salt
// asks for more.
const withoutSecrets = 3

// scanOne scans an image of the engine.
func scanOne(ctx context.Context, image asset.Image, o childOptions, log *slog.Logger) (inventory.Inventory, error) {
	e, err := docker.New(docker.Options{Host: o.host}, log)
	if err != nil {
		return inventory.Inventory{}, err
	}
	secrets, err := scan.NewSecrets(o.salt)
	if err != nil {
		return inventory.Inventory{}, err
	}
	i, err := e.OpenWorkloadImage(ctx, image, oci.ReadArchive)
	if err != nil {
		return inventory.Inventory{}, err
	}
	hostile, _, err := scan.NewMalware(scan.MalwareOptions{})
	if err != nil {
		return inventory.Inventory{}, errors.Join(err, i.Close())
	}
	so := scan.Options{
		Cache: o.cache, CacheBytes: scanCache, Parallel: 1, Limits: scan.Limits{Held: scanHeld}, Malware: hostile, Log: log,
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
	// What leaves the host has no password that somebody put into a build.
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
