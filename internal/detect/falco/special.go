package falco

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
)

// special says what fields come to that have no like here, or one that is written
// otherwise.
func (t *translation) special(n *node) (cel string, ok bool) {
	for _, of := range []func(*node) (string, bool){t.ofEvent, t.ofProcess, t.ofEnvironment, t.ofDescriptor, t.ofArguments} {
		if cel, ok := of(n); ok {
			return cel, true
		}
	}
	return "", false
}

// value is what a leaf holds its field against, where that is one text.
func (n *node) value() string {
	if len(n.values) != 1 {
		return ""
	}
	return strings.ToLower(n.values[0])
}

func (n *node) equal() bool { return n.cmp == "=" || n.cmp == "==" }

// truthOf says that something is so, or is not so, as a leaf has it.
func truthOf(cel string, is bool) string {
	if is {
		return cel
	}
	return "!(" + cel + ")"
}

// ofEvent is about the event itself, and how it ended.
func (t *translation) ofEvent(n *node) (cel string, ok bool) {
	value := n.value()
	switch n.field {
	case "evt.dir", "evt.category":
		return "true", true
	case "evt.num": // Falco's own files write never_true and always_true with it
		switch {
		case n.equal() && value == "0":
			return "false", true
		case n.cmp == ">=" && value == "0":
			return "true", true
		}
	case "container.id":
		if value == "host" && (n.equal() || n.cmp == "!=") {
			return `event.workload ` + map[bool]string{true: "==", false: "!="}[n.equal()] + ` ""`, true
		}
	case "evt.failed":
		if n.equal() {
			return truthOf("event.failed", value == "true"), true
		}
	case "evt.res", "evt.rawres", "evt.arg.res":
		return result(n, value)
	}
	return "", false
}

// result is how a call ended.
func result(n *node, value string) (string, bool) {
	switch {
	case value == "success" && (n.equal() || n.cmp == "!="):
		return truthOf("!event.failed", n.equal()), true
	case value == "0" && (n.equal() || n.cmp == ">="):
		return "!event.failed", true
	case value == "0" && (n.cmp == "<" || n.cmp == "!="), value == "e" && n.cmp == "startswith":
		return "event.failed", true
	case value == "einprogress" && n.equal(): // the sensors tell of it when it was decided
		return "!event.failed", true
	case strings.HasPrefix(value, "e") && (n.equal() || n.cmp == "!="):
		return truthOf("event.error == "+strconv.Quote(strings.ToUpper(value)), n.equal()), true
	}
	return "", false
}

// ofProcess is about the process and its ancestors.
func (t *translation) ofProcess(n *node) (cel string, ok bool) {
	value := n.value()
	switch n.field {
	case "proc.is_exe_upper_layer", "proc.is_exe_from_memfd":
		origin := map[string]string{"proc.is_exe_upper_layer": "written", "proc.is_exe_from_memfd": "memory"}[n.field]
		if n.equal() && all(t.kinds, "process.exec") {
			return truthOf(`exec.origin == "`+origin+`"`, value == "true"), true
		}
	case "proc.vpid":
		if n.equal() && value == "1" {
			return "process.first", true
		}
	case "proc.tty":
		return terminal(n, value, all(t.kinds, "process.exec"))
	case "proc.cmdnargs":
		if all(t.kinds, "process.exec") {
			cel, why := compareNumbers("(exec.args.size() - 1)", n)
			return cel, why == ""
		}
	case "user.name":
		if value == "root" && (n.equal() || n.cmp == "!=") {
			return truthOf("process.uid == 0", n.equal()), true
		}
	case "proc.duration":
		if ns, err := strconv.ParseInt(value, 10, 64); err == nil && slices.Contains([]string{"<", "<=", ">", ">="}, n.cmp) {
			return fmt.Sprintf("process.age %s duration(%q)", n.cmp, strconv.FormatInt(ns, 10)+"ns"), true
		}
	case "proc.args", "proc.pargs":
		return arguments(n, map[string]string{"proc.args": "process.line", "proc.pargs": "parent.line"}[n.field])
	case "proc.exe", "proc.pexe":
		return firstArgument(n, map[string]string{"proc.exe": "process.line", "proc.pexe": "parent.line"}[n.field])
	}
	if index, is := strings.CutPrefix(n.field, "proc.aname"); is {
		return ancestor(n, index, "ancestors.programs", compareTexts)
	}
	if index, is := strings.CutPrefix(n.field, "proc.acmdline"); is {
		return ancestor(n, index, "ancestors.lines", compareTexts)
	}
	if index, is := strings.CutPrefix(n.field, "proc.aexe["); is {
		return ancestor(n, "["+index, "ancestors.lines", func(name string, n *node) (string, string) {
			cel, ok := firstArgument(n, name)
			if !ok {
				return "", n.field + " " + n.cmp + " is not known here"
			}
			return cel, ""
		})
	}
	return "", false
}

