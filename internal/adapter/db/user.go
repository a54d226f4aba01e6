package db

import (
	"context"
	"database/sql"
	"errors"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
)

const userColumns = "id, name, role, password_hash, must_change, disabled, created, last_sign_in"

func scanUser(scan func(...any) error) (access.User, error) {
	var u access.User
	var created, signIn int64
	err := scan(&u.ID, &u.Name, &u.Role, &u.PasswordHash, &u.MustChange, &u.Disabled, &created, &signIn)
	u.Created, u.LastSignIn = fromNanos(created), timeOf(signIn)
	return u, err
}

// User implements store.Users.
func (d *DB) User(ctx context.Context, id int64) (access.User, error) {
	return d.oneUser(ctx, "SELECT "+userColumns+" FROM users WHERE id = ?", id)
}

// UserByName implements store.Users.
func (d *DB) UserByName(ctx context.Context, name string) (access.User, error) {
	return d.oneUser(ctx, "SELECT "+userColumns+" FROM users WHERE name = ?", name)
}

func (d *DB) oneUser(ctx context.Context, query string, key any) (u access.User, err error) {
	err = d.read(ctx, "read user", func(s *snapshot) error {
		st, err := s.stmt(ctx, query)
		if err != nil {
			return err
		}
		u, err = scanUser(st.QueryRowContext(ctx, key).Scan)
		if errors.Is(err, sql.ErrNoRows) {
			return noUser(key)
		}
		return err
	})
	return u, err
}

func noUser(key any) error { return fault.New(fault.NotFound, "no user %v", key) }

// Users implements store.Users, ordered by name.
func (d *DB) Users(ctx context.Context) (us []access.User, err error) {
	err = d.read(ctx, "read users", func(s *snapshot) error {
		return s.query(ctx, "SELECT "+userColumns+" FROM users ORDER BY name", nil, func(r *sql.Rows) (bool, error) {
			u, err := scanUser(r.Scan)
			us = append(us, u)
			return true, err
		})
	})
	return us, err
}

// CreateUser implements store.UserChanges.
func (d *DB) CreateUser(ctx context.Context, u access.User) (access.User, error) {
	err := d.write(ctx, "create user", func(ctx context.Context, w *writer) error {
		id, err := w.insert(ctx, `INSERT INTO users (name, role, password_hash, must_change, disabled, created, last_sign_in)
			VALUES (?,?,?,?,?,?,?)`, u.Name, string(u.Role), u.PasswordHash, u.MustChange, u.Disabled,
			nanos(u.Created), nanosOf(u.LastSignIn))
		u.ID = id
		return nameTaken(u.Name, err)
	})
	if err != nil {
		return access.User{}, err
	}
	return u, nil
}

func nameTaken(name string, err error) error {
	if isUnique(err) {
		return fault.New(fault.Conflict, "there is a user %q already", name)
	}
	return err
}

// UpdateUser implements store.UserChanges. A user who is renamed keeps their
// tokens.
func (d *DB) UpdateUser(ctx context.Context, u access.User) error {
	return d.writeUsers(ctx, "change user", func(ctx context.Context, w *writer) error {
		var name string
		err := w.row(ctx, "SELECT name FROM users WHERE id = ?", []any{u.ID}, &name)
		if errors.Is(err, sql.ErrNoRows) {
			return noUser(u.ID)
		}
		if err != nil {
			return err
		}
		_, err = w.exec(ctx, `UPDATE users SET name = ?, role = ?, password_hash = ?, must_change = ?, disabled = ?,
			created = ?, last_sign_in = ? WHERE id = ?`, u.Name, string(u.Role), u.PasswordHash, u.MustChange, u.Disabled,
			nanos(u.Created), nanosOf(u.LastSignIn), u.ID)
		if err != nil {
			return nameTaken(u.Name, err)
		}
		if name != u.Name {
			if _, err := w.exec(ctx, "UPDATE tokens SET owner = ? WHERE owner = ?", u.Name, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// DeleteUser implements store.UserChanges.
func (d *DB) DeleteUser(ctx context.Context, id int64) error {
	return d.writeUsers(ctx, "delete user", func(ctx context.Context, w *writer) error {
		for _, query := range [...]string{
			"DELETE FROM tokens WHERE owner = (SELECT name FROM users WHERE id = ?)",
			"DELETE FROM sessions WHERE user_id = ?",
		} {
			if _, err := w.exec(ctx, query, id); err != nil {
				return err
			}
		}
		n, err := w.exec(ctx, "DELETE FROM users WHERE id = ?", id)
		if err != nil {
			return err
		}
		if n == 0 {
			return noUser(id)
		}
		return nil
	})
}

// writeUsers runs a change and undoes it when it took the last enabled
// administrator away. It looks at what the change has left and not at what it
// was meant to do, so that no way around exists.
func (d *DB) writeUsers(ctx context.Context, what string, change func(context.Context, *writer) error) error {
	return d.write(ctx, what, func(ctx context.Context, w *writer) error {
		before, err := w.administrators(ctx)
		if err != nil {
			return err
		}
		if err := change(ctx, w); err != nil {
			return err
		}
		left, err := w.administrators(ctx)
		if err != nil {
			return err
		}
		if before > 0 && left == 0 {
			return fault.New(fault.Conflict, "this would leave no enabled administrator").
				With("make another user administrator first")
		}
		return nil
	})
}

func (w *writer) administrators(ctx context.Context) (n int64, err error) {
	err = w.row(ctx, "SELECT count(id) FROM users WHERE role = ? AND disabled = 0", []any{string(access.Administrator)}, &n)
	return n, err
}
