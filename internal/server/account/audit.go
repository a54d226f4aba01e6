package account

import (
	"context"
	"fmt"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/store"
)

// Audit returns audit lines newest first, with IDs below before unless that is
// 0. It needs access.ReadAudit.
func (s *Service) Audit(ctx context.Context, who access.Identity, before int64, limit int) ([]access.Audit, error) {
	if err := need(who, access.ReadAudit); err != nil {
		return nil, err
	}
	if limit <= 0 {
		limit = store.DefaultPage
	}
	lines, err := s.st.Audit(ctx, before, min(limit, store.MaxPage))
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	return lines, nil
}

func (s *Service) audit(ctx context.Context, who access.Identity, action, target, outcome, detail string) error {
	return audit.Log{Store: s.st, Clock: s.clock}.Add(ctx, who, action, target, outcome, detail)
}

// refuse puts a refused sign-in into the log and returns err. The name that was
// typed is shown only if it is a user's: people type passwords into that field.
func (s *Service) refuse(ctx context.Context, u access.User, address, why string, err error) error {
	who := access.Identity{Actor: "anonymous", Address: address}
	target := "(unknown name)"
	if u.Name != "" {
		target = "user:" + u.Name
	}
	if aerr := s.audit(ctx, who, "session.refused", target, why, ""); aerr != nil {
		s.log.Error("refused sign-in not in the audit log", "address", address, "error", aerr)
	}
	return err
}

func need(who access.Identity, scope access.Scope) error {
	if who.MustChange && who.Actor != "" && !who.May(scope) {
		return fault.New(fault.Denied, "the password must be changed first").
			With("change the password that somebody else set for you")
	}
	return who.Need(scope)
}
