package bpf

import (
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
)

// word is a bit or a number and what it is called.
type word struct {
	value uint64
	name  string
}

// mountWords are of mount(2).
var mountWords = []word{
	{unix.MS_RDONLY, "ro"}, {unix.MS_NOSUID, "nosuid"}, {unix.MS_NODEV, "nodev"}, {unix.MS_NOEXEC, "noexec"},
	{unix.MS_SYNCHRONOUS, "sync"}, {unix.MS_REMOUNT, "remount"}, {unix.MS_MANDLOCK, "mand"},
	{unix.MS_DIRSYNC, "dirsync"}, {unix.MS_NOSYMFOLLOW, "nosymfollow"}, {unix.MS_NOATIME, "noatime"},
	{unix.MS_NODIRATIME, "nodiratime"}, {unix.MS_BIND, "bind"}, {unix.MS_MOVE, "move"}, {unix.MS_REC, "rec"},
	{unix.MS_UNBINDABLE, "unbindable"}, {unix.MS_PRIVATE, "private"}, {unix.MS_SLAVE, "slave"},
	{unix.MS_SHARED, "shared"}, {unix.MS_RELATIME, "relatime"}, {unix.MS_STRICTATIME, "strictatime"},
	{unix.MS_LAZYTIME, "lazytime"},
}

