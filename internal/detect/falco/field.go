package falco

import (
	"fmt"
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
	"sendto": {event.KindConnect}, "sendmsg": {event.KindConnect}, // the first datagram to a peer
	"socket": {event.KindRaw},
	"keyctl": {event.KindKeyring}, "add_key": {event.KindKeyring}, "request_key": {event.KindKeyring},
}

var opened = []event.Kind{event.KindFileRead, event.KindFileWrite, event.KindFileCreate}

// typesOf are the kinds of event of a leaf that says something of that.
func typesOf(n *node) (kinds []event.Kind, any bool) {
	switch {
	case (n.field == "evt.type" || n.field == "syscall.type") && (n.cmp == "=" || n.cmp == "==" || n.cmp == "in"):
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
	"fd.rip": "connection.address", "fd.ip": "connection.address", "fd.lip": "connection.local_address", "fd.sip.name": "connection.name",
	"fd.rip.name": "connection.name", "fd.l4proto": "connection.protocol",
}

// numberFields are those whose value is a number.
var numberFields = map[string]string{
	"fd.rport": "connection.port", "fd.lport": "connection.local_port", "user.uid": "process.uid", "thread.uid": "process.uid",
}

// leaf says in CEL what a leaf asks for; why where that can't be said.
func (t *translation) leaf(n *node) (cel, why string) {
	if kinds, any := typesOf(n); !any {
		return t.kindIn(kinds), ""
	}
	if n.op == "macro" {
		return "", "the macro " + n.field + " is not in the file"
	}
	if n.cmp == "in" && len(n.values) == 0 {
		return "false", "" // an empty list has nothing, whatever is held against it
	}
	if n.via == "" && n.against == "" {
		if cel, ok := t.special(n); ok {
			return cel, ""
		}
		if name, ok := numberFields[n.field]; ok {
			return compareNumbers(name, n)
		}
	}
	name, ok := t.text(n.field)
	if _, is := environment(n.field); is {
		return "", noEnvironment
	}
	if !ok {
		return "", n.field + " is not known here"
	}
	if n.via != "" {
		if name, ok = transformed(n.via, name); !ok {
			return "", n.via + "() is not known here"
		}
	}
	if n.against != "" {
		other, ok := t.text(n.against)
		if !ok {
			return "", n.against + " is not known here"
		}
		return compareFields(name, other, n)
	}
	return compareTexts(name, n)
}

// text is what a field whose value is a text is called here.
func (t *translation) text(field string) (name string, ok bool) {
	if field == "fd.name" {
		switch {
		case all(t.kinds, "file."):
			return "file.target", true
		case all(t.kinds, "network."):
			return "connection.remote", true
		}
	}
	name, ok = textFields[field]
	return name, ok
}

// transformed is a text after one of Falco's functions.
func transformed(via, name string) (string, bool) {
	switch via {
	case "val":
		return name, true
	case "tolower":
		return name + ".lowerAscii()", true
	case "toupper":
		return name + ".upperAscii()", true
	case "basename":
		return name + `.substring(` + name + `.lastIndexOf("/") + 1)`, true
	}
	return "", false
}

// compareFields holds a text against another field's.
func compareFields(name, other string, n *node) (cel, why string) {
	switch n.cmp {
	case "=", "==", "!=":
		return name + " " + map[string]string{"=": "==", "==": "==", "!=": "!="}[n.cmp] + " " + other, ""
	case "contains", "startswith", "endswith":
		return name + map[string]string{"contains": ".contains(", "startswith": ".startsWith(", "endswith": ".endsWith("}[n.cmp] + other + ")", ""
	}
	return "", fmt.Sprintf("%s %s another field is not known here", n.field, n.cmp)
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
	case "iglob":
		return "like(" + name + ".lowerAscii(), [" + strings.ToLower(strings.ReplaceAll(quoted[0], "*", "**")) + "])", ""
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
