package bpf_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// Limits of kernel/bpf/verifier.c. Until 6.6 each function of a chain of calls
// is rounded up to 32 bytes of stack, later to 16, so that a newer kernel lets
// pass what an older one refuses.
const (
	maxStack   = 512
	stackGrain = 32
	maxCalls   = 8
)

// function is what one function of a program needs.
type function struct {
	stack int
	calls []string
}

// The programs of both architectures fit into the stack of older kernels.
func TestStackFitsOldKernels(t *testing.T) {
	files, err := filepath.Glob("*_bpfel.o")
	if err != nil || len(files) == 0 {
		t.Fatalf("no objects (%v)", err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			spec, err := ebpf.LoadCollectionSpec(file)
			if err != nil {
				t.Fatal(err)
			}
			for name, p := range spec.Programs {
				need, chain := deepest(functions(p.Instructions), name, 0)
				t.Logf("%d bytes: %s", need, strings.Join(chain, ", "))
				if need > maxStack || len(chain) > maxCalls {
					t.Errorf("%s needs %d bytes of stack in %d calls, want at most %d in %d: %s",
						name, need, len(chain), maxStack, maxCalls, strings.Join(chain, ", "))
				}
			}
		})
	}
}

// functions takes a program apart. What is relative to the frame is read or
// written directly, or by an address that is computed in the next instructions.
func functions(program asm.Instructions) map[string]*function {
	all := map[string]*function{}
	f := &function{}
	frame := map[asm.Register]bool{}
	for _, in := range program {
		if btf.FuncMetadata(&in) != nil {
			f = &function{}
			all[in.Symbol()] = f
			clear(frame)
		}
		op := in.OpCode
		switch {
		case in.IsFunctionCall():
			f.calls = append(f.calls, in.Reference())
		case op.Class().IsLoad() && in.Src == asm.RFP, op.Class().IsStore() && in.Dst == asm.RFP:
			f.stack = max(f.stack, -int(in.Offset))
		case op.ALUOp() == asm.Mov && op.Source() == asm.RegSource:
			frame[in.Dst] = in.Src == asm.RFP
		case op.ALUOp() == asm.Add && op.Source() == asm.ImmSource && frame[in.Dst]:
			f.stack = max(f.stack, -int(in.Constant))
			frame[in.Dst] = false
		}
	}
	return all
}

// deepest returns the chain of calls from a function that needs most stack.
func deepest(all map[string]*function, name string, depth int) (need int, chain []string) {
	f := all[name]
	if f == nil || depth > 2*maxCalls {
		return 0, nil
	}
	for _, callee := range f.calls {
		if n, c := deepest(all, callee, depth+1); n > need {
			need, chain = n, c
		}
	}
	own := (max(f.stack, 1) + stackGrain - 1) / stackGrain * stackGrain
	return need + own, append([]string{fmt.Sprintf("%s %d", name, f.stack)}, chain...)
}
