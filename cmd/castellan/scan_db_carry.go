package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/scan"
)

const (
	// databaseTitle is what the file is called where tools write it to a folder.
	databaseTitle = "advisories.db.zst"
	// databaseAnnotation has the digest of the database itself, by which a copy
	// knows that it has the same; that of the artifact's file is of it
	// compressed.
	databaseAnnotation = "vnd.castellan.advisories.database"
)

func databaseKind() oci.ArtifactKind {
	return oci.ArtifactKind{Type: scan.DatabaseArtifact, MediaType: scan.DatabaseMediaType}
}

func newDBExport(g *globals, o *dbOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "export FILE|oci:PATH[:TAG]|registry:REFERENCE",
		Short: "Write the database as one compressed file or OCI artifact, for other machines",
		Long: `Write the database as one compressed file; as an OCI artifact into an image
layout (a folder, or a tar archive if PATH ends with .tar); or push it to a
registry. The digest is printed, which import can be told to insist on. The same
database makes the same bytes.
` + exitHelp,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return g.exportDB(c.Context(), *o, args[0]) },
	}
}

func newDBImport(g *globals, o *dbOptions) *cobra.Command {
	c := &cobra.Command{
		Use:   "import FILE|oci:PATH[:TAG]|registry:REFERENCE",
		Short: "Take over a database that export wrote",
		Long:  "Take over a database that export wrote. It is verified whole before it\nreplaces the one that is there.\n" + exitHelp,
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path := g.advisoryPath(o.database)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return fmt.Errorf("import: %w", err)
			}
			if err := g.importDB(c.Context(), *o, args[0], path); err != nil {
				return err
			}
			return g.describeDB(path, formTable)
		},
	}
	c.Flags().StringVar(&o.digest, "digest", "", "insist on this digest, as export printed it")
	return c
}

// carrier says where a database is carried to or from: a layout, a registry, or
// else a file.
func carrier(s string) (kind scan.MeaningKind, where, tag string) {
	if ref, ok := strings.CutPrefix(s, string(scan.TargetRegistry)+":"); ok {
		return scan.TargetRegistry, ref, ""
	}
	path, ok := strings.CutPrefix(s, string(scan.TargetLayout)+":")
	if !ok {
		return "", s, ""
	}
	if _, err := os.Stat(path); err == nil {
		return scan.TargetLayout, path, ""
	}
	if i := strings.LastIndexByte(path, ':'); i > 0 && !strings.ContainsRune(path[i:], '/') {
		return scan.TargetLayout, path[:i], path[i+1:]
	}
	return scan.TargetLayout, path, ""
}

// exportDB writes the database where it is to be carried.
func (g *globals) exportDB(ctx context.Context, o dbOptions, to string) error {
	db, _, err := scan.OpenDatabase(g.advisoryPath(o.database))
	if err != nil {
		return err
	}
	defer db.Close()
	kind, where, tag := carrier(to)
	if kind == "" {
		var digest string
		var size int64
		err = writeWhole(where, true, func(w io.Writer) (err error) {
			digest, size, err = db.Export(ctx, w)
			return err
		})
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		fmt.Fprintf(g.out, "%s  %d bytes\n", digest, size)
		return nil
	}
	// What is sent must be known by its digest before.
	f, err := os.CreateTemp("", "castellan-export-")
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer os.Remove(f.Name())
	a, err := artifactOf(ctx, db, f)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	digest, err := g.carry(ctx, o, kind, where, tag, a)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	fmt.Fprintf(g.out, "%s  %d bytes, as artifact %s\n", a.Digest, a.Size, digest)
	return nil
}

// artifactOf writes the database into a file, which it closes, as what is to be
// carried.
func artifactOf(ctx context.Context, db *scan.Database, f *os.File) (oci.Artifact, error) {
	digest, size, err := db.Export(ctx, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return oci.Artifact{}, err
	}
	info := db.Info()
	return oci.Artifact{
		ArtifactKind: databaseKind(), Digest: digest, Size: size, Title: databaseTitle, Created: info.Built.Format(time.RFC3339),
		Annotations: map[string]string{databaseAnnotation: info.Digest},
		Open:        func() (io.ReadCloser, error) { return os.Open(f.Name()) },
	}, nil
}

