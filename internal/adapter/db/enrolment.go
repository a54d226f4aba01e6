package db

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
)

const invitationColumns = "id, hash, name, actor, created, expires, used, agent"

func scanInvitation(scan func(...any) error) (access.Invitation, error) {
	var i access.Invitation
	var created, expires, used int64
	err := scan(&i.ID, &i.Hash, &i.Name, &i.By, &created, &expires, &used, &i.AgentID)
	i.Created, i.Expires, i.Used = fromNanos(created), fromNanos(expires), timeOf(used)
	return i, err
}

// PutInvitation implements store.Invitations. One with an ID gets another name
// and another end; NotFound when it is gone or used. Conflict when the hash is
// taken.
func (d *DB) PutInvitation(ctx context.Context, i access.Invitation) (access.Invitation, error) {
	err := d.write(ctx, "store invitation", func(ctx context.Context, w *writer) error {
		if i.ID != 0 {
			n, err := w.exec(ctx, "UPDATE invitations SET name = ?, expires = ? WHERE id = ? AND used = 0",
				i.Name, nanos(i.Expires), i.ID)
			if err == nil && n == 0 {
				return fault.New(fault.NotFound, "no unused invitation %d", i.ID)
			}
			return err
		}
		id, err := w.insert(ctx, `INSERT INTO invitations (hash, name, actor, created, expires, used, agent)
			VALUES (?,?,?,?,?,?,?)`, i.Hash, i.Name, i.By, nanos(i.Created), nanos(i.Expires), nanosOf(i.Used), i.AgentID)
		i.ID = id
		if isUnique(err) {
			return fault.New(fault.Conflict, "there is an invitation with this secret already")
		}
		return err
	})
	if err != nil {
		return access.Invitation{}, err
	}
	return i, nil
}

// UseInvitation implements store.Invitations. Writers take turns, so of two
// who come with the same secret the second finds it used.
func (d *DB) UseInvitation(ctx context.Context, hash []byte, agentID string, now time.Time) (i access.Invitation, err error) {
	err = d.write(ctx, "use invitation", func(ctx context.Context, w *writer) error {
		st, err := w.stmt(ctx, "SELECT "+invitationColumns+" FROM invitations WHERE hash = ?")
		if err != nil {
			return err
		}
		i, err = scanInvitation(st.QueryRowContext(ctx, hash).Scan)
		if errors.Is(err, sql.ErrNoRows) {
			return refused("there is no such invitation")
		}
		if err != nil {
			return err
		}
		if i.Used != nil {
			return refused("this invitation was used already")
		}
		if !now.Before(i.Expires) {
			return refused("this invitation has expired")
		}
		i.Used, i.AgentID = &now, agentID
		_, err = w.exec(ctx, "UPDATE invitations SET used = ?, agent = ? WHERE id = ?", nanos(now), agentID, i.ID)
		return err
	})
	if err != nil {
		return access.Invitation{}, err
	}
	return i, nil
}

func refused(why string) error {
	return fault.New(fault.Denied, "%s", why).With("make a new one on the server: castellan agents invite")
}

// Invitations implements store.Invitations.
func (d *DB) Invitations(ctx context.Context) (is []access.Invitation, err error) {
	err = d.read(ctx, "read invitations", func(s *snapshot) error {
		return s.query(ctx, "SELECT "+invitationColumns+" FROM invitations ORDER BY created DESC, id DESC", nil,
			func(r *sql.Rows) (bool, error) {
				i, err := scanInvitation(r.Scan)
				is = append(is, i)
				return true, err
			})
	})
	return is, err
}

// PutCertificate implements store.Certificates. One that is put again stays
// revoked; Conflict when another agent has one of that serial number.
func (d *DB) PutCertificate(ctx context.Context, c access.Certificate) error {
	return d.write(ctx, "store certificate", func(ctx context.Context, w *writer) error {
		n, err := w.exec(ctx, `INSERT INTO certificates (serial, agent, hostname, address, issued, expires, revoked)
			VALUES (?,?,?,?,?,?,?) ON CONFLICT (serial) DO UPDATE SET hostname = excluded.hostname,
			address = excluded.address, issued = excluded.issued, expires = excluded.expires,
			revoked = CASE revoked WHEN 0 THEN excluded.revoked ELSE revoked END
			WHERE agent = excluded.agent`,
			c.Serial, c.AgentID, c.Hostname, c.Address, nanos(c.Issued), nanos(c.Expires), nanosOf(c.Revoked))
		if err == nil && n == 0 {
			return fault.New(fault.Conflict, "another agent has a certificate with serial number %s", c.Serial)
		}
		return err
	})
}

const certificateColumns = "serial, agent, hostname, address, issued, expires, revoked"

// Certificates implements store.Certificates.
func (d *DB) Certificates(ctx context.Context, agentID string) (cs []access.Certificate, err error) {
	query, args := "SELECT "+certificateColumns+" FROM certificates ORDER BY issued DESC, serial", []any(nil)
	if agentID != "" {
		query = "SELECT " + certificateColumns + " FROM certificates WHERE agent = ? ORDER BY issued DESC, serial"
		args = []any{agentID}
	}
	err = d.read(ctx, "read certificates", func(s *snapshot) error {
		return s.query(ctx, query, args, func(r *sql.Rows) (bool, error) {
			var c access.Certificate
			var issued, expires, revoked int64
			err := r.Scan(&c.Serial, &c.AgentID, &c.Hostname, &c.Address, &issued, &expires, &revoked)
			c.Issued, c.Expires, c.Revoked = fromNanos(issued), fromNanos(expires), timeOf(revoked)
			cs = append(cs, c)
			return true, err
		})
	})
	return cs, err
}

// RevokeCertificates implements store.Certificates. Those that have expired
// are revoked too, but held no more.
func (d *DB) RevokeCertificates(ctx context.Context, agentID string, now time.Time) (held int, err error) {
	err = d.write(ctx, "revoke certificates", func(ctx context.Context, w *writer) error {
		err := w.row(ctx, "SELECT count(serial) FROM certificates WHERE agent = ? AND revoked = 0 AND expires > ?",
			[]any{agentID, nanos(now)}, &held)
		if err != nil {
			return err
		}
		_, err = w.exec(ctx, "UPDATE certificates SET revoked = ? WHERE agent = ? AND revoked = 0", nanos(now), agentID)
		return err
	})
	if err != nil {
		return 0, err
	}
	return held, nil
}
