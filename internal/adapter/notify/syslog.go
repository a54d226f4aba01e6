package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Limits in bytes: of a message, what every receiver is to take over UDP
// (RFC 5426), and what is usual over TCP and TLS (RFC 5425); of one parameter.
const (
	maxDatagram = 2_048
	maxMessage  = 8_192
	maxParam    = 512
)

const (
	// facility is that of security messages.
	facility = 10
	// structured is the name of the structured data. 32473 is the number that is
	// set aside for those that have none of their own (RFC 5612).
	structured = "castellan@32473"
	// closeWithin is how long the other side may take to see that all is sent: it
	// says nothing else, so that this is as near to an answer as one gets.
	closeWithin = 2 * time.Second
)

// log sends each notice as one message.
func (s *Sender) log(ctx context.Context, u *url.URL, config *tls.Config, n *notice.Notification) error {
	network := u.Scheme
	if network == "tls" {
		network = "tcp"
	}
	conn, err := dialer(u).DialContext(ctx, network, u.Host)
	if err != nil {
		return unreachable(u, err)
	}
	defer conn.Close()
	if until, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(until); err != nil {
			return unreachable(u, err)
		}
	}
	if u.Scheme == "tls" {
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return unreachable(u, err)
		}
		conn = secure
	}
	if err := s.writeAll(conn, n, u.Scheme == "udp"); err != nil {
		return unreachable(u, err)
	}
	return unheard(u, conn)
}

func (s *Sender) writeAll(w io.Writer, n *notice.Notification, datagrams bool) error {
	all := n.Notices
	if n.LeftOut > 0 {
		all = append(slices.Clone(all), notice.Notice{
			Kind: all[0].Kind, Time: n.Created, Title: fmt.Sprintf("%s; %d of them found no room here", n.Title, n.LeftOut), Link: n.Link,
		})
	}
	if n.Text != "" && len(all) == 1 {
		all = slices.Clone(all)
		all[0].Title, all[0].Remedy = n.Text, ""
	}
	for i := range all {
		if datagrams {
			if _, err := w.Write(s.message(n.ID, &all[i], maxDatagram)); err != nil {
				return err
			}
			continue
		}
		m := s.message(n.ID, &all[i], maxMessage)
		// Counted, so that nothing within a message ends it (RFC 6587, 5425).
		if _, err := w.Write(append([]byte(strconv.Itoa(len(m))+" "), m...)); err != nil {
			return err
		}
	}
	return nil
}

// unheard ends a connection, and returns an error when the other side had ended
// it before it had all. A datagram is sent, and nobody knows more.
func unheard(u *url.URL, conn net.Conn) error {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return nil
	}
	if err := half.CloseWrite(); err != nil {
		return unreachable(u, err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(closeWithin)); err != nil {
		return unreachable(u, err)
	}
	_, err := io.Copy(io.Discard, io.LimitReader(conn, maxAnswer))
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil // it keeps the connection open for a while, as some do
	}
	return unreachable(u, err)
}

// message writes a notice as RFC 5424 says, of at most so many bytes.
func (s *Sender) message(id string, x *notice.Notice, most int) []byte {
	at := x.Time.UTC().Format("2006-01-02T15:04:05.000Z")
	head := fmt.Sprintf("<%d>1 %s %s castellan %d %s ", facility*8+priority(x.Severity), at, word(s.hostname, 255), os.Getpid(), word(string(x.Kind), 32))
	data := "[" + structured
	add := func(name, value string) {
		if p := param(name, value); len(head)+len(data)+len(p) < most*3/4 {
			data += p
		}
	}
	add("id", id)
	add("severity", x.Severity.String())
	if m := x.Image; m != nil {
		add("image", m.ID)
		add("running", strconv.Itoa(m.Running))
		if len(m.References) > 0 {
			add("reference", m.References[0])
		}
	}
	add("key", x.Key())
	if w := x.Workload; w != nil {
		add("workload", w.ID)
		add("group", w.Group)
		add("host", w.Host)
		if w.Task != "" {
			add("task", w.Task)
		}
	}
	if x.Rule != "" {
		add("rule", x.Rule)
	}
	if len(x.Techniques) > 0 {
		all := make([]string, 0, len(x.Techniques))
		for _, t := range x.Techniques {
			all = append(all, t.ID)
		}
		add("techniques", strings.Join(all, " "))
	}
	if x.Resolved {
		add("resolved", "true")
	}
	add("link", x.Link)
	ids := make([]string, 0, len(x.Findings))
	for i := range x.Findings {
		ids = append(ids, x.Findings[i].ID)
	}
	if len(ids) > 0 {
		add("findings", strings.Join(ids, " "))
	}
	if m := x.Image; m != nil && len(m.Groups) > 0 {
		add("groups", strings.Join(m.Groups, " "))
	}
	data += "] \ufeff" // what follows is UTF-8
	text := x.Title
	if x.Remedy != "" {
		text += "; " + x.Remedy
	}
	b := head + data
	return []byte(b + untrusted.Clip(untrusted.Text(text), max(most-len(b), 0)))
}

// priority is the severity as syslog has it.
func priority(s finding.Severity) int {
	switch s {
	case finding.Critical:
		return 2
	case finding.High:
		return 3
	case finding.Medium:
		return 4
	case finding.Low:
		return 5
	}
	return 6
}

// word makes a text a field of a header: visible ASCII, "-" for none.
func word(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), most)]
}

// param writes one parameter of the structured data.
func param(name, value string) string {
	value = untrusted.Clip(untrusted.Text(value), maxParam)
	return " " + name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`).Replace(value) + `"`
}
