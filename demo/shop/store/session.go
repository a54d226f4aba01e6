package store

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A session is the conversation with one client.
type session struct {
	conn     net.Conn
	wire     *pgproto3.Backend
	db       *sql.Conn
	status   byte // of the transaction: 'I' none, 'T' inside one
	prepared map[string]prepared
	portal   *portal // the unnamed one; nobody here needs others
	skipping bool    // after an error, until Sync
}

type prepared struct {
	statement []token
	oids      []uint32 // of the parameters
}

type portal struct {
	verb    string
	result  result
	formats []int16
}

func newSession(conn net.Conn, db *sql.Conn) *session {
	wire := pgproto3.NewBackend(conn, conn)
	wire.SetMaxBodyLen(maxMessage)
	return &session{conn: conn, wire: wire, db: db, status: 'I', prepared: map[string]prepared{}}
}

// run signs the client in and answers it until it leaves. It returns nil for
// a client that says goodbye or hangs up.
func (s *session) run(ctx context.Context, password string) error {
	if err := s.signIn(password); err != nil {
		return err
	}
	for {
		if err := s.conn.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
			return err
		}
		msg, err := s.wire.Receive()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if _, ok := msg.(*pgproto3.Terminate); ok {
			return nil
		}
		s.answer(ctx, msg)
		if err := s.wire.Flush(); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
}

// signIn handles the start of the protocol: no TLS, one password.
func (s *session) signIn(password string) error {
	if err := s.conn.SetReadDeadline(time.Now().Add(queryTimeout)); err != nil {
		return err
	}
	for started := false; !started; {
		msg, err := s.wire.ReceiveStartupMessage()
		if err != nil {
			return fmt.Errorf("receive startup: %w", err)
		}
		switch msg.(type) {
		case *pgproto3.StartupMessage:
			started = true
		case *pgproto3.SSLRequest, *pgproto3.GSSEncRequest:
			if _, err := s.conn.Write([]byte("N")); err != nil {
				return fmt.Errorf("send: %w", err)
			}
		default:
			return fmt.Errorf("startup message %T is not understood", msg)
		}
	}
	s.wire.Send(&pgproto3.AuthenticationCleartextPassword{})
	if err := s.wire.Flush(); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if err := s.wire.SetAuthType(pgproto3.AuthTypeCleartextPassword); err != nil {
		return err
	}
	msg, err := s.wire.Receive()
	if err != nil {
		return fmt.Errorf("receive password: %w", err)
	}
	given, ok := msg.(*pgproto3.PasswordMessage)
	if !ok || subtle.ConstantTimeCompare([]byte(given.Password), []byte(password)) != 1 {
		s.wire.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: "password authentication failed"})
		return errors.Join(errors.New("wrong password"), s.wire.Flush())
	}
	s.wire.Send(&pgproto3.AuthenticationOk{})
	for _, p := range [][2]string{
		{"server_version", "16.0"}, {"client_encoding", "UTF8"}, {"server_encoding", "UTF8"},
		{"standard_conforming_strings", "on"}, {"DateStyle", "ISO, MDY"}, {"integer_datetimes", "on"},
	} {
		s.wire.Send(&pgproto3.ParameterStatus{Name: p[0], Value: p[1]})
	}
	s.wire.Send(&pgproto3.BackendKeyData{SecretKey: []byte{0, 0, 0, 0}}) // cancelling is not supported
	s.ready()
	return s.wire.Flush()
}

func (s *session) ready() { s.wire.Send(&pgproto3.ReadyForQuery{TxStatus: s.status}) }

// answer queues the answer to one message.
func (s *session) answer(ctx context.Context, msg pgproto3.FrontendMessage) {
	if sync, ok := msg.(*pgproto3.Sync); ok && sync != nil {
		s.skipping = false
		s.ready()
		return
	}
	if q, ok := msg.(*pgproto3.Query); ok {
		if err := s.simple(ctx, q.String); err != nil {
			s.refuse(err)
		}
		s.ready()
		return
	}
	if s.skipping {
		return
	}
	if err := s.extended(ctx, msg); err != nil {
		s.refuse(err)
		s.skipping = true
	}
}

// refuse queues an error. SQLite's own text goes out with it, as a careless
// database would have it: that is what makes an injection comfortable.
func (s *session) refuse(err error) {
	s.wire.Send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42601", Message: err.Error()})
}

