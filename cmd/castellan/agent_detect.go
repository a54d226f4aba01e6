package main

import (
	"log/slog"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/agent/hunt"
	"github.com/castellan-security/castellan/internal/link"
)

// detectFolder is below the agent's data folder.
const detectFolder = "detect"

// detectOptions are the flags of an agent that looks for threats.
type detectOptions struct{ detect bool }

func (o *detectOptions) flags(c *cobra.Command) {
	c.Flags().BoolVar(&o.detect, "detect", true, "hold what happens here against rules of detection, and report threats")
}

// openHunter opens what finds threats in what happens on this host.
func (g *globals) openHunter(o agentOptions, id string, server any, parts *agent.Parts, log *slog.Logger) error {
	if !o.detect.detect {
		return nil
	}
	options := hunt.Options{AgentID: id, Log: log.With("hall", "hunt")}
	options.Server, _ = server.(link.Detections)
	if g.dataDir != "" {
		options.Dir = filepath.Join(g.dataDir, detectFolder)
	}
	var err error
	parts.Hunter, err = hunt.Open(options)
	return err
}
