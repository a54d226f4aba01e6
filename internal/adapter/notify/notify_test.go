package notify_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/notify"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
)

const secret = "a secret of enough letters"

func webhook(url string) notice.Destination {
	return notice.Destination{Type: notice.Webhook, URL: url, Secret: strings.ReplaceAll(secret, " ", "-")}
}

func slack(url string) notice.Destination { return notice.Destination{Type: notice.Slack, URL: url} }

func syslog(url string) notice.Destination { return notice.Destination{Type: notice.Syslog, URL: url} }

// vulnerable is a notification about one image with two findings.
func vulnerable() notice.Notification {
	x := notice.Notice{
		Kind: notice.ImageVulnerable, Time: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), Severity: finding.Critical,
		Title: "shop/web:1 has 2 more vulnerabilities: critical CVE-2026-1 in openssl, …", Remedy: "move openssl to 3.0.13",
		Link: "https://castellan.example:8600/images/sha256:11",
		Image: &notice.Image{
			ID: "sha256:11", References: []string{"shop/web:1"}, Running: 3, Groups: []string{"prod/web/app"},
		},
		Findings: []notice.Finding{
			{ID: "CVE-2026-1", Severity: finding.Critical, Package: "openssl", Version: "3.0.9", Fixed: "3.0.13", Exploited: true},
			{ID: "CVE-2026-2", Severity: finding.Low, Package: "zlib", Version: "1"},
		},
	}
	return notice.Notification{
		Version: notice.Version, ID: "N1", Created: x.Time, Severity: x.Severity, Title: x.Title, Link: x.Link, Notices: []notice.Notice{x},
	}
}

func send(t *testing.T, d notice.Destination, n notice.Notification) error {
	t.Helper()
	body, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	return notify.New("1.2.3", nil).Send(t.Context(), d, n, body)
}

func TestCheck(t *testing.T) {
	with := func(d notice.Destination, change func(*notice.Destination)) notice.Destination { change(&d); return d }
	plain := func(d notice.Destination) notice.Destination { d.Plain = true; return d }
	for _, tc := range []struct {
		name  string
		d     notice.Destination
		shown string // "" where it is refused
	}{
		{"webhook", webhook("https://soc.example.org/a/b?token=t"), "https://soc.example.org/…"},
		{"port", webhook("https://soc.example.org:8443/"), "https://soc.example.org:8443/"},
		{"in the clear", webhook("http://soc.example.org/"), ""},
		{"in the clear, permitted", plain(webhook("http://soc.example.org/")), "http://soc.example.org/"},
		{"in the clear, this host", webhook("http://127.0.0.1:9/x"), "http://127.0.0.1:9/…"},
		{"in the clear, this host by name", webhook("http://localhost:9/x"), "http://localhost:9/…"},
		{"in the clear, nearly this host", webhook("http://localhost.example:9/x"), ""},
		{"another scheme", plain(webhook("ftp://soc.example.org/")), ""},
		{"a file", plain(webhook("file:///etc/passwd")), ""},
		{"user in it", webhook("https://u:p@soc.example.org/"), ""},
		{"no host", webhook("https:///x"), ""},
		{"no URL", webhook("::"), ""},
		{"too long", webhook("https://x.example/" + strings.Repeat("a", 3000)), ""},
		{"short secret", with(webhook("https://x.example/"), func(d *notice.Destination) { d.Secret = "short" }), ""},
		{"secret with a line", with(webhook("https://x.example/"), func(d *notice.Destination) { d.Secret = "0123456789abcdef\n" }), ""},
		{"certificates that are none", with(webhook("https://x.example/"), func(d *notice.Destination) { d.CA = "x" }), ""},
		{"slack shows no path", slack("https://hooks.slack.com/services/T0/B0/secret"), "https://hooks.slack.com/…"},
		{"syslog", syslog("tls://logs.example.org:6514"), "tls://logs.example.org:6514"},
		{"syslog without port", syslog("tls://logs.example.org"), ""},
		{"syslog with a path", syslog("tls://logs.example.org:6514/x"), ""},
		{"syslog in the clear", syslog("udp://logs.example.org:514"), ""},
		{"syslog in the clear, permitted", plain(syslog("udp://logs.example.org:514")), "udp://logs.example.org:514"},
		{"no type", notice.Destination{URL: "https://x.example/"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := notify.New("1", nil).Check(tc.d)
			if got != tc.shown || (err == nil) != (tc.shown != "") {
				t.Errorf("got %q, %v; want %q", got, err, tc.shown)
			}
			if err != nil && !fault.Is(err, fault.Invalid) {
				t.Errorf("got kind %s, want invalid", fault.Of(err))
			}
			if err != nil && (strings.Contains(err.Error(), "token=t") || strings.Contains(err.Error(), "u:p")) {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

// verify is the receiver's side, written from the documentation alone.
func verify(secret, header string, body []byte, now time.Time) error {
	var at int64
	var sum string
	for part := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(part, "=")
		switch name {
		case "t":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return err
			}
			at = n
		case "v1":
			sum = value
		}
	}
	if age := now.Sub(time.Unix(at, 0)); age.Abs() > 5*time.Minute {
		return errors.New("too old")
	}
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(strconv.FormatInt(at, 10) + "."))
	m.Write(body)
	if !hmac.Equal([]byte(sum), []byte(hex.EncodeToString(m.Sum(nil)))) {
		return errors.New("wrong signature")
	}
	return nil
}

func TestThatNobodySpeaksTLSIsSaid(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler()) // answers as HTTP
	defer srv.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // answers as something else, until it is closed
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "220 mail.example.org\r\n")
			_ = c.Close()
		}
	}()
	for _, at := range []string{srv.Listener.Addr().String(), l.Addr().String()} {
		err := send(t, webhook("https://"+at+"/x"), vulnerable())
		if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Remedy(err), "nobody speaks TLS") {
			t.Errorf("%s: got %v, remedy %q", at, err, fault.Remedy(err))
		}
	}
}

