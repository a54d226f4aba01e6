package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const stormCommand = "storm"

// tinyProgram returns the smallest useful ELF executable: it exits with 0. An
// exec of it is nearly all kernel work, so what the sensors add shows most.
func tinyProgram() ([]byte, error) {
	const base, headers = 0x400000, 64 + 56
	var code []byte
	machine := uint16(62) // EM_X86_64
	switch runtime.GOARCH {
	case "amd64": // mov eax, 60; xor edi, edi; syscall
		code = []byte{0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05}
	case "arm64": // mov x8, 93; mov x0, 0; svc 0
		machine = 183
		code = []byte{0xa8, 0x0b, 0x80, 0xd2, 0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4}
	default:
		return nil, fmt.Errorf("no tiny program for %s", runtime.GOARCH)
	}
	le := binary.LittleEndian
	b := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	b = le.AppendUint16(b, 2) // ET_EXEC
	b = le.AppendUint16(b, machine)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+headers) // entry
	b = le.AppendUint64(b, 64)           // program headers
	b = le.AppendUint64(b, 0)            // no sections
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 1, 0, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 1) // PT_LOAD
	b = le.AppendUint32(b, 5) // readable, executable
	for _, v := range []uint64{0, base, base, headers + uint64(len(code)), headers + uint64(len(code)), 0x1000} {
		b = le.AppendUint64(b, v)
	}
	return append(b, code...), nil
}

// stormMain does work as fast as it can, or at a rate, and prints how much it
// did in how many nanoseconds.
func stormMain(ctx context.Context, args []string) (err error) {
	f := flag.NewFlagSet(stormCommand, flag.ContinueOnError)
	what := f.String("what", workExec, "what to do")
	program := f.String("program", "", "what to start")
	dir := f.String("dir", "", "folder for files")
	span := f.Duration("span", time.Second, "for how long")
	rate := f.Int("rate", 0, "pieces of work a second; 0 is as fast as it goes")
	port := f.Int("port", 0, "port to connect to; 0 is any")
	workers := f.Int("workers", runtime.NumCPU(), "at once")
	if err := f.Parse(args); err != nil {
		return err
	}
	w, err := newWorker(ctx, *what, *program, *dir, *port)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	var done atomic.Int64
	var failed atomic.Pointer[error]
	begin := time.Now()
	var wg sync.WaitGroup
	for range *workers {
		wg.Go(func() {
			for time.Since(begin) < *span && failed.Load() == nil {
				if *rate > 0 && done.Load() >= int64(time.Since(begin).Seconds()*float64(*rate)) {
					time.Sleep(100 * time.Microsecond)
					continue
				}
				if err := w.once(done.Add(1)); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	fmt.Println(done.Load(), time.Since(begin).Nanoseconds())
	return nil
}

func startOne(program string) error {
	pid, err := syscall.ForkExec(program, []string{program, "--work", "item"}, &syscall.ProcAttr{Env: []string{}})
	if err != nil {
		return err
	}
	var status syscall.WaitStatus
	for {
		_, err = syscall.Wait4(pid, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err == nil && status != 0 {
			return fmt.Errorf("%s ended with status %#x: it was stopped, or failed", program, int(status))
		}
		return err
	}
}

// tiny writes the tiny program, once, and returns its path.
func tiny(o options) (string, error) {
	path := filepath.Join(o.dir, "tiny")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	b, err := tinyProgram()
	if err != nil {
		return "", err
	}
	return path, os.WriteFile(path, b, 0o755)
}

// job is one storm.
type job struct {
	what    string
	program string // to start; "" is the tiny one
	rate    int    // a second; 0 is as fast as it goes
	port    int    // to connect to; 0 is any
}

// args are what starts the job, with its files in a folder.
func (j job) args(o options, dir string) []string {
	return []string{stormCommand, "-what", j.what, "-program", j.program, "-dir", dir,
		"-span", o.span.String(), "-rate", strconv.Itoa(j.rate), "-port", strconv.Itoa(j.port)}
}

// stormed is what a storm did.
type stormed struct {
	done      int64
	perSecond float64
	cpu       time.Duration // of all its processes
}

// cpuEach is the processor time of one piece of work, in nanoseconds.
func (s stormed) cpuEach() float64 { return float64(s.cpu.Nanoseconds()) / float64(max(s.done, 1)) }

// storm does a job inside a container's cgroup and returns how much it did, and
// how much a second.
func storm(ctx context.Context, o options, cgroup string, j job) (done int64, perSecond float64, err error) {
	if j.program == "" {
		if j.program, err = tiny(o); err != nil {
			return 0, 0, err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return 0, 0, err
	}
	files, err := os.MkdirTemp(o.dir, "files-")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(files)) }()
	dir, err := os.Open(cgroup)
	if err != nil {
		return 0, 0, err
	}
	defer dir.Close()
	cmd := exec.CommandContext(ctx, self, j.args(o, files)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, 0, fmt.Errorf("run storm: %w", err)
	}
	s, err := readStorm(string(out), 0)
	return s.done, s.perSecond, err
}

// readStorm reads what a storm said.
func readStorm(out string, cpu time.Duration) (stormed, error) {
	s := stormed{cpu: cpu}
	var ns int64
	if _, err := fmt.Sscan(out, &s.done, &ns); err != nil {
		return s, fmt.Errorf("storm printed %q: %w", out, err)
	}
	s.perSecond = float64(s.done) / (float64(ns) / 1e9)
	return s, nil
}

// unifiedRoot is where cgroups of version 2 are mounted.
func unifiedRoot() string {
	const hybrid = "/sys/fs/cgroup/unified"
	if _, err := os.Stat(hybrid); err == nil {
		return hybrid
	}
	return "/sys/fs/cgroup"
}

// container makes a cgroup that is named as Docker names a container's.
func container() (id, path string, remove func(), err error) {
	root := unifiedRoot()
	id = strings.Repeat("beef", 16)
	path = filepath.Join(root, "docker", id)
	_, had := os.Stat(filepath.Dir(path))
	if err := os.MkdirAll(path, 0o755); err != nil {
		return "", "", nil, err
	}
	return id, path, func() {
		// Left over cgroups are empty and harmless; removing is tidiness only.
		_ = os.Remove(path)
		if had != nil {
			_ = os.Remove(filepath.Dir(path))
		}
	}, nil
}
