package link

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"

	"golang.org/x/net/http2"
)

// notEstablished is how net/http tells of a connection that ended between its
// handshake and its first request; it keeps the reason to itself.
const notEstablished = "client conn could not be established"

// failed gives the error of a call its kind.
//
// With TLS 1.3 a server refuses a client's certificate after the client's
// handshake is done (RFC 8446, section 4.4.2.4): net/http may notice that it
// cannot write any more before it reads the alert that says why. Then the
// server is asked once more, by a connection that does nothing but listen.
func (c *Client) failed(ctx context.Context, err error) error {
	var op *net.OpError
	unsaid := errors.As(err, &op) && op.Op == "write" || strings.Contains(err.Error(), notEstablished)
	if ctx.Err() == nil && unsaid {
		if why := c.listen(ctx); refusedCertificate(why) != "" {
			err = why
		}
	}
	return errorFromWire(ctx, c.server, err)
}

// listen connects and waits for the first byte of the server's preface, which
// it sends unasked (RFC 9113, section 3.4), or for its refusal.
func (c *Client) listen(ctx context.Context) error {
	timed, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conf := c.conf.Clone()
	conf.NextProtos = []string{http2.NextProtoTLS}
	conn, err := (&tls.Dialer{Config: conf}).DialContext(timed, "tcp", c.server)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing was written
	if end, ok := timed.Deadline(); ok {
		if err := conn.SetReadDeadline(end); err != nil {
			return err
		}
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}