// attributeWords are of fsmount(2) and mount_setattr(2).
var attributeWords = []word{
	{unix.MOUNT_ATTR_RDONLY, "ro"}, {unix.MOUNT_ATTR_NOSUID, "nosuid"}, {unix.MOUNT_ATTR_NODEV, "nodev"},
	{unix.MOUNT_ATTR_NOEXEC, "noexec"}, {unix.MOUNT_ATTR_NOATIME, "noatime"},
	{unix.MOUNT_ATTR_STRICTATIME, "strictatime"}, {unix.MOUNT_ATTR_NODIRATIME, "nodiratime"},
	{unix.MOUNT_ATTR_IDMAP, "idmap"}, {unix.MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"},
}

var umountWords = []word{
	{unix.MNT_FORCE, "force"}, {unix.MNT_DETACH, "detach"}, {unix.MNT_EXPIRE, "expire"}, {unix.UMOUNT_NOFOLLOW, "nofollow"},
}

var openTreeWords = []word{{unix.OPEN_TREE_CLONE, "clone"}, {unix.AT_RECURSIVE, "rec"}}

var namespaceWords = []word{
	{unix.CLONE_NEWTIME, "newtime"}, {unix.CLONE_NEWNS, "newns"}, {unix.CLONE_NEWCGROUP, "newcgroup"},
	{unix.CLONE_NEWUTS, "newuts"}, {unix.CLONE_NEWIPC, "newipc"}, {unix.CLONE_NEWUSER, "newuser"},
	{unix.CLONE_NEWPID, "newpid"}, {unix.CLONE_NEWNET, "newnet"}, {unix.CLONE_INTO_CGROUP, "into_cgroup"},
}

var userfaultWords = []word{{1, "user_mode_only"}}

// Those of the two calls differ: include/uapi/linux/kexec.h.
var (
	kexecWords     = []word{{1, "on_crash"}, {2, "preserve_context"}}
	kexecFileWords = []word{{1, "unload"}, {2, "on_crash"}, {4, "no_initramfs"}}
)

var fsconfigCommands = []word{{6, "create"}, {7, "reconfigure"}, {8, "create_excl"}}

// ptraceRequests are those that changes() of privilege.bpf.c lets through.
var ptraceRequests = []word{
	{0, "traceme"}, {4, "poketext"}, {5, "pokedata"}, {6, "pokeusr"}, {13, "setregs"}, {15, "setfpregs"},
	{16, "attach"}, {0x4203, "setsiginfo"}, {0x4205, "setregset"}, {0x4206, "seize"},
}

var rebootCommands = []word{
	{unix.LINUX_REBOOT_CMD_RESTART, "restart"}, {unix.LINUX_REBOOT_CMD_HALT, "halt"},
	{unix.LINUX_REBOOT_CMD_CAD_ON, "cad_on"}, {unix.LINUX_REBOOT_CMD_CAD_OFF, "cad_off"},
	{unix.LINUX_REBOOT_CMD_POWER_OFF, "power_off"}, {unix.LINUX_REBOOT_CMD_RESTART2, "restart2"},
	{unix.LINUX_REBOOT_CMD_SW_SUSPEND, "suspend"}, {unix.LINUX_REBOOT_CMD_KEXEC, "kexec"},
}

// bpfCommands are enum bpf_cmd of include/uapi/linux/bpf.h, by number.
var bpfCommands = []string{
	"map_create", "map_lookup_elem", "map_update_elem", "map_delete_elem", "map_get_next_key", "prog_load",
	"obj_pin", "obj_get", "prog_attach", "prog_detach", "prog_test_run", "prog_get_next_id", "map_get_next_id",
	"prog_get_fd_by_id", "map_get_fd_by_id", "obj_get_info_by_fd", "prog_query", "raw_tracepoint_open", "btf_load",
	"btf_get_fd_by_id", "task_fd_query", "map_lookup_and_delete_elem", "map_freeze", "btf_get_next_id",
	"map_lookup_batch", "map_lookup_and_delete_batch", "map_update_batch", "map_delete_batch", "link_create",
	"link_update", "link_get_fd_by_id", "link_get_next_id", "enable_stats", "iter_create", "link_detach",
	"prog_bind_map", "token_create",
}

// keyctlCommands are those of include/uapi/linux/keyctl.h, by number.
var keyctlCommands = []string{
	"get_keyring_id", "join_session_keyring", "update", "revoke", "chown", "setperm", "describe", "clear", "link",
	"unlink", "search", "read", "instantiate", "negate", "set_reqkey_keyring", "set_timeout", "assume_authority",
	"get_security", "session_to_parent", "reject", "instantiate_iov", "invalidate", "get_persistent", "dh_compute",
	"pkey_query", "pkey_encrypt", "pkey_decrypt", "pkey_sign", "pkey_verify", "restrict_keyring", "move",
	"capabilities", "watch_key",
}

// perfTypes are enum perf_type_id of include/uapi/linux/perf_event.h, by number.
var perfTypes = []string{"hardware", "software", "tracepoint", "hw_cache", "raw", "breakpoint"}

// privilegeWords returns what a call was asked for, in words.
func privilegeWords(kind event.Kind, call string, r *privilegeRecord) []string {
	words := callWords(kind, call, r)
	if r.has(privilegeBitBIT_SEES_HOST) || r.has(privilegeBitBIT_TARGET_HOST) || kind == event.KindSetns && isHostNamespace(r.Inode) {
		words = append(words, "host")
	}
	if r.has(privilegeBitBIT_USERNS) {
		words = append(words, "userns")
	}
	if kind == event.KindUser && (r.has(privilegeBitBIT_GROUP) || strings.HasSuffix(call, "gid") && r.Error != 0) {
		words = append(words, "group")
	}
	return words
}

func callWords(kind event.Kind, call string, r *privilegeRecord) []string {
	switch call {
	case "mount":
		// Until 2.4 the upper half was a magic number, which is still allowed.
		flags := r.Flags
		if flags&unix.MS_MGC_MSK == unix.MS_MGC_VAL {
			flags &^= unix.MS_MGC_MSK
		}
		return set(flags, mountWords)
	case "umount2":
		return set(r.Flags, umountWords)
	case "fsmount", "mount_setattr":
		return set(r.Flags, attributeWords)
	case "open_tree", "open_tree_attr":
		return set(r.Flags, openTreeWords)
	case "fsconfig":
		return one(uint64(r.Command), fsconfigCommands)
	case "unshare", "clone", "clone3", "setns":
		if kind == event.KindUnshare || kind == event.KindClone || kind == event.KindSetns {
			return set(r.Flags, namespaceWords)
		}
	case "ptrace":
		return one(uint64(r.Command), ptraceRequests)
	case "kexec_load":
		return set(r.Flags&0xffff, kexecWords) // above is the architecture
	case "kexec_file_load":
		return set(r.Flags, kexecFileWords)
	case "bpf":
		return []string{numbered(r.Command, bpfCommands)}
	case "keyctl":
		return []string{numbered(r.Command, keyctlCommands)}
	case "userfaultfd":
		return set(r.Flags, userfaultWords)
	case "reboot":
		return one(uint64(r.Command), rebootCommands)
	}
	return nil
}

// isHostNamespace knows the inodes that the first namespaces always have:
// include/linux/proc_ns.h, and include/uapi/linux/nsfs.h for those since 6.18.
func isHostNamespace(inode uint64) bool {
	const lowest, highest = 0xEFFFFFF8, 0xEFFFFFFF
	return inode >= lowest && inode <= highest
}

// bpfType names the type of what a command loads or makes.
func bpfType(command, number uint32) string {
	const mapCreate, progLoad = 0, 5
	switch command {
	case mapCreate:
		return strings.ToLower(ebpf.MapType(number).String())
	case progLoad:
		return strings.ToLower(ebpf.ProgramType(number).String())
	}
	return ""
}

// perfType names the source of a performance event; those with a number have
// their name in /sys/bus/event_source.
func perfType(n uint32) string { return numbered(n, perfTypes) }

// set returns the names of the bits that are set. Bits without a name are not
// told.
func set(flags uint64, words []word) []string {
	var out []string
	for _, w := range words {
		if flags&w.value == w.value {
			out = append(out, w.name)
		}
	}
	return out
}

// one returns the name of a number, or the number.
func one(n uint64, words []word) []string {
	for _, w := range words {
		if n == w.value {
			return []string{w.name}
		}
	}
	return []string{strconv.FormatUint(n, 10)}
}

func numbered(n uint32, names []string) string {
	if int(n) < len(names) {
		return names[n]
	}
	return strconv.FormatUint(uint64(n), 10)
}
