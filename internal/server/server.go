// Package server is the hall where everything that agents report comes
// together: it serves the console, the API and the agent link, keeps the store
// in shape, and stops cleanly.
//
// It sequences; what it serves is decided elsewhere: accounts in account,
// reports in intake, pages in console. It is not for drivers and formats of the
// store (see internal/adapter/db).
//
// Who is trusted for what: an agent on another host proves by a certificate of
// this server's own authority which agent it is, on every request, and speaks
// for that agent alone (see enrol). The agent in this process is trusted as the
// process is. People prove themselves with a session or an API token; no token
// speaks for an agent, and no certificate for a person.
package server

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/server/account"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/server/console"
	"github.com/castellan-security/castellan/internal/server/detections"
	"github.com/castellan-security/castellan/internal/server/direct"
	"github.com/castellan-security/castellan/internal/server/enrol"
	"github.com/castellan-security/castellan/internal/server/gate"
	"github.com/castellan-security/castellan/internal/server/images"
	"github.com/castellan-security/castellan/internal/server/incidents"
	"github.com/castellan-security/castellan/internal/server/intake"
	"github.com/castellan-security/castellan/internal/server/live"
	"github.com/castellan-security/castellan/internal/server/notify"
	"github.com/castellan-security/castellan/internal/server/pki"
	"github.com/castellan-security/castellan/internal/server/registries"
	"github.com/castellan-security/castellan/internal/server/respond"
	"github.com/castellan-security/castellan/internal/server/trail"
	"github.com/castellan-security/castellan/internal/server/verify"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
)

// DefaultListen is where a server listens unless told otherwise: this host only.
const DefaultListen = "127.0.0.1:8600"

// stopWithin is how long requests may take to end when the server stops.
const stopWithin = 5 * time.Second

// Config is what a server must be told. DataDir is required.
type Config struct {
	DataDir   string
	Listen    string   // host:port; DefaultListen
	Names     []string // further names and addresses for the certificate
	Retention store.Retention
	// Advisories is the path of the advisory database that images are compared
	// with; with no file there, the one that came with the program is.
	Advisories string
	// Salt is that of the fingerprints of secrets; agents look for secrets only if
	// there is one. It is the installation's own and stays the same, or nothing is
	// known again.
	Salt link.Salt
	// Registries reach those that are watched; RegistryScans is how many of their
	// images are scanned at once, none with 0.
	Registries registries.Doors
	// CheckTrust says whether signatures can be held against the roots of a trust
	// policy; nil: nobody looks before agents do.
	CheckTrust func(*trust.Policy) error
	// TrustEvery is how often is looked for images to verify; zero is what is usual.
	TrustEvery time.Duration
	// Trust verifies images of registries that are watched; nil: only what agents run
	// is verified.
	Trust         verify.Own
	RegistryScans int
	// Behaviour is how often what is learned is stored, and acted upon; zero is what
	// is usual.
	Behaviour behaviour.Pace
	// ProfileKeys are those of whom profiles must be signed by; see behaviour.Options.
	ProfileKeys []crypto.PublicKey
	// URL is where people reach the console, as links in notifications have it;
	// empty: https, the first of Names or the address, and the port.
	URL string
	// Sender carries notifications; nil: there are none. Pace is how long they wait;
	// zero is what is usual.
	Sender notify.Sender
	Pace   notify.Pace
	// Tasks stops tasks of ECS; nil: containers are stopped by their engines alone.
	Tasks respond.Tasks
	// Sessions has AWS refuse sessions of roles; nil: none are.
	Sessions respond.Sessions
	// SnapshotBucket gets snapshots of containers; nil: they are in DataDir alone.
	SnapshotBucket respond.Bucket
	// SignedBy reads the archive of a snapshot and returns the agent that signed it by a
	// certificate of an authority, empty for nobody; nil: nobody looks.
	SignedBy func(archive io.Reader, authority *x509.Certificate) (agent string, err error)
	// Trails receives calls of AWS from queues of CloudTrail; nil: none are read.
	Trails trail.Door

	Version  string           // shown to users
	Clock    func() time.Time // time.Now
	Accounts account.Options
}

