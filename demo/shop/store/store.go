// Package store is the shop's database: a small server that speaks the
// PostgreSQL wire protocol (version 3, simple and extended queries) over an
// SQLite database in memory, so that psql, pgx and an attacker find what they
// expect to find.
//
// It is not a PostgreSQL: it knows the statements of the shop and their
// neighbours, one password for everybody, and forgets everything when it ends.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Limits of the server: generous for a shop, small for a machine.
const (
	maxSessions  = 64               // each holds a goroutine and a database connection
	maxMessage   = 1 << 20          // bytes of one message of the protocol
	maxRows      = 10_000           // rows of one answer
	maxParams    = 100              // parameters of one statement
	maxPrepared  = 100              // named statements of one session
	queryTimeout = 5 * time.Second  // of one statement
	idleTimeout  = 10 * time.Minute // between two messages of a client
)

// Server is one database with its password.
type Server struct {
	db       *sql.DB
	keep     *sql.Conn // the database lives as long as one connection is open
	password string
	log      *slog.Logger
}

// New creates the database called name in memory, and fills it with the SQL
// text seed (SQLite's dialect). Servers of one process with the same name
// share the database. The caller closes the server.
func New(ctx context.Context, name, password, seed string, log *slog.Logger) (*Server, error) {
	db, err := sql.Open("sqlite", "file:/"+name+"?vfs=memdb&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db.SetMaxOpenConns(maxSessions + 1)
	s := &Server{db: db, password: password, log: log}
	if s.keep, err = db.Conn(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), db.Close())
	}
	if _, err := s.keep.ExecContext(ctx, seed); err != nil {
		return nil, errors.Join(fmt.Errorf("fill database: %w", err), s.Close())
	}
	return s, nil
}

// Close forgets the database.
func (s *Server) Close() error { return errors.Join(s.keep.Close(), s.db.Close()) }

// Serve answers clients of l until ctx ends; then it closes l, waits for the
// sessions and returns nil.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	places := make(chan struct{}, maxSessions)
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		select {
		case places <- struct{}{}:
		default:
			s.log.Warn("too many sessions", "peer", conn.RemoteAddr().String())
			conn.Close()
			continue
		}
		sessions.Go(func() {
			defer func() { <-places }()
			s.converse(ctx, conn)
		})
	}
}

// converse holds one session and closes its connection.
func (s *Server) converse(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	db, err := s.db.Conn(ctx)
	if err != nil {
		s.log.Error("no database connection", "error", err)
		return
	}
	defer db.Close()
	session := newSession(conn, db)
	defer session.rollback()
	if err := session.run(ctx, s.password); err != nil && ctx.Err() == nil {
		s.log.Info("session ended", "peer", conn.RemoteAddr().String(), "error", err)
	}
}