// terminal says that a program that is run has a terminal, or has none. Events have what
// stands behind its first three descriptors; one who has all of them elsewhere has none here.
func terminal(n *node, value string, exec bool) (cel string, ok bool) {
	const has = `"terminal" in [exec.stdin, exec.stdout, exec.stderr]`
	switch {
	case !exec:
		return "", false
	case n.cmp == "exists", value == "0" && (n.cmp == "!=" || n.cmp == ">"):
		return has, true
	case value == "0" && n.equal():
		return truthOf(has, false), true
	}
	return "", false
}

// arguments is what stands behind the program's name in a command line.
func arguments(n *node, line string) (string, bool) {
	before, after := "", ""
	switch n.cmp {
	case "contains", "icontains", "endswith":
		cel, why := compareTexts(line, n)
		return cel, why == ""
	case "startswith":
		before = "^[^ ]* "
	case "=", "==", "in":
		before, after = "^[^ ]* ", "$"
	default:
		return "", false
	}
	return anyMatch(line, before, after, n.values)
}

// firstArgument is what stands first in a command line.
func firstArgument(n *node, line string) (string, bool) {
	before, after := "^", "( |$)"
	switch n.cmp {
	case "startswith":
		after = ""
	case "contains":
		before, after = "^[^ ]*", ""
	case "endswith":
		before = "^[^ ]*"
	case "=", "==", "in":
	default:
		return "", false
	}
	return anyMatch(line, before, after, n.values)
}

func anyMatch(name, before, after string, values []string) (string, bool) {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = quoteRegexp(v)
	}
	return name + ".matches(" + strconv.Quote(before+"(?:"+strings.Join(quoted, "|")+")"+after) + ")", len(values) > 0
}

// ancestor is about one ancestor, or any of them.
func ancestor(n *node, index, list string, compare func(string, *node) (string, string)) (string, bool) {
	if index == "" {
		cel, why := compare("a", n)
		return list + ".exists(a, " + cel + ")", why == ""
	}
	i, err := strconv.Atoi(strings.Trim(index, "[]"))
	if err != nil || i < 1 || i > maxDepth {
		return "", false
	}
	cel, why := compare(fmt.Sprintf("%s[%d]", list, i-1), n)
	return fmt.Sprintf("(%s.size() >= %d && %s)", list, i, cel), why == ""
}

// ofDescriptor is about the file or the connection.
func (t *translation) ofDescriptor(n *node) (cel string, ok bool) {
	value := n.value()
	files, network := all(t.kinds, "file."), all(t.kinds, "network.")
	switch n.field {
	case "fd.sockfamily", "fd.connected", "fd.name_changed":
		return "true", network && n.equal()
	case "fd.typechar", "fd.type":
		return typeOf(n, value, files, network)
	case "fd.num":
		switch {
		case n.cmp == ">=" && value == "0":
			return "true", true
		case n.equal() && value == "-1", n.cmp == "<" && value == "0":
			return "event.failed", true
		}
	case "fd.directory":
		return directory(n)
	case "fd.snet", "fd.rnet", "fd.net", "fd.cnet", "fd.lnet":
		if !network || !n.equal() && n.cmp != "in" && n.cmp != "!=" {
			return "", false
		}
		name := "connection.address"
		if n.field == "fd.lnet" {
			name = "connection.local_address"
		}
		cel, ok := networks(name, n.values)
		return truthOf(cel, n.cmp != "!="), ok
	case "fd.sport", "fd.cport":
		if !network {
			return "", false
		}
		cel, why := compareNumbers(t.side(n.field == "fd.sport", "port"), n)
		return cel, why == ""
	case "fd.sip", "fd.cip":
		if !network {
			return "", false
		}
		cel, why := compareTexts(t.side(n.field == "fd.sip", "address"), n)
		return cel, why == ""
	}
	return "", false
}

// side names a field of the server's side of a connection, or the client's: who
// connects is the client, who accepts or listens the server.
func (t *translation) side(server bool, field string) string {
	remote, local := "connection."+field, "connection.local_"+field
	switch connects := slices.Contains(t.kinds, event.KindConnect); {
	case connects && len(t.kinds) == 1 && server, !connects && !server:
		return remote
	case !connects || len(t.kinds) == 1:
		return local
	case server:
		return `(event.kind == "network.connect" ? ` + remote + " : " + local + ")"
	}
	return `(event.kind == "network.connect" ? ` + local + " : " + remote + ")"
}

