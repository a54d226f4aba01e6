package enrol

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

// cutAfter is how long a revoked agent's connections stand: its calls are
// ended at once, and the reason should arrive.
const cutAfter = 300 * time.Millisecond

// visit is one request of an agent that is being worked on.
type visit struct{ end context.CancelCauseFunc }

// Admit is link.Gate. TLS has verified the certificate against the server's
// authority when the connection was made; whether it still counts is asked at
// each request, because connections live long.
func (s *Service) Admit(r *http.Request) (agentID string, ctx context.Context, leave func(), err error) {
	cert := proven(r)
	if cert == nil {
		return "", nil, nil, fault.New(fault.Unauthenticated, "the connection carries no certificate of an agent").
			With("join first: castellan agents invite (on the server), then castellan agent join; a proxy between must pass TLS through unopened")
	}
	agentID = cert.Subject.CommonName
	if s.clock().After(cert.NotAfter) {
		return "", nil, nil, fault.New(fault.Denied, "the certificate of agent %s has expired", agentID).
			With("join again with a new invitation: castellan agents invite (on the server), then castellan agent join --again")
	}
	ctx, end := context.WithCancelCause(context.WithValue(r.Context(), originKey{}, host(r.RemoteAddr)))
	v := &visit{end: end}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, gone := s.revoked[serial(cert)]; gone {
		end(nil)
		return "", nil, nil, errRevoked(agentID)
	}
	if s.visits[agentID] == nil {
		s.visits[agentID] = map[*visit]struct{}{}
	}
	s.visits[agentID][v] = struct{}{}
	// A connection that has ended meanwhile would never be forgotten.
	if c, ok := r.Context().Value(connKey{}).(net.Conn); ok && r.Context().Err() == nil {
		s.conns[c] = agentID
	}
	return agentID, ctx, func() { s.leave(agentID, v) }, nil
}

func (s *Service) leave(agentID string, v *visit) {
	v.end(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.visits[agentID], v)
	if len(s.visits[agentID]) == 0 {
		delete(s.visits, agentID)
	}
}

// proven returns the client certificate that TLS verified, if it is an agent's.
func proven(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return nil
	}
	cert := r.TLS.VerifiedChains[0][0]
	if cert.IsCA || !idForm.MatchString(cert.Subject.CommonName) {
		return nil
	}
	return cert
}

// expel ends everything that the agent does here, and refuses the
// certificates from now on.
func (s *Service) expel(agentID string, serials map[string]time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	for serial, ends := range s.revoked {
		if now.After(ends) {
			delete(s.revoked, serial) // expired, and refused for that
		}
	}
	for serial, ends := range serials {
		s.revoked[serial] = ends
	}
	for v := range s.visits[agentID] {
		v.end(errRevoked(agentID))
	}
	for c, of := range s.conns {
		if of == agentID {
			delete(s.conns, c)
			time.AfterFunc(cutAfter, func() { c.Close() })
		}
	}
}

// connKey is where ConnContext keeps the connection.
type connKey struct{}

// originKey is where Admit keeps the address of who calls.
type originKey struct{}

func addressOf(ctx context.Context) string {
	a, _ := ctx.Value(originKey{}).(string)
	return a
}

func host(addr string) string {
	h, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return h
}

// ConnContext is for http.Server: it lets a revocation find the connection.
func (s *Service) ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// ConnState is for http.Server: it forgets connections that ended.
func (s *Service) ConnState(c net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}
