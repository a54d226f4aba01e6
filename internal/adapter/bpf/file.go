package bpf

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

//go:generate go tool bpf2go -cc clang -strip llvm-strip -target amd64,arm64 -type change -type kind -type flag -type notable -type notable_key -type operation -type opening file file.bpf.c -- -O2 -Wall -Werror -mcpu=v2

const changeLen = int(unsafe.Sizeof(fileChange{}))

// fileSensor reports what containers do to files, and who reads sensitive ones.
//
// Of a container it tells every file that is opened for writing, made, renamed,
// linked, deleted, made executable or given away, and devices that are opened;
// of the host's own processes only what touches sensitive files and knobs of
// the kernel, because a host writes too much. Reading is told of sensitive
// files alone: see sensitive.go. Calls that failed are told when they were
// refused (EPERM, EACCES, EROFS).
//
// Opens, and what is done through descriptors, carry the path of the very file,
// as the root of the process shows it. Other calls carry the path that the
// process passed, followed by us right after (claim.go); where that was not
// possible, Claimed says so.
//
// It does not see what is done through an io_uring (the privilege sensor tells
// when one is made), nor writing through a mapping or a descriptor that came
// from elsewhere: the open was told of whoever made it.
func fileSensor() sensor {
	f := &files{claims: newClaims()}
	return sensor{
		name:   "file",
		number: 2, // SENSOR_FILE
		spec:   loadFile,
		decode: f.decode,
		calls: map[string][]string{
			"on_open": namesOf(openCalls),
			"on_path": namesOf(pathCalls),
		},
		configure: f.configure,
	}
}

// files decodes the records of the file sensor.
type files struct {
	claims *claims
	rules  atomic.Pointer[sensitive] // nil until configured
}

func (f *files) configure(maps map[string]*ebpf.Map, s asset.AgentSettings) error {
	rules, marks := newSensitive(s)
	if err := putMarks(maps, marks); err != nil {
		return err
	}
	f.rules.Store(rules)
	return errors.Join(putOperations(maps["operations"]), putSeed(maps["jobs"]))
}

func (f *files) rule(file string) string {
	if rules := f.rules.Load(); rules != nil {
		return rules.rule(file)
	}
	return ""
}

// change is a record of the file sensor, as far as it is no text.
type change struct {
	header
	flags   uint32
	mode    uint32
	special uint32
	magic   uint32
	call    string
	inside  string // within a pseudo file system; empty for others
	open    bool   // the file is known by its descriptor
}

func (c *change) has(flag fileFlag) bool { return c.header.flags&uint32(flag) != 0 }

// places are the paths of a record: name and toName as the process passed them,
// path and to where those start from, or path alone.
type places struct{ name, path, inside, toName, to []byte }

// decode reads one record of the file sensor into e.
func (f *files) decode(d *decoder, b []byte, e *event.Event) error {
	h, err := d.head(b, e)
	if err != nil {
		return err
	}
	if len(b) < changeLen {
		return errShort
	}
	var at fileChange
	var p places
	rest := b[changeLen:]
	for _, part := range []struct {
		len uint16
		to  *[]byte
	}{
		{u16(b, unsafe.Offsetof(at.NameLen)), &p.name},
		{u16(b, unsafe.Offsetof(at.PathLen)), &p.path},
		{u16(b, unsafe.Offsetof(at.InsideLen)), &p.inside},
		{u16(b, unsafe.Offsetof(at.ToNameLen)), &p.toName},
		{u16(b, unsafe.Offsetof(at.ToLen)), &p.to},
	} {
		if int(part.len) > len(rest) {
			return errShort
		}
		*part.to, rest = rest[:part.len], rest[part.len:]
	}
	c := &change{
		header:  h,
		flags:   u32(b, unsafe.Offsetof(at.Flags)),
		mode:    u32(b, unsafe.Offsetof(at.Mode)),
		special: u32(b, unsafe.Offsetof(at.Special)),
		call:    callOfSlot(u16(b, unsafe.Offsetof(at.Call))),
		open:    h.flags&uint32(fileFlagFLAG_CLAIMED) == 0,
	}
	if b[unsafe.Offsetof(at.HasMagic)] != 0 {
		c.magic = u32(b, unsafe.Offsetof(at.Magic))
		c.inside = d.joinPath(p.inside, false)
	}
	e.File = &event.File{
		Origin:     originOf(processOrigin(b[unsafe.Offsetof(at.Origin)])),
		Layer:      event.Layer{Number: u16(b, unsafe.Offsetof(at.Layer)), Of: u16(b, unsafe.Offsetof(at.Layers))},
		FileSystem: d.texts.valid(untilNUL(b[unsafe.Offsetof(at.FileSystem):][:len(at.FileSystem)])),
		Inode:      u64(b, unsafe.Offsetof(at.Inode)),
		Device:     u32(b, unsafe.Offsetof(at.Device)),
		Flags:      openFlags(c.flags),
		Error:      errorName(-u32(b, unsafe.Offsetof(at.Error))),
	}
	setMode(e.File, c.mode)
	owner(e.File, fileKind(h.kind), u32(b, unsafe.Offsetof(at.Uid)), u32(b, unsafe.Offsetof(at.Gid)))
	if c.open {
		e.File.Path = d.joinPath(p.path, c.has(fileFlagFLAG_PATH_CUT))
		e.File.PathTruncated = c.has(fileFlagFLAG_PATH_CUT)
	} else {
		f.follow(d, c, p, e)
	}
	return f.finish(c, e)
}

