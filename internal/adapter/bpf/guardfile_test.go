package bpf

import (
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// heldSensitive reads the tables of a group as guard_file.bpf.c does.
func heldSensitive(t *ruleTable, path string) bool {
	back := profile.Pattern(path).Names()
	slices.Reverse(back)
	backwards := "/" + strings.Join(back, "/")
	if t.walks(guardExecPathListLIST_SENSITIVE, backwards) {
		return true
	}
	packaged := strings.Contains(path, "/node_modules/") || strings.Contains(path, "/site-packages/")
	return t.walks(guardExecPathListLIST_KEYS, backwards) && !packaged && !t.walks(guardExecPathListLIST_PUBLIC, path)
}

func tableFor(t *testing.T, k tableKind, r profile.Rules) *ruleTable {
	t.Helper()
	r.Group, r.Answers = "a/b/c", map[profile.Control]profile.Answer{}
	for _, c := range profile.Controls() {
		r.Answers[c] = profile.Deny
	}
	g := &tablePrograms{kind: k}
	table, err := g.tableOf(&r)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// What the kernel holds of reading is what the sensor tells, but for certificates.
func TestHeldReadsAreThoseThatAreTold(t *testing.T) {
	table := tableFor(t, fileTable(), profile.Rules{})
	told, _ := newSensitive(asset.AgentSettings{})
	marks := heldMarks()
	for _, path := range []string{
		"/etc/shadow", "/chroot/etc/shadow", "/etc/shadow-", "/etc/security/opasswd", "/shadow", "/etc/shadows", "/root/.ssh/id_rsa", "/id_rsa",
		"/root/.ssh/id_rsa.pub", "/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_rsa_key.pub", "/srv/own.key", "/usr/share/doc/own.key",
		"/etc/ssl/certs/x.key", "/app/node_modules/x/test.key", "/app/site-packages/x.key", "/app/modules/x.key", "/srv/x.p12", "/srv/x.pfx",
		"/root/.aws/credentials", "/.aws/config", "/root/.aws", "/root/.aws/cli/cache", "/root/.kube/config", "/root/.kube/other",
		"/run/secrets/db", "/run/secrets/a/b", "/x/run/secrets/db", "/var/run/secrets/kubernetes.io/serviceaccount/token", "/root/.npmrc", "/token",
	} {
		want := told.rule(path) != ""
		if got := heldSensitive(table, path); got != want {
			t.Errorf("%s is held: %v, want %v", path, got, want)
		}
		if want && !candidate(marks, path) {
			t.Errorf("%s is no candidate for the kernel", path)
		}
	}
	for _, path := range []string{"/srv/server.pem", "/srv/cert.pem"} {
		if heldSensitive(table, path) {
			t.Errorf("%s is held", path)
		}
	}
}

// candidate is is_notable of notable.bpf.h.
func candidate(marks map[fileNotableKey]bool, path string) bool {
	names := profile.Pattern(path).Names()
	name := names[len(names)-1]
	if marks[newMark(fileNotableNOTABLE_NAME, name)] || len(name) >= suffixLen && marks[newMark(fileNotableNOTABLE_SUFFIX, name[len(name)-suffixLen:])] {
		return true
	}
	return len(names) > 1 && marks[newMark(fileNotableNOTABLE_FOLDER, names[len(names)-2])]
}

func TestRulesOfFilesAndPrivilegesAreCompiled(t *testing.T) {
	files := tableFor(t, fileTable(), profile.Rules{File: profile.FileRules{
		Writes: []profile.Pattern{"/data/**", "/tmp/app-*"}, Reads: []profile.Pattern{"/data/tls/own.key"},
	}})
	for path, want := range map[string]bool{"/data/a/b": true, "/data": false, "/tmp/app-1": true, "/tmp/app-1/x": false, "/etc/passwd": false} {
		if got := files.walks(guardExecPathListLIST_WRITES, path); got != want {
			t.Errorf("%s may be written: %v, want %v", path, got, want)
		}
	}
	if !files.walks(guardExecPathListLIST_READS, "/data/tls/own.key") || files.walks(guardExecPathListLIST_READS, "/etc/shadow") {
		t.Error("other files may be read than the rules say")
	}
	of := event.Capabilities(1<<21 | 1<<7)
	table := tableFor(t, privilegeTable(), profile.Rules{Privilege: profile.PrivilegeRules{Capabilities: of, Kinds: []event.Kind{event.KindMount, event.KindDevice, event.KindMemfd}}})
	meta := table.edges[guardExecEdgeKey{Kind: uint32(guardExecEdgeKindEDGE_META)}]
	if meta.Prefix != uint64(of) || meta.Suffix != 1<<guardPrivilegePrivilegePRIVILEGE_MOUNT|1<<guardPrivilegePrivilegePRIVILEGE_DEVICE {
		t.Errorf("capabilities %x, kinds %x", meta.Prefix, meta.Suffix)
	}
	if got := meta.State >> (2 * guardExecControlCONTROL_PRIVILEGE) & 3; guardExecAnswer(got) != guardExecAnswerANSWER_DENY {
		t.Errorf("the answer is %d", got)
	}
}

// Every privileged call that the sensor tells is held on the rung of signals, or is of a
// kind that is not held there at all.
func TestEveryPrivilegedCallIsHeld(t *testing.T) {
	held := map[string]bool{}
	for _, c := range heldCalls() {
		if _, ok := c.number(); !ok {
			t.Errorf("%v is of a kind that the kernel has no number for: %s", c.names, c.kind)
		}
		for _, name := range c.names {
			held[name] = true
		}
		if err := unknownCalls(c.names); err != nil {
			t.Error(err)
		}
	}
	// fsopen and fsconfig make nothing that is seen; who a process becomes is known
	// when it has.
	apart := []string{"fsopen", "fsconfig", "capset"}
	for _, c := range privilegeCalls() {
		for _, name := range c.names {
			if !held[name] && !slices.Contains(apart, name) && !strings.HasPrefix(name, "set") {
				t.Errorf("%s is told, and not held", name)
			}
		}
	}
	if !held["setns"] || !held["settimeofday"] {
		t.Error("calls that begin with set are not held")
	}
}

// record is a denial as the kernel writes it.
func record(deed guardExecDeed, reaction guardExecReaction, change func(*guardExecDenial), names ...string) []byte {
	r := guardExecDenial{Reaction: uint8(reaction)}
	r.Head.Sensor, r.Head.Kind = 7, uint8(deed)
	var text []byte
	for _, n := range names {
		text = append(append(text, n...), 0)
	}
	r.PathLen = uint16(len(text))
	change(&r)
	b := append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&r)), denialLen)...)
	return append(b, text...)
}

