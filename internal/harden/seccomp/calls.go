package seccomp

import (
	"github.com/castellan-security/castellan/internal/event"
)

// ordinary are the calls that Docker lets a container without any added
// capability make, on amd64, arm64 and their 32-bit kin.
const ordinary = `
_llseek _newselect accept accept4 access adjtimex alarm arch_prctl arm_fadvise64_64 arm_sync_file_range bind breakpoint brk
cacheflush cachestat capget capset chdir chmod chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64
clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 clone close close_range connect copy_file_range creat dup
dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2
execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat
fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64
fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake
futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32
getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid
getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat
inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64
io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown
lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64
madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2
modify_ldt mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat open
openat openat2 pause personality pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll
ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6 pselect6_time64
ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg
remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction
rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list
set_thread_area set_tid_address set_tls setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer
setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid
setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask
sigreturn socket socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range
sync_file_range2 syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64
timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill
truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4
waitid waitpid write writev`

// atStart are the calls that happen between the moment in which the engine puts
// the filter in force and the program's own first instruction, in the start of
// the C library and of Go's, and in the engine's init: changing the user and the
// capabilities, threads, memory, signals, finding the program, reaping.
const atStart = `
access arch_prctl brk capget capset chdir clone close close_range dup3 epoll_create1 epoll_ctl epoll_pwait eventfd2 execve exit
exit_group faccessat2 fchdir fchown fcntl fstat fstatfs futex get_robust_list getcwd getdents64 getegid geteuid getgid getpgrp
getpid getppid getrandom getrlimit gettid getuid ioctl kill lseek madvise membarrier mmap mprotect mremap munmap nanosleep newfstatat
open pipe2 poll prctl pread64 prlimit64 read readlink restart_syscall rseq rt_sigaction rt_sigprocmask rt_sigreturn
sched_getaffinity sched_yield set_robust_list set_thread_area set_tid_address set_tls setgid setgroups setresgid setresuid setsid setuid
sigaltstack statfs statx sysinfo tgkill timer_create timer_delete timer_settime umask uname wait4 write writev cacheflush seccomp
setitimer clock_gettime gettimeofday setpgid rt_sigtimedwait`

// families are calls that do the same: on other architectures, in other versions
// of a library, or with a wider argument. Who may make one may make the others.
var families = []string{
	"open openat openat2 creat", "access faccessat faccessat2",
	"stat lstat fstat newfstatat fstatat64 stat64 lstat64 fstat64 statx", "statfs statfs64", "fstatfs fstatfs64",
	"read readv pread64 preadv preadv2", "write writev pwrite64 pwritev pwritev2", "lseek _llseek",
	"dup dup2 dup3 fcntl fcntl64", "pipe pipe2", "eventfd eventfd2", "signalfd signalfd4", "close close_range",
	"inotify_init inotify_init1", "getdents getdents64", "fork vfork clone", "execve execveat", "wait4 waitid waitpid",
	"select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64",
	"epoll_create epoll_create1", "epoll_wait epoll_pwait epoll_pwait2 epoll_wait_old", "epoll_ctl epoll_ctl_old",
	"accept accept4", "send sendto", "recv recvfrom", "sendmsg sendmmsg", "recvmsg recvmmsg recvmmsg_time64", "sendfile sendfile64",
	"mkdir mkdirat", "mknod mknodat", "rmdir unlink unlinkat", "rename renameat renameat2", "link linkat", "symlink symlinkat", "readlink readlinkat",
	"chmod fchmod fchmodat fchmodat2", "chown lchown fchown fchownat chown32 lchown32 fchown32",
	"utime utimes futimesat utimensat utimensat_time64", "truncate truncate64 ftruncate ftruncate64",
	"getxattr lgetxattr fgetxattr getxattrat", "setxattr lsetxattr fsetxattr setxattrat",
	"listxattr llistxattr flistxattr listxattrat", "removexattr lremovexattr fremovexattr removexattrat",
	"time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64",
	"nanosleep clock_nanosleep clock_nanosleep_time64", "alarm setitimer", "pause rt_sigsuspend",
	"timer_gettime timer_gettime64", "timer_settime timer_settime64", "timerfd_gettime timerfd_gettime64", "timerfd_settime timerfd_settime64",
	"mmap mmap2", "fadvise64 fadvise64_64 arm_fadvise64_64", "sync_file_range sync_file_range2 arm_sync_file_range",
	"getrlimit ugetrlimit prlimit64", "setrlimit prlimit64",
	"futex futex_time64 futex_wait futex_wake futex_requeue futex_waitv",
	"rt_sigreturn sigreturn", "rt_sigprocmask sigprocmask", "rt_sigtimedwait rt_sigtimedwait_time64",
	"getuid getuid32", "geteuid geteuid32", "getgid getgid32", "getegid getegid32", "getgroups getgroups32",
	"getresuid getresuid32", "getresgid getresgid32",
	"setuid setuid32 setreuid setreuid32 setresuid setresuid32", "setgid setgid32 setregid setregid32 setresgid setresgid32",
	"setgroups setgroups32", "setfsuid setfsuid32", "setfsgid setfsgid32",
	"sched_rr_get_interval sched_rr_get_interval_time64", "io_getevents io_pgetevents io_pgetevents_time64",
	"semop semtimedop semtimedop_time64", "mq_timedsend mq_timedsend_time64", "mq_timedreceive mq_timedreceive_time64",
	"getpgrp getpgid", "umount umount2",
}

