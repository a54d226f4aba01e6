package falco

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
)

// types are the kinds of event that a system call comes to.
var types = map[string][]event.Kind{
	"execve": {event.KindExec}, "execveat": {event.KindExec},
	"clone": {event.KindFork, event.KindClone}, "clone3": {event.KindFork, event.KindClone}, "fork": {event.KindFork}, "vfork": {event.KindFork},
	"open": opened, "openat": opened, "openat2": opened, "creat": {event.KindFileWrite, event.KindFileCreate},
	"mkdir": {event.KindFileCreate}, "mkdirat": {event.KindFileCreate}, "mknod": {event.KindFileCreate}, "mknodat": {event.KindFileCreate},
	"unlink": {event.KindFileDelete}, "unlinkat": {event.KindFileDelete}, "rmdir": {event.KindFileDelete},
	"rename": {event.KindFileRename}, "renameat": {event.KindFileRename}, "renameat2": {event.KindFileRename},
	"link": {event.KindFileLink}, "linkat": {event.KindFileLink}, "symlink": {event.KindFileLink}, "symlinkat": {event.KindFileLink},
	"chmod": {event.KindFileChmod}, "fchmod": {event.KindFileChmod}, "fchmodat": {event.KindFileChmod},
	"chown": {event.KindFileChown}, "fchown": {event.KindFileChown}, "lchown": {event.KindFileChown}, "fchownat": {event.KindFileChown},
	"connect": {event.KindConnect}, "accept": {event.KindAccept}, "accept4": {event.KindAccept}, "listen": {event.KindListen}, "bind": {event.KindListen},
	"ptrace": {event.KindPtrace}, "process_vm_writev": {event.KindProcessWrite}, "process_vm_readv": {event.KindProcessWrite},
	"setns": {event.KindSetns}, "unshare": {event.KindUnshare}, "mount": {event.KindMount}, "umount": {event.KindUmount}, "umount2": {event.KindUmount},
	"init_module": {event.KindModule}, "finit_module": {event.KindModule}, "bpf": {event.KindBPF}, "userfaultfd": {event.KindUserfault},
	"pivot_root": {event.KindPivotRoot}, "chroot": {event.KindPivotRoot}, "memfd_create": {event.KindMemfd}, "io_uring_setup": {event.KindIOURing},
	"setuid": {event.KindUser}, "setresuid": {event.KindUser}, "setreuid": {event.KindUser}, "perf_event_open": {event.KindPerf},
	"keyctl": {event.KindKeyring}, "add_key": {event.KindKeyring}, "request_key": {event.KindKeyring},
}

var opened = []event.Kind{event.KindFileRead, event.KindFileWrite, event.KindFileCreate}

// typesOf are the kinds of event of a leaf that says something of that.
func typesOf(n *node) (kinds []event.Kind, any bool) {
	switch {
	case n.field == "evt.type" && (n.cmp == "=" || n.cmp == "==" || n.cmp == "in"):
		for _, v := range n.values {
			kinds = append(kinds, types[v]...)
		}
		return kinds, false
	case n.field == "evt.is_open_write" && isTrue(n):
		return []event.Kind{event.KindFileCreate, event.KindFileWrite}, false
	case n.field == "evt.is_open_read" && isTrue(n):
		return []event.Kind{event.KindFileRead}, false
	}
	return nil, true
}

// isTrue says that a leaf asks for a flag to be set.
func isTrue(n *node) bool {
	return (n.cmp == "=" || n.cmp == "==") && len(n.values) == 1 && strings.EqualFold(n.values[0], "true")
}

// textFields are the fields whose value is a text, by the name that they have here.
var textFields = map[string]string{
	"proc.name": "process.name", "proc.exepath": "process.executable", "proc.cmdline": "process.line", "proc.pname": "parent.name",
	"proc.pcmdline": "parent.line", "proc.pexepath": "parent.executable", "proc.cwd": "exec.cwd",
	"fd.filename": "file.name", "fs.path.name": "file.target", "fs.path.target": "file.target", "fs.path.source": "file.path",
	"evt.arg.newpath": "file.target", "evt.arg.name": "file.target", "evt.arg.path": "file.target", "evt.arg.pathname": "file.target",
	"evt.arg.filename": "file.target", "evt.arg.oldpath": "file.path", "evt.arg.linkpath": "file.target",
	"fd.sip": "connection.address", "fd.rip": "connection.address", "fd.lip": "connection.local_address", "fd.sip.name": "connection.name",
	"fd.rip.name": "connection.name", "fd.l4proto": "connection.protocol",
}

