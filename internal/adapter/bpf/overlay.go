package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// overlayBTF is there while the file system is a module that is loaded, since
// 5.11.
const overlayBTF = "/sys/kernel/btf/overlay"

// errNoOverlay says that the kernel has no overlay file system, or not yet: the
// first mount of one loads its module.
var errNoOverlay = errors.New("no types of the overlay file system")

// overlaySearch looks for the overlay file system until it is there.
type overlaySearch struct {
	looked  bool // at the kernel's own types
	settled bool // it was found, or cannot be read
}

// tell writes into the map where the file system keeps its layers, once that is
// known: it is cheap to ask again every second. The error comes once, and says
// why no layers will be told.
func (o *overlaySearch) tell(overlays *ebpf.Map) error {
	if o.settled {
		return nil
	}
	layout, err := o.look()
	if errors.Is(err, errNoOverlay) {
		return nil
	}
	o.settled = true
	if err == nil {
		err = overlays.Put(uint32(0), layout)
	}
	if err != nil {
		return fmt.Errorf("find the layers of the overlay file system: %w", err)
	}
	return nil
}

// look reads the kernel's own types the first time, and those of the module
// when it is there.
func (o *overlaySearch) look() (processOverlay, error) {
	if !o.looked {
		o.looked = true
		kernel, err := btf.LoadKernelSpec()
		if err != nil {
			return processOverlay{}, fmt.Errorf("read the kernel's types: %w", err)
		}
		if layout, err := layoutOf(kernel); !errors.Is(err, errNoOverlay) {
			return layout, err
		}
	}
	if _, err := os.Stat(overlayBTF); errors.Is(err, fs.ErrNotExist) {
		return processOverlay{}, errNoOverlay
	}
	module, err := btf.LoadKernelModuleSpec(filepath.Base(overlayBTF))
	if err != nil {
		return processOverlay{}, fmt.Errorf("read the types of the module: %w", err)
	}
	return layoutOf(module)
}

// layoutOf takes the places from types. Those that are not as they were from
// 5.8 to 6.18 are an error: then no layer is told, and none wrongly.
func layoutOf(spec *btf.Spec) (processOverlay, error) {
	var inode *btf.Struct
	if err := spec.TypeByName("ovl_inode", &inode); err != nil {
		return processOverlay{}, errNoOverlay
	}
	t := kernelStructs{spec: spec}
	layout := processOverlay{
		Known:  1,
		Layers: t.of("ovl_fs", "numlayer"),
		Index:  t.of("ovl_layer", "idx"),
	}
	prefix := ""
	if oe, ok := member(inode, "oe"); ok { // since 6.5
		layout.Entry = oe - t.of("ovl_inode", "vfs_inode")
		layout.DataLayers = t.of("ovl_fs", "numdatalayer")
		prefix = "__"
	}
	layout.Stacked = t.of("ovl_entry", prefix+"numlower")
	layout.Layer = t.of("ovl_entry", prefix+"lowerstack") + t.of("ovl_path", "layer")
	if t.err != nil {
		return processOverlay{}, t.err
	}
	return layout, nil
}

// kernelStructs looks fields up and keeps the first error.
type kernelStructs struct {
	spec *btf.Spec
	err  error
}

// of returns where a struct has a field, in bytes.
func (t *kernelStructs) of(name, field string) uint32 {
	var s *btf.Struct
	err := t.spec.TypeByName(name, &s)
	if err == nil {
		if at, ok := member(s, field); ok {
			return at
		}
		err = fmt.Errorf("no field %s", field)
	}
	if t.err == nil {
		t.err = fmt.Errorf("look for struct %s: %w", name, err)
	}
	return 0
}

func member(s *btf.Struct, name string) (at uint32, ok bool) {
	for _, m := range s.Members {
		if m.Name == name {
			return m.Offset.Bytes(), true
		}
	}
	return 0, false
}
