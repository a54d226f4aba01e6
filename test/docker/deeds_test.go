package docker_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// trace is what a deed must leave beside its exec: an event of a kind that fits.
type trace struct {
	kind event.Kind
	fits func(e event.Event, tag string) bool
}

// path fits an event about the file of the deed's tag in that folder.
func path(kind event.Kind, folder string) trace {
	return trace{kind, func(e event.Event, tag string) bool {
		return e.File != nil && e.File.Path == folder+tag && e.File.Error == ""
	}}
}

// below fits an event of a file in a folder, both with the tag as their name.
func below(kind event.Kind) trace {
	return trace{kind, func(e event.Event, tag string) bool {
		return e.File != nil && e.File.Path == "/tmp/"+tag+"/"+tag && e.File.Error == "" && !e.File.Claimed
	}}
}

// to fits an event that gives a file the name of the deed's tag.
func to(kind event.Kind, folder string) trace {
	return trace{kind, func(e event.Event, tag string) bool {
		return e.File != nil && e.File.To == folder+tag && e.File.Error == ""
	}}
}

// sensitive fits the opening of that file for reading.
func sensitive(name string) trace {
	return trace{event.KindFileRead, func(e event.Event, _ string) bool {
		return e.File != nil && e.File.Path == name && e.File.Sensitive != "" && !e.File.Claimed
	}}
}

// moded fits a chmod of the deed's file to that mode.
func moded(mode uint32) trace {
	return trace{event.KindFileChmod, func(e event.Event, tag string) bool {
		return e.File != nil && e.File.Path == "/tmp/"+tag && e.File.Mode == mode
	}}
}

// given fits a chown of the deed's file.
func given(folder string) trace {
	return trace{event.KindFileChown, func(e event.Event, tag string) bool {
		return e.File != nil && e.File.Path == folder+tag && e.File.UID != nil
	}}
}

// peer fits a connection event by protocol, port of the peer, and error.
func peer(kind event.Kind, protocol, remote, failed string) trace {
	return trace{kind, func(e event.Event, _ string) bool {
		c := e.Connection
		return c != nil && c.Protocol == protocol && (remote == "" || c.Remote.String() == remote) && c.Error == failed
	}}
}

// local fits a listener at that port.
func local(protocol string, port uint16) trace {
	return trace{event.KindListen, func(e event.Event, _ string) bool {
		return e.Connection != nil && e.Connection.Protocol == protocol && e.Connection.Local.Port() == port
	}}
}

// name fits a DNS event about the deed's name.
func name(kind event.Kind, protocol string) trace {
	return trace{kind, func(e event.Event, tag string) bool {
		d := e.DNS
		return d != nil && d.Protocol == protocol && d.Name == tag+".example.org" && d.Type == "A" &&
			(kind == event.KindQuery || slices.Contains(d.Answers, "192.0.2.7"))
	}}
}

// call fits a privilege event; target "" fits any, "TAG" in it is the deed's.
func call(kind event.Kind, target string) trace {
	return trace{kind, func(e event.Event, tag string) bool {
		return e.Privilege != nil && (target == "" || strings.Contains(e.Privilege.Target, strings.ReplaceAll(target, "TAG", tag)))
	}}
}

// became fits a change of user.
func became(uid uint32) trace {
	return trace{event.KindUser, func(e event.Event, _ string) bool {
		return e.Privilege != nil && e.Privilege.NewUID == uid && e.Privilege.Error == ""
	}}
}

// some fits every event of a kind.
func some(kind event.Kind) trace {
	return trace{kind, func(event.Event, string) bool { return true }}
}

// ran fits the exec of a second program that the deed starts.
func ran(fits func(x event.Exec, e event.Event, tag string) bool) trace {
	return trace{event.KindExec, func(e event.Event, tag string) bool {
		return e.Exec != nil && slices.Contains(e.Exec.Args, tag) && fits(*e.Exec, e, tag)
	}}
}

func from(origin event.Origin) trace {
	return ran(func(x event.Exec, _ event.Event, _ string) bool { return x.Origin == origin })
}

var secondProgram = ran(func(x event.Exec, e event.Event, _ string) bool {
	return e.Process.Executable == "/bin/deed" && x.Origin == event.OriginImage
})

