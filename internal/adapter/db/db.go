package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"modernc.org/sqlite"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// Options say where the data is. Only Path is needed.
type Options struct {
	// Path is the data file. Its folder is made with mode 0700 if missing, the
	// file with 0600; beside it lie <path>-wal, <path>-shm and <path>.lock.
	Path string
	// FullCheck verifies the structure of the whole file at Open, however large
	// (about 7 s a GiB). Otherwise only files below smallFile are verified
	// whole, larger ones by their small tables and whatever is read later.
	FullCheck bool
	// ProcessCrashOnly stops syncing every commit: what was acknowledged then
	// survives a crash of the process, but the last moments before a power loss
	// may be gone. For measuring, and for data that can be had again.
	ProcessCrashOnly bool
}

// DB is the store in one SQLite file. It is safe for concurrent use.
type DB struct {
	path   string
	log    *slog.Logger
	lock   *os.File
	reads  *sql.DB
	writes *sql.DB
	w      *writer
	// turn holds one token: who has it may write.
	turn chan struct{}

	// seats holds a token for each snapshot that may be read now. There is one
	// connection more than seats: a snapshot that prepares a statement for all needs
	// it, and if all waited for one another's, none would ever be free.
	seats chan struct{}

	queueMu sync.Mutex
	queue   []*appending

	stmtMu sync.Mutex
	stmts  map[string]*sql.Stmt

	names nameCache
	// maxReads is the budget of a query; a field for the tests alone.
	maxReads int

	closed    atomic.Bool
	closeOnce sync.Once
	closeErr  error
}

var _ store.Store = (*DB)(nil)

// maxReaders bounds the snapshots read at once; each connection has its own
// page cache, and they wait for the same disk.
const maxReaders = 4

// Open opens the data file, makes or upgrades its tables and returns the store.
//
// Errors: Conflict when another process has it open, Corrupt when it is not a
// database or damaged (nothing is deleted), Denied when it cannot be written,
// Unsupported when a newer Castellan wrote it, Exhausted on a full disk.
func Open(ctx context.Context, o Options, log *slog.Logger) (*DB, error) {
	if err := prepareFolder(o.Path); err != nil {
		return nil, err
	}
	lock, err := lockFile(o.Path)
	if err != nil {
		return nil, err
	}
	d := &DB{
		path: o.Path, log: log, lock: lock,
		turn:  make(chan struct{}, 1),
		seats: make(chan struct{}, maxReaders),
		stmts: map[string]*sql.Stmt{}, maxReads: maxReads,
	}
	d.turn <- struct{}{}
	if err := d.start(ctx, o); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *DB) start(ctx context.Context, o Options) error {
	fresh, err := checkHeader(o.Path)
	if err != nil {
		return err
	}
	// fdatasync keeps a commit as durable as fsync, without journalling the
	// file's timestamps: half the wait on ext4.
	if _, err := sqlite.Fdatasync(true); err != nil {
		return fmt.Errorf("switch to fdatasync: %w", err)
	}
	if d.writes, err = sql.Open(driverName, writeDSN(o)); err != nil {
		return d.fault("open", err)
	}
	d.writes.SetMaxOpenConns(1)
	if !fresh {
		if err := d.check(ctx, o.FullCheck); err != nil {
			return err
		}
	}
	if err := d.form(ctx, fresh); err != nil {
		return err
	}
	if err := d.migrate(ctx); err != nil {
		return err
	}
	if d.w, err = newWriter(ctx, d.writes); err != nil {
		return d.fault("prepare", err)
	}
	if d.reads, err = sql.Open(driverName, readDSN(o)); err != nil {
		return d.fault("open for reading", err)
	}
	d.reads.SetMaxOpenConns(maxReaders + 1)
	d.reads.SetMaxIdleConns(maxReaders + 1)
	return nil
}

// Close waits for the write in progress, moves the log into the data file and
// lets go of it. Calls after the first return the same.
func (d *DB) Close() error {
	d.closeOnce.Do(func() {
		<-d.turn // never given back: later writes find the store closed
		d.closed.Store(true)
		d.failQueue(errClosed())
		close(d.turn)
		d.closeErr = d.closeAll()
	})
	return d.closeErr
}