func TestWebhookIsSigned(t *testing.T) {
	var got *http.Request
	var body []byte
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer srv.Close()
	d := webhook(srv.URL + "/hook?token=t")
	err := send(t, d, vulnerable())
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Remedy(err), "certificate of its authority") || strings.Contains(err.Error(), "token") {
		t.Errorf("a server that nobody vouches for: %v, remedy %q", err, fault.Remedy(err))
	}
	d.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
	if err := send(t, d, vulnerable()); err != nil {
		t.Fatal(err)
	}
	if got.Method != http.MethodPost || got.URL.RawQuery != "token=t" || got.Header.Get("Content-Type") != "application/json" ||
		got.Header.Get("User-Agent") != "Castellan/1.2.3" || got.Header.Get("Castellan-Notification") != "N1" {
		t.Errorf("got %s %s with %v", got.Method, got.URL, got.Header)
	}
	header := got.Header.Get(notify.SignatureHeader)
	if err := verify(d.Secret, header, body, time.Now()); err != nil {
		t.Errorf("%s: %v", header, err)
	}
	for name, err := range map[string]error{
		"another body":   verify(d.Secret, header, append(body, ' '), time.Now()),
		"another secret": verify(d.Secret+"x", header, body, time.Now()),
		"another time":   verify(d.Secret, strings.Replace(header, "t=1", "t=2", 1), body, time.Now()),
		"later":          verify(d.Secret, header, body, time.Now().Add(time.Hour)),
	} {
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	var n notice.Notification
	if err := json.Unmarshal(body, &n); err != nil || n.Notices[0].Findings[0].ID != "CVE-2026-1" {
		t.Errorf("body %s, %v", body, err)
	}
}

func TestAnswersThatAreNoSuccess(t *testing.T) {
	asked := 0
	answer := func(http.ResponseWriter) {}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked++; answer(w) }))
	defer srv.Close()
	for _, tc := range []struct {
		name, says, remedy string
		slack              bool
		answer             func(http.ResponseWriter)
	}{
		{"error", "answered 500 Internal Server Error", "own log", false, func(w http.ResponseWriter) {
			w.WriteHeader(500)
			_, _ = io.WriteString(w, "internal-secret")
		}},
		{"redirect", "answered 302 Found", "not followed", false, func(w http.ResponseWriter) {
			w.Header().Set("Location", "http://169.254.169.254/latest")
			w.WriteHeader(302)
		}},
		{"a secret that the receiver does not know", "answered 401 Unauthorized", "--new-secret", false, func(w http.ResponseWriter) { w.WriteHeader(401) }},
		{"forbidden", "answered 403 Forbidden", "--new-secret", false, func(w http.ResponseWriter) { w.WriteHeader(403) }},
		{"forbidden, without a secret", "answered 403 Forbidden", "still the right one", true, func(w http.ResponseWriter) { w.WriteHeader(403) }},
		{"gone", "answered 410 Gone", "edit NAME --url", false, func(w http.ResponseWriter) { w.WriteHeader(410) }},
		{"too often", "answered 429 Too Many Requests", "--every", false, func(w http.ResponseWriter) { w.WriteHeader(429) }},
		{"too large", "answered 413", "narrow", false, func(w http.ResponseWriter) { w.WriteHeader(413) }},
		{"a word of Slack", "answered 404 Not Found, no_service", "still the right one", true, func(w http.ResponseWriter) {
			w.WriteHeader(404)
			_, _ = io.WriteString(w, "no_service")
		}},
		{"more than a word", "answered 400 Bad Request", "own log", true, func(w http.ResponseWriter) {
			w.WriteHeader(400)
			_, _ = io.WriteString(w, "internal-secret: 1")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked, answer = 0, tc.answer
			d := webhook(srv.URL)
			if tc.slack {
				d = slack(srv.URL)
			}
			err := send(t, d, vulnerable())
			if !fault.Is(err, fault.Unavailable) || !strings.HasSuffix(err.Error(), tc.says) && !strings.Contains(err.Error(), tc.says+" ") {
				t.Errorf("got %v, want %q", err, tc.says)
			}
			if !strings.Contains(fault.Remedy(err), tc.remedy) || strings.Contains(err.Error(), "internal-secret") {
				t.Errorf("got %v, remedy %q; want %q", err, fault.Remedy(err), tc.remedy)
			}
			if asked != 1 {
				t.Errorf("asked %d times, want once", asked)
			}
		})
	}
}

