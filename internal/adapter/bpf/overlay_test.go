package bpf

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// kernelOf makes the types of a kernel.
func kernelOf(t *testing.T, types ...btf.Type) *btf.Spec {
	t.Helper()
	b, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

var (
	aInt     = &btf.Int{Name: "unsigned int", Size: 4}
	aPointer = &btf.Pointer{Target: &btf.Void{}}
	ovlPath  = &btf.Struct{Name: "ovl_path", Size: 16, Members: []btf.Member{field("layer", aPointer, 0), field("dentry", aPointer, 8)}}
)

func field(name string, typ btf.Type, bytes btf.Bits) btf.Member {
	return btf.Member{Name: name, Type: typ, Offset: 8 * bytes}
}

// structsOf are the five that are looked at, as given or, where none is, as in
// Linux 6.18 of amd64.
func structsOf(inode, entry, fs []btf.Member) []btf.Type {
	vfs := &btf.Struct{Name: "inode", Size: 616}
	if inode == nil {
		inode = []btf.Member{field("vfs_inode", vfs, 32), field("__upperdentry", aPointer, 648), field("oe", aPointer, 656)}
	}
	stack := &btf.Array{Index: aInt, Type: ovlPath}
	if entry == nil {
		entry = []btf.Member{field("__numlower", aInt, 0), field("__lowerstack", stack, 8)}
	}
	if fs == nil {
		fs = []btf.Member{field("numlayer", aInt, 0), field("numfs", aInt, 4), field("numdatalayer", aInt, 8)}
	}
	return []btf.Type{
		&btf.Struct{Name: "ovl_inode", Size: 696, Members: inode},
		&btf.Struct{Name: "ovl_entry", Size: 24, Members: entry},
		ovlPath,
		&btf.Struct{Name: "ovl_layer", Size: 40, Members: []btf.Member{field("mnt", aPointer, 0), field("idx", aInt, 24)}},
		&btf.Struct{Name: "ovl_fs", Size: 224, Members: fs},
	}
}

func TestLayoutOf(t *testing.T) {
	// As fs/overlayfs/ovl_entry.h of 5.10 and 6.1 has them.
	oldInode := []btf.Member{field("vfs_inode", &btf.Struct{Name: "inode", Size: 592}, 32), field("__upperdentry", aPointer, 624)}
	oldEntry := []btf.Member{field("numlower", aInt, 16), field("lowerstack", &btf.Array{Index: aInt, Type: ovlPath}, 24)}
	tests := []struct {
		name  string
		types []btf.Type
		want  processOverlay
		fails string // part of the error
	}{
		{"6.5 and later", structsOf(nil, nil, nil), processOverlay{Known: 1, DataLayers: 8, Entry: 624, Layer: 8, Index: 24}, ""},
		{"before 6.5", structsOf(oldInode, oldEntry, []btf.Member{field("numlayer", aInt, 0)}), processOverlay{Known: 1, Stacked: 16, Layer: 24, Index: 24}, ""},
		{"no overlay", []btf.Type{aInt}, processOverlay{}, errNoOverlay.Error()},
		{"of the future, without a count", structsOf(nil, []btf.Member{field("stack", aPointer, 0)}, nil), processOverlay{}, "struct ovl_entry: no field __numlower"},
		{"of the future, without layers", structsOf(nil, nil, []btf.Member{field("layers", aPointer, 0)}), processOverlay{}, "struct ovl_fs: no field numlayer"},
		{"no struct", structsOf(nil, nil, nil)[:4], processOverlay{}, "struct ovl_fs: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := layoutOf(kernelOf(t, tt.types...))
			if tt.fails == "" && err != nil || tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
				t.Errorf("error %v, want %q", err, tt.fails)
			}
			if d := cmp.Diff(got, tt.want, cmpopts.IgnoreUnexported(processOverlay{})); d != "" {
				t.Errorf("layout (-got +want):\n%s", d)
			}
			if errors.Is(err, errNoOverlay) != (tt.name == "no overlay") {
				t.Errorf("error %v: to be looked for again only where there is none yet", err)
			}
		})
	}
}
