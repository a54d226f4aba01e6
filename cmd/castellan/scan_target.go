package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
)

// scanning is one run of the command.
type scanning struct {
	*globals
	o      scanOptions
	policy scanPolicy
	log    *slog.Logger
	db     *scan.Database // nil: nothing is compared
	seeded bool           // the database came with the program
	shown  bool           // progress is on the screen
	// secrets looks for them; nil: nobody does.
	secrets *scan.Secrets
	malware *scan.Malware
	// redactor does where they are not looked for; nil until it is needed.
	redactor *scan.Secrets
	baseline *baseline // nil: none
	saltTold bool
	stdin    io.Reader // the standard input, once its beginning was looked at

	garbage collector
}

// osFiles shows what is on this machine.
type osFiles struct{}

// Stat is target.Files.
func (osFiles) Stat(path string) (fs.FileInfo, error) { return os.Stat(path) }

// Head is target.Files.
func (osFiles) Head(path string, n int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(n)))
	return b, err
}

// scanner returns what scans, with its cache.
func (s *scanning) scanner() *scan.Scanner {
	o := scan.Options{Log: s.log, Progress: s.garbage.watching(s.progress()), Limits: s.o.bounds, Secrets: s.secrets, Malware: s.malware}
	if !s.o.noCache {
		o.Cache = s.o.cache
		if o.Cache == "" {
			if dir, err := os.UserCacheDir(); err == nil {
				o.Cache = filepath.Join(dir, "castellan", "layers")
			}
		}
	}
	return scan.New(o)
}

// inventories scans what the target means: one subject, or several for all
// platforms of an image and for a task definition.
func (s *scanning) inventories(ctx context.Context, meant scan.Meaning) ([]inventory.Inventory, error) {
	sc := s.scanner()
	meant = s.lookAtInput(meant)
	switch meant.Kinds[0] {
	case scan.TargetTask:
		return s.task(ctx, sc, meant.Value)
	case scan.TargetSource:
		return s.tree(ctx, sc, meant.Value, inventory.KindSource)
	case scan.TargetRoot:
		return s.tree(ctx, sc, meant.Value, inventory.KindRoot)
	case scan.TargetHost:
		return s.tree(ctx, sc, "/", inventory.KindHost)
	case scan.TargetWorkload:
		return s.workload(ctx, sc, meant.Value)
	case scan.TargetSBOM:
		return s.bill(ctx, sc, meant.Value)
	}
	images, closer, err := s.open(ctx, meant, s.o.platform)
	if err != nil {
		return nil, err
	}
	defer closer()
	return s.images(ctx, sc, images)
}

// images scans opened images and closes them.
func (s *scanning) images(ctx context.Context, sc *scan.Scanner, images []scan.Layers) ([]inventory.Inventory, error) {
	var all []inventory.Inventory
	var errs []error
	for _, i := range images {
		if len(errs) == 0 {
			inv, err := sc.Image(ctx, i)
			if err != nil {
				errs = append(errs, err)
			}
			all = append(all, inv)
		}
		errs = append(errs, i.Close())
	}
	return all, errors.Join(errs...)
}

func (s *scanning) tree(ctx context.Context, sc *scan.Scanner, path string, kind inventory.Kind) ([]inventory.Inventory, error) {
	folder, err := scan.OpenFolder(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer folder.Close()
	name := path
	if kind == inventory.KindHost {
		if name, err = os.Hostname(); err != nil {
			name = "this host"
		}
	}
	inv, err := sc.Tree(ctx, folder, scan.Target{Kind: kind, Name: name})
	if err != nil {
		return nil, err
	}
	return []inventory.Inventory{inv}, nil
}

// allPlatforms is the value of --platform that means every one.
const allPlatforms = "all"

// open opens the images that a target means, trying its kinds in their order.
// closer is called when all of them are closed.
func (s *scanning) open(ctx context.Context, meant scan.Meaning, platform string) (images []scan.Layers, closer func(), err error) {
	choice := oci.Choice{Name: meant.Name}
	all := platform == allPlatforms
	if platform != "" && !all {
		if choice.Platform, err = scan.ParsePlatform(platform); err != nil {
			return nil, nil, usageError{err}
		}
	}
	closer = func() {}
	var tried []error
	for _, kind := range meant.Kinds {
		switch kind {
		case scan.TargetEngine:
			// An engine has one platform of an image; all of them the registry has.
			if all && slices.Contains(meant.Kinds, scan.TargetRegistry) {
				continue
			}
			images, err = s.fromEngine(ctx, meant.Value, choice.Platform)
		case scan.TargetRegistry:
			images, closer, err = s.fromRegistry(ctx, meant.Value, choice, all)
		default:
			images, err = s.fromPath(ctx, meant.Value, choice, all)
		}
		if err == nil {
			return images, closer, nil
		}
		tried = append(tried, err)
		if !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Unavailable) {
			break
		}
	}
	return nil, nil, s.explainTried(meant, tried)
}

// explainTried is the last error, which is of what was asked last, with what was
// tried before.
func (s *scanning) explainTried(meant scan.Meaning, tried []error) error {
	last := tried[len(tried)-1]
	if len(tried) == 1 {
		return last
	}
	s.log.Debug("target guessed", "why", meant.Guessed)
	return fmt.Errorf("%w (before that: %w)", last, errors.Join(tried[:len(tried)-1]...))
}