// finish gives the event its kind, or says that it is none.
func (f *files) finish(c *change, e *event.Event) error {
	file := e.File
	file.Sensitive = procRuleOf(c, file.Path)
	for _, name := range []string{file.Path, file.To} {
		if file.Sensitive == "" && name != "" {
			file.Sensitive = f.rule(name)
		}
	}
	switch fileKind(c.kind) {
	case fileKindKIND_WRITE, fileKindKIND_CREATE, fileKindKIND_TRUNCATE:
		return finishWrite(c, e)
	case fileKindKIND_READ:
		e.Kind = event.KindFileRead
		if file.Type == "char" || file.Type == "block" {
			return finishDevice(c, e)
		}
		// Reading is refused with EPERM, not EACCES, by rules beside the file's
		// own mode: the cgroup's of devices, or a security module's.
		if file.Sensitive == "" && (file.Error != "EPERM" || e.WorkloadID == "") {
			return errNothing
		}
	case fileKindKIND_DEVICE:
		return finishDevice(c, e)
	case fileKindKIND_RENAME:
		e.Kind = event.KindFileRename
	case fileKindKIND_LINK, fileKindKIND_SYMLINK:
		e.Kind = event.KindFileLink
	case fileKindKIND_DELETE:
		e.Kind = event.KindFileDelete
	case fileKindKIND_CHMOD:
		e.Kind = event.KindFileChmod
		if file.Type == "folder" && file.Mode&(unix.S_ISUID|unix.S_ISGID) == 0 {
			return errNothing // to be entered, not executed
		}
	case fileKindKIND_CHOWN:
		e.Kind = event.KindFileChown
	default:
		return fmt.Errorf("unknown kind %d", c.kind)
	}
	return nil
}

// finishWrite is finish for what opens or cuts a file to write it.
func finishWrite(c *change, e *event.Event) error {
	file := e.File
	e.Kind = event.KindFileWrite
	if fileKind(c.kind) == fileKindKIND_CREATE {
		e.Kind = event.KindFileCreate
	}
	if fileKind(c.kind) == fileKindKIND_TRUNCATE {
		file.Flags = []string{"truncate"}
	}
	if c.call != "mknod" && c.call != "mknodat" && (file.Type == "char" || file.Type == "block") {
		return finishDevice(c, e)
	}
	if kind := knobKind(knobPlace(c, file.Path)); kind != "" {
		if e.WorkloadID == "" && kind == event.KindDevice {
			return errNothing // the host's engine, which makes each container's rules
		}
		e.Kind = kind
		e.Privilege = &event.Privilege{Call: c.call, Target: file.Path, Flags: file.Flags, Error: file.Error}
		e.File = nil
		return nil
	}
	if e.WorkloadID == "" && file.Sensitive == "" {
		return errNothing
	}
	if file.Origin == event.OriginMemory {
		return errNothing // it was told when it was made
	}
	return nil
}

func finishDevice(c *change, e *event.Event) error {
	if e.WorkloadID == "" || isHarmless(e.File.Type, c.special) {
		return errNothing
	}
	e.Kind = event.KindDevice
	flags := e.File.Flags
	if c.flags&unix.O_ACCMODE != unix.O_WRONLY {
		flags = append([]string{"read"}, flags...)
	}
	e.Privilege = &event.Privilege{
		Call: c.call, Target: e.File.Path, Flags: flags, Device: c.special, Error: e.File.Error,
	}
	e.File = nil
	return nil
}

