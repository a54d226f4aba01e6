package notify_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// mailServer is a mail server as far as RFC 5321 (SMTP), 3207 (STARTTLS) and 4954
// (AUTH) say what it must do for one message a connection.
type mailServer struct {
	net.Listener
	tls      *tls.Config
	ca       string // whom its certificate is signed by
	implicit bool   // encrypted from the start
	starttls bool   // offered
	ways     string // to log in
	password string // "" asks for none
	unknown  string // address that nobody has
	talks    bool   // without an end

	mu   sync.Mutex
	got  []received
	says []string // commands, as they came
}

type received struct {
	from    string
	to      []string
	message string
	secure  bool
	user    string
}

// newMailServer starts one, with the certificate of httptest for example.com and
// 127.0.0.1.
func newMailServer(t *testing.T, set func(*mailServer)) *mailServer {
	t.Helper()
	web := httptest.NewTLSServer(nil)
	certificates, ca := web.TLS.Certificates, authority(web)
	web.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &mailServer{Listener: l, tls: &tls.Config{Certificates: certificates}, ca: ca, ways: "PLAIN LOGIN", starttls: true}
	if set != nil {
		set(m)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { m.serve(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return m
}

func (m *mailServer) serve(conn net.Conn) {
	defer func() { conn.Close() }()
	secure := m.implicit
	if secure {
		conn = tls.Server(conn, m.tls)
	}
	r := bufio.NewReader(conn)
	say := func(format string, args ...any) { fmt.Fprintf(conn, format+"\r\n", args...) }
	if m.talks {
		for {
			if _, err := conn.Write([]byte(strings.Repeat("220-blah blah ", 1000))); err != nil {
				return
			}
		}
	}
	say("220 mail.example ESMTP")
	var x received
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		m.mu.Lock()
		m.says = append(m.says, line)
		m.mu.Unlock()
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			say("250-mail.example")
			if m.starttls && !secure {
				say("250-STARTTLS")
			}
			if m.password != "" {
				say("250-AUTH %s", m.ways)
			}
			say("250 8BITMIME")
		case "STARTTLS":
			say("220 go ahead")
			conn = tls.Server(conn, m.tls)
			r, secure, x = bufio.NewReader(conn), true, received{}
		case "AUTH":
			x.user = m.auth(r, say, rest)
		case "MAIL":
			if m.password != "" && x.user == "" {
				say("530 log in first")
				continue
			}
			x.from, x.secure = between(rest), secure
			say("250 ok")
		case "RCPT":
			if to := between(rest); to == m.unknown {
				say("550 nobody has that address")
			} else {
				x.to = append(x.to, to)
				say("250 ok")
			}
		case "DATA":
			say("354 go on")
			x.message = message(r)
			m.mu.Lock()
			m.got = append(m.got, x)
			m.mu.Unlock()
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("502 what?")
		}
	}
}

// auth takes name and password, and returns who logged in.
func (m *mailServer) auth(r *bufio.Reader, say func(string, ...any), how string) string {
	next := func() string {
		line, _ := r.ReadString('\n')
		b, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
		return string(b)
	}
	way, first, _ := strings.Cut(how, " ")
	user, password := "", ""
	switch way {
	case "PLAIN":
		b, _ := base64.StdEncoding.DecodeString(first)
		if parts := strings.Split(string(b), "\x00"); len(parts) == 3 {
			user, password = parts[1], parts[2]
		}
	case "LOGIN":
		say("334 %s", base64.StdEncoding.EncodeToString([]byte("Username:")))
		user = next()
		say("334 %s", base64.StdEncoding.EncodeToString([]byte("Password:")))
		password = next()
	}
	if password != m.password {
		say("535 wrong")
		return ""
	}
	say("235 welcome")
	return user
}

// message reads to the full stop that is alone, and takes the dots off that were
// put before others.
func message(r *bufio.Reader) string {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil || line == ".\r\n" {
			return b.String()
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
}

func between(s string) string {
	_, s, _ = strings.Cut(s, "<")
	s, _, _ = strings.Cut(s, ">")
	return s
}

// the returns the only message that came.
func (m *mailServer) the(t *testing.T) received {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.got) != 1 {
		t.Fatalf("%d messages, want one; it was told %q", len(m.got), m.says)
	}
	return m.got[0]
}