// typeOf is what sort of thing a descriptor is of.
func typeOf(n *node, value string, files, network bool) (string, bool) {
	if !n.equal() && n.cmp != "in" {
		return "", false
	}
	all := n.values
	if n.cmp != "in" {
		all = []string{value}
	}
	var each []string
	for _, v := range all {
		switch {
		case network && (v == "4" || v == "ipv4"):
			each = append(each, `!connection.address.contains(":")`)
		case network && (v == "6" || v == "ipv6"):
			each = append(each, `connection.address.contains(":")`)
		case files && (v == "f" || v == "file"):
			return "true", true
		case files && (v == "d" || v == "directory"):
			each = append(each, `file.type == "folder"`)
		default:
			return "", false
		}
	}
	return "(" + strings.Join(each, " || ") + ")", len(each) > 0
}

// directory is the folder that a file is in, itself.
func directory(n *node) (string, bool) {
	switch n.cmp {
	case "=", "==", "in":
		folders := make([]string, len(n.values))
		for i, v := range n.values {
			folders[i] = strings.TrimSuffix(v, "/")
		}
		return anyMatch("file.target", "^", "/[^/]+$", folders)
	case "startswith", "pmatch":
		cel, why := compareTexts("file.target", n)
		return cel, why == ""
	}
	return "", false
}

// maxBeginnings bounds the texts that an address of a network can begin with.
const maxBeginnings = 64

// networks says that an address is of one of some networks, by how it is written.
func networks(name string, values []string) (string, bool) {
	var begin []string
	for _, v := range values {
		p, err := netip.ParsePrefix(strings.Trim(v, `"'`))
		if err != nil || !p.Addr().Is4() {
			return "", false
		}
		octets, free := p.Bits()/8, 0
		if rest := p.Bits() % 8; rest != 0 {
			octets, free = octets+1, 8-rest
		}
		a := p.Masked().Addr().As4()
		for i := range 1 << free {
			var b strings.Builder
			for at, octet := range a[:octets] {
				if at == octets-1 {
					octet += byte(i)
				}
				b.WriteString(strconv.Itoa(int(octet)))
				if at < 3 {
					b.WriteByte('.')
				}
			}
			if p.Bits() > 24 { // whole addresses, of which one may begin as another does
				return "", false
			}
			begin = append(begin, strconv.Quote(b.String()))
		}
	}
	return "startsAny(" + name + ", [" + strings.Join(begin, ", ") + "])", len(begin) > 0 && len(begin) <= maxBeginnings
}

// ofArguments is about what a call was given.
func (t *translation) ofArguments(n *node) (cel string, ok bool) {
	if n.cmp != "contains" && n.cmp != "icontains" && !n.equal() {
		if n.field == "evt.arg.target" && all(t.kinds, "file.") {
			cel, why := compareTexts("file.path", n)
			return cel, why == ""
		}
		return "", false
	}
	value := n.value()
	switch n.field {
	case "evt.arg.target":
		if all(t.kinds, "file.") {
			cel, why := compareTexts("file.path", n)
			return cel, why == ""
		}
	case "evt.arg.flags":
		return t.flag(value)
	case "evt.arg.request": // of ptrace
		return strconv.Quote(strings.TrimPrefix(value, "ptrace_")) + " in privilege.flags", all(t.kinds, "privilege.")
	case "evt.arg[0]", "evt.arg.domain": // of socket, of which raw and packet ones are told
		protocol, is := map[string]string{"af_packet": "packet", "af_inet": "raw", "af_inet6": "raw"}[value]
		return `connection.protocol == "` + protocol + `"`, is && all(t.kinds, "network.raw")
	case "evt.arg.type":
		return "true", value == "sock_raw" && all(t.kinds, "network.raw")
	case "evt.arg.mode":
		switch {
		case !all(t.kinds, "file."):
		case value == "s_isuid" || value == "s_isgid":
			return "file.setuid", true
		case strings.HasPrefix(value, "s_ix"):
			return "file.executable", true
		}
	}
	return "", false
}

// flag is one of open, clone, unshare or mount.
func (t *translation) flag(value string) (string, bool) {
	word, open := strings.CutPrefix(value, "o_")
	switch {
	case open && all(t.kinds, "file."):
		word, open = map[string]string{"trunc": "truncate", "creat": "create", "append": "append", "excl": "exclusive", "wronly": "write", "rdwr": "write"}[word]
		return strconv.Quote(word) + " in file.flags", open
	case all(t.kinds, "privilege."):
		for _, prefix := range []string{"clone_", "ms_"} {
			if word, ok := strings.CutPrefix(value, prefix); ok {
				return strconv.Quote(word) + " in privilege.flags", true
			}
		}
	}
	return "", false
}
