package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// PutAdmissionException implements store.AdmissionExceptions.
func (d *DB) PutAdmissionException(ctx context.Context, e store.AdmissionException) (store.AdmissionException, error) {
	e.ID, e.Withdrawn, e.WithdrawnBy = "", time.Time{}, ""
	body, err := json.Marshal(e.Exception)
	if err != nil {
		return store.AdmissionException{}, fmt.Errorf("encode exception: %w", err)
	}
	err = d.write(ctx, "store exception", func(ctx context.Context, w *writer) error {
		var have int
		if err := w.row(ctx, "SELECT count(id) FROM admission_exceptions WHERE ended > ?", []any{nanos(e.Created)}, &have); err != nil {
			return err
		}
		if have >= store.MaxAdmissionExceptions {
			return fault.New(fault.Exhausted, "%d exceptions hold already", have).
				With("withdraw some that are not needed any more, or change the policy")
		}
		id, err := w.insert(ctx, "INSERT INTO admission_exceptions (created, ended, withdrawn, actor, withdrawn_by, body) VALUES (?,?,0,?,'',?)",
			nanos(e.Created), nanos(e.Expires), e.By, string(body))
		e.ID = strconv.FormatInt(id, 10)
		return err
	})
	if err != nil {
		return store.AdmissionException{}, err
	}
	return e, nil
}

const exceptionColumns = "id, created, withdrawn, actor, withdrawn_by, body"

// scanException reads the columns above.
func scanException(scan func(...any) error) (e store.AdmissionException, err error) {
	var id, created, withdrawn int64
	var body []byte
	if err := scan(&id, &created, &withdrawn, &e.By, &e.WithdrawnBy, &body); err != nil {
		return e, err
	}
	if err := json.Unmarshal(body, &e.Exception); err != nil {
		return e, fmt.Errorf("decode exception %d: %w", id, err)
	}
	e.ID, e.Created, e.Withdrawn = strconv.FormatInt(id, 10), fromNanos(created), fromNanos(withdrawn)
	return e, nil
}

// WithdrawAdmissionException implements store.AdmissionExceptions.
func (d *DB) WithdrawAdmissionException(ctx context.Context, id, by string, now time.Time) (e store.AdmissionException, err error) {
	number, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return e, noException(id)
	}
	err = d.write(ctx, "withdraw exception", func(ctx context.Context, w *writer) error {
		st, err := w.stmt(ctx, "SELECT "+exceptionColumns+" FROM admission_exceptions WHERE id = ?")
		if err != nil {
			return err
		}
		e, err = scanException(st.QueryRowContext(ctx, number).Scan)
		if errors.Is(err, sql.ErrNoRows) {
			return noException(id)
		}
		if err != nil {
			return err
		}
		if !e.Holds(now) {
			return fault.New(fault.Conflict, "exception %s is over already", id)
		}
		e.Withdrawn, e.WithdrawnBy = now.UTC(), by
		_, err = w.exec(ctx, "UPDATE admission_exceptions SET ended = ?, withdrawn = ?, withdrawn_by = ? WHERE id = ?", nanos(now), nanos(now), by, number)
		return err
	})
	if err != nil {
		return store.AdmissionException{}, err
	}
	return e, nil
}

func noException(id string) error {
	return fault.New(fault.NotFound, "no exception %.40q", id).With("castellan admit exceptions list tells their ids")
}

// AdmissionExceptions implements store.AdmissionExceptions.
func (d *DB) AdmissionExceptions(ctx context.Context, since time.Time) (all []store.AdmissionException, err error) {
	err = d.read(ctx, "read exceptions", func(s *snapshot) error {
		query, args := "SELECT "+exceptionColumns+" FROM admission_exceptions ORDER BY id DESC", []any(nil)
		if !since.IsZero() {
			query, args = "SELECT "+exceptionColumns+" FROM admission_exceptions WHERE id IN (SELECT id FROM admission_exceptions WHERE ended > ?) ORDER BY id DESC",
				[]any{nanos(since)}
		}
		return s.query(ctx, query, args, func(r *sql.Rows) (bool, error) {
			e, err := scanException(r.Scan)
			all = append(all, e)
			return true, err
		})
	})
	return all, err
}
