package link

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/proto/linkv1/linkv1connect"
)

// Times of a client. A report is answered in milliseconds; what takes longer
// than these is better sent again.
const (
	dialTimeout   = 10 * time.Second
	reportTimeout = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	// maxAnswer bounds what a server can make an agent hold.
	maxAnswer = 1 << 20
)

// ClientOptions say how an agent finds and trusts its server.
type ClientOptions struct {
	Server string // https://host:port
	Token  string // API token of scope agents:report
	// CAFingerprint pins the server's own certificate authority, in the form of
	// Fingerprint. Empty: the system's authorities are trusted.
	CAFingerprint string
}

// Client carries reports to a server on another host. It is safe for
// concurrent use.
//
// The token says that this is an agent, not which one: agents that hold a
// token with agents:report trust each other about their ids. Certificates of
// each agent's own are what will change that.
type Client struct {
	server string
	link   linkv1connect.LinkServiceClient
	http   *http.Client
}

// NewClient returns a client; it does not connect yet. The error is Invalid
// and says which option is wrong.
func NewClient(o ClientOptions) (*Client, error) {
	u, err := url.Parse(o.Server)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return nil, fault.New(fault.Invalid, "server %q: want https://host:port", o.Server)
	}
	if o.Token == "" {
		return nil, fault.New(fault.Invalid, "no token for server %s", u.Host).
			With("make one on the server: castellan tokens create NAME --scope agents:report")
	}
	conf, err := TLS(u.Hostname(), o.CAFingerprint)
	if err != nil {
		return nil, err
	}
	c := &http.Client{CheckRedirect: noRedirect, Transport: bearer{token: o.Token, next: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:     conf,
		TLSHandshakeTimeout: dialTimeout,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        2,
		IdleConnTimeout:     idleTimeout,
	}}}
	return &Client{
		server: u.Host, http: c,
		// Reports are not compressed: it would be the largest part of what a busy
		// agent costs, and agents are near their server.
		link: linkv1connect.NewLinkServiceClient(c, "https://"+u.Host,
			connect.WithReadMaxBytes(maxAnswer)),
	}, nil
}

// Report is Server.
func (c *Client) Report(ctx context.Context, r Report) (Receipt, error) {
	if err := r.Check(); err != nil {
		return Receipt{}, err
	}
	msg, err := toWire(r)
	if err != nil {
		return Receipt{}, err
	}
	if n := proto.Size(msg); n > MaxMessage {
		return Receipt{}, fault.New(fault.Invalid, "report has %d bytes; at most %d are taken", n, MaxMessage)
	}
	timed, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	res, err := c.link.Report(timed, connect.NewRequest(msg))
	if err != nil {
		return Receipt{}, errorFromWire(ctx, c.server, err)
	}
	return Receipt{WantSnapshot: res.Msg.GetWantSnapshot()}, nil
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// noRedirect keeps the token from being sent anywhere else.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// bearer adds the token to every request.
type bearer struct {
	token string
	next  *http.Transport
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(r)
}

// CloseIdleConnections is what http.Client.CloseIdleConnections looks for.
func (b bearer) CloseIdleConnections() { b.next.CloseIdleConnections() }
