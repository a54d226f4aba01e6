package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// PutSession implements store.Sessions. NotFound when the user is gone, so
// that a sign-in cannot outlive a deletion that it raced with.
func (d *DB) PutSession(ctx context.Context, s access.Session) error {
	return d.write(ctx, "store session", func(ctx context.Context, w *writer) error {
		n, err := w.exec(ctx, `INSERT INTO sessions (hash, user_id, csrf, created, expires, used, address)
			SELECT ?, id, ?, ?, ?, ?, ? FROM users WHERE id = ?
			ON CONFLICT (hash) DO UPDATE SET csrf = excluded.csrf, expires = excluded.expires, used = excluded.used,
			address = excluded.address`,
			s.Hash, s.CSRF, nanos(s.Created), nanos(s.Expires), nanos(s.Used), s.Address, s.UserID)
		if err == nil && n == 0 {
			return noUser(s.UserID)
		}
		return err
	})
}

// Session implements store.Sessions.
func (d *DB) Session(ctx context.Context, hash []byte, now time.Time) (v access.Session, err error) {
	err = d.read(ctx, "read session", func(s *snapshot) error {
		var created, expires, used int64
		err := s.row(ctx, `SELECT hash, user_id, csrf, created, expires, used, address FROM sessions
			WHERE hash = ? AND expires > ?`, []any{hash, nanos(now)},
			&v.Hash, &v.UserID, &v.CSRF, &created, &expires, &used, &v.Address)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "no such session")
		}
		v.Created, v.Expires, v.Used = fromNanos(created), fromNanos(expires), fromNanos(used)
		return err
	})
	return v, err
}

// DeleteSessions implements store.Sessions. Ending what has ended is no error.
func (d *DB) DeleteSessions(ctx context.Context, hash []byte, userID int64) error {
	return d.write(ctx, "end sessions", func(ctx context.Context, w *writer) error {
		if hash == nil {
			_, err := w.exec(ctx, "DELETE FROM sessions WHERE user_id = ?", userID)
			return err
		}
		_, err := w.exec(ctx, "DELETE FROM sessions WHERE hash = ?", hash)
		return err
	})
}

// PutToken implements store.Tokens. For a token with an ID only LastUsed is
// recorded; NotFound when it was deleted.
func (d *DB) PutToken(ctx context.Context, t access.Token) (access.Token, error) {
	scopes, err := json.Marshal(t.Scopes)
	if err != nil {
		return access.Token{}, fmt.Errorf("encode scopes: %w", err)
	}
	err = d.write(ctx, "store token", func(ctx context.Context, w *writer) error {
		if t.ID != 0 {
			n, err := w.exec(ctx, "UPDATE tokens SET last_used = ? WHERE id = ?", nanosOf(t.LastUsed), t.ID)
			if err == nil && n == 0 {
				return noToken(t.ID)
			}
			return err
		}
		id, err := w.insert(ctx, `INSERT INTO tokens (name, owner, hash, prefix, scopes, created, expires, last_used)
			VALUES (?,?,?,?,?,?,?,?)`, t.Name, t.Owner, t.Hash, t.Prefix, string(scopes),
			nanos(t.Created), nanosOf(t.Expires), nanosOf(t.LastUsed))
		t.ID = id
		if isUnique(err) {
			return fault.New(fault.Conflict, "%s has a token %q already", t.Owner, t.Name)
		}
		return err
	})
	if err != nil {
		return access.Token{}, err
	}
	return t, nil
}

func noToken(id int64) error { return fault.New(fault.NotFound, "no token %d", id) }

// Tokens implements store.Tokens, ordered by ID.
func (d *DB) Tokens(ctx context.Context, q store.TokenQuery) (ts []access.Token, err error) {
	f := fragments{parts: []string{"id > 0"}}
	if q.ID != 0 {
		f.add("id = ?", q.ID)
	}
	if q.Owner != "" {
		f.add("owner = ?", q.Owner)
	}
	if q.Hash != nil {
		f.add("hash = ?", q.Hash)
	}
	query := "SELECT id, name, owner, hash, prefix, scopes, created, expires, last_used FROM tokens WHERE " +
		strings.Join(f.parts, " AND ") + " ORDER BY id"
	err = d.read(ctx, "read tokens", func(s *snapshot) error {
		return s.query(ctx, query, f.args, func(r *sql.Rows) (bool, error) {
			var t access.Token
			var scopes []byte
			var created, expires, used int64
			err := r.Scan(&t.ID, &t.Name, &t.Owner, &t.Hash, &t.Prefix, &scopes, &created, &expires, &used)
			if err != nil {
				return false, err
			}
			t.Created, t.Expires, t.LastUsed = fromNanos(created), timeOf(expires), timeOf(used)
			err = s.decode(scopes, &t.Scopes)
			ts = append(ts, t)
			return true, err
		})
	})
	return ts, err
}

// DeleteToken implements store.Tokens.
func (d *DB) DeleteToken(ctx context.Context, id int64) error {
	return d.write(ctx, "delete token", func(ctx context.Context, w *writer) error {
		n, err := w.exec(ctx, "DELETE FROM tokens WHERE id = ?", id)
		if err == nil && n == 0 {
			return noToken(id)
		}
		return err
	})
}

// AppendAudit implements store.AuditLog.
func (d *DB) AppendAudit(ctx context.Context, a access.Audit) error {
	return d.write(ctx, "append to the audit log", func(ctx context.Context, w *writer) error {
		_, err := w.insert(ctx, "INSERT INTO audit (time, actor, address, action, target, outcome, detail) VALUES (?,?,?,?,?,?,?)",
			nanos(a.Time), a.Actor, a.Address, a.Action, a.Target, a.Outcome, a.Detail)
		return err
	})
}

// Audit implements store.AuditLog.
func (d *DB) Audit(ctx context.Context, before int64, limit int) (lines []access.Audit, err error) {
	f := fragments{parts: []string{"id > 0"}}
	if before > 0 {
		f.add("id < ?", before)
	}
	query := "SELECT id, time, actor, address, action, target, outcome, detail FROM audit WHERE " +
		strings.Join(f.parts, " AND ") + " ORDER BY id DESC LIMIT ?"
	err = d.read(ctx, "read the audit log", func(s *snapshot) error {
		return s.query(ctx, query, append(f.args, pageSizeOf(limit)), func(r *sql.Rows) (bool, error) {
			var a access.Audit
			var at int64
			err := r.Scan(&a.ID, &at, &a.Actor, &a.Address, &a.Action, &a.Target, &a.Outcome, &a.Detail)
			a.Time = fromNanos(at)
			lines = append(lines, a)
			return true, err
		})
	})
	return lines, err
}
