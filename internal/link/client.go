package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/proto/linkv1"
	"github.com/castellan-security/castellan/proto/linkv1/linkv1connect"
)

// Times of a client. A report is answered in milliseconds; what takes longer
// than these is better sent again.
const (
	dialTimeout   = 10 * time.Second
	reportTimeout = 30 * time.Second
	// inventoryTimeout is how long a server reads a request: MaxInventory at
	// three megabits a second fits.
	inventoryTimeout = time.Minute
	idleTimeout      = 2 * time.Minute
	// pingAfter a connection that was silent for so long is asked whether the
	// server is there, and given up after pingWait: a server that vanished is
	// noticed within 15 s.
	pingAfter = 10 * time.Second
	pingWait  = 5 * time.Second
	// maxAnswer bounds what a server can make an agent hold.
	maxAnswer = 1 << 20
)

// ClientOptions say how an agent finds its server, how it trusts it, and how it
// proves itself. All are required.
type ClientOptions struct {
	Server string // https://host:port
	// Authority is the only one that is trusted to vouch for the server.
	Authority *x509.Certificate
	// Certificate is asked at each new connection.
	Certificate func() *tls.Certificate
}

// Client carries reports and directives between an agent and a server on
// another host. It is safe for concurrent use.
//
// The certificate says which agent this is; the server takes nobody's word for
// it. The server is trusted when Authority signed its certificate, and no other
// authority of this host's system is asked.
type Client struct {
	server string
	conf   *tls.Config
	now    atomic.Pointer[carriage]
}

// carriage is one connection with what it needs, from Renewed to Renewed.
type carriage struct {
	link linkv1connect.LinkServiceClient
	http *http.Client
	// bulk is for inventories, on a connection of its own: a large request that
	// the server lets wait would hold up the reports on the same connection.
	bulk     linkv1connect.LinkServiceClient
	bulkHTTP *http.Client
	// briefs is link for the one call whose answer may be large.
	briefs linkv1connect.LinkServiceClient
	over   chan struct{} // closed when another one took its place
}

// close lets go of idle connections.
func (c *carriage) close() {
	c.http.CloseIdleConnections()
	c.bulkHTTP.CloseIdleConnections()
}

// NewClient returns a client; it does not connect yet. The error is Invalid
// and says which option is wrong.
func NewClient(o ClientOptions) (*Client, error) {
	u, err := serverURL(o.Server)
	if err != nil {
		return nil, err
	}
	if o.Authority == nil || o.Certificate == nil {
		return nil, fault.New(fault.Invalid, "no certificate for server %s", u.Host).With(joinRemedy)
	}
	roots := x509.NewCertPool()
	roots.AddCert(o.Authority)
	c := &Client{server: u.Host, conf: &tls.Config{
		MinVersion: tls.VersionTLS12,
		RootCAs:    roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return o.Certificate(), nil
		},
	}}
	c.now.Store(c.renewed())
	return c, nil
}

// joinRemedy is what helps an agent without a certificate that counts.
const joinRemedy = "join with a new invitation: castellan agents invite (on the server), then castellan agent join --again"

func serverURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return nil, fault.New(fault.Invalid, "server %q: want https://host:port", s)
	}
	return u, nil
}

// renewed returns what calls go over, with nothing open yet.
func (c *Client) renewed() *carriage { return c.carried(httpClient(c.conf), httpClient(c.conf)) }

// carried returns what calls go over by two HTTP clients.
func (c *Client) carried(h, bulk *http.Client) *carriage {
	// Reports are not compressed: it would be the largest part of what a busy
	// agent costs, and agents are near their server.
	over := func(h *http.Client, most int) linkv1connect.LinkServiceClient {
		return linkv1connect.NewLinkServiceClient(h, "https://"+c.server, connect.WithReadMaxBytes(most), connect.WithCodec(boundedCodec{}))
	}
	return &carriage{http: h, link: over(h, maxAnswer), bulkHTTP: bulk, bulk: over(bulk, maxAnswer), briefs: over(h, maxBrief), over: make(chan struct{})}
}

// httpClient returns an HTTP client of one connection that notices when the
// other side is gone.
func httpClient(conf *tls.Config) *http.Client {
	return &http.Client{CheckRedirect: noRedirect, Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:     conf,
		TLSHandshakeTimeout: dialTimeout,
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingWait},
		MaxIdleConns:        2,
		IdleConnTimeout:     idleTimeout,
	}}
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
	timed, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	res, err := c.now.Load().link.Report(timed, connect.NewRequest(msg))
	if err != nil {
		return Receipt{}, c.failed(ctx, err)
	}
	return Receipt{WantSnapshot: res.Msg.GetWantSnapshot(), ThreatsTaken: res.Msg.GetThreatsTaken()}, nil
}

