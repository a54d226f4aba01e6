#include "textflag.h"

// func lend(flags, call, a, b, c uintptr) (pid uintptr)
//
// The child uses no stack: it may share that of its parent.
TEXT ·lend(SB), NOSPLIT, $0-48
	MOVQ flags+0(FP), DI
	MOVQ call+8(FP), R12
	MOVQ a+16(FP), R13
	MOVQ b+24(FP), BX
	MOVQ c+32(FP), R15
	XORL SI, SI
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	MOVQ $56, AX // clone
	SYSCALL
	TESTQ AX, AX
	JEQ child
	MOVQ AX, pid+40(FP)
	RET

child:
	MOVQ R13, DI
	MOVQ BX, SI
	MOVQ R15, DX
	XORL R10, R10
	XORL R8, R8
	XORL R9, R9
	MOVQ R12, AX
	SYSCALL

end:
	MOVQ $60, AX // exit
	XORL DI, DI
	SYSCALL
	JMP end
