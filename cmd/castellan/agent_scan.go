package main

import (
	"context"
	"log/slog"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/adapter/self"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/scan"
)

const (
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
	return childScan(ctx, s.program, engineSocket, s.engine.Lend, w.Salt, []string{
		"agent", scanCommand, "--docker-host", "unix://" + s.program.Inside(engineSocket), "--cache-dir", s.program.Own(),
		"--reference=" + w.Reference, "--", w.ImageID,
	})
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
			return g.answerScan(scanOne(c.Context(), asset.Image{ID: args[0], Reference: reference}, host, childOptions{cache, salt}, log))
		},
	}
	c.Flags().StringVar(&host, "docker-host", "", "the engine")
	c.Flags().StringVar(&cache, "cache-dir", "", "folder for what is known of layers")
	c.Flags().StringVar(&reference, "reference", "", "name of the image")
	return c
}

// scanOne scans an image of the engine.
func scanOne(ctx context.Context, image asset.Image, host string, o childOptions, log *slog.Logger) (inventory.Inventory, error) {
	e, err := docker.New(docker.Options{Host: host}, log)
	if err != nil {
		return inventory.Inventory{}, err
	}
	i, err := e.OpenWorkloadImage(ctx, image, oci.ReadArchive)
	if err != nil {
		return inventory.Inventory{}, err
	}
	return scanLayers(ctx, i, o, log)
}