func (s *scanning) fromEngine(ctx context.Context, name string, p inventory.Platform) ([]scan.Layers, error) {
	e, err := docker.New(docker.Options{Host: s.o.dockerHost}, s.log.With("door", "docker"))
	if err != nil {
		return nil, err
	}
	i, err := e.OpenImage(ctx, name, p, oci.ReadArchive)
	if err != nil {
		return nil, err
	}
	return []scan.Layers{i}, nil
}

func (s *scanning) fromRegistry(ctx context.Context, reference string, c oci.Choice, all bool) ([]scan.Layers, func(), error) {
	ecr := aws.NewECR(s.log.With("door", "aws"))
	r, err := oci.NewRegistry(oci.Options{Credentials: ecr.Credentials, PlainHTTP: s.o.plainHTTP, CAFile: s.o.caFile}, s.log.With("door", "oci"))
	if err != nil {
		return nil, nil, err
	}
	closer := func() {
		if err := r.Close(); err != nil {
			s.log.Warn("registry not closed", "error", err)
		}
	}
	var opened []*oci.Image
	if all {
		opened, err = r.OpenAll(ctx, reference, c)
	} else {
		var one *oci.Image
		one, err = r.Open(ctx, reference, c)
		opened = []*oci.Image{one}
	}
	if err != nil {
		closer()
		return nil, nil, err
	}
	return layersOf(opened), closer, nil
}

func (s *scanning) fromPath(ctx context.Context, path string, c oci.Choice, all bool) ([]scan.Layers, error) {
	if path == scan.Stdin {
		in, err := s.openInput(path)
		if err != nil {
			return nil, err
		}
		return []scan.Layers{oci.OpenStream(in, c)}, nil
	}
	if all {
		opened, err := oci.OpenPathAll(ctx, path, c)
		return layersOf(opened), err
	}
	one, err := oci.OpenPath(ctx, path, c)
	if err != nil {
		return nil, err
	}
	return []scan.Layers{one}, nil
}

func layersOf(images []*oci.Image) []scan.Layers {
	out := make([]scan.Layers, len(images))
	for i, one := range images {
		out[i] = one
	}
	return out
}

// maxTaskBytes bounds a file of task definitions; see target.ParseTask.
const maxTaskBytes = 8 << 20

// task scans every image of a task definition, each once.
func (s *scanning) task(ctx context.Context, sc *scan.Scanner, path string) ([]inventory.Inventory, error) {
	f, err := s.openInput(path)
	if err != nil {
		return nil, fmt.Errorf("read task definition: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxTaskBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read task definition: %w", err)
	}
	definitions, err := scan.ParseTask(b)
	if err != nil {
		return nil, err
	}
	done := map[string]bool{}
	var all []inventory.Inventory
	if doc := sc.Document(path, b); len(doc.Secrets) > 0 {
		all = append(all, doc)
	}
	for _, d := range definitions {
		platform := s.o.platform
		if platform == "" && d.Platform.Architecture != "" {
			platform = d.Platform.String()
		}
		for _, c := range d.Containers {
			key := c.Image + " " + platform
			if done[key] {
				continue
			}
			done[key] = true
			found, err := s.taskImage(ctx, sc, c.Image, platform)
			if err != nil {
				return nil, fmt.Errorf("container %s of %s: %w", c.Name, d.Name, err)
			}
			all = append(all, found...)
		}
	}
	return all, nil
}

func (s *scanning) taskImage(ctx context.Context, sc *scan.Scanner, image, platform string) ([]inventory.Inventory, error) {
	images, closer, err := s.open(ctx, scan.Meaning{Kinds: []scan.MeaningKind{scan.TargetEngine, scan.TargetRegistry}, Value: image}, platform)
	if err != nil {
		return nil, err
	}
	defer closer()
	return s.images(ctx, sc, images)
}

// workload scans a container that runs here: which one it is, and of which image,
// the running Castellan knows.
func (s *scanning) workload(ctx context.Context, sc *scan.Scanner, name string) ([]inventory.Inventory, error) {
	api, err := s.dial(askOptions{})
	if err != nil {
		return nil, err
	}
	w, err := find(ctx, api, name)
	if err != nil {
		return nil, err
	}
	if w.PID == 0 {
		return nil, fault.New(fault.Unavailable, "%s does not run", name).With("scan its image: castellan scan docker:" + w.Image.Reference)
	}
	path, err := kernel.New(kernel.Options{}).UpperFolder(w.PID)
	if err != nil {
		return nil, err
	}
	upper, err := scan.OpenFolder(path)
	if err != nil {
		return nil, fmt.Errorf("open what %s wrote: %w", name, err)
	}
	defer upper.Close()
	e, err := docker.New(docker.Options{Host: s.o.dockerHost}, s.log.With("door", "docker"))
	if err != nil {
		return nil, err
	}
	image, err := e.OpenWorkloadImage(ctx, w.Image, oci.ReadArchive)
	if err != nil {
		return nil, err
	}
	inv, err := sc.Workload(ctx, name, image, upper)
	if err = errors.Join(err, image.Close()); err != nil {
		return nil, err
	}
	return []inventory.Inventory{inv}, nil
}
