package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"
	_ "time/tzdata" // zones of schedules, where the system has none

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/adapter/kernel/camera"
	"github.com/castellan-security/castellan/internal/adapter/notify"
	"github.com/castellan-security/castellan/internal/server"
	"github.com/castellan-security/castellan/internal/store"
)

// serverOptions are the flags of a server.
type serverOptions struct {
	listen    string
	names     []string
	retention store.Retention
	// advisories is the path of the advisory database.
	advisories string
	// registryScans is how many images of registries are scanned at once.
	registryScans int
	registryCA    string
	url           string
	profileKeys   []string
	snapshots     snapshotOptions
	respondRoles  []string
}

func (o *serverOptions) flags(c *cobra.Command) {
	const day = 24 * time.Hour
	f := c.Flags()
	f.StringVar(&o.listen, "listen", "127.0.0.1:8600", "address of console, API and agent link")
	f.StringSliceVar(&o.names, "name", nil, "further names and addresses for the server's certificate")
	f.StringVar(&o.advisories, "advisories", "", "advisory database that images are compared with (default: advisories.db in the data folder)")
	f.IntVar(&o.registryScans, "registry-scans", 1, "how many images of registries are scanned at once; 0 scans none")
	f.StringVar(&o.registryCA, "registry-ca", "", "further certificate authorities of registries (PEM)")
	f.StringVar(&o.url, "url", "", "address at which people reach the console, for links in notifications (default: https, the first --name or the address)")
	f.StringSliceVar(&o.profileKeys, "profile-keys", nil, "file with public keys (PEM): profiles that people write are taken only if signed by one; may be repeated")
	f.StringArrayVar(&o.respondRoles, "respond-role", nil, "`ARN[,EXTERNAL-ID]` of the role in which tasks of its account are stopped and sessions revoked; may be repeated")
	o.snapshots.flags(f)
	f.DurationVar(&o.retention.Events, "keep-events", 30*day, "how long events are kept; 0 keeps them for ever")
	f.Int64Var(&o.retention.MaxEvents, "max-events", 50_000_000, "how many events are kept, oldest go first; 0 is no limit")
	f.DurationVar(&o.retention.Workloads, "keep-workloads", 90*day, "how long ended workloads are kept")
	f.DurationVar(&o.retention.Verdicts, "keep-verdicts", 90*day, "how long verdicts of admission are kept")
	f.Int64Var(&o.retention.MaxVerdicts, "max-verdicts", 500_000, "how many verdicts of admission are kept, oldest go first; 0 is no limit")
	f.DurationVar(&o.retention.Violations, "keep-violations", 90*day, "how long violations of profiles are kept after they were seen last")
	f.DurationVar(&o.retention.Incidents, "keep-incidents", 365*day, "how long incidents are kept after they were changed last")
	f.DurationVar(&o.retention.Audit, "keep-audit", 2*365*day, "how long the audit log is kept")
}

func newServer(g *globals) *cobra.Command {
	var o serverOptions
	c := &cobra.Command{
		Use:   "server",
		Short: "Run the server alone: console, API, store",
		Long: `Run the server alone: console, API and store. Agents on other hosts report to
it once they were invited: castellan agents invite
` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := g.logger()
			if err != nil {
				return err
			}
			return g.serve(c.Context(), o, log)
		},
	}
	o.flags(c)
	c.AddCommand(newRegistryScan(g))
	return c
}

// maxRegistryScans bounds the scans at once: each takes a processor and some 200
// MiB.
const maxRegistryScans = 32

func (g *globals) serve(ctx context.Context, o serverOptions, log *slog.Logger) error {
	h, err := g.openServer(ctx, o, log)
	if err != nil {
		return err
	}
	defer h.close(log)
	if err := g.welcome(ctx, h, "serves"); err != nil {
		return err
	}
	fmt.Fprintf(g.out, "\nCtrl-C stops it.\n\n")
	return h.server.Run(ctx)
}

// openServer opens the store and returns a server that does not listen yet.
func (g *globals) openServer(ctx context.Context, o serverOptions, log *slog.Logger) (*hallServer, error) {
	if g.dataDir == "" {
		return nil, usagef("no data folder: say --data-dir or set CASTELLAN_DATA_DIR")
	}
	if o.registryScans < 0 || o.registryScans > maxRegistryScans {
		return nil, usagef("--registry-scans %d: want 0 to %d", o.registryScans, maxRegistryScans)
	}
	if err := checkURL(o.url); err != nil {
		return nil, err
	}
	profileKeys, err := g.publicKeys("--profile-keys", o.profileKeys)
	if err != nil {
		return nil, err
	}
	bucket, err := o.snapshots.open(log.With("door", "aws"))
	if err != nil {
		return nil, err
	}
	accounts, err := openAccounts(o.respondRoles, log.With("door", "aws"))
	if err != nil {
		return nil, err
	}
	st, err := db.Open(ctx, db.Options{Path: databasePath(g.dataDir)}, log.With("door", "db"))
	if err != nil {
		return nil, err
	}
	salt, err := serverSalt(g.dataDir)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	doors, signatures, closeDoors, err := g.openRegistryDoors(o, salt, log)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	closer := func() error { return errors.Join(closeDoors(), st.Close()) }
	s, err := server.New(server.Config{
		DataDir:   g.dataDir,
		Listen:    o.listen,
		Names:     o.names,
		Retention: o.retention,
		Version:   version(),

		Advisories: g.advisoryPath(o.advisories),
		Salt:       salt,
		Registries: doors, RegistryScans: o.registryScans,
		CheckTrust: checkTrust, Trust: signatures,
		ProfileKeys: profileKeys,

		Tasks: accounts, Sessions: accounts, Trails: aws.NewTrails(log.With("door", "aws")),
		URL: o.url, SnapshotBucket: bucket, SignedBy: camera.SignedBy,
		Sender: notify.New(version(), aws.NewTargets(log.With("door", "aws"))),
	}, st, log.With("hall", "server"))
	if err != nil {
		return nil, errors.Join(err, closer())
	}
	return &hallServer{server: s, closer: closer, dataDir: g.dataDir}, nil
}

// checkURL returns what is wrong with the console's address.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if s == "" || err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.RawQuery == "" && u.Fragment == "" && u.User == nil {
		return nil
	}
	return usagef("--url %q: want https://host, with a port and a path if need be", s)
}
