package oci

import (
	"context"
	"net"
	"time"
)

// WithSleep makes a registry call sleep instead of waiting.
func (r *Registry) WithSleep(sleep func(context.Context, time.Duration) error) *Registry {
	r.sleep = sleep
	return r
}

// Limits and words that tests speak of.
const (
	MaxManifest   = maxManifest
	MaxLayers     = maxLayers
	MaxNesting    = maxNesting
	MaxEntries    = maxEntries
	MaxNames      = maxNames
	MaxAttempts   = maxAttempts
	MaxRetryAfter = maxRetryAfter
	MaxResumes    = maxResumes
)

// WithDial makes a registry reach every host at address.
func (r *Registry) WithDial(address string) *Registry {
	r.base.Proxy, r.brisk.Proxy = nil, nil
	r.base.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	r.brisk.DialContext = r.base.DialContext
	return r
}

// WithStall makes a registry give a layer up that doesn't come on for d.
func (r *Registry) WithStall(d time.Duration) *Registry {
	r.stall = d
	return r
}

// WithClock makes a registry tell the time by now.
func (r *Registry) WithClock(now func() time.Time) *Registry {
	r.now = now
	return r
}