// isHarmless is is_harmless of file.bpf.c.
func isHarmless(kind string, device uint32) bool {
	major, minor := device>>20, device&0xfffff
	switch {
	case kind != "char":
		return false
	case major == 1:
		return minor == 3 || minor == 5 || minor == 7 || minor == 8 || minor == 9
	case major == 5:
		return minor <= 2
	}
	return major >= 136 && major <= 143
}

// follow reads the paths that a process passed, and asks where they lead.
func (f *files) follow(d *decoder, c *change, p places, e *event.Event) {
	file := e.File
	first, firstCut := d.passed(p.path, c.has(fileFlagFLAG_PATH_CUT), p.name)
	to, toCut := d.passed(p.to, c.has(fileFlagFLAG_TO_CUT), p.toName)
	two := len(p.toName) > 0
	file.Claimed, file.PathTruncated = true, firstCut || toCut
	if fileKind(c.kind) == fileKindKIND_SYMLINK {
		file.Flags = []string{"symbolic"}
		first, firstCut = d.texts.valid(untilNUL(p.name)), true // it is a text, and no path yet
	}
	file.Path = clean(first)
	if two {
		file.To = clean(to)
	}
	view, err := f.claims.open(e, d.inits.of(e.WorkloadID), c.has(fileFlagFLAG_ROOTED), c.special)
	c.special = 0
	if err != nil {
		return
	}
	defer view.close()
	known := true
	if fileKind(c.kind) == fileKindKIND_SYMLINK {
		file.Path = first
	} else {
		known = view.put(first, firstCut, c.has(fileFlagFLAG_FOLLOW), &file.Path, c, e, !two)
	}
	if two {
		known = view.put(to, toCut, false, &file.To, c, e, true) && known
	}
	file.Claimed = !known
}

// put writes where a path leads to out, and with about what is known of the
// file to e.
func (v *view) put(name string, cut, follow bool, out *string, c *change, e *event.Event, about bool) bool {
	if cut {
		return false
	}
	found, ok := v.find(asSeen(name, e), follow)
	if !ok {
		return false
	}
	*out = validText([]byte(found.path))
	if s := &found.stat; about && s.Ino != 0 {
		e.File.Inode = s.Ino
		e.File.Device = deviceOf(s)
		c.special = s.Rdev_major<<20 | s.Rdev_minor
		setMode(e.File, uint32(s.Mode))
	}
	return true
}

// passed puts together a path that a process passed and the folder it started
// from, and reports whether the beginning is missing. The folder alone is a
// file that was passed as a descriptor, with no name.
func (d *decoder) passed(folder []byte, cut bool, name []byte) (string, bool) {
	text := untilNUL(name)
	if len(text) > 0 && text[0] == '/' {
		return string(text), false
	}
	start := d.joinPath(folder, cut)
	if len(text) == 0 {
		return start, cut
	}
	return strings.TrimSuffix(start, "/") + "/" + string(text), cut
}

// clean is for a path that nobody can follow any more.
func clean(name string) string {
	return validText([]byte(path.Clean(name)))
}

func setMode(f *event.File, mode uint32) {
	f.Mode = mode & 0o7777
	f.Type = ""
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		f.Type = "folder"
	case unix.S_IFLNK:
		f.Type = "link"
	case unix.S_IFIFO:
		f.Type = "fifo"
	case unix.S_IFSOCK:
		f.Type = "socket"
	case unix.S_IFCHR:
		f.Type = "char"
	case unix.S_IFBLK:
		f.Type = "block"
	}
}

// owner writes the new owner and group of a file that was given away.
func owner(f *event.File, kind fileKind, uid, gid uint32) {
	if kind != fileKindKIND_CHOWN {
		return
	}
	const stays = ^uint32(0)
	if uid != stays {
		f.UID = &uid
	}
	if gid != stays {
		f.GID = &gid
	}
}

// openFlags says in words what an open was for; nothing for reading.
func openFlags(flags uint32) []string {
	var words []string
	if m := flags & unix.O_ACCMODE; m == unix.O_WRONLY || m == unix.O_RDWR {
		words = append(words, "write")
	}
	for _, w := range []struct {
		flag uint32
		word string
	}{
		{unix.O_APPEND, "append"}, {unix.O_TRUNC, "truncate"},
		{unix.O_CREAT, "create"}, {unix.O_EXCL, "exclusive"},
	} {
		if flags&w.flag != 0 {
			words = append(words, w.word)
		}
	}
	return words
}
