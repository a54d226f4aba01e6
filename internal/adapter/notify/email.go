package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/notice/form"
)

const (
	// maxTo bounds who gets the mail of one target: a list of people is kept by a
	// mail server better.
	maxTo = 20
	// maxAddress bounds one address: 64 for the part before the @, 255 after it,
	// and some for a name.
	maxAddress = 512
	// maxSubject keeps a subject readable where mails are listed.
	maxSubject = 200
	// maxSaid bounds all that a mail server says: some dozens of lines.
	maxSaid = 256 << 10
)

// checkMail returns what is wrong with who writes to whom.
func checkMail(d *notice.Destination) error {
	if _, err := address("from", d.From); err != nil {
		return err
	}
	if len(d.To) == 0 || len(d.To) > maxTo {
		return fault.New(fault.Invalid, "to: want 1 to %d addresses", maxTo).With("have the mail server keep a list for more")
	}
	for _, to := range d.To {
		if _, err := address("to", to); err != nil {
			return err
		}
	}
	if (d.User == "") != (d.Secret == "") {
		return fault.New(fault.Invalid, "user: a name and a password go together").With("give both, or none for a server that asks for none")
	}
	if len(d.User) > maxSecret || len(d.Secret) > maxSecret || strings.ContainsAny(d.User+d.Secret, "\r\n\x00") {
		return fault.New(fault.Invalid, "user: want a name and a password of %d bytes at most, in one line each", maxSecret)
	}
	return nil
}

// address reads one; of a list, none.
func address(field, s string) (*mail.Address, error) {
	a, err := mail.ParseAddress(s)
	if err != nil || len(s) > maxAddress || strings.ContainsAny(s, "\r\n") {
		return nil, fault.New(fault.Invalid, "%s: %.80q is no mail address", field, s).With("write it as in soc@example.org")
	}
	return a, nil
}

