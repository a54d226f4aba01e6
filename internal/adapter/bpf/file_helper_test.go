package bpf_test

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
)

// callScript makes system calls: one a line, the name and its arguments with a
// "|" between them. An argument is a number, $n for what call n returned (from
// 0), how:FLAGS for a struct open_how, or a text. Calls may fail.
//
// A first line "repeat|N" makes all of it N times.
func callScript(script string) error {
	lines := strings.Split(script, "\n")
	times := 1
	if n, ok := strings.CutPrefix(lines[0], "repeat|"); ok {
		var err error
		if times, err = strconv.Atoi(n); err != nil {
			return err
		}
		lines = lines[1:]
	}
	for range times {
		if err := makeScripted(lines); err != nil {
			return err
		}
	}
	return nil
}

func makeScripted(lines []string) error {
	var results []uintptr
	for _, line := range lines {
		words := strings.Split(line, "|")
		n, ok := callNumber(words[0])
		if !ok {
			return fmt.Errorf("no system call is called %q", words[0])
		}
		var args [6]uintptr
		var keep [6]any
		for i, word := range words[1:] {
			arg, memory, err := callArgument(word, results)
			if err != nil {
				return err
			}
			args[i], keep[i] = arg, memory
		}
		r, _, _ := unix.Syscall6(n, args[0], args[1], args[2], args[3], args[4], args[5])
		runtime.KeepAlive(keep)
		results = append(results, r)
	}
	return nil
}

// callNumber knows the calls of the sensors, and those that scripts need too.
func callNumber(name string) (uintptr, bool) {
	switch name {
	case "chdir":
		return unix.SYS_CHDIR, true
	case "close":
		return unix.SYS_CLOSE, true
	case "mremap":
		return unix.SYS_MREMAP, true
	case "setresuid":
		return unix.SYS_SETRESUID, true
	}
	n, ok := bpf.CallNumber(name)
	return uintptr(n), ok
}

func callArgument(word string, results []uintptr) (uintptr, any, error) {
	if n, err := strconv.ParseInt(word, 0, 64); err == nil {
		return uintptr(n), nil, nil
	}
	if n, ok := strings.CutPrefix(word, "$"); ok {
		i, err := strconv.Atoi(n)
		if err != nil || i >= len(results) {
			return 0, nil, fmt.Errorf("no result %q", word)
		}
		return results[i], nil, nil
	}
	if flags, ok := strings.CutPrefix(word, "how:"); ok {
		n, err := strconv.ParseUint(flags, 0, 64)
		how := &unix.OpenHow{Flags: n}
		if n&unix.O_CREAT != 0 {
			how.Mode = 0o600
		}
		return uintptr(unsafe.Pointer(how)), how, err
	}
	b, err := unix.BytePtrFromString(word)
	return uintptr(unsafe.Pointer(b)), b, err
}
