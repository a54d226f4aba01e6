package oci

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/castellan-security/castellan/internal/fault"
)

// repository is one repository of a registry, entered.
type repository struct {
	name       name.Repository
	scheme     string
	client     *http.Client
	credential credential
	stall      time.Duration // how long stallBytes may take
	until      time.Time     // when it is entered anew
	byToken    bool          // its registry gave a token for what may be done
	lists      support       // of referrers, here
	all        *support      // the same for all of the registry
}

// get asks for a part of the repository. The caller closes the body of the
// answer, which is 200, or 206 when a part of the part was asked for.
func (r *repository) get(ctx context.Context, kind, id string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.address(kind, id).String(), nil)
	if err != nil {
		return nil, err
	}
	for key, values := range header {
		req.Header[key] = values
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, r.explain("ask registry "+r.name.RegistryStr(), err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		defer func() { _ = resp.Body.Close() }()
		return nil, r.refusal(resp)
	}
	return resp, nil
}

// head fetches what a tag or digest names and returns it with its descriptor.
func (r *repository) head(ctx context.Context, id string) (descriptor, []byte, error) {
	b, mediaType, err := r.document(ctx, id)
	if err != nil {
		return descriptor{}, nil, err
	}
	d := descriptor{Digest: digestOf(b, id), Size: int64(len(b)), MediaType: mediaTypeOf(mediaType)}
	if strings.Contains(id, ":") && d.Digest != id {
		return descriptor{}, nil, corrupt("manifest %s: the bytes that came have the digest %s", id, d.Digest)
	}
	if d.MediaType == "application/json" || d.MediaType == "text/plain" || d.MediaType == "application/octet-stream" {
		d.MediaType = "" // a file server's word; the document itself knows better
	}
	return d, b, nil
}

func (r *repository) manifest(ctx context.Context, d descriptor) (io.ReadCloser, error) {
	b, _, err := r.document(ctx, d.Digest)
	return io.NopCloser(bytes.NewReader(b)), err
}

// document fetches an index or a manifest with the media type that the registry
// says it has. A connection that breaks within is tried again.
func (r *repository) document(ctx context.Context, id string) ([]byte, string, error) {
	for attempt := 1; ; attempt++ {
		resp, err := r.get(ctx, "manifests", id, http.Header{"Accept": {accepted}})
		if err != nil {
			return nil, "", err
		}
		b, err := readBounded(resp.Body, maxManifest, "manifest")
		_ = resp.Body.Close() // all of it was read, or an error says why not
		if err == nil {
			return b, resp.Header.Get("Content-Type"), nil
		}
		if attempt == maxAttempts || fault.Of(err) != fault.Unknown || ctx.Err() != nil {
			return nil, "", r.explain("ask registry "+r.name.RegistryStr(), err)
		}
	}
}

// blob opens a blob, whose stream is taken up again when it breaks.
func (r *repository) blob(ctx context.Context, d descriptor) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	b := &blob{repo: r, ctx: ctx, cancel: cancel, d: d, patience: r.stall}
	b.timer = time.AfterFunc(time.Hour, func() { cancel(errStalled) })
	b.timer.Stop()
	if err := b.open(); err != nil {
		cancel(nil)
		return nil, err
	}
	return b, nil
}

// refusal turns an answer that is not good into an error with the registry's
// own words.
func (r *repository) refusal(resp *http.Response) error {
	refused := &transport.Error{}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil || json.Unmarshal(b, refused) != nil {
		refused.Errors = nil // a proxy's page, whose status must do
	}
	refused.StatusCode = resp.StatusCode
	what := "ask registry " + r.name.RegistryStr()
	if asked, said := retryAfter(resp.Header, time.Now()); said {
		what += " (which wants to be asked again in " + asked.Round(time.Second).String() + ")"
	}
	return r.explain(what, refused)
}

// explain gives an error of a registry its kind and remedy.
func (r *repository) explain(what string, err error) error {
	host := r.name.RegistryStr()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || fault.Of(err) != fault.Unknown {
		return fmt.Errorf("%s: %w", what, err)
	}
	var refused *transport.Error
	if !errors.As(err, &refused) {
		return fault.New(fault.Unavailable, "%s: %w", what, brief(err)).With(remedyOf(err, host))
	}
	said := reply{refused}
	switch refused.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		kind := fault.Denied
		if refused.StatusCode == http.StatusUnauthorized {
			kind = fault.Unauthenticated
		}
		if t := r.credential.trouble; t != nil {
			return fault.New(kind, "%s: %w; asked as nobody, because: %w", what, said, t).With("mend that, or log in: docker login " + host)
		}
		return fault.New(kind, "%s: %w; asked as %s", what, said, r.credential.explain()).
			With("is the name right? if so, log in with a user who may do that: docker login " + host)
	case http.StatusNotFound:
		return fault.New(fault.NotFound, "%s: %w", what, said).With("is there such a repository, and has it that tag or digest?")
	case http.StatusTooManyRequests:
		return fault.New(fault.Exhausted, "%s: %w", what, said).
			With("wait, or log in (docker login " + host + "): registries give known users more")
	}
	return fault.New(fault.Unavailable, "%s: %w", what, said).With("try again later; if it stays so, ask whoever runs the registry")
}

// reply is what a registry said, without the address.
type reply struct{ refused *transport.Error }

// Error returns the status and the registry's own words.
func (a reply) Error() string {
	text := strconv.Itoa(a.refused.StatusCode) + " " + http.StatusText(a.refused.StatusCode)
	for i, d := range a.refused.Errors {
		if i == 3 {
			break
		}
		text += fmt.Sprintf(": %s %s", d.Code, d.Message)
	}
	return shown(strings.TrimSpace(text))
}

// Unwrap returns the answer for who tells its status apart.
func (a reply) Unwrap() error { return a.refused }

// brief drops the address from an error of the client: blobs are kept at
// addresses that are signed, and so a secret.
func brief(err error) error {
	var sent *url.Error
	if errors.As(err, &sent) {
		return sent.Err
	}
	return err
}

// remedyOf says what to do when no answer came.
func remedyOf(err error, host string) string {
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate):
		return "have the registry's certificate authority trusted: --registry-ca FILE, or put it into the system's"
	case errors.Is(err, http.ErrSchemeMismatch):
		return host + " speaks plain HTTP: say --plain-http if that is meant to be"
	}
	return "is the registry's name right, and can it be reached from here? a proxy is taken from HTTPS_PROXY"
}
