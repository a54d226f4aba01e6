package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/server"
)

func newUp(g *globals) *cobra.Command {
	var so serverOptions
	var ao agentOptions
	c := &cobra.Command{
		Use:   "up",
		Short: "Run server and agent in one process on this host",
		Long: `Run server and agent in one process on this host: the quickest way to see
what the containers here do. Needs nothing but root and a Linux kernel with BTF;
without Docker it waits for Docker, without root it shows what it can.

The first start prints the administrator's password, once. Ctrl-C or SIGTERM
stops it and loses nothing that was seen.
` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := g.logger()
			if err != nil {
				return err
			}
			return g.up(c.Context(), so, ao, log)
		},
	}
	so.flags(c)
	ao.flags(c)
	return c
}

// up runs both halls until ctx ends or one of them fails. The agent stops
// first, so that its last events find the server still there.
func (g *globals) up(ctx context.Context, so serverOptions, ao agentOptions, log *slog.Logger) error {
	if err := ao.admission.check(); err != nil {
		return err
	}
	h, err := g.openServer(ctx, so, log)
	if err != nil {
		return err
	}
	defer h.close(log)
	id, err := agent.Identity(g.dataDir)
	if err != nil {
		return err
	}
	intake := h.server.Intake()
	door, err := g.openAdmission(ctx, ao, id, intake, log)
	if err != nil {
		return err
	}
	parts, err := g.openParts(ctx, ao, log)
	if err != nil {
		return errors.Join(err, door.close())
	}
	defer func() {
		if err := parts.Sensors.Close(); err != nil {
			log.Error("sensors not detached", "error", err)
		}
	}()
	parts.Server, parts.Decider, parts.Admits = intake, door.keeps(), door != nil
	door.beside(parts.Engine)
	if err := g.openResponder(ao, id, nil, &parts, log); err != nil {
		return errors.Join(err, door.close())
	}
	if err := g.openHunter(ao, id, intake, &parts, log); err != nil {
		return errors.Join(err, door.close())
	}
	held, err := g.openHolder(ao, id, intake, &parts, log)
	if err != nil {
		return errors.Join(err, door.close())
	}
	if door != nil {
		door.holder = held
	}
	defer func() {
		if err := held.close(); err != nil {
			log.Error("what holds containers is not closed cleanly", "error", err)
		}
	}()
	h.server.Reserve(id)
	a := agent.New(g.agentConfig(id, ao), parts, log.With("hall", "agent"))

	if err := g.welcome(ctx, h, "is up"); err != nil {
		return err
	}
	g.showSensors(parts)
	serving, stopServer := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServer()
	watching, stopAgent := context.WithCancel(ctx)
	defer stopAgent()
	var wg sync.WaitGroup
	var serverErr, agentErr error
	wg.Go(func() {
		defer stopAgent()
		serverErr = h.server.Run(serving)
	})
	wg.Go(func() {
		defer stopServer()
		agentErr = a.Run(watching)
	})
	wg.Go(func() { door.run(watching) })
	wg.Wait()
	if serverErr != nil {
		return serverErr
	}
	return agentErr
}

// welcome lets the server listen, and tells a person what runs and how to sign
// in. The first administrator is made in between: the password of a start that
// failed on a taken port would never be seen, and nobody may be answered before
// there is an administrator.
func (g *globals) welcome(ctx context.Context, h *hallServer, state string) error {
	if err := h.server.Listen(ctx); err != nil {
		return err
	}
	// Not to be cut short by a signal: made but not shown would be lost, too.
	password, err := h.server.Accounts().Bootstrap(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	fmt.Fprintf(g.out, "\nCastellan %s %s.\n\n", version(), state)
	fmt.Fprintf(g.out, "  %-12s https://%s\n", "console", h.server.Addr())
	if password != "" {
		fmt.Fprintf(g.out, "  %-12s admin, password %s   (shown this once)\n", "sign in", password)
	} else {
		fmt.Fprintf(g.out, "  %-12s with the password you chose; lost it? castellan users password admin\n", "sign in")
	}
	fmt.Fprintf(g.out, "  %-12s %s\n", "certificate", "signed by this server's own authority, "+h.server.CAFingerprint())
	fmt.Fprintf(g.out, "  %-12s %s\n", "data", h.dataDir)
	return nil
}

// showSensors says what the agent sees, and where to go next.
func (g *globals) showSensors(parts agent.Parts) {
	for _, s := range parts.Sensors.Status() {
		state := string(s.State)
		if s.Reason != "" {
			state += ": " + printable(s.Reason)
		}
		fmt.Fprintf(g.out, "  %-12s %s\n", s.Name+" sensor", state)
		if s.Remedy != "" {
			fmt.Fprintf(g.out, "  %-12s remedy: %s\n", "", printable(s.Remedy))
		}
	}
	me := os.Args[0]
	if g.dataDir != defaultDataDir() {
		me += " --data-dir " + g.dataDir
	}
	fmt.Fprintf(g.out, "\nIn another terminal:\n  %[1]s status\n  %[1]s workloads\n  %[1]s events --follow\nCtrl-C stops it.\n\n", me)
}

// hallServer is an open server with its store and what to tell about it.
type hallServer struct {
	server  *server.Server
	closer  func() error
	dataDir string
}

func (h *hallServer) close(log *slog.Logger) {
	if err := h.closer(); err != nil {
		log.Error("store not closed", "error", err)
	}
}

// databasePath is where the server keeps its database.
func databasePath(dataDir string) string { return filepath.Join(dataDir, "castellan.db") }