func ended(code, signal int) trace {
	return trace{event.KindExit, func(e event.Event, _ string) bool {
		return e.Exit != nil && e.Exit.Code == code && e.Exit.Signal == signal
	}}
}

// deeds are what test/docker/deed does, and the traces it must leave.
var deeds = map[string][]trace{
	"write": {path(event.KindFileWrite, "/tmp/")}, "append": {path(event.KindFileWrite, "/tmp/")},
	"read-write": {path(event.KindFileWrite, "/tmp/")}, "truncate": {path(event.KindFileWrite, "/tmp/")},
	"create": {path(event.KindFileCreate, "/tmp/")}, "creat": {path(event.KindFileCreate, "/tmp/")},
	"openat2": {path(event.KindFileCreate, "/tmp/")}, "create-at": {path(event.KindFileCreate, "/tmp/")},
	"create-relative": {path(event.KindFileCreate, "/tmp/")}, "create-in-memory-file-system": {path(event.KindFileCreate, "/dev/shm/")},
	"write-by-link": {path(event.KindFileWrite, "/tmp/"), to(event.KindFileLink, "/tmp/link-")},
	"write-by-proc": {path(event.KindFileWrite, "/tmp/")},
	"mkdir":         {path(event.KindFileCreate, "/tmp/")}, "mkdirat": {path(event.KindFileCreate, "/tmp/")},
	"fifo": {path(event.KindFileCreate, "/tmp/")}, "symlink": {to(event.KindFileLink, "/tmp/")}, "link": {to(event.KindFileLink, "/tmp/")},
	"rename": {to(event.KindFileRename, "/tmp/")}, "renameat2": {to(event.KindFileRename, "/tmp/")},
	"rename-by-link": {to(event.KindFileRename, "/tmp/")},
	"unlink":         {path(event.KindFileDelete, "/tmp/")}, "unlinkat": {path(event.KindFileDelete, "/tmp/")},
	"rmdir":   {path(event.KindFileCreate, "/tmp/"), path(event.KindFileDelete, "/tmp/")},
	"chmod-x": {moded(0o755)}, "chmod-suid": {moded(0o4755)}, "fchmodat": {moded(0o711)}, "fchmod": {moded(0o2755)},
	"chown": {given("/tmp/")}, "fchown": {given("/tmp/")}, "lchown": {given("/tmp/")},
	"read-shadow": {sensitive("/etc/shadow")}, "read-shadow-proc": {sensitive("/etc/shadow")}, "read-shadow-link": {sensitive("/etc/shadow")},
	"read-environ": {sensitive("/proc/1/environ")}, "read-aws": {sensitive("/root/.aws/credentials")},
	"read-key": {sensitive("/root/.ssh/id_rsa")}, "read-secret": {sensitive("/run/secrets/database")},
	"read-token": {sensitive("/run/secrets/kubernetes.io/serviceaccount/token")},
	"write-denied": {became(1000), {event.KindFileWrite, func(e event.Event, _ string) bool {
		return e.File != nil && e.File.Path == "/etc/passwd" && e.File.Error == "EACCES"
	}}},
	"write-read-only":          {call(event.KindKernelKnob, "/proc/sys/kernel/core_pattern")},
	"write-in-a-chroot":        {path(event.KindFileCreate, "/tmp/")},
	"write-in-a-mount-as-root": {below(event.KindFileCreate)},
	"device-disk":              {path(event.KindFileCreate, "/tmp/"), some(event.KindDevice)},
	"drop-and-hide":            {path(event.KindFileDelete, "/tmp/")},

	"connect": {some(event.KindListen), peer(event.KindConnect, "tcp", "", ""), some(event.KindAccept), some(event.KindClose)},
	"connect-six": {{event.KindConnect, func(e event.Event, _ string) bool {
		return e.Connection != nil && e.Connection.Remote.String() == "[::1]:1" && e.Connection.Error != ""
	}}},
	"connect-refused":     {peer(event.KindConnect, "tcp", "127.0.0.1:1", "ECONNREFUSED")},
	"connect-unreachable": {peer(event.KindConnect, "tcp", "203.0.113.7:443", "ENETUNREACH")},
	"listen":              {local("tcp", 7001)}, "udp-listen": {local("udp", 7004)},
	"udp-send": {peer(event.KindConnect, "udp", "127.0.0.1:7002", "")}, "udp-connected": {peer(event.KindConnect, "udp", "127.0.0.1:7003", "")},
	"raw-socket": {some(event.KindRaw)}, "packet-socket": {peer(event.KindRaw, "packet", "", "")},
	"raw-refused": {became(1000), {event.KindRaw, func(e event.Event, _ string) bool { return e.Connection != nil && e.Connection.Error == "EPERM" }}},
	"dns-udp":     {name(event.KindQuery, "udp"), name(event.KindAnswer, "udp")}, "dns-tcp": {name(event.KindQuery, "tcp"), name(event.KindAnswer, "tcp")},
	"dns-odd-port": {name(event.KindQuery, "udp"), name(event.KindAnswer, "udp")},

	"mount-tmpfs": {call(event.KindMount, "/tmp/TAG")}, "mount-bind": {call(event.KindMount, "/tmp/TAG")}, "mount-proc": {call(event.KindMount, "/tmp/TAG")},
	"mount-refused": {{event.KindMount, func(e event.Event, _ string) bool { return e.Privilege != nil && e.Privilege.Error == "EPERM" }}},
	"umount":        {call(event.KindUmount, "/tmp/TAG")}, "new-mount": {some(event.KindMount)},
	"chroot": {call(event.KindPivotRoot, "/tmp")}, "pivot-root": {some(event.KindPivotRoot)},
	"unshare-mount": {some(event.KindUnshare)}, "unshare-user": {some(event.KindUnshare)}, "unshare-net": {some(event.KindUnshare)},
	"setns": {some(event.KindSetns)}, "clone-user": {some(event.KindClone)},
	"ptrace": {some(event.KindPtrace)}, "write-memory": {some(event.KindProcessWrite)}, "read-memory": {some(event.KindProcessWrite)},
	"init-module": {some(event.KindModule)}, "finit-module": {some(event.KindModule)}, "delete-module": {call(event.KindModule, "TAG")},
	"kexec": {some(event.KindKexec)}, "bpf": {some(event.KindBPF)}, "perf": {some(event.KindPerf)},
	"add-key": {some(event.KindKeyring)}, "keyctl": {some(event.KindKeyring)}, "userfaultfd": {some(event.KindUserfault)}, "io-uring": {some(event.KindIOURing)},
	"setuid": {became(1234)}, "setresuid": {became(1235)}, "setuid-refused": {became(1236)},
	"capset-drop-and-raise": {{event.KindCapability, func(e event.Event, _ string) bool {
		return e.Privilege != nil && slices.Contains(e.Privilege.Gained.Names(), "SYS_ADMIN")
	}}},
	"memfd":         {{event.KindMemfd, func(e event.Event, tag string) bool { return e.Memory != nil && strings.Contains(e.Memory.Path, tag) }}},
	"write-execute": {some(event.KindExecProtect)}, "protect-execute": {some(event.KindExecProtect)},
	"map-written-file": {{event.KindExecMap, func(e event.Event, tag string) bool { return e.Memory != nil && e.Memory.Path == "/tmp/"+tag }}},

	"nothing": {ended(0, 0)}, "fail": {ended(7, 0)}, "killed": {ended(0, 9)},
	"exec": {secondProgram}, "exec-self": {secondProgram}, "spawn": {secondProgram}, "spawn-session": {secondProgram}, "exec-many-args": {secondProgram},
	"exec-fake": {ran(func(x event.Exec, e event.Event, _ string) bool {
		return x.Args[0] == "[kworker/0:1]" && e.Process.Executable == "/bin/deed"
	})},
	"exec-link": {ran(func(x event.Exec, e event.Event, tag string) bool {
		return x.Requested == "/tmp/"+tag && e.Process.Executable == "/bin/deed"
	})},
	"exec-written":     {path(event.KindFileCreate, "/tmp/"), from(event.OriginWritten)},
	"exec-from-memory": {some(event.KindMemfd), from(event.OriginMemory)},
	"exec-deleted":     {path(event.KindFileDelete, "/tmp/"), ran(func(x event.Exec, _ event.Event, _ string) bool { return x.Deleted })},
	"exec-script": {{event.KindExec, func(e event.Event, tag string) bool {
		return e.Exec != nil && e.Exec.Requested == "/tmp/"+tag && e.Process.Executable == "/bin/deed"
	}}},
	"exec-shared-memory": {path(event.KindFileCreate, "/dev/shm/")},
	"spawn-as-user":      {ran(func(_ event.Exec, e event.Event, _ string) bool { return e.Process.UID == 4321 })},
}