// simple answers a simple query: any number of statements in one text, up to
// the first that fails.
func (s *session) simple(ctx context.Context, text string) error {
	statements := split(text)
	if len(statements) == 0 {
		s.wire.Send(&pgproto3.EmptyQueryResponse{})
	}
	for _, statement := range statements {
		r, err := s.execute(ctx, statement, nil)
		if err != nil {
			return err
		}
		if r.columns != nil {
			s.wire.Send(r.description(nil))
		}
		s.finish(verb(statement), r, nil)
	}
	return nil
}

// finish queues the rows and the end of one statement's answer.
func (s *session) finish(verb string, r result, formats []int16) {
	for _, row := range r.rows {
		s.wire.Send(r.dataRow(row, formats))
	}
	tag := verb
	switch verb {
	case "INSERT":
		tag = fmt.Sprintf("INSERT 0 %d", r.count())
	case "SELECT", "UPDATE", "DELETE":
		tag = fmt.Sprintf("%s %d", verb, r.count())
	}
	s.wire.Send(&pgproto3.CommandComplete{CommandTag: []byte(tag)})
}

// extended answers one message of the extended protocol.
func (s *session) extended(ctx context.Context, msg pgproto3.FrontendMessage) error {
	switch m := msg.(type) {
	case *pgproto3.Parse:
		return s.parse(m)
	case *pgproto3.Bind:
		return s.bind(ctx, m)
	case *pgproto3.Describe:
		return s.describe(ctx, m)
	case *pgproto3.Execute:
		if s.portal == nil {
			return errors.New("execute: there is no portal")
		}
		s.finish(s.portal.verb, s.portal.result, s.portal.formats)
		s.portal = nil
	case *pgproto3.Close:
		if m.ObjectType == 'S' {
			delete(s.prepared, m.Name)
		}
		s.wire.Send(&pgproto3.CloseComplete{})
	case *pgproto3.Flush: // everything is flushed anyway
	default:
		return fmt.Errorf("message %T is not supported", msg)
	}
	return nil
}

func (s *session) parse(m *pgproto3.Parse) error {
	statements := split(m.Query)
	if len(statements) > 1 {
		return errors.New("cannot insert multiple commands into a prepared statement")
	}
	p := prepared{}
	if len(statements) == 1 {
		p.statement = statements[0]
	}
	n := params(p.statement)
	if n > maxParams || len(s.prepared) >= maxPrepared {
		return errors.New("too many parameters or prepared statements")
	}
	p.oids = make([]uint32, n)
	for i := range p.oids {
		p.oids[i] = oidText
		if i < len(m.ParameterOIDs) && m.ParameterOIDs[i] != 0 {
			p.oids[i] = m.ParameterOIDs[i]
		}
	}
	s.prepared[m.Name] = p
	s.wire.Send(&pgproto3.ParseComplete{})
	return nil
}

// bind runs the statement at once: its answer waits in the portal.
func (s *session) bind(ctx context.Context, m *pgproto3.Bind) error {
	p, ok := s.prepared[m.PreparedStatement]
	if !ok {
		return fmt.Errorf("prepared statement %q does not exist", m.PreparedStatement)
	}
	if m.DestinationPortal != "" {
		return errors.New("named portals are not supported")
	}
	args, err := decode(p.oids, m)
	if err != nil {
		return err
	}
	r, err := s.execute(ctx, p.statement, args)
	if err != nil {
		return err
	}
	s.portal = &portal{verb: verb(p.statement), result: r, formats: m.ResultFormatCodes}
	s.wire.Send(&pgproto3.BindComplete{})
	return nil
}

// describe tells the columns of a portal, or those of a prepared SELECT, which
// it runs with NULL for every parameter to find out.
func (s *session) describe(ctx context.Context, m *pgproto3.Describe) error {
	if m.ObjectType == 'P' {
		if s.portal == nil {
			return errors.New("describe: there is no portal")
		}
		s.describeRows(s.portal.result, s.portal.formats)
		return nil
	}
	p, ok := s.prepared[m.Name]
	if !ok {
		return fmt.Errorf("prepared statement %q does not exist", m.Name)
	}
	var r result
	switch {
	case verb(p.statement) == "SELECT":
		var err error
		if r, err = s.execute(ctx, p.statement, make([]any, len(p.oids))); err != nil {
			return err
		}
	case has(p.statement, "returning"):
		return errors.New("describing a statement with RETURNING is not supported: use pgx's exec mode or simple protocol")
	}
	s.wire.Send(&pgproto3.ParameterDescription{ParameterOIDs: p.oids})
	s.describeRows(r, nil)
	return nil
}

func (s *session) describeRows(r result, formats []int16) {
	if r.columns == nil {
		s.wire.Send(&pgproto3.NoData{})
		return
	}
	s.wire.Send(r.description(formats))
}
