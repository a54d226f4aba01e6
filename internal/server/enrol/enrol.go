// Package enrol decides which agents belong to this server: it invites them,
// gives them certificates, renews those, and takes them back at once.
//
// Who is trusted for what: an invitation's token is good for one certificate of
// an id that nobody holds, and for nothing else. A certificate proves one
// agent's id, on every request anew, and gives no right over any other agent.
// What an agent says of itself when it joins (host name, version) is shown as
// its own words and believed by nobody. People invite and revoke with
// access.EnrolAgents. It is not for keys and signatures (see
// internal/server/pki), nor for what agents are told to do (see
// internal/server/direct).
package enrol

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/store"
)

// Limits of enrolment.
const (
	// DefaultLife of an invitation is long enough to walk to the other host.
	DefaultLife = time.Hour
	// MaxLife bounds how long a token that was lost can be used.
	MaxLife = 24 * time.Hour
	minLife = time.Minute
	// MaxOpen bounds the invitations that can be used at once: enough for a
	// whole fleet to be set up in one go.
	MaxOpen = 5_000
	// maxRenewals within renewalWindow: an agent renews every ten days, and
	// tries again when an answer was lost.
	maxRenewals   = 10
	renewalWindow = time.Hour
	maxName       = 64
	maxHostname   = 253 // of a DNS name
)

// tokenPrefix lets people and secret scanners recognise a token.
const tokenPrefix = "cji_"

// secretBytes are the random bytes of a token.
const secretBytes = 32

var (
	// idForm is what ids of agents look like; they fit into a certificate's
	// common name, which has 64 characters at most.
	idForm    = regexp.MustCompile(`^[A-Za-z0-9_-]{8,64}$`)
	tokenForm = regexp.MustCompile(`^` + tokenPrefix + `[A-Za-z0-9_-]{43}$`)
)

// Store is what this package needs kept.
type Store interface {
	store.Invitations
	store.Certificates
	AppendAudit(ctx context.Context, a access.Audit) error
}

// Authority signs.
type Authority interface {
	// SignAgent returns a client certificate; Invalid for a request that is none.
	SignAgent(agentID string, csr []byte) (*x509.Certificate, error)
	// Root is the authority's own certificate.
	Root() *x509.Certificate
}

// Service is link.Joiner and link.Gate. It is safe for concurrent use.
type Service struct {
	st        Store
	authority Authority
	clock     func() time.Time
	log       *slog.Logger
	throttle  *throttle

	// changes makes joining, renewing and revoking one step each: a renewal that
	// is under way must not outlive the revocation beside it. This process is
	// the store's only writer.
	changes  sync.Mutex
	reserved map[string]bool // ids that need no certificate; guarded by changes

	mu      sync.Mutex
	revoked map[string]time.Time // serial → when the certificate would have ended
	visits  map[string]map[*visit]struct{}
	conns   map[net.Conn]string // whose certificate a connection proved
}

var (
	_ link.Joiner = (*Service)(nil)
	_ link.Gate   = (*Service)(nil)
)

// New returns a service that refuses what the store says is revoked.
func New(ctx context.Context, st Store, a Authority, clock func() time.Time, log *slog.Logger) (*Service, error) {
	s := &Service{
		st: st, authority: a, clock: clock, log: log, throttle: newThrottle(),
		reserved: map[string]bool{}, revoked: map[string]time.Time{},
		visits: map[string]map[*visit]struct{}{}, conns: map[net.Conn]string{},
	}
	all, err := st.Certificates(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("read which certificates are revoked: %w", err)
	}
	now := clock()
	for _, c := range all {
		if c.Revoked != nil && now.Before(c.Expires) {
			s.revoked[c.Serial] = c.Expires
		}
	}
	return s, nil
}

// Reserve keeps anybody from joining with the id of an agent that needs no
// certificate: the one in the server's own process.
func (s *Service) Reserve(agentID string) {
	s.changes.Lock()
	defer s.changes.Unlock()
	s.reserved[agentID] = true
}

// Join is link.Joiner. A token is used up only by a request that is in order.
func (s *Service) Join(ctx context.Context, r link.JoinRequest) (link.Credentials, error) {
	now := s.clock()
	if wait, first := s.throttle.wait(r.Address, now); wait > 0 {
		if first {
			s.refused(ctx, r, "too many failed")
		}
		return link.Credentials{}, fault.New(fault.Exhausted, "too many agents failed to join: try again in %d s", seconds(wait)).
			With("wait, then try again with a token that was not used")
	}
	c, err := s.join(ctx, r, now)
	if err != nil && fault.Of(err) != fault.Unknown {
		s.throttle.fail(r.Address, now)
		s.refused(ctx, r, err.Error())
	}
	return c, err
}

