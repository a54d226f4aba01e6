// Package notify carries notifications to where they are to go: webhooks, which
// get signed JSON; incoming webhooks of Slack and what takes the same; workflows
// of Microsoft Teams; PagerDuty; mail servers; and receivers of syslog. What goes to
// AWS it hands on to who knows how (Cloud).
//
// It is not for who is told of what, for trying again, or for keeping anything
// (see internal/server/notify).
//
// What it sends goes where an operator says, from within the operator's own
// network. So it follows no redirect, asks no proxy, shows nothing of an answer
// but its status, and connects to no address at which a cloud tells secrets to
// whoever asks; see dial.go.
package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/notice/form"
)

const (
	// sendWithin bounds one delivery: receivers are to take a notification and
	// work on it afterwards.
	sendWithin = 10 * time.Second
	// maxURL bounds an address; those of Slack have under 100 bytes.
	maxURL = 2_048
	// minSecret is what a secret that somebody chose must have at least, and
	// maxSecret at most, in bytes.
	minSecret = 16
	maxSecret = 256
	// maxCA bounds the certificates of a target: some dozens.
	maxCA = 64 << 10
)

// Sender sends. It is safe for concurrent use.
type Sender struct {
	agent    string // User-Agent
	hostname string
	clock    func() time.Time
	cloud    Cloud
}

// Cloud reaches targets of AWS (notice.Type.OfAWS), with the same promises as Sender.
type Cloud interface {
	Check(d notice.Destination) (shown string, err error)
	Send(ctx context.Context, d notice.Destination, n notice.Notification) error
}

// New returns a sender of that version of the program. Without a cloud, no target of
// AWS can be added.
func New(version string, cloud Cloud) *Sender {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "-"
	}
	return &Sender{agent: "Castellan/" + version, hostname: host, clock: time.Now, cloud: cloud}
}

// Check returns what is wrong with a destination, as Invalid, and otherwise where
// it is without the parts that may be secrets.
func (s *Sender) Check(d notice.Destination) (shown string, err error) {
	if d.Format != "" && (d.Format != notice.OCSF || d.Type != notice.Webhook && d.Type != notice.EventBridge) {
		return "", fault.New(fault.Invalid, "format: %.20q is none of a target of type %s", d.Format, d.Type).
			With("leave it out, or give ocsf for a webhook or EventBridge")
	}
	if !d.Type.OfAWS() && (d.Role != "" || d.ExternalID != "") {
		return "", fault.New(fault.Invalid, "role: a target of type %s is reached without one", d.Type).With("leave it and the external id out: they are for targets of AWS")
	}
	if d.Type.OfAWS() {
		if s.cloud == nil {
			return "", fault.New(fault.Unsupported, "this server does not reach AWS")
		}
		return s.cloud.Check(d)
	}
	u, err := parse(d)
	if err != nil {
		return "", err
	}
	if d.CA != "" {
		if _, err := pool(d.CA); err != nil {
			return "", err
		}
	}
	switch d.Type {
	case notice.Email:
		if err := checkMail(&d); err != nil {
			return "", err
		}
	case notice.PagerDuty:
		if len(d.Secret) != pagerKey || word(d.Secret, pagerKey) != d.Secret {
			return "", fault.New(fault.Invalid, "secret: want the key of an integration with the Events API v2, %d characters", pagerKey).
				With("copy it from the service's page Integrations")
		}
		return u.String(), nil
	case notice.Webhook:
		if n := len(d.Secret); n < minSecret || n > maxSecret || strings.ContainsFunc(d.Secret, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return "", fault.New(fault.Invalid, "secret: want %d to %d visible ASCII characters", minSecret, maxSecret).
				With("leave it out to have one made")
		}
		if strings.Trim(u.Path, "/") == "" {
			return u.Scheme + "://" + u.Host + u.Path, nil
		}
		fallthrough // many services have a secret in the path, whatever signs the body
	case notice.Slack, notice.Teams: // who knows the path may write there
		return u.Scheme + "://" + u.Host + "/…", nil
	}
	return u.Scheme + "://" + u.Host, nil
}

// pagerAt is where PagerDuty takes events, by the region of its service.
var pagerAt = map[string]string{
	"us": "https://events.pagerduty.com/v2/enqueue",
	"eu": "https://events.eu.pagerduty.com/v2/enqueue",
}