// Directives is Server.
func (c *Client) Directives(ctx context.Context, who Caller, take func(Directive)) error {
	for {
		now := c.now.Load()
		err := c.directives(ctx, now, who, take)
		select {
		case <-now.over:
			// A renewed certificate, not a loss: what holds now comes anew.
			if ctx.Err() == nil {
				continue
			}
		default:
		}
		return err
	}
}

// directives listens on one carriage until that is replaced.
func (c *Client) directives(ctx context.Context, on *carriage, who Caller, take func(Directive)) error {
	listening, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-on.over:
			cancel()
		case <-listening.Done():
		}
	}()
	stream, err := on.link.Directives(listening, connect.NewRequest(&linkv1.DirectivesRequest{Boot: who.Boot, Version: who.Version}))
	if err != nil {
		return c.failed(ctx, err)
	}
	defer stream.Close()
	for stream.Receive() {
		d, err := directiveFromWire(stream.Msg())
		if err != nil {
			return err
		}
		take(d)
	}
	if err := stream.Err(); err != nil {
		return c.failed(ctx, err)
	}
	return unreachable(c.server, errors.New("the server ended the directives"))
}

// Inventory is Server. A server that is older than inventories is Unsupported.
func (c *Client) Inventory(ctx context.Context, s Scanned) error {
	if err := s.Check(); err != nil {
		return err
	}
	timed, cancel := context.WithTimeout(ctx, inventoryTimeout)
	defer cancel()
	_, err := c.now.Load().bulk.Inventory(timed, connect.NewRequest(scannedToWire(s)))
	if connect.CodeOf(err) == connect.CodeUnimplemented { // also of a server that answers 404
		return fault.New(fault.Unsupported, "server %s takes no inventories", c.server).With("update the server: it is older than this agent")
	}
	if err != nil {
		return c.failed(ctx, err)
	}
	return nil
}

// Verdict is Server. A server that is older than verdicts is Unsupported.
func (c *Client) Verdict(ctx context.Context, v Verified) error {
	if err := v.Check(); err != nil {
		return err
	}
	timed, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	_, err := c.now.Load().bulk.Verdict(timed, connect.NewRequest(verifiedToWire(v)))
	if connect.CodeOf(err) == connect.CodeUnimplemented { // also of a server that answers 404
		return fault.New(fault.Unsupported, "server %s takes no verdicts", c.server).With("update the server: it is older than this agent")
	}
	if err != nil {
		return c.failed(ctx, err)
	}
	return nil
}

// Renew asks for a new certificate by the one of now; see Joiner.Renew.
func (c *Client) Renew(ctx context.Context, csr []byte) (Credentials, error) {
	timed, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	res, err := c.now.Load().link.Renew(timed, connect.NewRequest(&linkv1.RenewRequest{Csr: csr}))
	if err != nil {
		return Credentials{}, c.failed(ctx, err)
	}
	return credentialsFromWire(res.Msg), nil
}

// Renewed makes the client prove itself by what ClientOptions.Certificate
// returns from now on. Calls that are under way end on the old connection.
func (c *Client) Renewed() {
	old := c.now.Swap(c.renewed())
	close(old.over)
	old.close()
}

// Close lets go of idle connections.
func (c *Client) Close() { c.now.Load().close() }

// noRedirect keeps reports from being sent anywhere else.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Join asks the server at an address for an agent's first certificate. The
// server is trusted when fingerprint names its authority, or, without one, when
// the system's authorities vouch for it. Errors are those of Joiner.Join, and
// Unavailable.
func Join(ctx context.Context, server, fingerprint string, r JoinRequest) (Credentials, error) {
	u, err := serverURL(server)
	if err != nil {
		return Credentials{}, err
	}
	conf, err := TLS(u.Hostname(), fingerprint)
	if err != nil {
		return Credentials{}, err
	}
	h := httpClient(conf)
	defer h.CloseIdleConnections()
	timed, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	res, err := linkv1connect.NewJoinServiceClient(h, "https://"+u.Host, connect.WithReadMaxBytes(maxAnswer)).
		Join(timed, connect.NewRequest(&linkv1.JoinRequest{
			Token: r.Token, Csr: r.CSR, AgentId: r.AgentID, Hostname: text(r.Hostname), Version: text(r.Version),
		}))
	if err != nil {
		return Credentials{}, errorFromWire(ctx, u.Host, err)
	}
	return credentialsFromWire(res.Msg), nil
}