func (s *Service) join(ctx context.Context, r link.JoinRequest, now time.Time) (link.Credentials, error) {
	if !idForm.MatchString(r.AgentID) {
		return link.Credentials{}, fault.New(fault.Invalid, "agent id: want 8 to 64 letters, digits, _ and -")
	}
	hash := digest(r.Token)
	s.changes.Lock()
	defer s.changes.Unlock()
	if err := s.invited(ctx, r.Token, hash, now); err != nil {
		return link.Credentials{}, err
	}
	if err := s.isFree(ctx, r.AgentID, now); err != nil {
		return link.Credentials{}, err
	}
	cert, err := s.authority.SignAgent(r.AgentID, r.CSR)
	if err != nil {
		return link.Credentials{}, err
	}
	inv, err := s.st.UseInvitation(ctx, hash, r.AgentID, now)
	if err != nil {
		return link.Credentials{}, fmt.Errorf("use the invitation: %w", err)
	}
	who := access.Identity{Actor: "agent:" + r.AgentID, Address: r.Address}
	return s.give(ctx, who, cert, clean(r.Hostname), "agent.join", fmt.Sprintf("invitation %d of %s", inv.ID, inv.By))
}

// invited checks the token before it is used up; that it is used once is the
// store's to hold.
func (s *Service) invited(ctx context.Context, token string, hash []byte, now time.Time) error {
	denied := fault.New(fault.Denied, "the token of the invitation is unknown, used or too old").
		With("ask for a new one: castellan agents invite (on the server)")
	if !tokenForm.MatchString(token) {
		return denied
	}
	all, err := s.st.Invitations(ctx)
	if err != nil {
		return fmt.Errorf("read invitations: %w", err)
	}
	i := slices.IndexFunc(all, func(i access.Invitation) bool { return slices.Equal(i.Hash, hash) })
	if i < 0 || !open(all[i], now) {
		return denied
	}
	return nil
}

func open(i access.Invitation, now time.Time) bool { return i.Used == nil && now.Before(i.Expires) }

// isFree keeps ids from being taken over.
func (s *Service) isFree(ctx context.Context, agentID string, now time.Time) error {
	if s.reserved[agentID] {
		return fault.New(fault.Conflict, "the id %s is that of the agent beside the server", agentID).
			With("use another data folder: --data-dir; the server's own is not for an agent that joins")
	}
	have, err := s.st.Certificates(ctx, agentID)
	if err != nil {
		return fmt.Errorf("read the agent's certificates: %w", err)
	}
	for _, c := range have {
		if c.Revoked == nil && now.Before(c.Expires) {
			return fault.New(fault.Conflict, "agent %s holds a certificate already, until %s", agentID, c.Expires.UTC().Format(time.DateOnly)).
				With("if it shall join anew, revoke it first: castellan agents revoke " + agentID +
					" (on the server); if this is another host with a copy of its data folder, remove the folder's agent-id")
		}
	}
	return nil
}

// Renew is link.Joiner. ctx is the one that Admit gave: it ends when the agent
// is revoked.
func (s *Service) Renew(ctx context.Context, agentID string, csr []byte) (link.Credentials, error) {
	cert, err := s.authority.SignAgent(agentID, csr)
	if err != nil {
		return link.Credentials{}, err
	}
	s.changes.Lock()
	defer s.changes.Unlock()
	if err := context.Cause(ctx); err != nil {
		return link.Credentials{}, err
	}
	have, err := s.st.Certificates(ctx, agentID)
	if err != nil {
		return link.Credentials{}, fmt.Errorf("read the agent's certificates: %w", err)
	}
	now, recent, hostname := s.clock(), 0, ""
	for _, c := range have {
		if now.Sub(c.Issued) < renewalWindow {
			recent++
		}
		hostname = c.Hostname
	}
	if recent >= maxRenewals {
		return link.Credentials{}, fault.New(fault.Exhausted, "agent %s got %d certificates within the hour", agentID, recent)
	}
	return s.give(ctx, access.Identity{Actor: "agent:" + agentID, Address: addressOf(ctx)}, cert, hostname, "agent.renew", "")
}

// give records a certificate and hands it out, in this order: one that is not
// recorded could not be revoked. The caller holds changes.
func (s *Service) give(ctx context.Context, who access.Identity, cert *x509.Certificate, hostname, action, detail string) (link.Credentials, error) {
	agentID := cert.Subject.CommonName
	err := s.st.PutCertificate(ctx, access.Certificate{
		Serial: serial(cert), AgentID: agentID, Hostname: hostname, Address: who.Address,
		Issued: s.clock(), Expires: cert.NotAfter,
	})
	if err != nil {
		return link.Credentials{}, fmt.Errorf("record the certificate of agent %s: %w", agentID, err)
	}
	if err := s.audit(ctx, who, action, "agent:"+agentID, audit.Done, detail); err != nil {
		return link.Credentials{}, err
	}
	s.log.Info("agent has a new certificate", "agent_id", agentID, "expires", cert.NotAfter, "action", action)
	return link.Credentials{AgentID: agentID, Certificate: cert.Raw, Authority: s.authority.Root().Raw}, nil
}

// serial is how a certificate is named in the store.
func serial(c *x509.Certificate) string { return c.SerialNumber.Text(16) }

func digest(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

func encode(secret []byte) string { return tokenPrefix + base64.RawURLEncoding.EncodeToString(secret) }

// errRevoked is why the calls of a revoked agent end.
func errRevoked(agentID string) error {
	return fault.New(fault.Denied, "the certificate of agent %s is revoked", agentID).
		With("if it shall report again, join again with a new invitation: castellan agents invite (on the server), then castellan agent join --again")
}