func (g *globals) carry(ctx context.Context, o dbOptions, kind scan.MeaningKind, where, tag string, a oci.Artifact) (string, error) {
	if kind == scan.TargetLayout {
		if tag == "" {
			tag = "latest"
		}
		return oci.WriteArtifact(ctx, where, tag, a)
	}
	r, err := g.registry(o)
	if err != nil {
		return "", err
	}
	digest, err := r.PushArtifact(ctx, where, a)
	return digest, errors.Join(err, r.Close())
}

func (g *globals) registry(o dbOptions) (*oci.Registry, error) {
	log, err := g.logger()
	if err != nil {
		return nil, err
	}
	ecr := aws.NewECR(log.With("door", "aws"))
	return oci.NewRegistry(oci.Options{Credentials: ecr.Credentials, PlainHTTP: o.plainHTTP, CAFile: o.caFile}, log.With("door", "oci"))
}

// carried finds a database that was carried as an artifact. done is called when
// it is not needed any more.
func (g *globals) carried(ctx context.Context, o dbOptions, kind scan.MeaningKind, where, tag string) (a *oci.StoredArtifact, done func() error, err error) {
	if kind == scan.TargetLayout {
		if a, err = oci.OpenPathArtifact(ctx, where, tag, databaseKind()); err != nil {
			return nil, nil, err
		}
		return a, a.Close, nil
	}
	r, err := g.registry(o)
	if err != nil {
		return nil, nil, err
	}
	if a, err = r.OpenArtifact(ctx, where, databaseKind()); err != nil {
		return nil, nil, errors.Join(err, r.Close())
	}
	return a, func() error { return errors.Join(a.Close(), r.Close()) }, nil
}

// importDB takes over what export wrote.
func (g *globals) importDB(ctx context.Context, o dbOptions, from, path string) error {
	kind, where, tag := carrier(from)
	if kind == "" {
		f, err := os.Open(where)
		if err != nil {
			return fmt.Errorf("import: %w", err)
		}
		defer f.Close()
		return scan.ImportDatabase(ctx, f, o.digest, path)
	}
	a, done, err := g.carried(ctx, o, kind, where, tag)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	if o.digest != "" && o.digest != a.Digest && o.digest != a.Manifest {
		return errors.Join(fault.New(fault.Conflict, "import: %s has the file %s in the artifact %s, and %s was insisted on", from, a.Digest, a.Manifest, o.digest).
			With("somebody has put another one there; ask who, or name the artifact by its digest"), done())
	}
	return errors.Join(takeOver(ctx, a, path), done())
}

// takeOver puts the database of an artifact in place, if it is what the manifest
// says.
func takeOver(ctx context.Context, a *oci.StoredArtifact, path string) error {
	r, err := a.Open(ctx)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	return errors.Join(scan.ImportDatabase(ctx, r, a.Digest, path), r.Close())
}

// updateDBFrom takes over the database of an artifact unless it is the one that
// is there.
func (g *globals) updateDBFrom(ctx context.Context, o dbOptions) error {
	kind, where, tag := carrier(o.from)
	if kind == "" {
		return usagef("--from %s: want registry:REFERENCE or oci:PATH[:TAG]; a file is taken by castellan scan db import", o.from)
	}
	path := g.advisoryPath(o.database)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	old, err := previous(path)
	if err != nil {
		return err
	}
	have := ""
	if old != nil {
		have = old.Digest()
		if err := old.Close(); err != nil {
			return err
		}
	}
	a, done, err := g.carried(ctx, o, kind, where, tag)
	if err != nil {
		return fmt.Errorf("update: %w", err)
	}
	if have != "" && have == a.Annotations[databaseAnnotation] {
		fmt.Fprintf(g.err, "%s\n", g.paint("it is the database that is there already", faint))
		return errors.Join(done(), g.describeDB(path, formTable))
	}
	if err := errors.Join(takeOver(ctx, a, path), done()); err != nil {
		return err
	}
	fmt.Fprintf(g.err, "%s\n", g.paint(fmt.Sprintf("fetched %.1f MB, artifact %s", float64(a.Size)/1e6, a.Manifest), faint))
	return g.describeDB(path, formTable)
}
