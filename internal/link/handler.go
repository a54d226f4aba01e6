package link

import (
	"context"
	"log/slog"
	"net/http"

	"connectrpc.com/connect"

	"github.com/castellan-security/castellan/proto/linkv1"
	"github.com/castellan-security/castellan/proto/linkv1/linkv1connect"
)

// Limits of the carriage.
const (
	// MaxMessage bounds one report on the wire, unpacked: a snapshot of
	// MaxProcesses with short command lines fits.
	MaxMessage = 32 << 20
	// maxAtOnce bounds how many reports are read at the same time, and with
	// MaxMessage the memory that all agents together can take.
	maxAtOnce = 16
)

// Handler returns the path and the HTTP handler that carries calls to s over
// Connect. Who may call is decided before it. log gets the errors that are not
// shown to the caller.
func Handler(s Server, log *slog.Logger) (path string, h http.Handler) {
	path, inner := linkv1connect.NewLinkServiceHandler(&handler{s, log}, connect.WithReadMaxBytes(MaxMessage))
	slots := make(chan struct{}, maxAtOnce)
	return path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			inner.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
}

// handler is the server's end of the carriage.
type handler struct {
	server Server
	log    *slog.Logger
}

// Report is linkv1connect.LinkServiceHandler.
func (h *handler) Report(ctx context.Context, req *connect.Request[linkv1.ReportRequest]) (*connect.Response[linkv1.ReportResponse], error) {
	r, err := fromWire(req.Msg)
	if err != nil {
		return nil, errorToWire(ctx, err, h.log)
	}
	receipt, err := h.server.Report(ctx, r)
	if err != nil {
		return nil, errorToWire(ctx, err, h.log)
	}
	return connect.NewResponse(&linkv1.ReportResponse{WantSnapshot: receipt.WantSnapshot}), nil
}