func (d *DB) closeAll() error {
	var errs []error
	d.stmtMu.Lock()
	for _, s := range d.stmts {
		errs = append(errs, s.Close())
	}
	d.stmtMu.Unlock()
	if d.reads != nil {
		errs = append(errs, d.reads.Close())
	}
	if d.w != nil {
		errs = append(errs, d.w.close())
	}
	if d.writes != nil {
		errs = append(errs, d.writes.Close())
	}
	errs = append(errs, d.lock.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close %s: %w", d.path, err)
	}
	return nil
}

func errClosed() error { return fault.New(fault.Unavailable, "the store is closed") }

// acquire waits for the turn to write.
func (d *DB) acquire(ctx context.Context) error {
	select {
	case _, ok := <-d.turn:
		if !ok {
			return errClosed()
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the store: %w", ctx.Err())
	}
}

func (d *DB) release() { d.turn <- struct{}{} }

// write runs fn in a transaction of its own. Waiting for the turn honours ctx;
// what has begun is finished, because it is short.
func (d *DB) write(ctx context.Context, what string, fn func(context.Context, *writer) error) error {
	if err := d.acquire(ctx); err != nil {
		return err
	}
	defer d.release()
	if err := d.w.transact(context.WithoutCancel(ctx), fn); err != nil {
		return d.fault(what, err)
	}
	return nil
}

// maxStatements bounds the prepared statements kept; the fixed ones are about
// forty, the rest are combinations of filters.
const maxStatements = 256

// prepared returns the statement from the cache, or makes it.
func (d *DB) prepared(ctx context.Context, query string) (*sql.Stmt, bool, error) {
	d.stmtMu.Lock()
	s, ok := d.stmts[query]
	d.stmtMu.Unlock()
	if ok {
		return s, true, nil
	}
	s, err := d.reads.PrepareContext(ctx, query)
	if err != nil {
		return nil, false, err
	}
	d.stmtMu.Lock()
	defer d.stmtMu.Unlock()
	if other, ok := d.stmts[query]; ok {
		return other, true, s.Close()
	}
	if len(d.stmts) >= maxStatements {
		return s, false, nil
	}
	d.stmts[query] = s
	return s, true, nil
}

// snapshot is one consistent view of the data.
type snapshot struct {
	d     *DB
	tx    *sql.Tx
	loose []*sql.Stmt // not cached: closed with the snapshot
	held  map[string]*sql.Stmt
}

// read runs fn, which must not call it again, on a snapshot.
func (d *DB) read(ctx context.Context, what string, fn func(*snapshot) error) error {
	select {
	case d.seats <- struct{}{}:
		defer func() { <-d.seats }()
	case <-ctx.Done():
		return d.fault(what, ctx.Err())
	}
	if d.closed.Load() {
		return errClosed()
	}
	tx, err := d.reads.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return d.fault(what, err)
	}
	s := &snapshot{d: d, tx: tx, held: map[string]*sql.Stmt{}}
	err = fn(s)
	for _, l := range s.loose {
		err = errors.Join(err, l.Close())
	}
	// Nothing was written, so how it ends does not matter to the data.
	if end := tx.Rollback(); end != nil && !errors.Is(end, sql.ErrTxDone) {
		err = errors.Join(err, end)
	}
	if err != nil {
		return d.fault(what, err)
	}
	return nil
}

func (s *snapshot) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if st, ok := s.held[query]; ok {
		return st, nil
	}
	st, cached, err := s.d.prepared(ctx, query)
	if err != nil {
		return nil, err
	}
	if !cached {
		s.loose = append(s.loose, st)
	}
	bound := s.tx.StmtContext(ctx, st)
	s.held[query] = bound
	return bound, nil
}

// query calls each for every row; each returns false to stop early.
func (s *snapshot) query(ctx context.Context, query string, args []any, each func(*sql.Rows) (bool, error)) error {
	st, err := s.stmt(ctx, query)
	if err != nil {
		return err
	}
	rows, err := st.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		more, err := each(rows)
		if err != nil {
			return err
		}
		if !more {
			return nil
		}
	}
	return rows.Err()
}

// row scans the first row; sql.ErrNoRows if there is none.
func (s *snapshot) row(ctx context.Context, query string, args []any, dest ...any) error {
	st, err := s.stmt(ctx, query)
	if err != nil {
		return err
	}
	return st.QueryRowContext(ctx, args...).Scan(dest...)
}
