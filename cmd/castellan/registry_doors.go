package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/adapter/oci/webhook"
	"github.com/castellan-security/castellan/internal/adapter/self"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/server/registries"
)

const (
	// registryScanFolder is below the server's data folder. An agent in the same
	// process has another one.
	registryScanFolder = "registry-scan"
	// resolveWithin bounds how long it may take to read the documents of an image.
	resolveWithin = 2 * time.Minute
	// registryScanCommand is the name of the hidden command of the child.
	registryScanCommand = "scan-registry-image"
)

// registryImages reads images of registries for the server: their documents here,
// their layers in a child process.
type registryImages struct {
	registry *oci.Registry
	program  *self.Program
	sockets  chan string // names of sockets that no child uses
	salt     []byte      // of the fingerprints of secrets
	log      *slog.Logger
}

// openRegistryImages returns what reads images of registries, as many at once as
// the server scans.
func (g *globals) openRegistryImages(o serverOptions, registry *oci.Registry, salt []byte, log *slog.Logger) (_ *registryImages, err error) {
	d := &registryImages{registry: registry, sockets: make(chan string, o.registryScans), salt: salt, log: log.With("door", "oci")}
	for i := range o.registryScans {
		d.sockets <- fmt.Sprintf("image-%d.sock", i)
	}
	d.program, err = self.New(self.Options{Folder: filepath.Join(g.dataDir, registryScanFolder), Working: true}, log.With("door", "self"))
	return d, err
}

// openRegistryDoors returns the doors by which the server watches registries, and
// verifies their images.
func (g *globals) openRegistryDoors(o serverOptions, salt []byte, log *slog.Logger) (registries.Doors, *registryVerifier, func() error, error) {
	ecr := aws.NewECR(log.With("door", "aws"))
	registry, err := oci.NewRegistry(oci.Options{Credentials: ecr.Credentials, CAFile: o.registryCA}, log.With("door", "oci"))
	if err != nil {
		return registries.Doors{}, nil, nil, err
	}
	images, err := g.openRegistryImages(o, registry, salt, log)
	if err != nil {
		return registries.Doors{}, nil, nil, errors.Join(err, registry.Close())
	}
	signatures, err := g.openRegistryVerifier(registry, log)
	if err != nil {
		return registries.Doors{}, nil, nil, errors.Join(err, images.program.Close(), registry.Close())
	}
	return registries.Doors{
		Listers: map[asset.RegistryKind]registries.Lister{asset.RegistryOCI: registry, asset.RegistryECR: ecr},
		Queue:   aws.NewQueue(log.With("door", "aws")),
		Images:  images,
		Webhook: webhook.Parse,
	}, signatures, func() error { return errors.Join(registry.Close(), images.program.Close(), signatures.program.Close()) }, nil
}

// Resolve is registries.Images.
func (d *registryImages) Resolve(ctx context.Context, r asset.Registry, repository, digest string, wanted []inventory.Platform) ([]registries.Found, error) {
	if err := d.registry.Configure(r); err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	found, err := d.resolve(within, r, repository, digest, wanted)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = fault.New(fault.Unavailable, "read image %s of registry %s: it did not answer within %s: %w", digest, r.Host, resolveWithin, err).
			With("is the registry slow, or its rate set low?")
	}
	return found, err
}

func (d *registryImages) resolve(ctx context.Context, r asset.Registry, repository, digest string, wanted []inventory.Platform) ([]registries.Found, error) {
	reference := r.Host + "/" + repository + "@" + digest
	var found []registries.Found
	add := func(i *oci.Image) error {
		info := i.Image()
		f := registries.Found{ID: info.ID, Manifest: info.Digest, Platform: info.Platform, Created: info.Created, Layers: len(info.Layers)}
		for _, known := range found {
			if known.ID == f.ID {
				return i.Close()
			}
		}
		found = append(found, f)
		return i.Close()
	}
	for _, p := range wanted {
		i, err := d.registry.Open(ctx, reference, oci.Choice{Platform: p})
		if fault.Is(err, fault.NotFound) {
			continue // for that platform, or gone, which the next look finds out
		}
		if err == nil {
			err = add(i)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	// None of these is there: whatever is there may still be what somebody runs.
	all, err := d.registry.OpenAll(ctx, reference, oci.Choice{})
	for n, i := range all {
		if n == 0 {
			err = add(i)
			continue
		}
		err = errors.Join(err, i.Close())
	}
	return found, err
}

// Scan is registries.Images.
func (d *registryImages) Scan(ctx context.Context, r asset.Registry, repository string, f registries.Found) ([]byte, error) {
	var socket string
	select {
	case socket = <-d.sockets:
		defer func() { d.sockets <- socket }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := d.registry.Configure(r); err != nil {
		return nil, err
	}
	i, err := d.registry.Open(ctx, r.Host+"/"+repository+"@"+f.Manifest, oci.Choice{})
	if err != nil {
		return nil, err
	}
	if id := i.Image().ID; id != f.ID {
		return nil, errors.Join(fault.New(fault.Corrupt, "manifest %s is of image %s, and was of %s", f.Manifest, id, f.ID), i.Close())
	}
	lend := func(ctx context.Context, l net.Listener) error { return i.Lend(ctx, l, d.log) }
	packed, err := childScan(ctx, d.program, socket, lend, d.salt, []string{
		"server", registryScanCommand, "--cache-dir", d.program.Own(), "--", d.program.Inside(socket),
	})
	err = errors.Join(err, i.Close())
	if own := (*unscanned)(nil); errors.As(err, &own) {
		err = &registries.Broken{Err: err}
	}
	return packed, err
}

// newRegistryScan is the child of Scan.
func newRegistryScan(g *globals) *cobra.Command {
	var cache string
	c := &cobra.Command{
		Use:    registryScanCommand + " SOCKET",
		Short:  "Scan an image for the server that started this",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			salt, err := self.Bound()
			if err != nil {
				return err
			}
			log, err := g.logger()
			if err != nil {
				return err
			}
			return g.answerScan(scanBorrowed(c.Context(), args[0], childOptions{cache, salt}, log))
		},
	}
	c.Flags().StringVar(&cache, "cache-dir", "", "folder for what is known of layers")
	return c
}

func scanBorrowed(ctx context.Context, socket string, o childOptions, log *slog.Logger) (inventory.Inventory, error) {
	i, err := oci.Borrow(ctx, socket)
	if err != nil {
		return inventory.Inventory{}, err
	}
	return scanLayers(ctx, i, o, log)
}
