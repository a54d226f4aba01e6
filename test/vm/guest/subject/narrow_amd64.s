#include "textflag.h"

// func narrowCall(call, a, b, c, d, e uintptr) (r uintptr)
TEXT ·narrowCall(SB), NOSPLIT, $0-56
	MOVQ call+0(FP), AX
	MOVQ a+8(FP), BX
	MOVQ b+16(FP), CX
	MOVQ c+24(FP), DX
	MOVQ d+32(FP), SI
	MOVQ e+40(FP), DI
	INT $0x80
	MOVQ AX, r+48(FP)
	RET
