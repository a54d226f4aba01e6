package db

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/castellan-security/castellan/internal/fault"
)

// fault gives an error of SQLite its kind and remedy. Errors that have a kind
// already, and those of a context, keep it.
func (d *DB) fault(what string, err error) error {
	if err == nil || fault.Of(err) != fault.Unknown {
		return err
	}
	wrapped := fmt.Errorf("%s: %w", what, err)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return wrapped
	}
	var se *sqlite.Error
	if !errors.As(err, &se) {
		return wrapped
	}
	switch se.Code() & 0xff {
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return corrupt(d.path, wrapped)
	case lib.SQLITE_FULL:
		return full(d.path, wrapped)
	case lib.SQLITE_IOERR:
		if free, err := freeBytes(d.path); err == nil && free < minFree {
			return full(d.path, wrapped)
		}
		return fault.New(fault.Unavailable, "%w", wrapped).With("look at the kernel log for errors of the disk that holds " + d.path)
	case lib.SQLITE_READONLY, lib.SQLITE_PERM, lib.SQLITE_AUTH:
		return fault.New(fault.Denied, "%w", wrapped).With("let this user write " + d.path + " and its folder")
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		return fault.New(fault.Unavailable, "%w", wrapped).With("something else holds a lock on " + d.path + ": end it")
	case lib.SQLITE_CANTOPEN:
		return fault.New(fault.Unavailable, "%w", wrapped).With("look whether " + d.path + " and its folder exist and can be written")
	}
	return wrapped
}

// minFree is the space below which an I/O error is taken for a full disk:
// SQLite reports one as FULL for the file but as IOERR for its shared memory.
const minFree = 1 << 20

func corrupt(path string, err error) error {
	return fault.New(fault.Corrupt, "%s is damaged: %w", path, err).
		With("nothing was deleted: stop castellan, move " + path + ", " + path + "-wal and " + path +
			"-shm away, put a backup there or start without; `sqlite3 <file> .recover` may save much of the old one")
}

func full(path string, err error) error {
	return fault.New(fault.Exhausted, "no space for %s: %w", path, err).
		With("free space on its disk, or shorten the retention; nothing that was acknowledged is lost")
}

// isUnique reports whether err says that a unique key is taken.
func isUnique(err error) bool {
	var se *sqlite.Error
	return errors.As(err, &se) &&
		(se.Code() == lib.SQLITE_CONSTRAINT_UNIQUE || se.Code() == lib.SQLITE_CONSTRAINT_PRIMARYKEY)
}

// freeBytes returns what the file system under path can still take.
func freeBytes(path string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, fmt.Errorf("look at the disk of %s: %w", path, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}
