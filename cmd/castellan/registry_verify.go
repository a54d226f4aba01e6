package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/adapter/self"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/verify"
	"github.com/castellan-security/castellan/internal/signature"
)

// registryVerifyFolder is below the server's data folder. An agent in the same
// process has another one.
const registryVerifyFolder = "registry-verify"

// registryVerifier verifies images of registries for the server, each in a child
// process, as agents do; one at a time.
type registryVerifier struct {
	registry *oci.Registry // that by which they are watched: both keep to one pace
	program  *self.Program
	revoked  revokedByAWS
	log      *slog.Logger
}

// openRegistryVerifier returns what verifies images of registries; the caller
// closes its program.
func (g *globals) openRegistryVerifier(registry *oci.Registry, log *slog.Logger) (*registryVerifier, error) {
	program, err := self.New(self.Options{Folder: filepath.Join(g.dataDir, registryVerifyFolder)}, log.With("door", "self"))
	return &registryVerifier{registry, program, aws.NewRevocations(log.With("door", "aws")).Revoked, log}, err
}

// VerifyImage is verify.Own.
func (v *registryVerifier) VerifyImage(ctx context.Context, r asset.Registry, w link.VerifyWish) ([]byte, error) {
	if err := v.registry.Configure(r); err != nil {
		return nil, err
	}
	noted := &notedSignatures{from: v.registry}
	one := imageVerifier{program: v.program, registry: noted, revoked: v.revoked, log: v.log}
	b, err := one.VerifyImage(ctx, w)
	if refused := noted.why(); err != nil && refused != nil && ctx.Err() == nil {
		// What the child says of it is only text.
		err = &verify.Refused{Err: refused}
	}
	return b, err
}

// notedSignatures finds what is attached to an image, so much of it as a child is
// lent, and notes that the registry did not let it.
type notedSignatures struct {
	from *oci.Registry

	mu      sync.Mutex
	refused error
}

func (n *notedSignatures) why() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.refused
}

// Envelopes is trust.Finder.
func (n *notedSignatures) Envelopes(ctx context.Context, s signature.Subject) ([]signature.Envelope, error) {
	found, err := n.from.EnvelopesWithin(ctx, s, agentEnvelopes)
	if oci.TooMuch(err) {
		return found, err
	}
	switch fault.Of(err) {
	case fault.Unavailable, fault.Exhausted, fault.Denied, fault.Unauthenticated:
		n.mu.Lock()
		n.refused = err
		n.mu.Unlock()
	}
	return found, err
}
