package oci

import (
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/pace"
)

// host is a registry that is watched: how often and how it may be asked. What is
// opened there keeps to it as well, so that both together don't ask too much.
//
// It may be configured several times, under different names: the lowest rate
// holds, and plain HTTP is permitted if all permit it.
type host struct {
	pace pace.Pace

	mu      sync.Mutex
	wants   map[string]want // by the name of the configuration
	plain   bool            // plain HTTP is permitted
	strikes int             // how often in a row it was too busy
	// entry is how it wants to be entered, known until the end.
	entry *transport.Challenge
	until time.Time
}

// want is what one configuration of a host says, and until when.
type want struct {
	rate  float64
	plain bool
	until time.Time
}

// configure sets what one configuration says, and returns whether it is another
// thing than before by which protocol the host may be spoken to.
func (h *host) configure(name string, w want, now time.Time) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wants[name] = w
	maps.DeleteFunc(h.wants, func(_ string, w want) bool { return !now.Before(w.until) })
	lowest, plain := w.rate, true
	for _, other := range h.wants {
		lowest, plain = min(lowest, other.rate), plain && other.plain
	}
	h.pace.Limit(lowest)
	if changed = plain != h.plain; changed {
		h.plain, h.entry = plain, nil
	}
	return changed
}

// isForgotten reports whether nobody wants anything of a host any more, and it
// wants nothing of us.
func (h *host) isForgotten(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.wants {
		if now.Before(w.until) {
			return false
		}
	}
	return !now.Before(h.pace.Until())
}

// isPlain reports whether plain HTTP is permitted.
func (h *host) isPlain() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.plain
}

// host returns what is known of a registry, set as it is configured now. What
// nobody has used for configuredFor is forgotten.
func (r *Registry) host(registry string, w asset.Registry) *host {
	rate := w.Rate
	if rate <= 0 {
		rate = DefaultRate
		if isLoopback(registry) {
			rate = localRate
		}
	}
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.hosts, func(name string, h *host) bool { return name != registry && h.isForgotten(now) })
	h := r.hosts[registry]
	if h == nil {
		h = &host{wants: map[string]want{}}
		r.hosts[registry] = h
	}
	if h.configure(w.Name, want{rate: rate, plain: w.PlainHTTP, until: now.Add(configuredFor)}, now) {
		maps.DeleteFunc(r.repos, func(_ string, in *repository) bool { return in.name.RegistryStr() == registry })
	}
	return h
}

// watched returns what is known of a registry; nil when it isn't watched.
func (r *Registry) watched(registry string) *host {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.hosts[registry]; h != nil && !h.isForgotten(r.now()) {
		return h
	}
	return nil
}

// challenge returns how a registry wants to be entered. It is asked again after
// enteredFor.
func (h *host) challenge(ctx context.Context, registry name.Registry, way http.RoundTripper, now time.Time) (*transport.Challenge, error) {
	h.mu.Lock()
	entry, until := h.entry, h.until
	h.mu.Unlock()
	if entry != nil && now.Before(until) {
		return entry, nil
	}
	entry, err := transport.Ping(ctx, registry, way)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.entry, h.until = entry, now.Add(enteredFor)
	return entry, nil
}

// bearer returns the way into a registry that wants to be entered as challenge
// says.
func bearer(ctx context.Context, registry name.Registry, auth authn.Authenticator, way http.RoundTripper, scope string, challenge *transport.Challenge) (http.RoundTripper, error) {
	token := &transport.Token{}
	if strings.EqualFold(challenge.Scheme, "bearer") {
		known, err := authn.Authorization(ctx, auth)
		if err != nil {
			return nil, err
		}
		token.Token = known.RegistryToken
		if token.Token == "" {
			if token, err = transport.Exchange(ctx, registry, auth, way, []string{scope}, challenge); err != nil {
				return nil, err
			}
			token.Token = cmp.Or(token.AccessToken, token.Token)
		}
	}
	return transport.FromToken(registry, auth, way, challenge, token)
}

// paced sends requests to registries that are watched no faster than they want
// it.
type paced struct {
	registry *Registry
	next     http.RoundTripper
}

// RoundTrip waits for the registry's turn and sends a request. A registry that
// wants to be left alone for longer than maxRetryAfter is not waited for.
func (p paced) RoundTrip(req *http.Request) (*http.Response, error) {
	h := p.registry.watched(req.URL.Host)
	if h == nil {
		return p.next.RoundTrip(req)
	}
	if err := h.wait(req.Context(), req.URL.Host, p.registry.now, p.registry.sleep); err != nil {
		return nil, err
	}
	resp, err := p.next.RoundTrip(req)
	if err == nil {
		h.heed(resp, p.registry.now())
	}
	return resp, err
}

// wait waits for the next turn.
func (h *host) wait(ctx context.Context, name string, now func() time.Time, sleep func(context.Context, time.Duration) error) error {
	turn := h.pace.Turn(now())
	for {
		at := now()
		until := h.pace.Until()
		if alone := until.Sub(at); alone > maxRetryAfter {
			return fault.New(fault.Exhausted, "registry %s wants to be left alone for another %s", shown(name), alone.Round(time.Second)).
				With("wait, ask it less often, or log in (docker login " + shown(name) + "): registries give known users more")
		}
		if until.After(turn) {
			turn = until // a pause that began after the turn was given
		}
		if !turn.After(at) {
			return ctx.Err()
		}
		if err := sleep(ctx, turn.Sub(at)); err != nil {
			return err
		}
	}
}

// heed takes from an answer when the next request may be sent. A registry that
// is too busy is asked again after the time that it names, else after pauses each
// twice as long as the one before, and nobody asks meanwhile. One that counts
// requests tells how many are left.
func (h *host) heed(resp *http.Response, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if left, reset, ok := remaining(resp.Header, now); ok && left <= 0 {
		h.pace.Pause(now.Add(min(reset, maxPause)))
	}
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		if resp.StatusCode < http.StatusInternalServerError {
			h.strikes = 0
		}
		return
	}
	if asked, said := retryAfter(resp.Header, now); said {
		h.pace.Pause(now.Add(min(asked, maxPause)))
		return
	}
	if now.Before(h.pace.Until()) {
		return // of a request that was under way when the pause began
	}
	pause := min(firstPause<<min(h.strikes, maxStrikes), maxRetryAfter)
	h.strikes++
	h.pace.Pause(now.Add(pause - time.Duration(rand.Float64()/2*float64(pause))))
}

// remaining reads how many requests a registry still permits and when it begins
// to count anew: ratelimit-remaining and ratelimit-reset, with or without x- in
// front. The value may have parameters ("76;w=21600"); the reset is in seconds, or
// the seconds since 1970.
func remaining(h http.Header, now time.Time) (left int64, reset time.Duration, ok bool) {
	read := func(key string) (int64, bool) {
		text, _, _ := strings.Cut(cmp.Or(h.Get(key), h.Get("X-"+key)), ";")
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		return n, err == nil && n >= 0
	}
	left, ok = read("Ratelimit-Remaining")
	seconds, known := read("Ratelimit-Reset")
	if !ok || !known {
		return 0, 0, false
	}
	const epoch = 1e9 // in 2001; no window is as long
	if seconds >= epoch {
		seconds = max(seconds-now.Unix(), 0)
	}
	return left, time.Duration(min(seconds, int64(maxPause/time.Second))) * time.Second, true
}
