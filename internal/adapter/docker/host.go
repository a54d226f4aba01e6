package docker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/fault"
)

// maxSocketPath is what fits into sockaddr_un beside the closing zero: unix(7).
const maxSocketPath = 107

// host is where an engine listens.
type host struct {
	name    string // as it was given
	network string // unix or tcp
	address string
	base    string      // scheme, host and path that requests begin with
	tls     *tls.Config // nil for plain connections
}

// parseHost reads a host in the form of DOCKER_HOST.
func parseHost(name string) (host, error) {
	if name == "" {
		name = os.Getenv(client.EnvOverrideHost)
	}
	if name == "" {
		name = client.DefaultDockerHost
	}
	u, err := client.ParseHostURL(name)
	if err != nil {
		return host{}, fault.New(fault.Invalid, "docker host %q: %w", name, err).With("give unix:///path or tcp://host:port")
	}
	h := host{name: name, network: u.Scheme, address: u.Host}
	switch u.Scheme {
	case "unix":
		if len(u.Host) > maxSocketPath {
			return host{}, fault.New(fault.Invalid, "docker host %q: path of %d bytes, and a socket's has at most %d", name, len(u.Host), maxSocketPath).
				With("use a shorter path, for instance a symbolic link")
		}
		h.base = "http://" + client.DummyHost
		return h, nil
	case "tcp":
		h.base = "http://" + u.Host + strings.TrimSuffix(u.Path, "/")
		if h.tls, err = tlsFromEnv(); err != nil {
			return host{}, err
		}
		if h.tls != nil {
			h.base = "https" + strings.TrimPrefix(h.base, "http")
		}
		return h, nil
	}
	return host{}, fault.New(fault.Invalid, "docker host %q: %s is not supported", name, u.Scheme).
		With("give unix:///path or tcp://host:port; castellan's agent runs beside the engine")
}

// tlsFromEnv reads certificates as the docker command does: ca.pem, cert.pem
// and key.pem below DOCKER_CERT_PATH, with the engine's certificate checked
// when DOCKER_TLS_VERIFY is set. No path, no TLS.
func tlsFromEnv() (*tls.Config, error) {
	dir := os.Getenv(client.EnvOverrideCertPath)
	if dir == "" {
		return nil, nil
	}
	const remedy = "put ca.pem, cert.pem and key.pem into the folder that DOCKER_CERT_PATH names, or unset it"
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, fault.New(fault.Invalid, "read docker client certificate: %w", err).With(remedy)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, fault.New(fault.Invalid, "read docker certificate authority: %w", err).With(remedy)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fault.New(fault.Invalid, "read docker certificate authority: no certificate in %s", filepath.Join(dir, "ca.pem")).With(remedy)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{cert},
		RootCAs:      pool,
		// The docker command's own rule, kept so that what works there works here.
		InsecureSkipVerify: os.Getenv(client.EnvTLSVerify) == "",
	}, nil
}

// transport returns a way to h that follows no proxy. Connections are few and
// end with the session.
func (h host) transport() *http.Transport {
	dialer := net.Dialer{Timeout: answerWithin}
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, h.network, h.address)
		},
		TLSClientConfig:       h.tls,
		TLSHandshakeTimeout:   answerWithin,
		MaxIdleConnsPerHost:   atOnce,
		IdleConnTimeout:       time.Minute,
		ResponseHeaderTimeout: listWithin,
		DisableCompression:    true,
	}
}

// dial returns the reason why nothing listens at h; nil when something does.
func (h host) dial(ctx context.Context) error {
	d := net.Dialer{Timeout: answerWithin}
	c, err := d.DialContext(ctx, h.network, h.address)
	if err != nil {
		return unreachable(h, err)
	}
	return c.Close()
}

// unreachable says what an error of dialling means to a person.
func unreachable(h host, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.Denied, "no permission to open %s", h.name).
			With("run castellan as root, or as a member of the group that owns the socket")
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.Unavailable, "no container engine at %s", h.name).
			With("is dockerd running? start it (systemctl start docker), or name another socket with --docker-host or DOCKER_HOST")
	case errors.Is(err, syscall.ECONNREFUSED):
		return fault.New(fault.Unavailable, "nothing listens at %s", h.name).
			With("is dockerd running? start it (systemctl start docker), and read its log if it ends again (journalctl -u docker)")
	}
	return fault.New(fault.Unavailable, "connect to container engine: %w", err).
		With("is dockerd running there, and is the address right?")
}

// explain makes one line of an error and its remedy, for people.
func explain(h host, err error) string {
	text := err.Error()
	if fault.Of(err) == fault.Unknown {
		text = "container engine at " + h.name + ": " + text
	}
	if remedy := fault.Remedy(err); remedy != "" {
		text += "; " + remedy
	}
	return clean(text, maxText)
}