func TestBusyTargetSaysWhen(t *testing.T) {
	after := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", after)
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer srv.Close()
	for value, want := range map[string]time.Duration{"30": 30 * time.Second, "999999999999": time.Hour, "-1": 0, "soon": 0, "": 0} {
		after = value
		err := send(t, webhook(srv.URL), vulnerable())
		var busy *notice.Busy
		got := time.Duration(0)
		if errors.As(err, &busy) {
			got = busy.After
		}
		if got != want || !fault.Is(err, fault.Unavailable) {
			t.Errorf("Retry-After %q: got %s, %v; want %s", value, got, err, want)
		}
	}
}

func TestWhoIsNotThere(t *testing.T) {
	srv := httptest.NewServer(nil)
	url := srv.URL
	srv.Close()
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // so that the end of the connection is seen
		<-r.Context().Done()
	}))
	defer hang.Close()
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for name, err := range map[string]error{
		"closed":   send(t, slack(url+"/secret/path"), vulnerable()),
		"hangs":    notify.New("1", nil).Send(soon, slack(hang.URL+"/secret/path"), vulnerable(), nil),
		"metadata": send(t, notice.Destination{Type: notice.Webhook, URL: "http://169.254.169.254/secret/path", Plain: true}, vulnerable()),
		"syslog":   send(t, syslog(strings.Replace(url, "http", "tcp", 1)), vulnerable()),
	} {
		if err == nil || fault.Of(err) == fault.Unknown || fault.Remedy(err) == "" || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v (%s), remedy %q", name, err, fault.Of(err), fault.Remedy(err))
		}
	}
}

// TestWebhookGetsOCSF: each notice is an event of OCSF, signed as it is sent.
func TestWebhookGetsOCSF(t *testing.T) {
	var header string
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header = r.Header.Get(notify.SignatureHeader)
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			t.Error(err)
		}
	}))
	defer srv.Close()
	d := webhook(srv.URL)
	d.Format = notice.OCSF
	n := vulnerable()
	n.Notices = append(n.Notices, notice.Notice{Kind: notice.Incident, Subject: "incident-7", Severity: finding.Low, Title: "it is over", Time: n.Created, Resolved: true})
	if err := send(t, d, n); err != nil {
		t.Fatal(err)
	}
	var events []struct {
		Class    int    `json:"class_uid"`
		Activity int    `json:"activity_id"`
		Type     int    `json:"type_uid"`
		Severity int    `json:"severity_id"`
		Time     int64  `json:"time"`
		Status   string `json:"status"`
		Info     struct {
			UID string `json:"uid"`
		} `json:"finding_info"`
		Metadata struct {
			UID     string `json:"uid"`
			Version string `json:"version"`
		} `json:"metadata"`
		Weaknesses []struct {
			Fix bool `json:"is_fix_available"`
		} `json:"vulnerabilities"`
	}
	if err := json.Unmarshal(body, &events); err != nil || len(events) != 2 {
		t.Fatalf("%s, %v", body, err)
	}
	a, b := events[0], events[1]
	if a.Class != 2004 || a.Type != 200401 || a.Severity != 5 || len(a.Weaknesses) != 2 || !a.Weaknesses[0].Fix || a.Time != n.Notices[0].Time.UnixMilli() || a.Metadata.Version != "1.3.0" {
		t.Errorf("of an image: %+v", a)
	}
	if b.Activity != 3 || b.Type != 200403 || b.Status != "Resolved" || b.Info.UID != n.Notices[1].Key() || b.Metadata.UID == a.Metadata.UID {
		t.Errorf("of what is over: %+v", b)
	}
	var at int64
	if _, err := fmt.Sscanf(header, "t=%d,", &at); err != nil || notify.Sign(d.Secret, time.Unix(at, 0), body) != header {
		t.Errorf("signature %q, %v", header, err)
	}
	d.Type = notice.Slack
	if _, err := notify.New("1", nil).Check(d); !fault.Is(err, fault.Invalid) {
		t.Errorf("of Slack: %v", err)
	}
}

func TestNoCloud(t *testing.T) {
	d := notice.Destination{Type: notice.SNS, URL: "arn:aws:sns:eu-west-1:123456789012:castellan"}
	_, checked := notify.New("1", nil).Check(d)
	for _, err := range []error{checked, send(t, d, vulnerable())} {
		if !fault.Is(err, fault.Unsupported) {
			t.Errorf("got %v", err)
		}
	}
}
