package link

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"

	"connectrpc.com/connect"

	"github.com/castellan-security/castellan/internal/fault"
)

// remedyHeader carries a fault's remedy beside a Connect error.
const remedyHeader = "Castellan-Remedy"

// codes pairs what both sides can tell apart. Each kind and each code occurs
// once, so that an error comes out as it went in.
var codes = [...]struct {
	kind fault.Kind
	code connect.Code
}{
	{fault.Unknown, connect.CodeInternal},
	{fault.Invalid, connect.CodeInvalidArgument},
	{fault.NotFound, connect.CodeNotFound},
	{fault.Conflict, connect.CodeAlreadyExists},
	{fault.Unauthenticated, connect.CodeUnauthenticated},
	{fault.Denied, connect.CodePermissionDenied},
	{fault.Exhausted, connect.CodeResourceExhausted},
	{fault.Unavailable, connect.CodeUnavailable},
	{fault.Unsupported, connect.CodeUnimplemented},
	{fault.Corrupt, connect.CodeDataLoss},
}

// errorToWire shows the other side an error with a kind; of any other it shows
// only the number under which it stands in the log.
func errorToWire(ctx context.Context, err error, log *slog.Logger) *connect.Error {
	kind := fault.Of(err)
	if kind == fault.Unknown {
		if ctx.Err() != nil {
			return connect.NewError(connect.CodeCanceled, errors.New("the call was given up"))
		}
		id := rand.Text()
		log.Error("call of an agent failed", "error_id", id, "error", err)
		return connect.NewError(connect.CodeInternal, errors.New("unexpected error "+id+"; the server's log says more"))
	}
	code := connect.CodeInternal
	for _, c := range codes {
		if c.kind == kind {
			code = c.code
		}
	}
	ce := connect.NewError(code, err)
	if remedy := fault.Remedy(err); remedy != "" {
		ce.Meta().Set(remedyHeader, remedy)
	}
	return ce
}

// errorFromWire gives an error of the link its kind back. What the network did
// is Unavailable: it is worth another try.
func errorFromWire(ctx context.Context, server string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var ce *connect.Error
	if why := refusedCertificate(err); why != "" {
		return fault.New(fault.Denied, "server %s: %s", server, why).With(joinRemedy)
	}
	if own := new(fault.Error); errors.As(err, &own) {
		return own // of this side: see boundedCodec
	}
	if !errors.As(err, &ce) {
		return unreachable(server, err)
	}
	if !connect.IsWireError(err) && ce.Code() != connect.CodeUnauthenticated && ce.Code() != connect.CodePermissionDenied {
		return unreachable(server, err)
	}
	for _, c := range codes {
		if c.code == ce.Code() {
			return fault.New(c.kind, "server %s: %s", server, ce.Message()).With(ce.Meta().Get(remedyHeader))
		}
	}
	return unreachable(server, err)
}

// Alerts of TLS by which a server refuses a client's certificate: RFC 8446,
// section 6.2.
const (
	alertBadCertificate     = tls.AlertError(42)
	alertRevokedCertificate = tls.AlertError(44)
	alertExpiredCertificate = tls.AlertError(45)
	alertUnknownCertificate = tls.AlertError(46)
	alertUnknownAuthority   = tls.AlertError(48)
)

// refusedCertificate says why the server's TLS did not take this agent's
// certificate; "" when that is not what happened.
func refusedCertificate(err error) string {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return ""
	}
	// The alert has a type of crypto/tls's own, and the same text.
	switch op.Err.Error() {
	case alertExpiredCertificate.Error():
		return "this agent's certificate has expired"
	case alertUnknownAuthority.Error(), alertBadCertificate.Error(), alertUnknownCertificate.Error(), alertRevokedCertificate.Error():
		return "this agent's certificate is not of the server's authority"
	}
	return ""
}

func unreachable(server string, err error) error {
	return fault.New(fault.Unavailable, "reach server %s: %w", server, err).
		With("check that the server runs, its address, and the network between; an agent that joined trusts the authority of then alone")
}
