// Package bpf is the door to the kernel's eyes: sensors written as eBPF
// programs, loaded once, that put what they see into one ring buffer.
//
// A sensor is one C file and one Go file (process.bpf.c, process.go) and one
// line in the list in sensor.go. What sensors share is in the headers:
//
//   - sensor.bpf.h: the head of a record, the ring buffer, the counters
//   - container.bpf.h: the container of a task, by the names of its cgroups
//   - resident.bpf.h: who was first in a container
//   - window.bpf.h: what is alike is counted, not told
//   - untold.bpf.h: processes whose beginning has not been told
//   - syscall.bpf.h: system calls when they return; one program for all sensors
//   - layer.bpf.h: which layer of a container a file is from; overlay.go finds
//     where the kernel keeps that
//   - read.bpf.h: the kernel's memory without a helper, where the kernel can
//   - socket.bpf.h: sockets and packets
//   - packet.bpf.h: who looks at packets; one program a direction for all sensors
//   - path.bpf.h: from a dentry to a path
//   - kernel.bpf.h: the kernel's structs, with the fields that are read and no
//     others; CO-RE moves each access to where the running kernel has the field
//
// Beside the sensors, firstcall.bpf.h notes which system calls a container makes,
// for those that Sensors.Learn names.
//
// What holds containers to their rules is no sensor: guard.go is the face of
// what is pinned, netguard*.go with netguard.bpf.c hold the network, guardexec*.go
// with guard_exec.bpf.c and automaton.bpf.h what runs. They have rings of their own.
//
// The package needs Linux 5.8 or later with BTF, and CAP_BPF with CAP_PERFMON
// (or CAP_SYS_ADMIN; the network and DNS sensors CAP_NET_ADMIN too). It uses BTF
// raw tracepoints, iterators and programs of cgroups only, so it also works
// where the kernel has no trampolines (fentry, LSM).
//
// It is not for deciding anything about an event, nor for asking what this
// kernel could enforce; see internal/adapter/kernel for the latter.
package bpf