// Each of a hundred small deeds in a container leaves its traces: the exec with
// its arguments, and what it did, by the right process of the right container.
// Then the count of everything that was lost is zero.
func TestDeeds(t *testing.T) {
	e := start(t, engine.Options{})
	if err := e.Load(t.Context(), deedImage(t)); err != nil {
		t.Fatal(err)
	}
	strong := func(_ *container.Config, h *container.HostConfig) {
		h.CapAdd, h.CapDrop, h.SecurityOpt = []string{"ALL"}, []string{"SYS_RESOURCE"}, []string{"seccomp=unconfined", "apparmor=unconfined"}
	}
	id := run(t, e, engine.Container{Name: "deeds", Image: "deed:test", Labels: labels("deeds"), Cmd: []string{"pause", "main"}, Change: strong})
	b := guard(t, e)
	for what, want := range deeds {
		t.Run(what, func(t *testing.T) {
			tag := "t-" + what
			out, code, err := e.Exec(t.Context(), id, "/bin/deed", what, tag)
			if wanted := map[string]int{"fail": 7, "killed": 137}[what]; err != nil || code != wanted {
				t.Fatalf("exec: %v, code %d, output %q", err, code, out)
			}
			first := b.exec(t, id, what, called("/bin/deed", what, tag))
			if !first.Exec.Entered || first.Process.Name != "deed" || first.Process.Executable != "/bin/deed" || first.Exec.Origin != event.OriginImage {
				t.Errorf("its exec is %+v by %+v", first.Exec, first.Process)
			}
			for _, w := range want {
				b.trace(t, first, w, tag)
			}
		})
	}
	b.wait(t, "the agent's own description", func() bool { return true })
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.agent.Lost(); n != 0 {
		t.Errorf("%d events were lost: %+v", n, b.agent.Losses)
	}
}

