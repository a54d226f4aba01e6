package docker

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// grpcUnimplemented is the status by which a server of gRPC says that it does not
// have what it is asked.
const grpcUnimplemented = "12"

// BuildsUnasked says whether the engine builds images for whoever speaks gRPC over
// HTTP/2 on its socket, as engines do from 29 on: it asks no authorization plugin
// about these calls. The error says that the engine could not be asked.
func (r *Reader) BuildsUnasked(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	h := r.engine.host
	if err := h.dial(ctx); err != nil {
		return false, err
	}
	var speaks http.Protocols
	speaks.SetHTTP2(h.tls != nil)
	speaks.SetUnencryptedHTTP2(h.tls == nil)
	t := h.transport()
	t.Protocols = &speaks
	defer t.CloseIdleConnections()
	// A question without anything in it, which lists the builder's workers.
	const frame = 5
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.base+"/moby.buildkit.v1.Control/ListWorkers", bytes.NewReader(make([]byte, frame)))
	if err != nil {
		return false, fmt.Errorf("build request: %w", err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	resp, err := t.RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil {
			return false, fmt.Errorf("ask engine by gRPC: %w", ctx.Err())
		}
		return false, nil // it does not speak HTTP/2
	}
	defer func() { _ = resp.Body.Close() }() // the answer was read or is given up
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/grpc") {
		return false, nil
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxInspectBody)); err != nil {
		return false, fmt.Errorf("ask engine by gRPC: %w", err)
	}
	return resp.Header.Get("Grpc-Status") != grpcUnimplemented && resp.Trailer.Get("Grpc-Status") != grpcUnimplemented, nil
}
