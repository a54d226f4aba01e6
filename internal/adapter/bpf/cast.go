package bpf

import (
	"errors"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// castFunction is the kernel's function that read.bpf.h uses where there is one.
const castFunction = "bpf_rdonly_cast"

// hasFunction asks the kernel's own description for a function that programs may
// call; without a description the sensors don't load anyway.
func hasFunction(name string) bool {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return false
	}
	var f *btf.Func
	err = kernel.TypeByName(name, &f)
	return err == nil || errors.Is(err, btf.ErrMultipleMatches)
}

// leaveCastOut says to the programs that there is no such function. The loader
// would come to the same, but by way of the types of every module of the kernel,
// for each place where the function is named.
func leaveCastOut(spec *ebpf.CollectionSpec) {
	for _, p := range spec.Programs {
		for i, in := range p.Instructions {
			if in.Reference() != castFunction {
				continue
			}
			without := asm.LoadImm(in.Dst, 0, asm.DWord)
			if in.IsKfuncCall() {
				without = asm.Mov.Imm(asm.R0, 0) // never reached
			}
			p.Instructions[i] = without.WithSymbol(in.Symbol()).WithSource(in.Source())
		}
	}
}