// trace waits for a trace of the deed that began with first.
func (b *inbox) trace(t *testing.T, first event.Event, w trace, tag string) {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		b.mu.Lock()
		var of []event.Event
		for _, e := range b.events {
			if e.WorkloadID == first.WorkloadID && e.Seq > first.Seq {
				of = append(of, e)
			}
		}
		changed := b.changed
		b.mu.Unlock()
		if slices.ContainsFunc(of, func(e event.Event) bool { return e.Kind == w.kind && w.fits(e, tag) }) {
			return
		}
		select {
		case <-changed:
		case <-late.C:
			t.Errorf("waited %s for its %s; there came:", patience, w.kind)
			for _, e := range of {
				t.Errorf("  %s %s[%d] %s %+v", e.Kind, e.Process.Name, e.Process.Key.PID, e.Words(), e.Exec)
			}
			return
		}
	}
}

// deedImage is an image with nothing but the program of deeds, and files that
// are worth reading.
func deedImage(t *testing.T) engine.Image {
	t.Helper()
	program := filepath.Join(t.TempDir(), "deed")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./deed")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build deed: %v\n%s", err, out)
	}
	body, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	i := engine.Image{Reference: "deed:test", Entrypoint: []string{"/bin/deed"}, Files: []engine.File{
		{Path: "/bin/deed", Body: body}, {Path: "/tmp/.keep", Mode: 0o644},
		// As in most images: /var/run is a link.
		{Path: "/var/run", Link: "/run"},
	}}
	for _, secret := range []string{
		"/etc/passwd", "/etc/shadow", "/root/.aws/credentials", "/root/.ssh/id_rsa", "/run/secrets/database",
		"/run/secrets/kubernetes.io/serviceaccount/token",
	} {
		i.Files = append(i.Files, engine.File{Path: secret, Mode: 0o644, Body: []byte("not so secret\n")})
	}
	return i
}
