package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"strings"
)

// writer is the one connection that writes, with what it remembers between
// transactions. Whoever has the turn uses it; nothing in it is locked.
type writer struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
	state ingestState
	memo  memo
	sweep sweep
	// maxWords bounds the dictionary; a field for the tests alone.
	maxWords int64
}

func newWriter(ctx context.Context, pool *sql.DB) (*writer, error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &writer{conn: conn, stmts: map[string]*sql.Stmt{}, maxWords: maxWords}, nil
}

// close moves the log into the file, so that the file alone is a whole copy,
// and ends the connection.
func (w *writer) close() error {
	var busy, pages, moved int64
	ctx := context.Background() // a stop must not cut this short
	errs := []error{w.row(ctx, "PRAGMA wal_checkpoint(truncate)", nil, &busy, &pages, &moved)}
	for _, s := range w.stmts {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

// transact runs fn between BEGIN and COMMIT. After an error nothing of it is
// left, neither in the file nor in memory.
func (w *writer) transact(ctx context.Context, fn func(context.Context, *writer) error) error {
	if _, err := w.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := fn(ctx, w)
	if err == nil {
		_, err = w.exec(ctx, "COMMIT")
	}
	if err == nil {
		return nil
	}
	w.state = ingestState{} // read again from the file by the next batch
	w.memo.forget()
	// A full disk or a damaged file has rolled back by itself.
	_, undo := w.exec(ctx, "ROLLBACK")
	if undo != nil && !strings.Contains(undo.Error(), "no transaction is active") {
		return errors.Join(err, fmt.Errorf("roll back: %w", undo))
	}
	return err
}

// stmt prepares a statement once. All statements that write are constants, so
// their number is bounded.
func (w *writer) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if s, ok := w.stmts[query]; ok {
		return s, nil
	}
	s, err := w.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	w.stmts[query] = s
	return s, nil
}

// exec returns how many rows were changed.
func (w *writer) exec(ctx context.Context, query string, args ...any) (int64, error) {
	s, err := w.stmt(ctx, query)
	if err != nil {
		return 0, err
	}
	res, err := s.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// insert returns the id of the new row.
func (w *writer) insert(ctx context.Context, query string, args ...any) (int64, error) {
	s, err := w.stmt(ctx, query)
	if err != nil {
		return 0, err
	}
	res, err := s.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

func (w *writer) row(ctx context.Context, query string, args []any, dest ...any) error {
	s, err := w.stmt(ctx, query)
	if err != nil {
		return err
	}
	return s.QueryRowContext(ctx, args...).Scan(dest...)
}

// ids returns the integers of the first column.
func (w *writer) ids(ctx context.Context, query string, args ...any) ([]int64, error) {
	s, err := w.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	rows, err := s.QueryContext(ctx, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// bulkRows are the sizes of multi-row inserts, largest first: one statement
// for many rows saves most of the cost of calling SQLite.
var bulkRows = [...]int{64, 8, 1}

// bulk inserts rows of width values each, which lie one after the other.
func (w *writer) bulk(ctx context.Context, into, conflict string, width int, values []any) error {
	for _, n := range bulkRows {
		size := n * width
		if len(values) < size {
			continue
		}
		query := into + rowMarks(n, width) + conflict
		for len(values) >= size {
			if _, err := w.exec(ctx, query, values[:size]...); err != nil {
				return err
			}
			values = values[size:]
			if n > 1 && len(values) > 0 {
				runtime.Gosched() // thousands of rows take a while, and others wait
			}
		}
	}
	return nil
}

// rowMarks returns "(?,?),(?,?)" for two rows of width 2.
func rowMarks(rows, width int) string {
	row := "(" + marks(width) + ")"
	return strings.Repeat(row+",", rows-1) + row
}

// marks returns "?,?,?" for 3.
func marks(n int) string { return strings.Repeat("?,", n-1) + "?" }
