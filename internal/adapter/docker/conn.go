package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// conn is one negotiated connection to an engine. The engine's own client
// agrees on the version; the answers that matter are read here, because the
// client refuses a whole answer when one address in it is malformed, which
// whoever makes a container can arrange, and because it reads without a limit.
type conn struct {
	http   *http.Client
	base   string // with the version that both sides speak
	engine asset.Engine
}

// dial connects to h, agrees on a version and asks what engine it is.
func dial(ctx context.Context, h host) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if err := h.dial(ctx); err != nil {
		return nil, err
	}
	hc := &http.Client{
		Transport: h.transport(),
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // an engine never sends anybody elsewhere
		},
	}
	c := &conn{http: hc}
	version, err := negotiate(ctx, h, hc)
	if err != nil {
		c.close()
		return nil, err
	}
	c.base = h.base + "/v" + version
	c.engine = asset.Engine{Name: "Docker Engine", APIVersion: version, Connected: true}
	if err := c.describe(ctx); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// negotiate returns the highest API version that both sides speak. An engine
// older than the client supports is still spoken to in its own version: what is
// asked here has not changed since API 1.24.
func negotiate(ctx context.Context, h host, hc *http.Client) (string, error) {
	api, err := client.New(client.WithHost(h.name), client.WithHTTPClient(hc), client.WithAPIVersionFromEnv())
	if err != nil {
		return "", fault.New(fault.Invalid, "set up docker client: %w", err).
			With("check DOCKER_API_VERSION: it is a number such as 1.41, and best unset")
	}
	defer func() { _ = api.Close() }() // only drops idle connections
	ping, err := api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	if v := ping.APIVersion; v != "" && versions.LessThan(v, client.MinAPIVersion) {
		if !isVersion(v) {
			return "", fmt.Errorf("agree on an API version: the engine offers %q", clean(v, maxText))
		}
		return v, nil
	}
	if err != nil {
		return "", fmt.Errorf("agree on an API version: %w", err)
	}
	return api.ClientVersion(), nil
}

// isVersion reports whether v is digits and dots, fit to be part of a path.
func isVersion(v string) bool {
	const longest = 16
	return v != "" && len(v) <= longest && strings.Trim(v, "0123456789.") == ""
}

// describe asks the engine for its name and version.
func (c *conn) describe(ctx context.Context) error {
	var v struct {
		Version  string
		Platform struct{ Name string }
	}
	if err := c.get(ctx, "/version", nil, maxInspectBody, &v); err != nil {
		return fmt.Errorf("ask engine for its version: %w", err)
	}
	c.engine.Version = clean(v.Version, maxText)
	if v.Platform.Name != "" {
		c.engine.Name = clean(v.Platform.Name, maxText)
	}
	return nil
}

// ping asks whether the engine still answers.
func (c *conn) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	body, err := c.open(ctx, "/_ping", nil)
	if err != nil {
		return fmt.Errorf("ping engine: %w", err)
	}
	return body.Close()
}

// list returns every container that the engine knows, running or not.
func (c *conn) list(ctx context.Context) ([]summary, error) {
	ctx, cancel := context.WithTimeout(ctx, listWithin)
	defer cancel()
	var all []summary
	if err := c.get(ctx, "/containers/json", url.Values{"all": {"1"}}, maxListBody, &all); err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	return all, nil
}

// inspect returns what the engine knows of one container. The error is of kind
// NotFound when it no longer knows it. look may be nil.
func (c *conn) inspect(ctx context.Context, id string, look Onlooker) (inspection, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var looked func(json.RawMessage)
	if look != nil {
		looked = look(id)
	}
	answer, err := c.read(ctx, "/containers/"+id+"/json", nil, maxInspectBody)
	if looked != nil {
		looked(answer)
	}
	var in inspection
	if err == nil {
		err = parse(answer, &in)
	}
	if err != nil {
		return inspection{}, fmt.Errorf("inspect container %s: %w", asset.ShortID(id), err)
	}
	if in.ID != id {
		return inspection{}, fmt.Errorf("inspect container %s: the engine answered about another one", asset.ShortID(id))
	}
	return in, nil
}

// image returns what the engine knows of an image. The error is of kind
// NotFound when it no longer knows it.
func (c *conn) image(ctx context.Context, imageID string) (imageFacts, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var f imageFacts
	if err := c.get(ctx, "/images/"+imageID+"/json", nil, maxInspectBody, &f); err != nil {
		return imageFacts{}, fmt.Errorf("inspect image: %w", err)
	}
	return f, nil
}

// events opens the stream of what happens to containers, from since on by the
// engine's clock: the engine keeps the last few hundred events. The caller
// closes it.
func (c *conn) events(ctx context.Context, since time.Time) (io.ReadCloser, error) {
	filter, err := json.Marshal(map[string]map[events.Type]bool{
		"type": {events.ContainerEventType: true, events.NetworkEventType: true},
	})
	if err != nil {
		return nil, fmt.Errorf("build event filter: %w", err)
	}
	body, err := c.open(ctx, "/events", url.Values{
		"since":   {fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond())},
		"filters": {string(filter)},
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe to engine events: %w", err)
	}
	return body, nil
}

// get reads one answer of at most limit bytes into v.
func (c *conn) get(ctx context.Context, path string, query url.Values, limit int64, v any) error {
	b, err := c.read(ctx, path, query, limit)
	if err != nil {
		return err
	}
	return parse(b, v)
}

func parse(answer []byte, v any) error {
	if err := json.Unmarshal(answer, v); err != nil {
		return fmt.Errorf("parse answer: %w", err)
	}
	return nil
}

// read returns one answer of at most limit bytes.
func (c *conn) read(ctx context.Context, path string, query url.Values, limit int64) ([]byte, error) {
	body, err := c.open(ctx, path, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }() // nothing is lost: the answer was read or is given up
	b, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fault.New(fault.Exhausted, "the answer is longer than %d bytes", limit)
	}
	return b, nil
}

// open sends a GET and returns the body of a good answer.
func (c *conn) open(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		var sent *url.Error
		if errors.As(err, &sent) {
			err = sent.Err // without the address, which is the same for all
		}
		return nil, fault.New(fault.Unavailable, "%w", err).With("is dockerd still running?")
	}
	if resp.StatusCode != http.StatusOK {
		defer func() { _ = resp.Body.Close() }()
		return nil, refusal(resp)
	}
	return resp.Body, nil
}

// refusal turns an answer that is not good into an error with the engine's own
// words.
func refusal(resp *http.Response) error {
	var said struct{ Message string }
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil || json.Unmarshal(b, &said) != nil || said.Message == "" {
		said.Message = string(bytes.TrimSpace(b))
	}
	kind := fault.Unavailable
	switch resp.StatusCode {
	case http.StatusNotFound:
		kind = fault.NotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		kind = fault.Denied
	case http.StatusBadRequest:
		kind = fault.Unsupported
	}
	return fault.New(kind, "the engine answered %d: %s", resp.StatusCode, clean(said.Message, maxText))
}

// close ends the connections. Streams end with their context.
func (c *conn) close() { c.http.CloseIdleConnections() }