// Server is one running server. Make it with New and call Run once.
type Server struct {
	tcp, socket net.Listener // set by Listen

	cfg        Config
	st         store.Store
	log        *slog.Logger
	authority  *pki.Authority
	accounts   *account.Service
	tables     *live.Tables
	feed       *live.Feed
	conditions *live.Conditions
	intake     *intake.Intake
	enrol      *enrol.Service
	direct     *direct.Hub
	images     *images.Service
	registries *registries.Service
	trust      *verify.Service
	gate       *gate.Service
	behaviour  *behaviour.Service
	respond    *respond.Service
	incidents  *incidents.Service
	detections *detections.Service
	trail      *trail.Service
	notify     *notify.Service
	strangers  *strangers
	metrics    *metrics
	health     healthCache
	handler    http.Handler // of the TLS listener
	local      http.Handler // of the socket
	started    time.Time

	// stopping ends when the server begins to stop, so that streams end.
	stopping context.Context
	stop     context.CancelFunc

	ready chan struct{}
	addr  net.Addr // set before ready is closed
}

// New makes what the server needs under DataDir (certificates) and returns a
// server that does not listen yet. It does not close the store.
func New(cfg Config, st store.Store, log *slog.Logger) (*Server, error) {
	if cfg.Listen == "" {
		cfg.Listen = DefaultListen
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Accounts.Clock == nil {
		cfg.Accounts.Clock = cfg.Clock
	}
	authority, err := pki.Open(filepath.Join(cfg.DataDir, "pki"), certificateNames(cfg), cfg.Clock)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, st: st, log: log, authority: authority,
		accounts:   account.New(st, cfg.Accounts, log),
		tables:     live.NewTables(cfg.Clock),
		feed:       live.NewFeed(),
		conditions: live.NewConditions(cfg.Clock),
		started:    cfg.Clock(),
		ready:      make(chan struct{}),
	}
	s.intake = intake.New(st, s.tables, s.feed, s.conditions, cfg.Clock, log)
	s.direct = direct.New(st, cfg.Clock, log)
	if s.enrol, err = enrol.New(context.Background(), st, authority, cfg.Clock, log); err != nil {
		return nil, err
	}
	if s.notify, err = notify.New(notify.Options{
		Store: st, Sender: cfg.Sender, KeyFile: filepath.Join(cfg.DataDir, notifyKey), Console: s.consoleURL,
		Condition: s.condition, Pace: cfg.Pace, Clock: cfg.Clock, Log: log,
	}); err != nil {
		return nil, err
	}
	if s.images, err = images.New(images.Options{
		Store: st, Directions: s.direct, Joined: s.direct.Joined(), Advisories: cfg.Advisories, Salt: cfg.Salt,
		Condition: s.condition, Compared: s.notify.Nudge, Clock: cfg.Clock, Log: log,
	}); err != nil {
		return nil, err
	}
	s.incidents = incidents.New(incidents.Options{Store: st, Tell: s.notify.Tell, Folded: s.consider, Condition: s.condition, Clock: cfg.Clock, Log: log})
	s.detections = s.newDetections()
	s.intake.Pass(s.detections)
	s.trail = trail.New(trail.Options{Store: st, Door: cfg.Trails, Rules: s.detections, Condition: s.condition, Clock: cfg.Clock, Log: log})
	s.behaviour = behaviour.New(behaviour.Options{
		Store: st, Map: s.intake.Topology(), News: s.feed.News, Directions: s.direct, Condition: s.condition, Pace: cfg.Behaviour,
		Outside: s.outside, Keys: cfg.ProfileKeys, Clock: cfg.Clock, Log: log,
	})
	s.intake.Tell(listeners{s.images, s.behaviour})
	s.intake.TellRunning(s.behaviour.Running)
	s.registries = registries.New(registries.Options{
		Store: st, Doors: cfg.Registries, Scanning: s.images, Scans: cfg.RegistryScans, Analysis: scan.Analysis,
		Condition: s.condition, Clock: cfg.Clock, Log: log,
	})
	s.gate = s.newGate()
	s.trust = verify.New(verify.Options{
		Store: vouching{st, s.gate.Touch}, Directions: s.direct, Check: cfg.CheckTrust, Condition: s.condition, Every: cfg.TrustEvery,
		Own: cfg.Trust, Held: s.registries.Held, Clock: cfg.Clock, Log: log,
	})
	s.respond = respond.New(respond.Options{
		Store: st, Directions: s.direct, Tree: s.tables.Tree, Tasks: cfg.Tasks, Sessions: cfg.Sessions, Theme: s.detections.Theme, Detections: s.detections.All, Notifier: s.notify,
		Noted: s.incidents.Responded, Snapshots: filepath.Join(cfg.DataDir, "snapshots"), Bucket: cfg.SnapshotBucket,
		Condition: s.condition, Clock: cfg.Clock, Log: log,
	})
	if cfg.SignedBy != nil {
		s.respond.SignedBy = func(archive io.Reader) (string, error) { return cfg.SignedBy(archive, s.authority.Root()) }
	}
	s.strangers = newStrangers(cfg.Clock, log)
	s.metrics = newMetrics(s)
	s.stopping, s.stop = context.WithCancel(context.Background())
	if err := s.build(); err != nil {
		return nil, err
	}
	return s, nil
}

