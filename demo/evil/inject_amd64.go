package main

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// runInject makes another process run code that it never had: it stops its
// first thread, lets it map a page, puts code there, runs it, and puts
// everything back as it was. The process goes on and does not notice.
func runInject(_ context.Context, args []string) error {
	if err := need(args, 3); err != nil {
		return err
	}
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	code, err := writerCode(args[1], args[2]+"\n", toTracer)
	if err != nil {
		return err
	}
	syscallAt, err := findSyscall(pid)
	if err != nil {
		return err
	}
	runtime.LockOSThread() // ptrace belongs to a thread
	defer runtime.UnlockOSThread()
	if err := unix.PtraceAttach(pid); err != nil {
		return fmt.Errorf("attach to %d: %w", pid, err)
	}
	if err := goOn(pid, func() error { return nil }); err != nil { // it stops by itself
		return err
	}
	if err := errors.Join(runThere(pid, code, syscallAt), unix.PtraceDetach(pid)); err != nil {
		return err
	}
	fmt.Printf("process %d ran %d bytes of foreign code\n", pid, len(code))
	return nil
}

// findSyscall returns the address of a syscall instruction in the program of
// the process, which is not position independent.
func findSyscall(pid int) (uint64, error) {
	program, err := elf.Open(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return 0, err
	}
	defer program.Close()
	text := program.Section(".text")
	if text == nil || program.Type != elf.ET_EXEC {
		return 0, errors.New("the program is position independent or has no text")
	}
	data, err := text.Data()
	if err != nil {
		return 0, err
	}
	at := bytes.Index(data, []byte{0x0f, 0x05})
	if at < 0 {
		return 0, errors.New("the program has no syscall instruction")
	}
	return text.Addr + uint64(at), nil
}

// runThere runs code in the stopped process and restores its registers.
func runThere(pid int, code []byte, syscallAt uint64) error {
	var before unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &before); err != nil {
		return fmt.Errorf("read registers: %w", err)
	}
	size := uint64(len(code)+minStack+4095) &^ 4095
	page, err := remoteCall(pid, before, syscallAt, unix.SYS_MMAP, 0, size,
		unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	if _, err := unix.PtracePokeData(pid, uintptr(page), code); err != nil {
		return fmt.Errorf("write code: %w", err)
	}
	regs := before
	regs.Rip = page
	regs.Rsp = (page + size) &^ 15 // its own stack: the rest of the page
	regs.Orig_rax = ^uint64(0)     // not inside a system call any more
	if err := unix.PtraceSetRegs(pid, &regs); err != nil {
		return fmt.Errorf("set registers: %w", err)
	}
	if err := goOn(pid, func() error { return unix.PtraceCont(pid, 0) }); err != nil {
		return err
	}
	_, err = remoteCall(pid, before, syscallAt, unix.SYS_MUNMAP, page, size, 0, 0)
	return errors.Join(err, unix.PtraceSetRegs(pid, &before))
}

// minStack is what the code's one push and a margin need.
const minStack = 256

// remoteCall has the process make one system call, by a syscall instruction of
// its own.
func remoteCall(pid int, regs unix.PtraceRegs, syscallAt, number, a, b, c, d uint64) (uint64, error) {
	regs.Rip, regs.Orig_rax = syscallAt, ^uint64(0)
	regs.Rax, regs.Rdi, regs.Rsi, regs.Rdx, regs.R10, regs.R8, regs.R9 = number, a, b, c, d, ^uint64(0), 0
	if err := unix.PtraceSetRegs(pid, &regs); err != nil {
		return 0, fmt.Errorf("set registers: %w", err)
	}
	if err := goOn(pid, func() error { return unix.PtraceSingleStep(pid) }); err != nil {
		return 0, err
	}
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return 0, fmt.Errorf("read registers: %w", err)
	}
	if int64(regs.Rax) < 0 && int64(regs.Rax) > -4096 {
		return 0, fmt.Errorf("remote call %d: %w", number, unix.Errno(-int64(regs.Rax)))
	}
	return regs.Rax, nil
}

// goOn resumes the traced thread with resume and waits until it stops for a
// reason of ours. Other signals that were on their way to it are dropped: they
// are Go's own for preemption, which its runtime sends again.
func goOn(pid int, resume func() error) error {
	for {
		if err := resume(); err != nil {
			return fmt.Errorf("resume %d: %w", pid, err)
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != nil {
			return fmt.Errorf("wait for %d: %w", pid, err)
		}
		if !status.Stopped() {
			return fmt.Errorf("process %d ended while it was traced", pid)
		}
		if s := status.StopSignal(); s == unix.SIGTRAP || s == unix.SIGSTOP {
			return nil
		}
	}
}
