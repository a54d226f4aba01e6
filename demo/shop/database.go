package main

import (
	"context"
	_ "embed" // for seed.sql
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/castellan-security/castellan/demo/shop/store"
)

//go:embed seed.sql
var seed string

// runStore is the service store: it listens where PostgreSQL would.
func runStore(ctx context.Context, log *slog.Logger) error {
	s, err := store.New(ctx, "shop", os.Getenv("POSTGRES_PASSWORD"), seed, log)
	if err != nil {
		return err
	}
	defer s.Close()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":5432")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	log.Info("serving", "address", l.Addr().String())
	return s.Serve(ctx, l)
}

// askTimeout bounds one conversation with the store.
const askTimeout = 5 * time.Second

// A database is one lasting connection to the store, used by one at a time and
// opened again when it breaks. The zero value with a URL is ready.
type database struct {
	url string

	mu   sync.Mutex
	conn *pgx.Conn
}

// ask calls f with the connection.
func (d *database) ask(ctx context.Context, f func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil || d.conn.IsClosed() {
		conn, err := connect(ctx, d.url)
		if err != nil {
			return err
		}
		d.conn = conn
	}
	return f(ctx, d.conn)
}

func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err // pgx leaves the password out
	}
	// What the store understands best, and what many shops use behind a pooler.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	return pgx.ConnectConfig(ctx, config)
}

// close ends the connection, if there is one.
func (d *database) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	d.conn.Close(ctx) //nolint:errcheck // nobody is left to be told
}
