package db

import (
	"context"
	"maps"
	"slices"
	"strings"
)

// SetBudget makes queries partial after so many reads.
func (d *DB) SetBudget(reads int) { d.maxReads = reads }

// SetMaxWords makes the dictionary full with so many words.
func (d *DB) SetMaxWords(words int64) { d.w.maxWords = words }

// Statements returns every statement that was run since Open.
func (d *DB) Statements() []string {
	d.stmtMu.Lock()
	defer d.stmtMu.Unlock()
	return append(slices.Sorted(maps.Keys(d.stmts)), slices.Sorted(maps.Keys(d.w.stmts))...)
}

// Forget forgets the statements that were run.
func (d *DB) Forget() {
	d.stmtMu.Lock()
	defer d.stmtMu.Unlock()
	clear(d.stmts)
	clear(d.w.stmts)
}

// Explain returns how SQLite would run a statement, one step a line.
func (d *DB) Explain(ctx context.Context, statement string) (steps []string, err error) {
	args := make([]any, strings.Count(statement, "?"))
	for i := range args {
		args[i] = 1
	}
	rows, err := d.reads.QueryContext(ctx, "EXPLAIN QUERY PLAN "+statement, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int64
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			return nil, err
		}
		steps = append(steps, detail)
	}
	return steps, rows.Err()
}

// Exec runs any statement, as somebody with the file in hand could.
func (d *DB) Exec(ctx context.Context, statement string) error {
	return d.write(ctx, "test", func(ctx context.Context, w *writer) error {
		_, err := w.conn.ExecContext(ctx, statement)
		return err
	})
}

// Count returns the number that a statement answers.
func (d *DB) Count(ctx context.Context, statement string) (n int64, err error) {
	err = d.reads.QueryRowContext(ctx, statement).Scan(&n)
	return n, err
}