// parse reads the URL of a destination. Errors never repeat it.
func parse(d notice.Destination) (*url.URL, error) {
	secure, plain, form := "https", []string{"http"}, "https://host/path"
	switch d.Type {
	case notice.Webhook, notice.Slack, notice.Teams:
	case notice.PagerDuty:
		form = "us, eu, or https://host/path"
		if at := pagerAt[d.URL]; at != "" {
			d.URL = at
		}
	case notice.Syslog:
		secure, plain, form = "tls", []string{"tcp", "udp"}, "tls://host:6514"
	case notice.Email:
		secure, plain, form = "smtps", []string{"smtp"}, "smtps://host:465 or smtp://host:587"
	default:
		return nil, fault.New(fault.Invalid, "type: %.20q is none; want one of %v", d.Type, notice.Types())
	}
	u, err := url.Parse(d.URL)
	if err != nil || len(d.URL) > maxURL || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return nil, fault.New(fault.Invalid, "url: want %s without user and fragment", form)
	}
	if (d.Type == notice.Syslog || d.Type == notice.Email) && (u.Port() == "" || u.Path != "" || u.RawQuery != "") {
		return nil, fault.New(fault.Invalid, "url: want %s and nothing behind the port", form)
	}
	switch {
	case u.Scheme == secure:
	case u.Scheme != plain[0] && u.Scheme != plain[len(plain)-1]:
		return nil, fault.New(fault.Invalid, "url: want %s", form)
	case d.Type == notice.Email: // STARTTLS encrypts it, or nothing is sent; see greet
	case !d.Plain && !isLoopback(u.Hostname()):
		return nil, fault.New(fault.Invalid, "url: %s is not encrypted", u.Scheme).
			With("use " + form + ", or permit a connection in the clear explicitly")
	}
	return u, nil
}

func pool(pem string) (*x509.CertPool, error) {
	p := x509.NewCertPool()
	if len(pem) > maxCA || !p.AppendCertsFromPEM([]byte(pem)) {
		return nil, fault.New(fault.Invalid, "ca: want certificates in PEM of %d KiB at most", maxCA>>10)
	}
	return p, nil
}

// Send delivers a notification, whose form as JSON is body, and returns when the
// target has it, as far as its protocol tells. Errors: Unavailable, with what
// helps; *notice.Busy when the target says when to come again, *notice.Refused
// when it does not want this one, *notice.Partial when not everybody got it.
func (s *Sender) Send(ctx context.Context, d notice.Destination, n notice.Notification, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	if d.Type.OfAWS() {
		if s.cloud == nil {
			return fault.New(fault.Unsupported, "this server does not reach AWS")
		}
		return s.cloud.Send(ctx, d, n)
	}
	u, err := parse(d)
	if err != nil {
		return err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
	if d.CA != "" {
		if config.RootCAs, err = pool(d.CA); err != nil {
			return err
		}
	}
	switch d.Type {
	case notice.Webhook:
		now := s.clock()
		if d.Format == notice.OCSF {
			if body, err = json.Marshal(detections(&n)); err != nil {
				return marshalError(err)
			}
		}
		return s.post(ctx, u, config, body, http.Header{
			"Castellan-Notification": {n.ID}, SignatureHeader: {Sign(d.Secret, now, body)},
		}, quiet)
	case notice.Slack:
		text, err := slackMessage(&n)
		if err != nil {
			return err
		}
		return s.post(ctx, u, config, text, nil, slackSays)
	case notice.Teams:
		message, err := teamsMessage(&n)
		if err != nil {
			return err
		}
		return s.post(ctx, u, config, message, nil, teamsSays)
	case notice.PagerDuty:
		return s.page(ctx, u, config, d.Secret, &n)
	case notice.Email:
		return s.mail(ctx, u, config, &d, &n)
	}
	return s.log(ctx, u, config, &n)
}

// detections are the notices of a notification as events of OCSF.
func detections(n *notice.Notification) []form.Detection {
	all := make([]form.Detection, len(n.Notices))
	for i := range n.Notices {
		all[i] = form.OCSF(fmt.Sprintf("%s-%d", n.ID, i+1), &n.Notices[i])
	}
	return all
}

// unreachable says why a connection failed, without the address: that may be a
// secret.
func unreachable(u *url.URL, err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	var f *fault.Error
	if errors.As(err, &f) {
		return f
	}
	remedy := "see that the target runs and that this server reaches it"
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var dns *net.DNSError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		remedy = "give the target the certificate of its authority (castellan notify edit NAME --ca-file FILE)"
	case errors.As(err, &name):
		remedy = "address the target by the name in its certificate"
	case errors.As(err, &noTLS), errors.Is(err, http.ErrSchemeMismatch):
		remedy = "nobody speaks TLS at that port: is the port right? in the clear only with http:// and --plain"
	case errors.As(err, &dns):
		remedy = "see that the name is right, and that this server's resolver knows it"
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("no answer within %s", sendWithin)
		remedy = "the target is to take a notification at once and work on it afterwards"
	}
	return fault.New(fault.Unavailable, "reach %s: %w", u.Host, err).With(remedy)
}
