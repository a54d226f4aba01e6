package account

import (
	"context"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// done is the outcome of what was not refused.
const done = "done"

// auditTimeout bounds the writing of one line. It is written even when the
// client has gone: hanging up must not keep a try out of the log.
const auditTimeout = 5 * time.Second

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

// audit adds a line. An error is the caller's to return: what cannot be
// accounted for must not look done.
func (s *Service) audit(ctx context.Context, who access.Identity, action, target, outcome, detail string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	err := s.st.AppendAudit(ctx, access.Audit{
		Time: s.clock(), Actor: who.Actor, Address: who.Address,
		Action: action, Target: target, Outcome: outcome, Detail: detail,
	})
	if err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	return nil
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
