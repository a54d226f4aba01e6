package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/scan"
)

// Database is what Status says of the advisories in force.
type Database struct {
	Generation string    `json:"generation"` // digest of all of its content
	Built      time.Time `json:"built,omitzero"`
	// Seeded says that they are those that came with the program.
	Seeded     bool   `json:"seeded"`
	Stale      bool   `json:"stale"` // older than a week
	Advisories int    `json:"advisories"`
	Error      string `json:"error,omitempty"` // why a newer file is not in force
	Remedy     string `json:"remedy,omitempty"`
	// Sources are the feeds in it.
	Sources []scan.DatabaseSource `json:"sources"`
}

// advisories is the database in force. Only the loop looks at the file and
// compares with it, so that nothing compares while it is closed.
type advisories struct {
	path  string
	clock func() time.Time
	db    *scan.Database
	seen  fs.FileInfo // of the file when it was last tried; nil: there was none

	mu   sync.Mutex
	info scan.DatabaseInfo
	seed bool
	err  error // why the file at path is not in force
}

// look opens the file when it is another one than before, and reports whether
// other advisories are in force now. A file that is damaged leaves those that
// were in force where they are. The error says why what lies at path is not used;
// it stays the same until the file changes.
func (a *advisories) look(ctx context.Context) (changed bool, err error) {
	now, err := os.Stat(a.path)
	if errors.Is(err, fs.ErrNotExist) {
		now, err = nil, nil
	}
	if err != nil {
		err = fault.New(fault.Unavailable, "look at the advisory database: %w", err).With("let the server read the file and its folder")
	}
	if a.db != nil && (err != nil || same(a.seen, now)) {
		if err != nil {
			a.note(err)
		}
		return false, a.trouble()
	}
	changed, err = a.open(ctx, now, err)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	a.seen = now
	a.note(err)
	return changed, err
}

// same reports whether it is the same file with the same content, as far as one
// can see without reading it.
func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// open puts what lies at path in force, or what came with the program where
// nothing lies there and nothing is in force.
func (a *advisories) open(ctx context.Context, now fs.FileInfo, why error) (changed bool, err error) {
	if now == nil && a.db != nil {
		if a.isSeed() {
			return false, nil
		}
		return false, fault.New(fault.NotFound, "the advisory database %s is gone; what it said is still in force", a.path).
			With("put one there before the server restarts: castellan scan db update, or import")
	}
	if why == nil {
		db, seeded, err := openVerified(ctx, a.path)
		if err == nil {
			return a.swap(db, seeded), nil
		}
		why = err
	}
	if a.db != nil || ctx.Err() != nil {
		return false, why
	}
	db, _, err := scan.OpenDatabase("") // what came with the program
	if err != nil {
		return false, errors.Join(why, err)
	}
	return a.swap(db, true), why
}

// openVerified reads a file through before it is trusted: half a file would show
// images as sound.
func openVerified(ctx context.Context, path string) (*scan.Database, bool, error) {
	db, seeded, err := scan.OpenDatabase(path)
	if err != nil {
		return nil, false, err
	}
	if err := db.Verify(ctx); err != nil {
		return nil, false, errors.Join(fmt.Errorf("read %s: %w", path, err), db.Close())
	}
	return db, seeded, nil
}

// swap puts db in force and closes what was.
func (a *advisories) swap(db *scan.Database, seeded bool) (changed bool) {
	old := a.db
	a.db = db
	a.mu.Lock()
	changed = a.info.Digest != db.Digest()
	a.info, a.seed = db.Info(), seeded
	a.mu.Unlock()
	if old != nil {
		_ = old.Close() // a mapping that can't be given back is left to the system
	}
	return changed
}

func (a *advisories) close() error {
	if a.db == nil {
		return nil
	}
	db := a.db
	a.db = nil
	return db.Close()
}

func (a *advisories) note(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
}

func (a *advisories) trouble() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

func (a *advisories) isSeed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seed
}

// generation names the advisories in force; "" before there are any.
func (a *advisories) generation() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.info.Digest
}

func (a *advisories) status() Database {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := Database{
		Generation: a.info.Digest, Built: a.info.Built, Seeded: a.seed, Advisories: a.info.Advisories,
		Sources: append([]scan.DatabaseSource{}, a.info.Sources...),
	}
	d.Stale = a.info.Digest != "" && a.clock().Sub(a.info.Built) > scan.StaleAfter
	if a.err != nil {
		d.Error, d.Remedy = a.err.Error(), fault.Remedy(a.err)
	}
	return d
}

// Database says which advisories are in force.
func (s *Service) Database() Database { return s.advisories.status() }
