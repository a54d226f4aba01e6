// Package audit writes the audit log: who did what, and what came of it.
//
// It is not for reading it, which account does.
package audit

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// Done is the outcome of what was not refused.
	Done = "done"
	// MaxComment bounds in bytes why somebody changed something.
	MaxComment = 500
	// within bounds what is done for somebody who may have gone.
	within = 5 * time.Second
)

// Store keeps the log.
type Store interface {
	AppendAudit(ctx context.Context, a access.Audit) error
}

// Log is an audit log to write to.
type Log struct {
	Store Store
	Clock func() time.Time
}

// Done adds that who did what an action names.
func (l Log) Done(ctx context.Context, who access.Identity, action, target, detail string) error {
	return l.Add(ctx, who, action, target, Done, detail)
}

// Add adds a line, even when ctx has ended: hanging up must not keep a try out of the
// log. An error is the caller's to return: what cannot be accounted for must not look
// done.
func (l Log) Add(ctx context.Context, who access.Identity, action, target, outcome, detail string) error {
	ctx, cancel := Outlive(ctx)
	defer cancel()
	err := l.Store.AppendAudit(ctx, access.Audit{
		Time: l.Clock(), Actor: who.Actor, Address: who.Address, Action: action, Target: target, Outcome: outcome, Detail: detail,
	})
	if err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	return nil
}

// Outlive returns a context for what follows from something that is stored: it holds,
// so it is made known, even if the one who did it has gone meanwhile.
func Outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), within)
}

// CheckComment returns an Invalid error for what can't be a comment on a change.
func CheckComment(comment string) error {
	if len(comment) > MaxComment || !utf8.ValidString(comment) {
		return fault.New(fault.Invalid, "the comment is longer than %d bytes, or no text", MaxComment)
	}
	return nil
}
