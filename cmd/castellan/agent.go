package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/adapter/ecs"
	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/adapter/systemd"
	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/agent/spool"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/whole"
)

// agentOptions are the flags of an agent.
type agentOptions struct {
	dockerHost string
	off        []string
	proc, sys  string
	spoolMiB   int64
	spoolAge   time.Duration
	scanImages bool
	verify     bool
	admission  admissionOptions
	hold       holdOptions
	detect     detectOptions
	respond    bool
}

func (o *agentOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.dockerHost, "docker-host", "", "container engine, as in DOCKER_HOST (default: DOCKER_HOST, or unix:///var/run/docker.sock)")
	f.StringSliceVar(&o.off, "sensor-off", nil, "sensors to switch off, by name: "+strings.Join(bpf.Names(), ", "))
	f.StringVar(&o.proc, "proc", "/proc", "where the host's /proc is mounted, for an agent in a container")
	f.StringVar(&o.sys, "sys", "/sys", "where the host's /sys is mounted, for an agent in a container")
	f.Int64Var(&o.spoolMiB, "spool-size", spool.DefaultSize>>20, "MiB on disk for events that the server has not got yet")
	f.DurationVar(&o.spoolAge, "spool-age", spool.DefaultAge, "how long such events are kept")
	f.BoolVar(&o.verify, "verify-images", true, "verify images of this engine by the server's trust policy, which asks their registries for signatures")
	f.BoolVar(&o.scanImages, "scan-images", true, "scan images of this engine when the server asks, in a process of lowest priority")
	f.BoolVar(&o.respond, "respond", true, "do about threats what the server's operators and rules decide: kill, quarantine, stop")
	o.admission.flags(c)
	o.hold.flags(c)
	o.detect.flags(c)
}

func newAgent(g *globals) *cobra.Command {
	var o agentOptions
	c := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent alone, reporting to a server",
		Long: `Run the agent alone: it watches this host's containers and reports to the
server on another host that it has joined. It dials out and listens on nothing.

  castellan agents invite      (on the server; prints the next line)
  castellan agent join …       (here, once)
  castellan agent

With --admission-plugin it also answers the Docker engine of this host, which
then asks before it makes or starts a container (see docs/admission-docker.md).
` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := g.logger()
			if err != nil {
				return err
			}
			return g.watch(c.Context(), o, log)
		},
	}
	o.flags(c)
	c.AddCommand(newAgentJoin(g), newAgentScan(g), newAgentVerify(g))
	return c
}

func (g *globals) watch(ctx context.Context, o agentOptions, log *slog.Logger) error {
	calmCollector(o.admission.plugin)
	joined, client, err := g.joined()
	if err != nil {
		return err
	}
	defer client.Close()
	claim, err := agent.Claim(g.dataDir)
	if err != nil {
		return err
	}
	defer claim.Close()
	if err := whole.Sweep(g.dataDir); err != nil {
		log.Warn("files that were not finished are still in the data folder", "error", err)
	}
	door, err := g.openAdmission(ctx, o, joined.AgentID(), client, log)
	if err != nil {
		return err
	}
	becomeSmall(log) // or what the start needed counts beside what loading programs of the kernel needs
	parts, err := g.openParts(ctx, o, log)
	if err != nil {
		return errors.Join(err, door.close())
	}
	parts.Server, parts.Decider, parts.Admits = client, door.keeps(), door != nil
	door.beside(parts.Engine)
	if err := g.openResponder(o, joined.AgentID(), joined, &parts, log); err != nil {
		return errors.Join(err, door.close(), parts.Sensors.Close())
	}
	if err := g.openHunter(o, joined.AgentID(), client, &parts, log); err != nil {
		return errors.Join(err, door.close(), parts.Sensors.Close())
	}
	held, err := g.openHolder(o, joined.AgentID(), client, &parts, log)
	if err != nil {
		return errors.Join(err, door.close(), parts.Sensors.Close())
	}
	if door != nil {
		door.holder = held
	}
	log = log.With("hall", "agent")
	keeping, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { joined.Keep(keeping, client, log) })
	wg.Go(func() { door.run(keeping) })
	wg.Go(func() { staySmall(keeping, log) })
	err = agent.New(g.agentConfig(joined.AgentID(), o), parts, log).Run(ctx)
	stop()
	wg.Wait()
	return errors.Join(err, held.close(), parts.Sensors.Close())
}

