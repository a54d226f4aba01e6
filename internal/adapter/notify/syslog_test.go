package notify_test

import (
	"bufio"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
)

// form is a message of RFC 5424 with structured data of one element.
var form = regexp.MustCompile(`(?s)^<(\d{1,3})>1 (\S+) (\S{1,255}) castellan \d+ (\S{1,32}) ` +
	`\[castellan@32473((?: [a-z]+="(?:[^"\\\]]|\\["\\\]])*")+)\] \x{feff}(.*)$`)

// frames reads messages that are counted, until the sender ends.
func frames(r io.Reader) (all []string, err error) {
	b := bufio.NewReader(r)
	for {
		count, err := b.ReadString(' ')
		if err == io.EOF && count == "" {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		n, err := strconv.Atoi(strings.TrimSpace(count))
		if err != nil {
			return all, err
		}
		m := make([]byte, n)
		if _, err := io.ReadFull(b, m); err != nil {
			return all, err
		}
		all = append(all, string(m))
	}
}

// receiver takes one connection and returns what came over it.
func receiver(t *testing.T, l net.Listener) <-chan []string {
	t.Helper()
	got := make(chan []string, 1)
	go func() {
		defer close(got)
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		all, err := frames(c)
		if err != nil {
			t.Error(err)
		}
		got <- all
	}()
	t.Cleanup(func() { _ = l.Close() })
	return got
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestSyslogOverTCP(t *testing.T) {
	l := listen(t)
	got := receiver(t, l)
	n := vulnerable()
	n.Notices = append(n.Notices, notice.Notice{Kind: notice.ImageScanned, Time: n.Created, Title: "second", Link: "https://c/y"})
	n.LeftOut = 5
	if err := send(t, syslog("tcp://"+l.Addr().String()), n); err != nil {
		t.Fatal(err)
	}
	all := <-got
	if len(all) != 3 {
		t.Fatalf("%d messages, want 3: %q", len(all), all)
	}
	m := form.FindStringSubmatch(all[0])
	if m == nil {
		t.Fatalf("%q is not as RFC 5424 says", all[0])
	}
	if m[1] != "82" || m[2] != "2026-11-28T12:00:00.000Z" || m[4] != "image.vulnerable" {
		t.Errorf("header %q", m[1:5])
	}
	for _, want := range []string{` id="N1"`, ` severity="critical"`, ` image="sha256:11"`, ` running="3"`, ` reference="shop/web:1"`, ` groups="prod/web/app"`, ` findings="CVE-2026-1 CVE-2026-2"`} {
		if !strings.Contains(m[5], want) {
			t.Errorf("%s is not in %s", want, m[5])
		}
	}
	if want := n.Notices[0].Title + "; move openssl to 3.0.13"; m[6] != want {
		t.Errorf("got %q, want %q", m[6], want)
	}
	if m := form.FindStringSubmatch(all[1]); m == nil || m[1] != "86" || m[4] != "image.scanned" {
		t.Errorf("the second: %q", all[1])
	}
	if !strings.Contains(all[2], "5 of them found no room") {
		t.Errorf("the last: %q", all[2])
	}
}

func TestSyslogOverTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil) // whose certificate is for 127.0.0.1
	defer web.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}))
	l := tls.NewListener(listen(t), &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS13})
	got := receiver(t, l)
	d := syslog("tls://" + l.Addr().String())
	d.CA = ca
	if err := send(t, d, vulnerable()); err != nil {
		t.Fatal(err)
	}
	if all := <-got; len(all) != 1 || !form.MatchString(all[0]) {
		t.Errorf("got %q", all)
	}
}

func TestSyslogReceiverThatHangsUp(t *testing.T) {
	l := listen(t)
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		// A reset, with what was sent unread.
		if err := c.(*net.TCPConn).SetLinger(0); err != nil {
			t.Error(err)
		}
		_ = c.Close()
	}()
	if err := send(t, syslog("tcp://"+l.Addr().String()), vulnerable()); err == nil {
		t.Error("a receiver that hung up counts as one that has it")
	}
}

func TestSyslogOverUDP(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n := hostile()
	n.Notices[0].Title = strings.Repeat("long ", 1000) + hostileText
	n.Notices[0].Image.References[0] = strings.Repeat(`"]\`, 500)
	n.Notices[0].Severity = finding.High
	if err := send(t, syslog("udp://"+c.LocalAddr().String()), n); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64<<10)
	size, _, err := c.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	m := form.FindStringSubmatch(string(b[:size]))
	if m == nil || size > 2048 {
		t.Fatalf("%d bytes, want a message of at most 2048: %q", size, b[:size])
	}
	if m[1] != "83" || strings.ContainsAny(m[6], "\n\x1b\u202e") || !strings.HasPrefix(m[6], "long long") {
		t.Errorf("got %q", m)
	}
}