func TestDenialsAreDecoded(t *testing.T) {
	for _, tc := range []struct {
		name  string
		b     []byte
		kind  tableKind
		words string
		want  event.Reaction
	}{
		{"a file that is made", record(guardExecDeedDEED_CREATE, guardExecReactionREACTION_DENIED, func(r *guardExecDenial) { r.Detail = 0o040755 }, "opt"),
			fileTable(), "created folder /opt: EPERM", event.ReactionDenied},
		{"a name that is changed", record(guardExecDeedDEED_RENAME, guardExecReactionREACTION_AUDITED, func(r *guardExecDenial) { r.PathLen, r.ToLen = 6, 6 }, "a", "tmp", "b", "etc"),
			fileTable(), "renamed /tmp/a to /etc/b", event.ReactionAudited},
		{"a symbolic link", record(guardExecDeedDEED_SYMLINK, guardExecReactionREACTION_DENIED, func(r *guardExecDenial) { r.PathLen, r.ToLen = 6, 12 }, "x", "etc", "../shadow/y"),
			fileTable(), "linked /etc/x to ../shadow/y: EPERM", event.ReactionDenied},
		{"a file that is given away", record(guardExecDeedDEED_CHOWN, guardExecReactionREACTION_DENIED, func(r *guardExecDenial) { r.Detail, r.More = 7, 0xffffffff }, "x"),
			fileTable(), "gave /x to user 7: EPERM", event.ReactionDenied},
		{"a key that is read", record(guardExecDeedDEED_READ, guardExecReactionREACTION_DENIED, func(*guardExecDenial) {}, "id_rsa", "root"),
			fileTable(), "opened /root/id_rsa for reading (keys): EPERM", event.ReactionDenied},
		{"a process's secrets", record(guardExecDeedDEED_READ, guardExecReactionREACTION_AUDITED, func(r *guardExecDenial) { copy(r.FileSystem[:], "proc") }, "environ", "1", "proc"),
			fileTable(), "opened /proc/1/environ for reading (environ)", event.ReactionAudited},
		{"a mount", record(guardExecDeedDEED_PRIVILEGE, guardExecReactionREACTION_DENIED, func(r *guardExecDenial) {
			r.Detail, r.Call, r.More = uint32(guardPrivilegePrivilegePRIVILEGE_MOUNT), uint16(callNumbers["mount"]+1), 0x1000
		}, "mnt"), privilegeTable(), "mounted on /mnt (bind): EPERM", event.ReactionDenied},
		{"namespaces that are left", record(guardExecDeedDEED_PRIVILEGE, guardExecReactionREACTION_KILLED, func(r *guardExecDenial) {
			r.Detail, r.Call, r.More = uint32(guardPrivilegePrivilegePRIVILEGE_UNSHARE), uint16(callNumbers["unshare"]+1), 0x10000000
		}), privilegeTable(), "left its namespaces for new ones (newuser)", event.ReactionKilled},
		{"a capability", record(guardExecDeedDEED_CAPABILITY, guardExecReactionREACTION_DENIED, func(r *guardExecDenial) { r.Detail = 12 }),
			privilegeTable(), "used NET_ADMIN: EPERM", event.ReactionDenied},
		{"another user", record(guardExecDeedDEED_PRIVILEGE, guardExecReactionREACTION_DENIED, func(r *guardExecDenial) {
			r.Detail, r.Call, r.More = uint32(guardPrivilegePrivilegePRIVILEGE_USER), uint16(callNumbers["setuid"]+1), 101
		}), privilegeTable(), "became user 101, was 0: EPERM", event.ReactionDenied},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, err := decodeDenial(newDecoder(NewClock(nil)), tc.b, tc.kind.decode)
			if err != nil {
				t.Fatal(err)
			}
			if e.Words() != tc.words || e.Reaction != tc.want {
				t.Errorf("%q, %s; want %q, %s", e.Words(), e.Reaction, tc.words, tc.want)
			}
		})
	}
}

func FuzzDenial(f *testing.F) {
	f.Add(record(guardExecDeedDEED_RENAME, guardExecReactionREACTION_DENIED, func(r *guardExecDenial) { r.PathLen, r.ToLen = 6, 6 }, "a", "tmp", "b", "etc"))
	f.Add(record(guardExecDeedDEED_PRIVILEGE, guardExecReactionREACTION_KILLED, func(r *guardExecDenial) { r.Detail = 3 }))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, k := range tableKinds() {
			e, err := decodeDenial(newDecoder(NewClock(nil)), b, k.decode)
			if err == nil && (e.Kind == "" || e.Reaction == "") {
				t.Errorf("%x is %+v", b, e)
			}
		}
	})
}
