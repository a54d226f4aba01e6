package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/castellan-security/castellan/internal/fault"
)

const driverName = "sqlite"

// Tuning of the connections.
const (
	// pageSize of 8 KiB halves the reads of a block against SQLite's usual 4;
	// larger ones cost more log per small commit than they save.
	pageSize = 8_192
	// readCache and writeCache are page caches in KiB. The writer touches the
	// end of many posting lists in each commit; readers come and go.
	writeCache = 65_536
	readCache  = 32_768
	// walPages is how long the log grows before it is moved into the file: 64
	// MiB, so that a posting page that changes in every commit is moved once.
	walPages = 8_192
	// walKeep is what the log file is cut back to after a burst.
	walKeep = 128 << 20
	// busyMillis is how long to wait for a lock. Nobody else should hold one,
	// but an operator's sqlite3 or a backup may for a moment.
	busyMillis = 5_000
	// smallFile is the size below which Open verifies the whole file: about
	// half a second of reading.
	smallFile = 64 << 20
)

// dsn names the file to the driver, with what holds for one connection; what
// holds for the file is in form, because there the order matters and the
// driver has its own.
func dsn(path, mode string, pragmas ...string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	q := url.Values{"mode": {mode}, "_pragma": pragmas}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

func writeDSN(o Options) string {
	synchronous := "full"
	if o.ProcessCrashOnly {
		synchronous = "normal"
	}
	return dsn(o.Path, "rwc",
		fmt.Sprintf("busy_timeout(%d)", busyMillis),
		"synchronous("+synchronous+")",
		fmt.Sprintf("cache_size(-%d)", writeCache),
		fmt.Sprintf("wal_autocheckpoint(%d)", walPages),
		fmt.Sprintf("journal_size_limit(%d)", walKeep),
		"temp_store(memory)",
		"trusted_schema(0)",
	)
}

func readDSN(o Options) string {
	return dsn(o.Path, "ro",
		fmt.Sprintf("busy_timeout(%d)", busyMillis),
		fmt.Sprintf("cache_size(-%d)", readCache),
		// No mmap_size: it is faster, but a file that is cut short or a disk
		// that fails would then end the process instead of one query.
		"temp_store(memory)",
		"query_only(1)",
		"trusted_schema(0)",
	)
}

// form gives the file what it keeps for good: page size and vacuum before
// anything is in it, then the log.
func (d *DB) form(ctx context.Context, fresh bool) error {
	if fresh {
		for _, pragma := range [...]string{fmt.Sprintf("PRAGMA page_size = %d", pageSize), "PRAGMA auto_vacuum = incremental"} {
			if _, err := d.writes.ExecContext(ctx, pragma); err != nil {
				return d.fault("form the data file", err)
			}
		}
	}
	var mode string
	if err := d.writes.QueryRowContext(ctx, "PRAGMA journal_mode = wal").Scan(&mode); err != nil {
		return d.fault("form the data file", err)
	}
	if mode != "wal" {
		return fault.New(fault.Unsupported, "the file system of %s does not permit a write-ahead log", d.path).
			With("put the data folder on a local disk")
	}
	return nil
}

// prepareFolder makes the folder of the data file, for its owner alone.
func prepareFolder(path string) error {
	if path == "" {
		return fault.New(fault.Invalid, "no data file given")
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return osFault(dir, "make the data folder", err)
	}
	return nil
}

// lockFile takes the lock that keeps a second process away. The kernel lets go
// of it when the process ends, however it ends.
func lockFile(path string) (*os.File, error) {
	name := path + ".lock"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, osFault(name, "open the lock file", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner := lockOwner(f)
		err = errors.Join(err, f.Close())
		return nil, fault.New(fault.Conflict, "another castellan%s uses %s: %w", owner, path, err).
			With("stop the other one, or give this one its own data folder")
	}
	if err := writeOwner(f); err != nil {
		return nil, errors.Join(osFault(name, "write the lock file", err), f.Close())
	}
	return f, nil
}

func writeOwner(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := fmt.Fprintf(f, "%d\n", os.Getpid())
	return err
}

// lockOwner names the holder for a person; it may have changed meanwhile.
func lockOwner(f *os.File) string {
	var pid int
	if n, err := fmt.Fscanf(f, "%d", &pid); n != 1 || err != nil {
		return ""
	}
	return fmt.Sprintf(" (process %d)", pid)
}

const magic = "SQLite format 3\x00"

// checkHeader looks at the file before SQLite does, makes it with the right
// mode if it is missing, and reports whether it is empty.
func checkHeader(path string) (fresh bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, osFault(path, "open the data file", err)
	}
	defer f.Close()
	head := make([]byte, len(magic))
	n, err := io.ReadFull(f, head)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, osFault(path, "read the data file", err)
	}
	if string(head[:n]) != magic {
		return false, corrupt(path, errors.New("it is not a database"))
	}
	return false, nil
}

// smallTables are few pages however many events there are, and without them
// nobody could sign in and no agent report.
var smallTables = [...]string{
	"counters", "sources", "agents", "agent_settings", "invitations", "certificates", "users", "sessions", "tokens",
	"goose_db_version",
}

// check verifies the structure of an existing file, as far as its size lets a
// start wait for it.
func (d *DB) check(ctx context.Context, full bool) error {
	info, err := os.Stat(d.path)
	if err != nil {
		return osFault(d.path, "look at the data file", err)
	}
	if full || info.Size() < smallFile {
		return d.quickCheck(ctx, "PRAGMA quick_check(1)")
	}
	for _, table := range smallTables {
		if err := d.quickCheck(ctx, "PRAGMA quick_check("+table+")"); err != nil {
			return err
		}
	}
	return nil
}

func (d *DB) quickCheck(ctx context.Context, pragma string) error {
	var said string
	err := d.writes.QueryRowContext(ctx, pragma).Scan(&said)
	switch {
	case errors.Is(err, sql.ErrNoRows), err != nil && strings.Contains(err.Error(), "no such table"):
		return nil // an interrupted first start: migrations go on from here
	case err != nil:
		return d.fault("check", err)
	case said != "ok":
		return corrupt(d.path, errors.New(said))
	}
	return nil
}

// osFault gives an error of the file system its kind and remedy.
func osFault(path, what string, err error) error {
	wrapped := fmt.Errorf("%s %s: %w", what, path, err)
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fault.New(fault.Denied, "%w", wrapped).
			With("let this user write there, or choose another data folder")
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.New(fault.Exhausted, "%w", wrapped).With("free space on the disk of " + path)
	}
	return fault.New(fault.Unavailable, "%w", wrapped)
}
