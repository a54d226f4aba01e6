package notify_test

import (
	"encoding/pem"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/http/httptest"
	"net/mail"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/notify"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/notice"
)

// authority is the certificate of a test server, in PEM.
func authority(s *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

func email(m *mailServer, scheme string) notice.Destination {
	return notice.Destination{
		Type: notice.Email, URL: scheme + "://" + m.Addr().String(), CA: m.ca,
		Settings: notice.Settings{From: "Castellan <castellan@example.org>", To: []string{"soc@example.org", "Zoë <zoe@example.org>"}},
	}
}

// parts reads a message as a mail program does.
func parts(t *testing.T, message string) (h mail.Header, text, html string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(message))
	if err != nil {
		t.Fatalf("%v in\n%s", err, message)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("content type %q, %v", kind, err)
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	for {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return m.Header, text, html
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(p.Header.Get("Content-Type"), "text/html") {
			html = string(b)
		} else {
			text = string(b)
		}
	}
}

func TestMailIsDelivered(t *testing.T) {
	for _, tc := range []struct {
		name, scheme string
		set          func(*mailServer)
		user         string
		secure       bool
	}{
		{"STARTTLS", "smtp", nil, "", true},
		{"TLS from the start", "smtps", func(m *mailServer) { m.implicit = true }, "", true},
		{"logged in by PLAIN", "smtp", func(m *mailServer) { m.password = "pass word" }, "anna", true},
		{"logged in by LOGIN", "smtps", func(m *mailServer) { m.implicit, m.password, m.ways = true, "pass word", "XOAUTH2 LOGIN" }, "anna", true},
		{"in the clear on this host", "smtp", func(m *mailServer) { m.starttls = false }, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMailServer(t, tc.set)
			d := email(m, tc.scheme)
			if d.User = tc.user; tc.user != "" {
				d.Secret = "pass word"
			}
			if err := send(t, d, vulnerable()); err != nil {
				t.Fatal(err)
			}
			got := m.the(t)
			if got.secure != tc.secure || got.user != tc.user || got.from != "castellan@example.org" || strings.Join(got.to, " ") != "soc@example.org zoe@example.org" {
				t.Errorf("got %+v", got)
			}
			h, text, html := parts(t, got.message)
			for name, want := range map[string]string{
				"From": `"Castellan" <castellan@example.org>`, "Message-Id": "<N1.castellan@example.org>", "Auto-Submitted": "auto-generated",
				"X-Castellan-Severity": "critical",
			} {
				if h.Get(name) != want {
					t.Errorf("%s is %q, want %q", name, h.Get(name), want)
				}
			}
			subject, err := new(mime.WordDecoder).DecodeHeader(h.Get("Subject"))
			if err != nil || subject != vulnerable().Title {
				t.Errorf("subject %q, %v", subject, err)
			}
			if to, err := h.AddressList("To"); err != nil || len(to) != 2 || to[1].Name != "Zoë" {
				t.Errorf("to %v, %v", to, err)
			}
			for _, want := range []string{"critical CVE-2026-1 in openssl 3.0.9, known to be exploited, fixed in 3.0.13", "3 workloads of prod/web/app", "https://castellan.example:8600/images/sha256:11"} {
				if !strings.Contains(text, want) || !strings.Contains(html, want) {
					t.Errorf("%q is not in\n%s\nor\n%s", want, text, html)
				}
			}
		})
	}
}

// Whatever an image is called makes no header, no recipient, no tag and no end of
// the message.
func TestNothingIsSmuggledIntoMail(t *testing.T) {
	m := newMailServer(t, nil)
	n := vulnerable()
	n.Title = "x\r\nBcc: evil@example.com\r\n\r\n.\r\nMAIL FROM:<a@b> <script>"
	n.Notices[0].Title, n.Notices[0].Detail = n.Title, n.Title
	n.Notices[0].Image.References = []string{"<img src=https://evil.example>\r\n.\r\nRCPT TO:<evil@example.com>"}
	n.Link, n.Notices[0].Link = "javascript:alert(1)", "https://c.example/\"><script>"
	if err := send(t, email(m, "smtp"), n); err != nil {
		t.Fatal(err)
	}
	got := m.the(t)
	h, text, html := parts(t, got.message)
	if len(got.to) != 2 || h.Get("Bcc") != "" || len(h) != 10 {
		t.Errorf("to %v, headers %v", got.to, h)
	}
	if strings.Contains(html, "<script") || strings.Contains(html, "<img") || strings.Contains(html, "javascript:") || !strings.Contains(text, "RCPT TO") {
		t.Errorf("text\n%s\nHTML\n%s", text, html)
	}
	for _, said := range m.says {
		if strings.Contains(said, "evil") {
			t.Errorf("the server was told %q", said)
		}
	}
}

