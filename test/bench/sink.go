package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server/pki"
)

// listenEvery is how often the sink reads a report instead of throwing it away.
const listenEvery = 200 * time.Millisecond

// sink plays a server on another host: it takes reports and throws them away,
// so that what is measured is the agent's cost and not the server's. Now and
// then it reads one, to know how the agent is.
type sink struct {
	address, fingerprint string
	authority            *pki.Authority
	server               *http.Server
	done                 chan error

	mu     sync.Mutex
	agent  asset.Agent
	looked time.Time
	keep   bool          // every report is read
	kept   []event.Event // what came meanwhile
	rules  []link.BriefRules
	held   []profile.Held // as the agent last said
}

// openSink starts a sink on loopback.
func openSink(o options) (*sink, error) {
	dir, err := os.MkdirTemp(o.dir, "sink-")
	if err != nil {
		return nil, err
	}
	authority, err := pki.Open(dir, []string{"127.0.0.1"}, time.Now)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{address: l.Addr().String(), fingerprint: authority.Fingerprint(), done: make(chan error, 1)}
	s.authority = authority
	path, read := link.Handler(s, s, s, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.Handle(link.JoinHandler(s, func(r *http.Request) string { return r.RemoteAddr }, slog.New(slog.DiscardHandler)))
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/Report") || s.curious() {
			read.ServeHTTP(w, r)
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return // the agent sends it again
		}
		// An empty message: nothing is wanted.
		w.Header().Set("Content-Type", "application/proto")
	})
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: ready, TLSConfig: &tls.Config{
		GetCertificate: authority.Certificate, MinVersion: tls.VersionTLS13,
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: authority.Agents(),
	}}
	go func() { s.done <- s.server.ServeTLS(l, "", "") }()
	return s, nil
}

func (s *sink) curious() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.keep && time.Since(s.looked) < listenEvery {
		return false
	}
	s.looked = time.Now()
	return true
}

// Report is link.Server.
func (s *sink) Report(_ context.Context, r link.Report) (link.Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agent = r.Agent
	s.agent.Seen = time.Now()
	if s.keep {
		s.kept = append(s.kept, r.Events...)
	}
	return link.Receipt{}, nil
}

// keeping has every report read from now on, or no more.
func (s *sink) keeping(keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep = keep
}

// take returns the events that were kept, and keeps them no longer.
func (s *sink) take() []event.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.kept
	s.kept = nil
	return kept
}

// hold makes these what an agent that asks is to hold its containers to.
func (s *sink) hold(rules ...link.BriefRules) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = rules
}

// heldNow is what the agent last said that it holds.
func (s *sink) heldNow() []profile.Held {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// Behaviour is link.Behaviour.
func (s *sink) Behaviour(_ context.Context, a link.BehaviourAsk) (link.BehaviourBrief, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = a.Held
	has := map[asset.Group]string{}
	for _, h := range a.Held {
		has[h.Group] = h.Stamp
	}
	var b link.BehaviourBrief
	for _, r := range s.rules {
		if has[r.Group] != r.Stamp {
			b.Rules = append(b.Rules, r)
		}
		delete(has, r.Group)
	}
	for g := range has {
		b.Release = append(b.Release, g)
	}
	b.More = len(b.Rules) > 0 // so that it says at once how it holds them
	return b, nil
}

// Directives is link.Server: nothing is wanted.
func (s *sink) Directives(ctx context.Context, _ link.Caller, _ func(link.Directive)) error {
	<-ctx.Done()
	return ctx.Err()
}

// Inventory is link.Server: none is asked for.
func (s *sink) Inventory(context.Context, link.Scanned) error {
	return errors.New("no inventory was asked for")
}

// Verdict is link.Server: none is asked for.
func (s *sink) Verdict(context.Context, link.Verified) error {
	return errors.New("no verdict was asked for")
}

// Join is link.Joiner: everybody is welcome.
func (s *sink) Join(ctx context.Context, r link.JoinRequest) (link.Credentials, error) {
	return s.Renew(ctx, r.AgentID, r.CSR)
}

// Renew is link.Joiner.
func (s *sink) Renew(_ context.Context, agentID string, csr []byte) (link.Credentials, error) {
	cert, err := s.authority.SignAgent(agentID, csr)
	if err != nil {
		return link.Credentials{}, err
	}
	return link.Credentials{AgentID: agentID, Certificate: cert.Raw, Authority: s.authority.Root().Raw}, nil
}

// Admit is link.Gate: TLS has verified the certificate.
func (s *sink) Admit(r *http.Request) (string, context.Context, func(), error) {
	if len(r.TLS.PeerCertificates) == 0 {
		return "", nil, nil, errors.New("no certificate")
	}
	return r.TLS.PeerCertificates[0].Subject.CommonName, r.Context(), func() {}, nil
}

func (s *sink) invite(context.Context) (address, fingerprint, token string, err error) {
	return s.address, s.fingerprint, "cji_of-the-benchmark", nil
}

// heard is the agent as it last described itself.
func (s *sink) heard(context.Context) (asset.Agent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agent, nil
}

func (s *sink) close() error {
	err := s.server.Close()
	if e := <-s.done; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}