// build puts the handlers together.
func (s *Server) build() error {
	c, err := console.New(console.Deps{
		Store: s.st, Account: s.accounts, Tables: s.tables, Feed: s.feed, Conditions: s.conditions, Images: s.images,
		Registries: s.registries, Notify: s.notify, Trust: s.trust, Admission: s.gate, Watch: s.behaviour, Incidents: s.incidents, Detections: s.detections, Responses: s.respond, Enrolment: s.enrol, Fingerprint: s.CAFingerprint(),
		Status: Status, Version: s.cfg.Version, Clock: s.cfg.Clock, Log: s.log,
	})
	if err != nil {
		return fmt.Errorf("build the console: %w", err)
	}
	api := s.newAPI()
	linkPath, linkHandler := link.Handler(s.Intake(), s.enrol, s.enrol, s.log)
	joinPath, joinHandler := link.JoinHandler(s.enrol, clientAddress, s.log)

	all := http.NewServeMux()
	all.Handle(apiPrefix+"/", api)
	s.addWebhooks(all)
	all.Handle(linkPath, linkHandler)
	all.Handle(joinPath, joinHandler)
	s.addOperations(all)
	all.Handle("/", c)
	s.handler = s.guard(all)

	local := http.NewServeMux()
	local.Handle(apiPrefix+"/", api)
	s.addWebhooks(local)
	s.addOperations(local)
	s.local = s.guard(local)
	return nil
}

// Intake is where an agent in this process reports, and what it takes its
// directives from. It believes what its caller says of which agent it is.
func (s *Server) Intake() link.Server {
	return agents{s.intake, s.direct, s.images, s.trust, s.gate, s.behaviour, s.respond, s.detections}
}

// Reserve keeps anybody from joining with the id of the agent in this process,
// which needs no certificate.
func (s *Server) Reserve(agentID string) { s.enrol.Reserve(agentID) }

// Accounts decides who may use this server.
func (s *Server) Accounts() *account.Service { return s.accounts }

// Images knows about the images of the fleet.
func (s *Server) Images() *images.Service { return s.images }

// Registries watches registries.
func (s *Server) Registries() *registries.Service { return s.registries }

// Trust knows who has signed images, and keeps the trust policy.
func (s *Server) Trust() *verify.Service { return s.trust }

// Gate decides on deployments.
func (s *Server) Gate() *gate.Service { return s.gate }

// Respond has something done about threats.
func (s *Server) Respond() *respond.Service { return s.respond }

// Behaviour knows how groups behave.
func (s *Server) Behaviour() *behaviour.Service { return s.behaviour }

