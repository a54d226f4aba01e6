// Package scan says what is inside images, folders and running workloads: it
// hands their layers to the reader of layers (layer), puts on one another what
// those hold, as a container sees it, and makes an inventory of that. What is
// known of a layer is kept by its digest, so that only layers that were never
// seen are read.
//
//	s := scan.New(scan.Options{Cache: "/var/cache/castellan"})
//	inv, err := s.Image(ctx, image)
//
// It is not for opening images: doors do (internal/adapter/oci, docker), and
// satisfy Layers. It is not for what is wrong with a package (see match).
//
// What ends a scan: a layer that is not what its digest says, is cut off, damaged
// or not there, a limit, the errors of the source. An inventory that silently
// lacks a layer would pass a gate that it must not pass. What is wrong with single
// files, and what an analyser makes of them, is a Problem of the inventory; so is
// a layer that only its publisher may distribute, as the source says itself, and
// which the source does not have.
//
// A package of a language whose files a distribution's package brought is kept
// and marked with its owner (inventory.Package.OwnedBy): the distribution fixes
// it under versions of its own, so advisories of its upstream must not be
// matched with it, but it belongs into a bill of materials.
package scan

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/all"
	"github.com/castellan-security/castellan/internal/scan/layer"
	"github.com/castellan-security/castellan/internal/scan/malware"
	"github.com/castellan-security/castellan/internal/scan/secret"
)

// Analysis is the version of the analysis. It is raised whenever an analyser
// finds more, or otherwise, in the same files: layers are then read again.
const Analysis = 6

// Layers is an opened image, as a door hands it over.
type Layers interface {
	// Image describes the image. For one that arrives as a stream it is complete
	// only after Each.
	Image() inventory.Image
	// Each hands over the stored bytes of every layer that skip doesn't name, up
	// to `parallel` at once, in any order. The layer given may lack what the
	// source doesn't know yet (an engine's stream knows neither digest nor place
	// before its end; then Digest and DiffID are empty and the result is matched
	// by the DiffID worked out while reading).
	Each(ctx context.Context, parallel int, skip func(inventory.Layer) bool,
		take func(context.Context, inventory.Layer, io.Reader) error) error
	Close() error
}

// Limits bound what a scan may cost; see layer.Limits.
type Limits = layer.Limits

// Options say how to scan. The zero value scans with all analysers, the default
// limits and no cache.
type Options struct {
	Analysers []analyse.Analyser // nil: all
	// Secrets are looked for beside; nil: they are not.
	Secrets *secret.Engine
	Malware *malware.Engine // the same
	// Cache is a folder for what is known of layers; "" keeps nothing.
	Cache      string
	CacheBytes int64 // how much is kept; 0: 1 GiB
	Parallel   int   // layers read at once; 0: one a processor, at most 4
	Limits     Limits
	// Progress is called while layers are read, never twice at once.
	Progress func(Progress)
	Log      *slog.Logger     // nil: nothing is logged
	Now      func() time.Time // nil: time.Now
}

// Progress is how far a scan has come.
type Progress struct {
	Read  int64 // stored bytes read so far
	Total int64 // of the layers that are to be read, as far as sizes are known
}

const (
	maxParallel  = 4 // more only fight for memory bandwidth
	defaultCache = 1 << 30
)

// Scanner scans. It is for several goroutines at once.
type Scanner struct {
	o     Options
	cache *cache // nil: none
}

// New returns a scanner.
func New(o Options) *Scanner {
	if o.Analysers == nil {
		o.Analysers = all.Analysers()
	}
	if o.Secrets != nil {
		o.Analysers = append(slices.Clip(o.Analysers), secret.Analyser{Engine: o.Secrets})
	}
	if o.Malware != nil {
		o.Analysers = append(slices.Clip(o.Analysers), malware.Analyser{Engine: o.Malware})
	}
	if o.Parallel <= 0 {
		o.Parallel = min(runtime.GOMAXPROCS(0), maxParallel)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Scanner{o: o}
	if o.Cache != "" {
		s.cache = &cache{folder: o.Cache, limit: cmp.Or(o.CacheBytes, int64(defaultCache)), version: versionOf(o), log: o.Log}
	}
	return s
}

// inventory makes an inventory of what layers show.
func (s *Scanner) inventory(v *view, layers []*layer.Result, st strata, b *layer.Budget) inventory.Inventory {
	inv := inventory.Inventory{Packages: []inventory.Package{}, Analysis: Analysis}
	for i, r := range layers {
		for _, p := range r.Problems {
			p.Place = st.place(p.Place, i)
			inv.Problems = append(inv.Problems, p)
		}
		if r.Missing != "" {
			inv.Problems = append(inv.Problems, inventory.Problem{Place: st.place(inventory.Place{}, i), Lost: true,
				What: fmt.Sprintf("layer %d was not read: %s", i+1, r.Missing)})
		}
	}
	for _, x := range b.Spent() {
		// Whoever made the image may have meant this to happen: no gate may take it
		// for an image in which there is nothing.
		inv.Problems = append(inv.Problems, inventory.Problem{Lost: true, What: fmt.Sprintf("%s: it took %v of a processor, all that one scan may spend on it; what it would have looked at then, %d files, was left out; "+
			"if all of it can be trusted, raise the limit with --limit time=SECONDS", x.Analyser, x.Time, x.Files)})
	}
	assemble(v, st, &inv)
	if s.o.Secrets != nil {
		inv.Secrets = secrets(v, layers, st)
	}
	if s.o.Malware != nil {
		inv.Malware = malwareOf(v, layers, st)
	}
	return inv
}

// dated completes an inventory with what it is of and when it was made.
func (s *Scanner) dated(inv inventory.Inventory, subject inventory.Subject, image *inventory.Image) inventory.Inventory {
	inv.Subject, inv.Image, inv.Made = subject, image, s.o.Now().UTC()
	if s.o.Secrets != nil && image != nil {
		found, problems := s.o.Secrets.Config(image)
		inv.Secrets, inv.Problems = append(slices.Clip(inv.Secrets), found...), append(slices.Clip(inv.Problems), problems...)
		slices.SortFunc(inv.Secrets, inventory.CompareSecrets)
	}
	return inv
}
