package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// answerLimit bounds what one answer may make this program hold.
	answerLimit = 64 << 20
	// answerTime bounds how long one answer may take; following has no end.
	answerTime = 30 * time.Second
)

// remote is how a server elsewhere is found and trusted.
type remote struct {
	server, tokenFile, fingerprint string
}

func (r *remote) flags(c *cobra.Command, server, token, variable string) {
	f := c.Flags()
	f.StringVar(&r.server, "server", env("CASTELLAN_SERVER", ""), server+" (CASTELLAN_SERVER)")
	f.StringVar(&r.tokenFile, "token-file", "", token+" (default: "+variable+")")
	f.StringVar(&r.fingerprint, "ca-fingerprint", env("CASTELLAN_CA_FINGERPRINT", ""), "fingerprint of the server's certificate authority; without it the system's authorities are trusted (CASTELLAN_CA_FINGERPRINT)")
}

// askOptions are the flags of a command that asks a server.
type askOptions struct{ remote }

func (o *askOptions) flags(c *cobra.Command) {
	o.remote.flags(c, "address of the server, https://host:port; without it the one on this host is asked", "file that holds an API token", "CASTELLAN_TOKEN")
}

// client asks one server.
type client struct {
	http   *http.Client
	base   string
	token  string
	socket string // path of the local socket; "" for a server elsewhere
}

// dial returns a client for the server that the flags name: by default the
// local one, through its socket.
func (g *globals) dial(o askOptions) (*client, error) {
	if o.server == "" {
		path := server.SocketPath(g.dataDir)
		d := net.Dialer{}
		return &client{
			http: &http.Client{Transport: &http.Transport{
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) },
			}},
			base:   "http://castellan",
			socket: path,
		}, nil
	}
	u, err := url.Parse(o.server)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, usagef("--server %q: want https://host:port", o.server)
	}
	token, err := readToken(o.tokenFile, "CASTELLAN_TOKEN")
	if err != nil {
		return nil, err
	}
	config, err := link.TLS(u.Hostname(), o.fingerprint)
	if err != nil {
		return nil, usageError{err}
	}
	return &client{
		http:  &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, Proxy: http.ProxyFromEnvironment}},
		base:  "https://" + u.Host,
		token: token,
	}, nil
}

// get asks for path and decodes the answer into v.
func (c *client) get(ctx context.Context, path string, query url.Values, v any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.do(ctx, http.MethodGet, path, nil, v)
}

// printAnswer asks for path and prints the answer in the form asked for; table writes
// it for people.
func printAnswer[A any](ctx context.Context, g *globals, o askOptions, f form, path string, table func(*A) error) error {
	api, err := g.dial(o)
	if err != nil {
		return err
	}
	var a A
	if err := api.get(ctx, path, nil, &a); err != nil {
		return err
	}
	return g.print(f, a, func() error { return table(&a) })
}

// upTo asks for pages of a list until it has so many items, or there are no more. page
// answers a query, of which the limit is set; behind has the query go on behind an item.
func upTo[T any](limit int, q url.Values, page func(url.Values) ([]T, error), behind func(url.Values, *T)) ([]T, error) {
	all := []T{} // which is [] in JSON, and not null
	for len(all) < limit {
		n := min(limit-len(all), store.MaxPage)
		q.Set("limit", strconv.Itoa(n))
		more, err := page(q)
		if err != nil {
			return nil, err
		}
		if all = append(all, more...); len(more) < n {
			break
		}
		behind(q, &all[len(all)-1])
	}
	return all, nil
}

// do sends body as JSON, when it is not nil, and decodes the answer into v,
// when that is not nil.
func (c *client) do(ctx context.Context, method, path string, body, v any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if v == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, answerLimit)).Decode(v); err != nil {
		return fmt.Errorf("read answer of %s: %w", path, err)
	}
	return nil
}

// send returns a successful response, whose body the caller closes.
func (c *client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	return c.sendWith(ctx, method, path, body, nil)
}

// sendRange returns a response with a part of what is at a path, whose body the caller
// closes.
func (c *client) sendRange(ctx context.Context, path string, offset, n int64) (*http.Response, error) {
	return c.sendWith(ctx, http.MethodGet, path, nil, http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", offset, offset+n-1)}})
}

func (c *client) sendWith(ctx context.Context, method, path string, body any, header http.Header) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("write request: %w", err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+"/api/v1"+path, r)
	if err != nil {
		return nil, fmt.Errorf("ask server: %w", err)
	}
	maps.Copy(req.Header, header)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("User-Agent", "castellan/"+version())
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, refused(resp)
}

// unreachable says why no answer came, and what to do.
func (c *client) unreachable(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	if c.socket == "" {
		return fault.New(fault.Unavailable, "ask %s: %w", c.base, err).
			With("check the address, and that --ca-fingerprint is what the server printed at its start")
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fault.New(fault.Unavailable, "no server runs on this host with data in %s", filepath.Dir(c.socket)).
			With("start one with castellan up, name its --data-dir, or give --server and a token for one elsewhere")
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.Denied, "the local server speaks to root alone").
			With("run this as root, or give --server and a token")
	}
	return fault.New(fault.Unavailable, "ask the local server: %w", err)
}

// refused turns an error answer into an error with cause and remedy.
func refused(resp *http.Response) error {
	const limit = 64 << 10
	var p server.Problem
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err != nil || json.Unmarshal(b, &p) != nil || p.Title == "" {
		p.Detail = strings.TrimSpace(string(b[:min(len(b), 200)]))
	}
	detail := p.Detail
	if detail == "" {
		detail = resp.Status
	}
	for _, e := range p.Errors {
		if e.Message != "" && e.Message != detail {
			detail += "; " + strings.TrimSpace(e.Location+" "+e.Message)
		}
	}
	f := fault.New(server.Kind(resp.StatusCode), "server: %s", detail)
	switch {
	case p.Remedy != "":
		return f.With(p.Remedy)
	case resp.StatusCode == http.StatusUnauthorized:
		return f.With("give a token that is still valid: CASTELLAN_TOKEN or --token-file")
	case resp.StatusCode == http.StatusForbidden:
		return f.With("use a token with the scope that this needs")
	}
	return f
}