// joined opens what the agent proves itself with, and the link to its server.
func (g *globals) joined() (*agent.Credentials, *link.Client, error) {
	if g.dataDir == "" {
		return nil, nil, usagef("no data folder: say --data-dir or set CASTELLAN_DATA_DIR")
	}
	joined, err := agent.OpenCredentials(g.dataDir)
	if err != nil {
		return nil, nil, err
	}
	id, err := agent.Identity(g.dataDir)
	if err != nil {
		return nil, nil, err
	}
	if id != joined.AgentID() {
		return nil, nil, fault.New(fault.Corrupt, "the certificate in %s is of another agent than its id", g.dataDir).
			With("join anew: castellan agent join --again")
	}
	client, err := link.NewClient(link.ClientOptions{Server: joined.Server(), Authority: joined.Authority(), Certificate: joined.Certificate})
	return joined, client, err
}

// agentConfig is what the flags say.
func (g *globals) agentConfig(id string, o agentOptions) agent.Config {
	return agent.Config{ID: id, Version: version(), DataDir: g.dataDir, SpoolSize: o.spoolMiB << 20, SpoolAge: o.spoolAge}
}

// calmCollector has garbage collected when it is a quarter of what is in use, where it
// would be as much: with 100 containers some 20 MB are in use and a few MB a second
// become garbage, so that is about once a second. Set before programs of the kernel are
// loaded, which makes most garbage of all.
//
// The limit is for bursts, and well above what is in use: below that the collector runs
// without end. With 24 MiB it ran 14 to 19 times a second.
//
// An agent that decides on deployments holds compiled policies and facts, too, and the
// engine waits for it: there garbage may pile up to twice what is in use.
func calmCollector(decides bool) {
	percent, limit := 25, int64(64<<20)
	if decides {
		percent, limit = 200, 96<<20
	}
	debug.SetGCPercent(percent)
	debug.SetMemoryLimit(limit)
}

// Times after which what is mapped of the program itself is let go again: when the
// start is over, and then what was used once.
const (
	smallFirst = 10 * time.Second
	smallEvery = time.Minute
)

// staySmall lets go of parts of the program that are not in use, until ctx ends:
// half of what an agent has resident would be code of its start. The memory that the
// start took besides is returned once.
func staySmall(ctx context.Context, log *slog.Logger) {
	for n, wait := 0, smallFirst; ; n, wait = n+1, smallEvery {
		becomeSmall(log)
		if n == 1 {
			debug.FreeOSMemory() // what loading programs of the kernel took
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func becomeSmall(log *slog.Logger) {
	if err := kernel.LetGoOfProgram(); err != nil {
		log.Debug("parts of the program that are not in use stay mapped", "error", err)
	}
	if err := bpf.LetGoOfObjects(); err != nil {
		log.Debug("programs of the kernel stay mapped", "error", err)
	}
}

// readToken takes a token from a file, or from the environment variable of that
// name when no file is named. It is never a flag's value: other users see those.
func readToken(file, variable string) (string, error) {
	if file == "" {
		if token := os.Getenv(variable); token != "" {
			return token, nil
		}
		return "", usagef("no token: say --token-file FILE or set %s", variable)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// openParts opens the doors of an agent. What this host can't give is a
// sensor that failed or an engine that is away, and no error.
func (g *globals) openParts(ctx context.Context, o agentOptions, log *slog.Logger) (agent.Parts, error) {
	engine, err := docker.New(docker.Options{Host: o.dockerHost}, log.With("door", "docker"))
	if err != nil {
		return agent.Parts{}, err
	}
	sensors, err := bpf.Open(ctx, bpf.Options{Off: o.off, Proc: o.proc}, log.With("door", "bpf"))
	if err != nil {
		return agent.Parts{}, err
	}
	host := kernel.New(kernel.Options{Proc: o.proc, Sys: o.sys})
	parts := agent.Parts{
		Engine:     engine,
		Sensors:    sensors,
		Host:       host,
		Lister:     sensors,
		Inspector:  host,
		Addresser:  host,
		Sampler:    host,
		Identifier: ecs.New(ecs.Options{}, log.With("door", "ecs")),
		Tuner:      sensors,
		UseReader:  host,
		Herald:     engine,
		Programs:   host,
	}
	manager, err := systemd.Open()
	if err != nil {
		// Not fatal: who waits for word in vain ends the agent.
		log.Error("service manager not told how the agent is", "error", err)
	}
	if manager != nil {
		parts.Supervisor = manager
	}
	if o.verify {
		verifier, err := g.openImageVerifier(log)
		if err != nil {
			// Not fatal: the agent then does not say that it verifies.
			log.Error("images are not verified here", "error", err)
		} else {
			parts.Verifier = verifier
		}
	}
	if !o.scanImages {
		return parts, nil
	}
	scanner, err := g.openScanner(engine, log)
	if err != nil {
		// Not fatal: the agent then does not say that it scans.
		log.Error("images are not scanned here", "error", err)
		return parts, nil
	}
	parts.Scanner = scanner
	return parts, nil
}