// numberFields are those whose value is a number.
var numberFields = map[string]string{
	"fd.sport": "connection.port", "fd.rport": "connection.port", "fd.lport": "connection.local_port", "user.uid": "process.uid", "thread.uid": "process.uid",
}

// leaf says in CEL what a leaf asks for; why where that can't be said.
func (t *translation) leaf(n *node) (cel, why string) {
	if kinds, any := typesOf(n); !any {
		return t.kindIn(kinds), ""
	}
	if cel, ok := t.special(n); ok {
		return cel, ""
	}
	if name, ok := numberFields[n.field]; ok {
		return compareNumbers(name, n)
	}
	name, ok := textFields[n.field]
	if n.field == "fd.name" {
		switch {
		case all(t.kinds, "file."):
			name, ok = "file.target", true
		case all(t.kinds, "network."):
			name, ok = "connection.remote", true
		}
	}
	if !ok {
		if n.op == "macro" {
			return "", "the macro " + n.field + " is not in the file"
		}
		return "", n.field + " is not known here"
	}
	return compareTexts(name, n)
}

// kindIn says that an event is of one of these kinds, which may be sure already.
func (t *translation) kindIn(kinds []event.Kind) string {
	var words []string
	for _, k := range t.kinds {
		if slices.Contains(kinds, k) {
			words = append(words, strconv.Quote(string(k)))
		}
	}
	switch len(words) {
	case len(t.kinds):
		return "true"
	case 0:
		return "false"
	}
	return "event.kind in [" + strings.Join(words, ", ") + "]"
}

// special says what fields come to that have no like here.
func (t *translation) special(n *node) (cel string, ok bool) {
	value := ""
	if len(n.values) == 1 {
		value = strings.ToLower(n.values[0])
	}
	equal := n.cmp == "=" || n.cmp == "=="
	index, isAncestor := strings.CutPrefix(n.field, "proc.aname")
	switch {
	case n.field == "evt.dir", n.field == "evt.category", n.field == "fd.sockfamily" && equal && value == "ip",
		n.field == "fd.typechar" && equal && value == "f" && all(t.kinds, "file."), n.field == "fd.num" && n.cmp == ">=":
		return "true", true
	case n.field == "container.id" && value == "host" && equal:
		return `event.workload == ""`, true
	case n.field == "container.id" && value == "host" && n.cmp == "!=":
		return `event.workload != ""`, true
	case n.field == "proc.is_exe_upper_layer" && equal:
		return `(exec.origin == "written") == ` + strconv.FormatBool(value == "true"), true
	case n.field == "proc.is_exe_from_memfd" && equal:
		return `(exec.origin == "memory") == ` + strconv.FormatBool(value == "true"), true
	case n.field == "evt.failed" && equal:
		return "event.failed == " + strconv.FormatBool(value == "true"), true
	case n.field == "proc.vpid" && equal && value == "1":
		return "process.first", true
	case n.field == "user.name" && equal && value == "root":
		return "process.uid == 0", true
	case n.field == "user.name" && n.cmp == "!=" && value == "root":
		return "process.uid != 0", true
	case (n.field == "evt.res" || n.field == "evt.rawres" || n.field == "evt.arg.res") && (value == "success" && equal || value == "0" && (equal || n.cmp == ">=")):
		return "!event.failed", true
	case n.field == "proc.args" && (n.cmp == "contains" || n.cmp == "icontains" || n.cmp == "endswith"):
		cel, why := compareTexts("process.line", n)
		return cel, why == ""
	case n.field == "fd.directory":
		return directory(n)
	case (n.field == "fd.snet" || n.field == "fd.rnet" || n.field == "fd.net") && (equal || n.cmp == "in"):
		return ownNetworks(n)
	case isAncestor:
		return ancestor(n, index)
	}
	return "", false
}

