package event

import "strings"

// The kinds of event.
const (
	KindFork Kind = "process.fork" // a process was created that did not execute a file at once; Process is the child
	KindExec Kind = "process.exec" // a process began to run another file
	KindExit Kind = "process.exit" // a process ended

	KindCalls Kind = "process.calls" // a workload made system calls that it had not made before; told while its group is learned from

	KindFileWrite  Kind = "file.write"  // a file that existed was opened for writing, or truncated
	KindFileCreate Kind = "file.create" // a file, folder or node was made
	KindFileRead   Kind = "file.read"   // a sensitive file was opened for reading
	KindFileRename Kind = "file.rename" // a file got another name; File.To is the new one
	KindFileLink   Kind = "file.link"   // a file got a further name (hard link), or a name for a path (symbolic link); File.To is the new one
	KindFileDelete Kind = "file.delete" // a file or folder lost its name
	KindFileChmod  Kind = "file.chmod"  // a file was made executable, set-uid or set-gid
	KindFileChown  Kind = "file.chown"  // a file was given to another user or group

	KindConnect Kind = "network.connect" // a connection was made, tried in vain (Error), or a UDP peer was sent to for the first time
	KindAccept  Kind = "network.accept"  // a connection was accepted
	KindListen  Kind = "network.listen"  // a port was opened for others
	KindClose   Kind = "network.close"   // a connection ended; with its bytes and packets
	KindRaw     Kind = "network.raw"     // a raw or packet socket was opened, or one of a rare family or protocol
	KindFlow    Kind = "network.flow"    // many packets were sent to one peer within seconds over UDP or ICMP, and hardly answered; with those since it was last looked at, which network.close has again
	KindUnix    Kind = "network.unix"    // a process of a container connected to a unix socket or sent to it, or was refused (Error); with who listens there
	KindStdio   Kind = "network.stdio"   // a process of a container put a connection in the place of its own input, output or error (dup2), or made or was given it there

	KindQuery  Kind = "dns.query"  // a name was asked for
	KindAnswer Kind = "dns.answer" // an answer came

	KindMount        Kind = "privilege.mount"         // a file system was mounted, bound or moved
	KindUmount       Kind = "privilege.umount"        // a file system was unmounted
	KindPivotRoot    Kind = "privilege.pivot_root"    // the root was changed (pivot_root, chroot)
	KindUnshare      Kind = "privilege.unshare"       // namespaces were left for new ones
	KindSetns        Kind = "privilege.setns"         // another process's namespace was joined
	KindClone        Kind = "privilege.clone"         // a process was created in new namespaces
	KindPtrace       Kind = "privilege.ptrace"        // another process was attached to or changed by ptrace
	KindProcessWrite Kind = "privilege.process_write" // another process's memory was written or read
	KindModule       Kind = "privilege.module"        // a kernel module was loaded or unloaded
	KindKexec        Kind = "privilege.kexec"         // another kernel was loaded
	KindBPF          Kind = "privilege.bpf"           // a BPF program, map or attachment was made
	KindPerf         Kind = "privilege.perf"          // a performance event was opened
	KindKeyring      Kind = "privilege.keyring"       // a kernel keyring was used
	KindUserfault    Kind = "privilege.userfault"     // page faults were taken over (userfaultfd)
	KindIOURing      Kind = "privilege.io_uring"      // an io_uring was made, whose operations pass by the system calls
	KindCapability   Kind = "privilege.capability"    // a process has capabilities that it had not before
	KindUser         Kind = "privilege.user"          // a process became another user
	KindKernelKnob   Kind = "privilege.kernel"        // core_pattern, release_agent, sysrq or another knob of the host's kernel was opened for writing
	KindDevice       Kind = "privilege.device"        // a device was opened or permitted: disk, memory, cgroup device rules

	KindExecMap     Kind = "memory.map"     // a file that was written after the container was made was mapped as code
	KindExecProtect Kind = "memory.protect" // memory that was or is writable became executable
	KindMemfd       Kind = "memory.memfd"   // a file without a name was made in memory

	KindOOM      Kind = "resource.oom"      // the kernel killed a process for want of memory
	KindThrottle Kind = "resource.throttle" // a container was held back for most of a while: its CPU share is used up
	KindLimit    Kind = "resource.limit"    // a container came close to a limit: memory, processes
)

// Kinds lists every kind, in the order in which they are shown.
func Kinds() []Kind {
	return []Kind{
		KindExec, KindFork, KindExit, KindCalls,
		KindFileWrite, KindFileCreate, KindFileRead, KindFileRename, KindFileLink, KindFileDelete, KindFileChmod, KindFileChown,
		KindConnect, KindAccept, KindListen, KindClose, KindRaw, KindFlow, KindUnix, KindStdio,
		KindQuery, KindAnswer,
		KindMount, KindUmount, KindPivotRoot, KindUnshare, KindSetns, KindClone, KindPtrace, KindProcessWrite,
		KindModule, KindKexec, KindBPF, KindPerf, KindKeyring, KindUserfault, KindIOURing, KindCapability, KindUser,
		KindKernelKnob, KindDevice,
		KindExecMap, KindExecProtect, KindMemfd,
		KindOOM, KindThrottle, KindLimit,
	}
}

// Sensor returns the part of the kind before the dot.
func (k Kind) Sensor() string {
	sensor, _, _ := strings.Cut(string(k), ".")
	return sensor
}

// Low reports whether events of this kind go first where there is no room for
// all: they say how something ended or went on, not that it began.
func (k Kind) Low() bool {
	switch k {
	case KindFork, KindExit, KindClose, KindAnswer, KindThrottle:
		return true
	}
	return false
}
