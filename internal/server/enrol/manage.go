package enrol

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Invite makes an invitation and returns its token, which is kept nowhere
// else. life 0 is DefaultLife. It needs access.InviteAgents.
func (s *Service) Invite(ctx context.Context, who access.Identity, name string, life time.Duration) (access.Invitation, string, error) {
	if err := who.Need(access.InviteAgents); err != nil {
		return access.Invitation{}, "", err
	}
	name = strings.TrimSpace(name)
	if life == 0 {
		life = DefaultLife
	}
	switch {
	case len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return access.Invitation{}, "", fault.New(fault.Invalid, "name: want %d bytes of printable text at most", maxName)
	case life < minLife || life > MaxLife:
		return access.Invitation{}, "", fault.New(fault.Invalid, "expires: an invitation is good for %s to %s", minLife, MaxLife).
			With("invite shortly before the agent joins")
	}
	s.changes.Lock()
	defer s.changes.Unlock()
	now := s.clock()
	if err := s.room(ctx, now); err != nil {
		return access.Invitation{}, "", err
	}
	secret := make([]byte, secretBytes)
	rand.Read(secret) // never fails
	token := encode(secret)
	inv, err := s.st.PutInvitation(ctx, access.Invitation{
		Hash: digest(token), Name: name, By: who.Actor, Created: now, Expires: now.Add(life),
	})
	if err != nil {
		return access.Invitation{}, "", fmt.Errorf("keep the invitation: %w", err)
	}
	target := fmt.Sprintf("invitation:%d", inv.ID)
	if err := s.audit(ctx, who, "agent.invite", target, audit.Done, name); err != nil {
		return access.Invitation{}, "", err
	}
	return inv, token, nil
}

func (s *Service) room(ctx context.Context, now time.Time) error {
	all, err := s.st.Invitations(ctx)
	if err != nil {
		return fmt.Errorf("count invitations: %w", err)
	}
	n := 0
	for _, i := range all {
		if open(i, now) {
			n++
		}
	}
	if n >= MaxOpen {
		return fault.New(fault.Exhausted, "%d invitations are open already", n).With("wait until some are used or expire")
	}
	return nil
}

// Invitations lists all, newest first. It needs access.EnrolAgents.
func (s *Service) Invitations(ctx context.Context, who access.Identity) ([]access.Invitation, error) {
	if err := who.Need(access.EnrolAgents); err != nil {
		return nil, err
	}
	all, err := s.st.Invitations(ctx)
	if err != nil {
		return nil, fmt.Errorf("list invitations: %w", err)
	}
	return all, nil
}

// Certificates lists those of one agent, or with "" all, newest first. It needs
// access.ReadAgents.
func (s *Service) Certificates(ctx context.Context, who access.Identity, agentID string) ([]access.Certificate, error) {
	if err := who.Need(access.ReadAgents); err != nil {
		return nil, err
	}
	all, err := s.st.Certificates(ctx, agentID)
	if err != nil {
		return nil, fmt.Errorf("list certificates: %w", err)
	}
	return all, nil
}

// Revoke takes back all certificates of an agent and cuts it off within a
// second; what it reported stays. It returns how many certificates still held.
// NotFound when it never had one. It needs access.EnrolAgents.
func (s *Service) Revoke(ctx context.Context, who access.Identity, agentID string) (int, error) {
	if err := who.Need(access.EnrolAgents); err != nil {
		return 0, err
	}
	s.changes.Lock()
	defer s.changes.Unlock()
	have, err := s.st.Certificates(ctx, agentID)
	if err != nil {
		return 0, fmt.Errorf("read the agent's certificates: %w", err)
	}
	if agentID == "" || len(have) == 0 {
		return 0, fault.New(fault.NotFound, "agent %s never had a certificate", agentID).
			With("list those that have: castellan agents certificates")
	}
	n, err := s.st.RevokeCertificates(ctx, agentID, s.clock())
	if err != nil {
		return 0, fmt.Errorf("revoke the certificates of agent %s: %w", agentID, err)
	}
	serials := map[string]time.Time{}
	for _, c := range have {
		serials[c.Serial] = c.Expires
	}
	// Before the audit: whatever fails there, the agent is cut off.
	s.expel(agentID, serials)
	s.log.Info("agent revoked", "agent_id", agentID, "certificates", n, "by", who.Actor)
	return n, s.audit(ctx, who, "agent.revoke", "agent:"+agentID, audit.Done, fmt.Sprintf("%d certificates", n))
}

// refused puts a refused join into the audit log.
func (s *Service) refused(ctx context.Context, r link.JoinRequest, why string) {
	target := "agent:(malformed id)"
	if idForm.MatchString(r.AgentID) {
		target = "agent:" + r.AgentID
	}
	who := access.Identity{Actor: "anonymous", Address: r.Address}
	if err := s.audit(ctx, who, "agent.refused", target, why, clean(r.Hostname)); err != nil {
		s.log.Error("refused join not in the audit log", "address", r.Address, "error", err)
	}
}

func (s *Service) audit(ctx context.Context, who access.Identity, action, target, outcome, detail string) error {
	return audit.Log{Store: s.st, Clock: s.clock}.Add(ctx, who, action, target, outcome, detail)
}

// clean bounds what an agent says its host is called.
func clean(hostname string) string {
	return untrusted.Text(hostname[:min(len(hostname), maxHostname)])
}