// directory is the folder that a file is in, itself.
func directory(n *node) (string, bool) {
	const folder = "file.target.matches("
	switch n.cmp {
	case "=", "==", "in":
		var each []string
		for _, v := range n.values {
			each = append(each, folder+strconv.Quote("^"+quoteRegexp(strings.TrimSuffix(v, "/"))+"/[^/]+$")+")")
		}
		return "(" + strings.Join(each, " || ") + ")", len(each) > 0
	case "startswith", "pmatch":
		cel, why := compareTexts("file.target", n)
		return cel, why == ""
	}
	return "", false
}

func quoteRegexp(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune(`\.+*?()|[]{}^$`, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// ownNetworks says that an address is private, where all networks that are named are.
func ownNetworks(n *node) (string, bool) {
	for _, v := range n.values {
		p, err := netip.ParsePrefix(strings.Trim(v, `"`))
		if err != nil || !p.Addr().IsPrivate() && !p.Addr().IsLoopback() {
			return "", false
		}
	}
	return `connection.place in ["private", "self"]`, len(n.values) > 0
}

// ancestor is about one ancestor, or any of them.
func ancestor(n *node, index string) (string, bool) {
	if index == "" {
		cel, why := compareTexts("a", n)
		return "ancestors.programs.exists(a, " + cel + ")", why == ""
	}
	i, err := strconv.Atoi(strings.Trim(index, "[]"))
	if err != nil || i < 1 || i > maxDepth {
		return "", false
	}
	at := fmt.Sprintf("ancestors.programs[%d]", i-1)
	cel, why := compareTexts(at, n)
	return fmt.Sprintf("(ancestors.programs.size() >= %d && %s)", i, cel), why == ""
}

// compareTexts holds a text against values.
func compareTexts(name string, n *node) (cel, why string) {
	if n.cmp == "exists" {
		return name + ` != ""`, ""
	}
	if len(n.values) == 0 {
		return "false", "" // an empty list has nothing
	}
	quoted := make([]string, len(n.values))
	for i, v := range n.values {
		quoted[i] = strconv.Quote(strings.ToValidUTF8(v, "?"))
	}
	list := "[" + strings.Join(quoted, ", ") + "]"
	switch n.cmp {
	case "=", "==":
		return name + " == " + quoted[0], ""
	case "!=":
		return name + " != " + quoted[0], ""
	case "in", "intersects":
		return name + " in " + list, ""
	case "contains":
		return name + ".contains(" + quoted[0] + ")", ""
	case "icontains":
		return name + ".lowerAscii().contains(" + strings.ToLower(quoted[0]) + ")", ""
	case "startswith":
		return name + ".startsWith(" + quoted[0] + ")", ""
	case "endswith":
		return name + ".endsWith(" + quoted[0] + ")", ""
	case "pmatch":
		return "under(" + name + ", " + list + ")", ""
	case "glob":
		return "like(" + name + ", [" + strings.ReplaceAll(quoted[0], "*", "**") + "])", ""
	case "regex":
		return name + ".matches(" + strconv.Quote("^(?:"+n.values[0]+")$") + ")", ""
	}
	return "", fmt.Sprintf("%s %s is not known here", n.field, n.cmp)
}

// compareNumbers holds a number against values.
func compareNumbers(name string, n *node) (cel, why string) {
	for _, v := range n.values {
		if _, err := strconv.ParseInt(v, 10, 64); err != nil {
			return "", fmt.Sprintf("%s is held against %.40q, which is no number", n.field, v)
		}
	}
	if len(n.values) == 0 {
		return "false", ""
	}
	switch n.cmp {
	case "=", "==":
		return name + " == " + n.values[0], ""
	case "!=", "<", "<=", ">", ">=":
		return name + " " + n.cmp + " " + n.values[0], ""
	case "in":
		return name + " in [" + strings.Join(n.values, ", ") + "]", ""
	}
	return "", fmt.Sprintf("%s %s is not known here", n.field, n.cmp)
}
