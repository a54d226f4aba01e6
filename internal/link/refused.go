package link

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// notEstablished is how net/http tells of a connection that ended between
	// its handshake and its first request; it keeps the reason to itself.
	notEstablished = "client conn could not be established"
	// alertWait bounds the wait for what is left to read of a broken
	// connection; normally there is none.
	alertWait = time.Second
)

// connection remembers what a call went over.
type connection struct{ last atomic.Pointer[tls.Conn] }

// traced returns a context for a call, and what will know its connection.
func traced(ctx context.Context) (context.Context, *connection) {
	c := new(connection)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		if t, ok := got.Conn.(*tls.Conn); ok {
			c.last.Store(t)
		}
	}}), c
}

// cause returns why a call failed. With TLS 1.3 a server refuses a client's
// certificate after the client's handshake is done (RFC 8446, section 4.4.2.4),
// and net/http may notice that the connection is gone before it passes on the
// alert that says why. A connection of crypto/tls keeps that alert.
func (c *connection) cause(err error) error {
	conn := c.last.Load()
	var op *net.OpError
	broken := errors.As(err, &op) && op.Op == "write" || strings.Contains(err.Error(), notEstablished)
	if conn == nil || !broken {
		return err
	}
	_ = conn.SetReadDeadline(time.Now().Add(alertWait)) // of a closed one it fails, and so does the read: at once
	if _, why := conn.Read(make([]byte, 1)); refusedCertificate(why) != "" {
		return why
	}
	return err
}
