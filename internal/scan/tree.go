package scan

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/layer"
)

// OpenFolder opens a folder of this machine for Tree and Workload, so that
// nothing in it leads out of it. Close it afterwards.
func OpenFolder(path string) (*layer.Folder, error) { return layer.OpenFolder(path) }

// Target is a folder that is to be scanned.
type Target struct {
	Kind inventory.Kind // KindRoot, KindHost or KindSource
	Name string         // as the user named it
	// Skip are paths relative to the folder, without a leading slash, that are
	// left out beside those that never hold anything of the subject's own: a
	// container engine's storage.
	Skip []string
	// OneFileSystem leaves out what is mounted below the folder.
	OneFileSystem bool
}

// treeTime is how long one analyser may work on a folder unless limits say
// otherwise. A host has more than an image has, and nobody else's scan waits for it.
const treeTime = time.Hour

// Tree returns what is inside a folder: a root file system, this host, or source
// code. Symbolic links stay within it.
func (s *Scanner) Tree(ctx context.Context, fsys fs.FS, t Target) (inventory.Inventory, error) {
	limits := s.o.Limits
	limits.AnalyserTime = cmp.Or(limits.AnalyserTime, treeTime)
	budget := layer.NewBudget(limits)
	tree := layer.Tree{Options: s.options(budget), Skip: t.skip(), OneFileSystem: t.OneFileSystem}
	tree.Progress = s.treeProgress()
	r, err := layer.ReadTree(ctx, fsys, tree)
	if err != nil {
		return inventory.Inventory{}, fmt.Errorf("scan %s: %w", t.Name, err)
	}
	layers := []*layer.Result{r}
	v := newView(s.o.Analysers, layers)
	if readings := s.secondReadings(v, layers)[r]; len(readings) > 0 {
		if err := again(ctx, fsys, tree, readings); err != nil {
			return inventory.Inventory{}, fmt.Errorf("scan %s: %w", t.Name, err)
		}
		v = newView(s.o.Analysers, layers)
	}
	inv := s.inventory(v, layers, strata{source: t.Kind == inventory.KindSource}, budget)
	if t.Kind == inventory.KindSource && s.o.Secrets != nil {
		if err := s.inModules(ctx, fsys, tree.Skip, &inv); err != nil {
			return inventory.Inventory{}, fmt.Errorf("scan %s: %w", t.Name, err)
		}
	}
	return s.dated(inv, inventory.Subject{Kind: t.Kind, Name: t.Name}, nil), nil
}

// treeProgress tells what was read of a folder's files; how much there is, nobody
// knows.
func (s *Scanner) treeProgress() func(int) {
	if s.o.Progress == nil {
		return nil
	}
	var seen Progress
	return func(n int) {
		seen.Read += int64(n)
		s.o.Progress(seen)
	}
}

// Folders that are left out: what the kernel makes up, and what container engines
// keep, which belongs to other subjects.
var (
	unreal  = [...]string{"proc", "sys", "dev"}
	engines = [...]string{"run", "var/run", "var/lib/docker", "var/lib/containerd", "var/lib/containers", "var/lib/kubelet", "var/lib/lxcfs"}
)

// skip says which paths are left out.
func (t Target) skip() func(string) bool {
	left := slices.Clone(t.Skip)
	switch t.Kind {
	case inventory.KindSource:
		return func(p string) bool { return slices.Contains(left, p) || isHistory(p) }
	case inventory.KindHost:
		left = append(left, engines[:]...)
	}
	left = append(left, unreal[:]...)
	return func(p string) bool { return slices.Contains(left, p) }
}

// isHistory says whether a path holds what version control keeps of the past; its
// settings and hooks are looked at like all files.
func isHistory(p string) bool {
	folder, name := path.Split(p)
	switch {
	case name == "objects" || name == "lfs":
		return strings.HasSuffix(folder, ".git/") || strings.Contains("/"+folder, "/.git/modules/")
	case name == "store":
		return strings.HasSuffix(folder, ".hg/")
	case name == "pristine":
		return strings.HasSuffix(folder, ".svn/")
	}
	return false
}
