package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

// errStalled is why a stream is given up.
var errStalled = errors.New("the connection stalled")

// blob is the stream of one blob. It is not kept anywhere, so a stream that
// breaks is taken up where it broke.
type blob struct {
	repo   *repository
	ctx    context.Context // of the open request
	cancel context.CancelCauseFunc
	d      descriptor

	body    io.ReadCloser
	at      int64 // bytes read
	resumed int

	// timer ends the request when patience has passed within Read.
	timer    *time.Timer
	patience time.Duration // left until stallBytes have come
	came     int64         // of stallBytes
}

// open asks for the rest of the blob.
func (b *blob) open() error {
	header := http.Header{}
	if b.at > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", b.at))
	}
	resp, err := b.repo.get(b.ctx, "blobs", b.d.Digest, header)
	if err != nil {
		return err
	}
	b.body = resp.Body
	rest := b.d.Size - b.at
	if b.at > 0 && resp.StatusCode == http.StatusOK {
		// A server that knows no ranges: what was read comes once more.
		rest = b.d.Size
	}
	if resp.StatusCode == http.StatusPartialContent && !strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", b.at)) {
		return errors.Join(corrupt("blob %s: asked for what follows byte %d, and the registry sent %q", short(b.d.Digest), b.at,
			shown(resp.Header.Get("Content-Range"))), b.body.Close())
	}
	if n := resp.ContentLength; n >= 0 && n != rest {
		return errors.Join(corrupt("blob %s: the registry sends %d bytes, and %d were announced", short(b.d.Digest), n, rest), b.body.Close())
	}
	if b.at > 0 && resp.StatusCode == http.StatusOK {
		if _, err := io.CopyN(io.Discard, b.body, b.at); err != nil {
			return errors.Join(err, b.body.Close())
		}
	}
	return nil
}

// Read reads on, over breaks of the connection. At the end it has read as many
// bytes as were announced.
func (b *blob) Read(p []byte) (int, error) {
	for {
		if b.at == b.d.Size {
			return 0, io.EOF
		}
		n, err := b.read(p[:min(int64(len(p)), b.d.Size-b.at)])
		b.at += int64(n)
		if err == nil || n > 0 || b.at == b.d.Size {
			return n, nil // an error comes again
		}
		if err := b.resume(err); err != nil {
			return 0, err
		}
	}
}

// read reads within the patience that is left.
func (b *blob) read(p []byte) (int, error) {
	b.timer.Reset(b.patience)
	began := time.Now()
	n, err := b.body.Read(p)
	b.timer.Stop()
	b.patience -= time.Since(began)
	if b.came += int64(n); b.came >= stallBytes {
		b.came, b.patience = 0, b.repo.stall
	}
	if b.patience <= 0 {
		b.cancel(errStalled)
	}
	return n, err
}

// resume takes the stream up again after it broke because of err.
func (b *blob) resume(err error) error {
	if cause := context.Cause(b.ctx); cause != nil {
		if errors.Is(cause, errStalled) {
			return fault.New(fault.Unavailable, "read blob %s: %w after %d of %d bytes", short(b.d.Digest), cause, b.at, b.d.Size).
				With("try again; if it stays so, look at the network or the proxy between")
		}
		return cause
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if b.resumed++; b.resumed > maxResumes {
		return fault.New(fault.Unavailable, "read blob %s: %w after %d of %d bytes, %d times in a row", short(b.d.Digest), brief(err), b.at, b.d.Size, b.resumed).
			With("try again; if it stays so, look at the network or the proxy between")
	}
	_ = b.body.Close() // it is broken
	return b.open()
}

// Close ends the request.
func (b *blob) Close() error {
	b.timer.Stop()
	b.cancel(nil)
	return b.body.Close()
}