// mail sends a notification by SMTP. The connection is encrypted from the start
// (smtps) or by STARTTLS, without which nothing goes to another host unless that
// is permitted. Nobody logs in over a connection in the clear, whatever is
// permitted, but to this host.
func (s *Sender) mail(ctx context.Context, u *url.URL, config *tls.Config, d *notice.Destination, n *notice.Notification) error {
	message, err := s.mailMessage(d, n)
	if err != nil {
		return err
	}
	conn, err := dialer(u).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return unreachable(u, err)
	}
	defer conn.Close()
	until, _ := ctx.Deadline()
	if err := conn.SetDeadline(until); err != nil {
		return unreachable(u, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // the caller has gone
	defer stop()
	var line net.Conn = &hushed{Conn: conn, left: maxSaid}
	if u.Scheme == "smtps" {
		secure := tls.Client(line, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return unreachable(u, err)
		}
		line = secure
	}
	c, err := smtp.NewClient(line, u.Hostname())
	if err != nil {
		return mailError(u, "greet", err)
	}
	defer c.Close()
	if err := s.greet(c, u, config, d); err != nil {
		return err
	}
	return deliverMail(c, u, d, message)
}

// greet says who we are, has the connection encrypted, and logs in.
func (s *Sender) greet(c *smtp.Client, u *url.URL, config *tls.Config, d *notice.Destination) error {
	name := word(s.hostname, 255)
	if name == "-" {
		name = "localhost"
	}
	if err := c.Hello(name); err != nil {
		return mailError(u, "greet", err)
	}
	if u.Scheme == "smtp" {
		offered, _ := c.Extension("STARTTLS")
		switch {
		case offered:
			if err := c.StartTLS(config); err != nil {
				return mailError(u, "encrypt", err)
			}
		case !d.Plain && !isLoopback(u.Hostname()):
			return fault.New(fault.Unavailable, "%s offers no encryption (STARTTLS)", u.Host).
				With("use smtps://, or permit a connection in the clear explicitly")
		}
	}
	if d.User == "" {
		return nil
	}
	_, secure := c.TLSConnectionState()
	if !secure && !isLoopback(u.Hostname()) {
		return fault.New(fault.Unavailable, "%s offers no encryption, and a password is not sent in the clear", u.Host).With("use smtps://")
	}
	_, ways := c.Extension("AUTH")
	var auth smtp.Auth
	switch have := strings.Fields(strings.ToUpper(ways)); {
	case slices.Contains(have, "PLAIN"):
		auth = smtp.PlainAuth("", d.User, d.Secret, u.Hostname())
	case slices.Contains(have, "LOGIN"):
		auth = &login{d.User, d.Secret}
	default:
		return fault.New(fault.Unavailable, "%s takes no password by PLAIN or LOGIN", u.Host).With("leave user and password out, or address another server")
	}
	if err := c.Auth(auth); err != nil {
		return mailError(u, "log in", err)
	}
	return nil
}

// login is the way to log in that some servers know alone: AUTH LOGIN.
type login struct{ user, password string }

// Start implements smtp.Auth.
func (l *login) Start(*smtp.ServerInfo) (string, []byte, error) { return "LOGIN", nil, nil }

// Next implements smtp.Auth: it is asked for the name, then for the password.
func (l *login) Next(asked []byte, more bool) ([]byte, error) {
	if !more {
		return nil, nil
	}
	switch q := strings.ToLower(string(asked)); {
	case strings.HasPrefix(q, "user"):
		return []byte(l.user), nil
	case strings.HasPrefix(q, "pass"):
		return []byte(l.password), nil
	}
	return nil, errors.New("it asks for neither a name nor a password")
}

// deliverMail hands the message over for all whom the server takes it for. When
// that is not everybody, the others have it, and the error says who has not.
func deliverMail(c *smtp.Client, u *url.URL, d *notice.Destination, message []byte) error {
	from, err := address("from", d.From)
	if err != nil {
		return err
	}
	if err := c.Mail(from.Address); err != nil {
		return mailError(u, "send from "+from.Address, err)
	}
	var refused error
	taken := 0
	for _, s := range d.To {
		to, err := address("to", s)
		if err != nil {
			return err
		}
		err = c.Rcpt(to.Address)
		var said *textproto.Error
		switch {
		case err == nil:
			taken++
		case errors.As(err, &said):
			refused = mailError(u, "send to "+to.Address, err)
		default:
			return mailError(u, "send to "+to.Address, err)
		}
	}
	if taken == 0 {
		return refused
	}
	w, err := c.Data()
	if err != nil {
		return mailError(u, "send the message", err)
	}
	if _, err := w.Write(message); err != nil {
		return mailError(u, "send the message", err)
	}
	if err := w.Close(); err != nil {
		return mailError(u, "send the message", err)
	}
	_ = c.Quit() // it has the message: whatever comes of this, it is not sent again
	if refused != nil {
		return &notice.Partial{Err: refused}
	}
	return nil
}

// mailError says what a server did not do. Of what it says, only the number is
// told.
func mailError(u *url.URL, what string, err error) error {
	var said *textproto.Error
	if !errors.As(err, &said) {
		return unreachable(u, err)
	}
	remedy := "look at the mail server's own log"
	if said.Code == 530 || said.Code == 534 || said.Code == 535 {
		remedy = "see that user and password are right, and that the server lets them send"
	}
	f := fault.New(fault.Unavailable, "%s: %s answered %d", what, u.Host, said.Code).With(remedy)
	if said.Code/100 == 5 && said.Code != 530 && said.Code != 534 && said.Code != 535 {
		return &notice.Refused{Err: f}
	}
	return f
}

// mailMessage writes the message: text, and the same as HTML. Each header is
// encoded, and has one line whatever it is made of.
func (s *Sender) mailMessage(d *notice.Destination, n *notice.Notification) ([]byte, error) {
	from, err := address("from", d.From)
	if err != nil {
		return nil, err
	}
	var to []string
	for _, one := range d.To {
		a, err := address("to", one)
		if err != nil {
			return nil, err
		}
		to = append(to, a.String())
	}
	var b bytes.Buffer
	parts := multipart.NewWriter(&b)
	_, domain, _ := strings.Cut(from.Address, "@")
	for _, h := range [][2]string{
		{"From", from.String()}, {"To", strings.Join(to, ",\r\n ")},
		{"Subject", mime.QEncoding.Encode("utf-8", clipped(n.Title, maxSubject))},
		{"Date", s.clock().Format(time.RFC1123Z)},
		{"Message-ID", "<" + word(n.ID, 64) + ".castellan@" + word(domain, 255) + ">"}, // the same at every try
		{"Auto-Submitted", "auto-generated"},                                           // RFC 3834: no absence is answered to it
		{"X-Castellan-Notification", word(n.ID, 64)}, {"X-Castellan-Severity", n.Severity.String()},
		{"MIME-Version", "1.0"}, {"Content-Type", `multipart/alternative; boundary="` + parts.Boundary() + `"`},
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	b.WriteString("\r\n")
	for _, p := range [][2]string{{"text/plain", clippedTitle(n) + "\n\n" + form.Text(n)}, {"text/html", form.HTML(n)}} {
		w, err := parts.CreatePart(textproto.MIMEHeader{
			"Content-Type": {p[0] + "; charset=utf-8"}, "Content-Transfer-Encoding": {"quoted-printable"},
		})
		if err != nil {
			return nil, marshalError(err)
		}
		q := quotedprintable.NewWriter(w)
		if _, err := io.WriteString(q, p[1]); err != nil {
			return nil, marshalError(err)
		}
		if err := q.Close(); err != nil {
			return nil, marshalError(err)
		}
	}
	if err := parts.Close(); err != nil {
		return nil, marshalError(err)
	}
	return b.Bytes(), nil
}

func clippedTitle(n *notice.Notification) string { return form.Word(n.Title) }

// hushed is a connection on which only so much is listened to.
type hushed struct {
	net.Conn
	left int
}

// Read implements net.Conn.
func (h *hushed) Read(p []byte) (int, error) {
	if h.left <= 0 {
		return 0, errors.New("it says more than a mail server has to say")
	}
	n, err := h.Conn.Read(p[:min(len(p), h.left)])
	h.left -= n
	return n, err
}
