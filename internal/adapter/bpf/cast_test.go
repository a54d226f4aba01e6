package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/castellan-security/castellan/internal/need"
)

// Without the kernel's function the programs load as well, as they must before
// 6.2; and there is something to leave out.
func TestProgramsLoadWithoutCast(t *testing.T) {
	need.BPF(t, "tp_btf")
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	places := 0
	for _, one := range sensors() {
		spec, err := one.spec()
		if err != nil {
			t.Fatal(err)
		}
		places += castsIn(spec)
		leaveCastOut(spec)
		if n := castsIn(spec); n != 0 {
			t.Errorf("sensor %s still names the function in %d places", one.name, n)
		}
		c, err := ebpf.NewCollection(spec)
		if err != nil {
			t.Errorf("sensor %s: %+v", one.name, err)
			continue
		}
		c.Close()
	}
	if places == 0 {
		t.Error("no program names the function")
	}
}

func castsIn(spec *ebpf.CollectionSpec) (n int) {
	for _, p := range spec.Programs {
		for _, in := range p.Instructions {
			if in.Reference() == castFunction {
				n++
			}
		}
	}
	return n
}
