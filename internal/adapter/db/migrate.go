package db

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/pressly/goose/v3"

	"github.com/castellan-security/castellan/internal/fault"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the tables to the form that this build knows.
func (d *DB) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, d.writes, files,
		goose.WithDisableGlobalRegistry(true), goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return d.fault("read migrations", err)
	}
	// Not Provider.Close: it would close the connections, which go on.
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return d.fault("read the schema version", err)
	}
	if current > target {
		return fault.New(fault.Unsupported, "%s has schema version %d, this build knows %d", d.path, current, target).
			With("start the newer castellan that wrote it, or restore a backup of before the upgrade")
	}
	if current == target {
		return nil
	}
	done, err := p.Up(ctx)
	if err != nil {
		return d.fault("migrate "+d.path, err)
	}
	d.log.Info("schema migrated", "path", d.path, "from", current, "to", target, "steps", len(done))
	return nil
}

// schemaVersion returns the number of the last migration in this build, which
// after Open is also that of the file.
func schemaVersion() (int64, error) {
	entries, err := migrations.ReadDir("migrations")
	if err != nil {
		return 0, fmt.Errorf("read migrations: %w", err)
	}
	var last int64
	for _, e := range entries {
		number, _, ok := strings.Cut(e.Name(), "_")
		var n int64
		if _, err := fmt.Sscanf(number, "%d", &n); !ok || err != nil {
			return 0, errors.New("migration without a number: " + e.Name())
		}
		last = max(last, n)
	}
	return last, nil
}