func TestMailThatIsNotTaken(t *testing.T) {
	refused := func(err error) bool { var r *notice.Refused; return errors.As(err, &r) }
	partial := func(err error) bool { var p *notice.Partial; return errors.As(err, &p) }
	for _, tc := range []struct {
		name   string
		server func(*mailServer)
		change func(*notice.Destination)
		want   string
		is     func(error) bool
	}{
		{"wrong password", func(m *mailServer) { m.password = "other" }, func(d *notice.Destination) { d.User, d.Secret = "anna", "pass" }, "answered 535", nil},
		{"no password", func(m *mailServer) { m.password = "other" }, nil, "answered 530", nil},
		{"no way to log in", nil, func(d *notice.Destination) { d.User, d.Secret = "anna", "pass" }, "takes no password", nil},
		{"unknown authority", nil, func(d *notice.Destination) { d.CA = "" }, "certificate", nil},
		{"one of two is nobody", func(m *mailServer) { m.unknown = "soc@example.org" }, nil, "send to soc@example.org: ", partial},
		{"nobody is known", func(m *mailServer) { m.unknown = "soc@example.org" }, func(d *notice.Destination) { d.To = d.To[:1] }, "answered 550", refused},
		{"it talks without an end", func(m *mailServer) { m.talks = true }, nil, "more than a mail server has to say", nil},
		{"not encrypted as it was to be", nil, func(d *notice.Destination) { d.URL = strings.Replace(d.URL, "smtp:", "smtps:", 1) }, "", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := email(newMailServer(t, tc.server), "smtp")
			if tc.change != nil {
				tc.change(&d)
			}
			err := send(t, d, vulnerable())
			if err == nil || !strings.Contains(err.Error(), tc.want) || fault.Remedy(err) == "" || strings.Contains(err.Error(), "pass ") {
				t.Errorf("error %v, remedy %q", err, fault.Remedy(err))
			}
			if (tc.is == nil) != (!refused(err) && !partial(err)) || tc.is != nil && !tc.is(err) {
				t.Errorf("error %T", err)
			}
		})
	}
}

func TestMailIsChecked(t *testing.T) {
	good := notice.Destination{Type: notice.Email, URL: "smtp://mail.example.org:587", Settings: notice.Settings{From: "a@example.org", To: []string{"b@example.org"}}}
	if shown, err := notify.New("1", nil).Check(good); err != nil || shown != "smtp://mail.example.org:587" {
		t.Fatalf("Check() = %q, %v", shown, err)
	}
	for name, change := range map[string]func(*notice.Destination){
		"no sender":           func(d *notice.Destination) { d.From = "" },
		"a header in it":      func(d *notice.Destination) { d.From = "a@example.org\r\nBcc: c@example.org" },
		"nobody":              func(d *notice.Destination) { d.To = nil },
		"a list as one":       func(d *notice.Destination) { d.To = []string{"a@example.org, b@example.org"} },
		"too many":            func(d *notice.Destination) { d.To = make([]string, 21) },
		"no port":             func(d *notice.Destination) { d.URL = "smtp://mail.example.org" },
		"a web address":       func(d *notice.Destination) { d.URL = "https://mail.example.org:587" },
		"user, no password":   func(d *notice.Destination) { d.User = "anna" },
		"password in the url": func(d *notice.Destination) { d.URL = "smtp://a:b@mail.example.org:587" },
	} {
		d := good
		change(&d)
		if _, err := notify.New("1", nil).Check(d); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want it Invalid", name, err)
		}
	}
}