// kindCalls are the system calls of privileged calls.
var kindCalls = map[event.Kind][]string{
	event.KindMount:        {"fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount", "open_tree"},
	event.KindUmount:       {"umount", "umount2"},
	event.KindPivotRoot:    {"chroot", "pivot_root"},
	event.KindUnshare:      {"unshare"},
	event.KindSetns:        {"setns"},
	event.KindClone:        {"clone", "clone3"},
	event.KindPtrace:       {"process_vm_readv", "process_vm_writev", "ptrace"},
	event.KindProcessWrite: {"process_madvise", "process_vm_readv", "process_vm_writev"},
	event.KindModule:       {"delete_module", "finit_module", "init_module"},
	event.KindKexec:        {"kexec_file_load", "kexec_load"},
	event.KindBPF:          {"bpf"},
	event.KindPerf:         {"perf_event_open"},
	event.KindKeyring:      {"add_key", "keyctl", "request_key"},
	event.KindUserfault:    {"userfaultfd"},
	event.KindIOURing:      {"io_uring_enter", "io_uring_register", "io_uring_setup"},
	event.KindMemfd:        {"memfd_create", "memfd_secret"},
}

// capabilityCalls are calls that Docker permits with a capability and that no
// sensor tells.
var capabilityCalls = map[string][]string{
	"DAC_READ_SEARCH": {"open_by_handle_at"},
	"SYS_ADMIN":       {"fanotify_init", "lookup_dcookie", "quotactl", "quotactl_fd", "setdomainname", "sethostname", "syslog"},
	"SYS_BOOT":        {"reboot"},
	"SYS_CHROOT":      {"chroot"},
	"SYS_NICE":        {"get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"},
	"SYS_PACCT":       {"acct"},
	"SYS_RAWIO":       {"ioperm", "iopl"},
	"SYS_TIME":        {"clock_settime", "clock_settime64", "settimeofday", "stime"},
	"SYS_TTY_CONFIG":  {"vhangup"},
	"SYSLOG":          {"syslog"},
}

// filter is a call of which only some uses are permitted.
type filter struct {
	name    string
	comment string
	any     []Arg // one of them must hold
}

func (f filter) rules() []Rule {
	rules := make([]Rule, 0, len(f.any))
	for _, a := range f.any {
		rules = append(rules, Rule{Names: []string{f.name}, Action: allow, Args: []Arg{a}, Comment: f.comment})
	}
	return rules
}

const (
	// newNamespaces are the flags of clone for mount, cgroup, UTS, IPC, user, pid
	// and network namespaces: include/uapi/linux/sched.h.
	newNamespaces = 0x7e020000
	// familyALG and familyVsock are AF_ALG and AF_VSOCK: include/linux/socket.h.
	familyALG, familyVsock = 38, 40
	// Of include/uapi/linux/personality.h.
	perLinux32, unameOld, perAsk = 0x8, 0x20000, 0xffffffff
)

// filtered are the calls with conditions, as Docker has them.
var filtered = []filter{
	{"socket", "not the kernel's cryptography (AF_ALG) and not the hypervisor (AF_VSOCK)", []Arg{
		{Value: familyALG, Op: "SCMP_CMP_LT"}, {Value: familyALG + 1, Op: "SCMP_CMP_EQ"}, {Value: familyVsock, Op: "SCMP_CMP_GT"}}},
	{"personality", "the usual ones, and asking", []Arg{
		{Value: 0, Op: "SCMP_CMP_EQ"}, {Value: perLinux32, Op: "SCMP_CMP_EQ"}, {Value: unameOld, Op: "SCMP_CMP_EQ"},
		{Value: unameOld | perLinux32, Op: "SCMP_CMP_EQ"}, {Value: perAsk, Op: "SCMP_CMP_EQ"}}},
	{"clone", "threads and processes, not in new namespaces", []Arg{{Value: newNamespaces, Op: "SCMP_CMP_MASKED_EQ"}}},
}
