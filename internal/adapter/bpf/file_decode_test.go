package bpf

import (
	"encoding/binary"
	"errors"
	"testing"
	"unicode/utf8"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// putChange builds a record of the file sensor.
func putChange(kind fileKind, flags fileFlag, name, path, inside, toName, to string) []byte {
	var at fileChange
	b := make([]byte, changeLen)
	copy(b, putHeader(processKind(kind), processFlag(flags)))
	b[unsafe.Offsetof(at.Head.Sensor)] = fileSensor().number
	le := binary.LittleEndian
	le.PutUint64(b[unsafe.Offsetof(at.Inode):], 9)
	le.PutUint32(b[unsafe.Offsetof(at.Mode):], 0o100644)
	le.PutUint32(b[unsafe.Offsetof(at.Flags):], 1)
	le.PutUint16(b[unsafe.Offsetof(at.Call):], uint16(callNumbers["openat"]))
	b[unsafe.Offsetof(at.Origin)] = byte(processOriginORIGIN_WRITTEN)
	copy(b[unsafe.Offsetof(at.FileSystem):], "overlay")
	if inside != "" {
		b[unsafe.Offsetof(at.HasMagic)] = 1
		le.PutUint32(b[unsafe.Offsetof(at.Magic):], 0x9fa0)
	}
	le.PutUint16(b[unsafe.Offsetof(at.NameLen):], uint16(len(name)))
	le.PutUint16(b[unsafe.Offsetof(at.PathLen):], uint16(len(path)))
	le.PutUint16(b[unsafe.Offsetof(at.InsideLen):], uint16(len(inside)))
	le.PutUint16(b[unsafe.Offsetof(at.ToNameLen):], uint16(len(toName)))
	le.PutUint16(b[unsafe.Offsetof(at.ToLen):], uint16(len(to)))
	return append(b, name+path+inside+toName+to...)
}

// newFileDecoder has the built-in rules, and a process that is gone for every
// claim.
func newFileDecoder() *files {
	f := &files{claims: newClaims()}
	rules, _ := newSensitive(asset.AgentSettings{})
	f.rules.Store(rules)
	return f
}

func TestDecodeFile(t *testing.T) {
	const claimed = fileFlagFLAG_CLAIMED
	tests := []struct {
		name   string
		record []byte
		kind   event.Kind
		want   *event.File
	}{
		{"open", putChange(fileKindKIND_WRITE, 0, "", "passwd\x00etc\x00", "", "", ""), event.KindFileWrite,
			&event.File{Path: "/etc/passwd", Origin: event.OriginWritten, FileSystem: "overlay", Inode: 9, Mode: 0o644, Flags: []string{"write"}}},
		{"cut", putChange(fileKindKIND_CREATE, fileFlagFLAG_PATH_CUT, "", "b\x00a\x00", "", "", ""), event.KindFileCreate,
			&event.File{Path: "a/b", PathTruncated: true, Origin: event.OriginWritten, FileSystem: "overlay", Inode: 9, Mode: 0o644, Flags: []string{"write"}}},
		{"claimed from a folder", putChange(fileKindKIND_RENAME, claimed, "x\x00", "tmp\x00", "", "/etc/../y\x00", ""), event.KindFileRename,
			&event.File{Path: "/tmp/x", To: "/y", Claimed: true, Origin: event.OriginWritten, FileSystem: "overlay", Inode: 9, Mode: 0o644, Flags: []string{"write"}}},
		{"no UTF-8", putChange(fileKindKIND_DELETE, claimed, "/\xff\x00", "", "", "", ""), event.KindFileDelete,
			&event.File{Path: "/\uFFFD", Claimed: true, Origin: event.OriginWritten, FileSystem: "overlay", Inode: 9, Mode: 0o644, Flags: []string{"write"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var e event.Event
			if err := newFileDecoder().decode(newDecoder(stoppedClock()), tt.record, &e); err != nil {
				t.Fatal(err)
			}
			if e.Kind != tt.kind {
				t.Errorf("kind %s, want %s", e.Kind, tt.kind)
			}
			if d := cmp.Diff(e.File, tt.want); d != "" {
				t.Errorf("file (-got +want):\n%s", d)
			}
		})
	}
}

func TestDecodeFileShort(t *testing.T) {
	whole := putChange(fileKindKIND_RENAME, fileFlagFLAG_CLAIMED, "x\x00", "tmp\x00", "", "y\x00", "tmp\x00")
	for n := range whole {
		var e event.Event
		if err := newFileDecoder().decode(newDecoder(stoppedClock()), whole[:n], &e); !errors.Is(err, errShort) {
			t.Fatalf("%d of %d bytes: %v, want %v", n, len(whole), err, errShort)
		}
	}
}

func FuzzDecodeFile(f *testing.F) {
	f.Add(putChange(fileKindKIND_WRITE, 0, "", "passwd\x00etc\x00", "", "", ""))
	f.Add(putChange(fileKindKIND_WRITE, 0, "", "core_pattern\x00x\x00", "core_pattern\x00kernel\x00sys\x00", "", ""))
	f.Add(putChange(fileKindKIND_LINK, fileFlagFLAG_CLAIMED, "x\x00", "tmp\x00", "", "/proc/self/root/y\x00", "\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e event.Event
		if err := newFileDecoder().decode(newDecoder(stoppedClock()), b, &e); err != nil {
			return
		}
		var all []string
		if e.File != nil {
			all = []string{e.File.Path, e.File.To, e.File.FileSystem}
		}
		if e.Privilege != nil {
			all = append(all, e.Privilege.Target)
		}
		if len(all) == 0 || e.Kind == "" {
			t.Errorf("event without a payload: %+v", e)
		}
		for _, s := range all {
			if !utf8.ValidString(s) {
				t.Errorf("%q is no UTF-8", s)
			}
		}
	})
}

func FuzzDecodeMemory(f *testing.F) {
	var at memoryMapping
	b := make([]byte, mappingLen)
	copy(b, putHeader(processKind(memoryKindKIND_MAP), 0))
	binary.LittleEndian.PutUint16(b[unsafe.Offsetof(at.PathLen):], 4)
	f.Add(append(b, "x\x00y\x00"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e event.Event
		if err := decodeMemory(newDecoder(stoppedClock()), b, &e); err != nil {
			return
		}
		if e.Memory == nil || !utf8.ValidString(e.Memory.Path) {
			t.Errorf("event %+v", e)
		}
	})
}

func TestSensitiveRules(t *testing.T) {
	rules, marks := newSensitive(asset.AgentSettings{SensitivePaths: []string{"/srv/*/secret*", "/data/keys/*", "relative", "/*/*", "/srv/"}})
	if d := cmp.Diff(rules.configured, []string{"/data/keys/*"}); d != "" {
		t.Errorf("configured (-got +want):\n%s", d)
	}
	if !marks[newMark(fileNotableNOTABLE_FOLDER, "keys")] {
		t.Error("the folder of a configured path is not looked for")
	}
	tests := []struct{ file, want string }{
		{"/etc/shadow", "shadow"},
		{"/mnt/etc/shadow", "shadow"},
		{"/etc/shadow/x", ""},
		{"/shadow", ""},
		{"/root/.ssh/id_ed25519", "keys"},
		{"/etc/ssh/ssh_host_rsa_key", "keys"},
		{"/etc/ssl/certs/x.pem", ""},
		{"/app/fullchain.pem", ""},
		{"/app/server.pem", "keys"},
		{"/home/a/.aws/config", "cloud"},
		{"/run/secrets/a", "secrets"},
		{"/srv/run/secrets/a", ""},
		{"/data/keys/one", "/data/keys/*"},
		{"/data/keys/one/two", ""},
	}
	for _, tt := range tests {
		if got := rules.rule(tt.file); got != tt.want {
			t.Errorf("%s is %q, want %q", tt.file, got, tt.want)
		}
	}
}

func TestFitsName(t *testing.T) {
	tests := []struct {
		pattern, name string
		want          bool
	}{
		{"", "", true}, {"*", "", true}, {"*", "abc", true}, {"a*c", "abbc", true}, {"a*c", "ac", true},
		{"a*c", "abcd", false}, {"*a*b", "xaxbxb", true}, {"*a*b", "xaxbxc", false}, {"a", "ab", false}, {"ab", "a", false},
	}
	for _, tt := range tests {
		if got := fitsName(tt.pattern, tt.name); got != tt.want {
			t.Errorf("%q fits %q: %v, want %v", tt.name, tt.pattern, got, tt.want)
		}
	}
}

func TestAsSeen(t *testing.T) {
	e := &event.Event{Process: event.Process{ContainerPID: 7}}
	tests := []struct{ name, want string }{
		{"/etc/x", "/etc/x"},
		{"/proc/self/x", "/proc/7/x"},
		{"/proc/thread-self/x", "/proc/7/x"},
		{"/proc/self/root/etc/x", "/etc/x"},
		{"/proc/self/root", "/"},
		{"/proc/self/root/proc/self/root/x", "/x"},
		{"/proc/7/root/x", "/x"},
		{"/proc/8/root/x", "/proc/8/root/x"},
		{"/proc/selfish", "/proc/selfish"},
	}
	for _, tt := range tests {
		if got := asSeen(tt.name, e); got != tt.want {
			t.Errorf("%s is %s, want %s", tt.name, got, tt.want)
		}
	}
}