// Incidents keeps the stories that threats make.
func (s *Server) Incidents() *incidents.Service { return s.incidents }

// outside has what lay outside of profiles folded into incidents, and told.
func (s *Server) outside(ctx context.Context, all []profile.Violation) error {
	return errors.Join(s.incidents.TakeViolations(ctx, all), s.notify.TellViolations(ctx, all))
}

// notifyKey is the file with the key of what is known of notification targets.
const notifyKey = "notify.key"

// consoleURL is where people reach the console.
func (s *Server) consoleURL() string {
	if s.cfg.URL != "" {
		return strings.TrimSuffix(s.cfg.URL, "/")
	}
	host, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		return "" // nothing is told before it listens
	}
	if len(s.cfg.Names) > 0 {
		host = s.cfg.Names[0]
	}
	return "https://" + net.JoinHostPort(host, port)
}

// CAFingerprint returns the fingerprint of the server's certificate authority,
// "sha256:" and hex: what an agent is given to trust this server alone.
func (s *Server) CAFingerprint() string { return s.authority.Fingerprint() }

// Ready is closed when the server listens; Addr tells where.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr returns the address that the server listens on, or "" before Ready.
func (s *Server) Addr() string {
	select {
	case <-s.ready:
		return s.addr.String()
	default:
		return ""
	}
}

// Listen opens the port and the socket; who connects waits until Run serves.
// What must be done when it is certain that the server can listen, and before
// anybody is answered, goes between the two. What keeps it from listening is
// an error with a remedy. Call it once at most; Run closes what it opened.
func (s *Server) Listen(ctx context.Context) error {
	tcp, err := s.listen(ctx)
	if err != nil {
		return err
	}
	socket, err := listenLocal(ctx, SocketPath(s.cfg.DataDir))
	if err != nil {
		return errors.Join(err, tcp.Close())
	}
	s.tcp, s.socket, s.addr = tcp, socket, tcp.Addr()
	close(s.ready)
	s.log.Info("server listens", "address", s.addr.String(), "socket", socket.Addr().String(), "ca_fingerprint", s.CAFingerprint())
	return nil
}

// Run serves until ctx ends, then lets requests end for up to five seconds and
// returns nil. It listens first, unless Listen was called.
func (s *Server) Run(ctx context.Context) error {
	if s.tcp == nil {
		if err := s.Listen(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	outer, inner := s.httpServer(s.handler), s.localServer()
	failed := make(chan error, 2)
	var wg sync.WaitGroup
	serve := func(run func() error) {
		wg.Go(func() {
			if err := run(); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
				cancel()
			}
		})
	}
	serve(func() error { return outer.ServeTLS(s.tcp, "", "") })
	serve(func() error { return inner.Serve(s.socket) })
	wg.Go(func() { s.upkeep(ctx) })
	wg.Go(func() { s.registries.Run(ctx) })
	wg.Go(func() { s.trust.Run(ctx) })
	// The last requests still tell of images, and are decided on: what looks after them ends last.
	scanning, stopScanning := context.WithCancel(context.WithoutCancel(ctx))
	defer stopScanning()
	wg.Go(func() { s.images.Run(scanning) })
	wg.Go(func() { s.gate.Run(scanning) })
	wg.Go(func() { s.behaviour.Run(scanning) })
	wg.Go(func() { s.incidents.Run(ctx) })
	wg.Go(func() { s.detections.Run(scanning) })
	wg.Go(func() { s.notify.Run(ctx) })
	wg.Go(func() { s.trail.Run(ctx) })
	wg.Go(func() { s.respond.Run(ctx) })

	<-ctx.Done()
	s.stop()
	err := errors.Join(shutdown(outer), shutdown(inner))
	stopScanning()
	wg.Wait()
	close(failed)
	for e := range failed {
		err = errors.Join(err, fmt.Errorf("serve: %w", e))
	}
	s.log.Info("server stopped")
	return err
}

// shutdown lets requests end, then cuts off those that don't: that is how
// streams end whose client never reads, and no error.
func shutdown(h *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	err := h.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return h.Close()
	}
	return err
}
