package oci

import (
	"cmp"
	"context"
	"log/slog"
	"os"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/castellan-security/castellan/internal/fault"
)

// Environment variables that name a user of one registry. There is no flag for
// them: a command line is there for everybody to read.
const (
	EnvHost     = "CASTELLAN_REGISTRY_HOST"
	EnvUser     = "CASTELLAN_REGISTRY_USER"
	EnvPassword = "CASTELLAN_REGISTRY_PASSWORD"
)

// Credentials says by which user and password a registry is entered; ok is
// false when it knows none for that host.
type Credentials func(ctx context.Context, host string) (user, password string, ok bool, err error)

// keychain finds the credentials for a registry, in this order: the
// environment, the docker command's configuration with its helpers, and whoever
// else was introduced. Without any, the registry is asked anonymously.
type keychain struct {
	more Credentials // nil for nobody
	log  *slog.Logger
}

// credential is what was found, and what stood in the way of finding more.
type credential struct {
	authn.Authenticator
	source  string // in words; empty for nobody's
	trouble error
}

// of returns what a registry is asked with for a repository. A source that
// fails is not the end: much is to be had anonymously. What failed is told of
// if the registry then refuses.
func (k keychain) of(ctx context.Context, repo name.Repository) (credential, error) {
	host := repo.RegistryStr()
	if c, ok, err := fromEnvironment(host); ok || err != nil {
		return c, err
	}
	c, ok, err := fromDockerConfig(ctx, repo)
	if ok {
		return c, nil
	}
	if err := ctx.Err(); err != nil {
		return credential{}, err
	}
	trouble := err
	if k.more != nil {
		user, password, ok, err := k.more(ctx, host)
		if ok {
			return credential{Authenticator: basic(user, password), source: "the cloud's credentials"}, nil
		}
		if ctx.Err() != nil {
			return credential{}, ctx.Err()
		}
		if err != nil {
			trouble = err
		}
	}
	if trouble != nil {
		k.log.Warn("no credentials for registry, asking anonymously", "registry", host, "error", trouble)
	}
	return credential{Authenticator: authn.Anonymous, trouble: trouble}, nil
}

func basic(user, password string) authn.Authenticator {
	return authn.FromConfig(authn.AuthConfig{Username: user, Password: password})
}

// fromEnvironment returns the user that the environment names, for the registry
// that it names.
func fromEnvironment(host string) (credential, bool, error) {
	user, password := os.Getenv(EnvUser), os.Getenv(EnvPassword)
	if user == "" && password == "" {
		return credential{}, false, nil
	}
	of := os.Getenv(EnvHost)
	if user == "" || password == "" || of == "" {
		return credential{}, false, fault.New(fault.Invalid, "%s, %s and %s are set in part", EnvHost, EnvUser, EnvPassword).
			With("set all three: a password is sent to the registry that it is for and to no other")
	}
	registry, err := name.NewRegistry(of)
	if err != nil {
		return credential{}, false, fault.New(fault.Invalid, "%s: %w", EnvHost, err).With("set it to a registry's host, with its port if it has one")
	}
	if registry.RegistryStr() != host {
		return credential{}, false, nil
	}
	return credential{Authenticator: basic(user, password), source: EnvUser}, true, nil
}

// explain names where a refused user came from.
func (c credential) explain() string {
	return cmp.Or(c.source, "nobody: no credentials were found")
}
